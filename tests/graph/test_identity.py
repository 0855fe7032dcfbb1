"""A network's identity: another for whatever changes its answers, the same in every process."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fpgm_core import Network


class Parts(nn.Module):
    """Equal weights, whatever `between` and the layer's settings are."""

    def __init__(self, between, **settings):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.fc, self.between = nn.Conv2d(3, 4, 3, **settings), nn.Linear(4, 10), between
        self.register_buffer("scale", torch.ones(4, 1, 1), persistent=False)
        self.shift = torch.zeros(4, 1, 1)  # neither a parameter nor a buffer

    def forward(self, x):
        return self.fc((self.between(self.a(x)) * self.scale + self.shift).mean((2, 3)))


def network(between, shape=(3, 32, 32), scale=1.0, shift=0.0, **settings):
    module = Parts(between, **settings)
    module.scale.mul_(scale)
    module.shift.add_(shift)
    return Network.from_module(module, shape, name="parts")


def one(x):
    return x.relu()


def two(x):
    return x.sigmoid()


PLAIN = network(nn.LeakyReLU(0.1))
OTHERS = {
    "a layer's setting": network(nn.LeakyReLU(0.2)),
    "another layer": network(nn.ReLU()),
    "a function": network(F.relu),
    "a method": network(one),
    "another method": network(two),
    "a stride": network(nn.LeakyReLU(0.1), stride=2),
    "the input's shape": network(nn.LeakyReLU(0.1), (3, 30, 30)),
    "a buffer that is not saved": network(nn.LeakyReLU(0.1), scale=2.0),
    "a constant": network(nn.LeakyReLU(0.1), shift=2.0),
}


@pytest.mark.parametrize("what", OTHERS)
def test_equal_weights_under_another_forward_are_another_identity(what):
    assert OTHERS[what].fingerprint == PLAIN.fingerprint
    identities = [PLAIN.identity, *(other.identity for other in OTHERS.values())]
    assert identities.count(OTHERS[what].identity) == 1


def test_an_equal_network_has_an_equal_identity():
    assert network(nn.LeakyReLU(0.1)).identity == PLAIN.identity


def test_it_is_the_same_in_every_process(resnet20):
    code = "from fpgm_core import Network; print(Network.load('resnet20').identity)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == resnet20.identity
