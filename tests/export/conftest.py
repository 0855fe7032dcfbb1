"""Compact networks to export, made once; nothing measured."""

from functools import cache

import pytest
import torch

from fpgm_core import Network
from fpgm_core.export import export


@cache
def _network(name):
    return Network.load(name)


@cache
def _compact(name, coupling, rate):
    network = _network(name)
    return network, network.prune(network.plan(rate, coupling=coupling)).compact()


@pytest.fixture
def network():
    """A registry network, by name."""
    return _network


@pytest.fixture
def compact():
    """A network by name, and its compact one: (network, module)."""
    return lambda name, coupling="inner", rate=0.4: _compact(name, coupling, rate)


@pytest.fixture
def noise():
    """Random images for a network."""

    def make(network, count):
        return torch.randn(count, *network.input_shape, generator=torch.Generator().manual_seed(count))

    return make


@pytest.fixture(scope="session")
def half(resnet20):
    """ResNet-20's plan for the tests of what is exported: half of every coupled unit."""
    return resnet20.plan(0.5, coupling="coupled")


@pytest.fixture(scope="session")
def bundle(resnet20, half):
    """The export of that plan, as is, not measured."""
    return export(resnet20, half, rung="as_is", measured=False)
