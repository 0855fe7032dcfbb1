"""Compact networks to export, made once; nothing measured."""

from functools import cache

import pytest
import torch

from fpgm_core import Network
from fpgm_core.data import load_images
from fpgm_core.export import ExportConfig, export


@cache
def _network(name):
    return Network.load(name)


@cache
def _compact(name, coupling, rate):
    network = _network(name)
    return network, network.prune(rate, coupling=coupling).compact()


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
    """ResNet-20 pruned for the tests of what is exported: half of every coupled unit."""
    return resnet20.prune(0.5, coupling="coupled")


@pytest.fixture(scope="session")
def halves():
    """The first images of both halves of the test images."""
    return {half: load_images("cifar10", half).first(256) for half in ("choose", "sealed")}


@pytest.fixture(scope="session")
def training():
    """A few training images: what eight bits are calibrated on."""
    return load_images("cifar10", "train").first(64)


@pytest.fixture(scope="session")
def bundle(half, halves, training):
    """The export of that network as it is, not measured."""
    return export(half, images=halves, measured=False, config=ExportConfig(training=training))
