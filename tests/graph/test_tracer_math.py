"""Numbers go through the module math as such: a trace leaves it as it is, for other threads compile what calls it."""

import math

import pytest
import torch
from torch import nn

from fpgm_core import Network
from fpgm_core.pruning import verify

SQRT, SEEN = math.sqrt, []


class Counted(nn.Module):
    """Two convolutions, and between them what math makes of a shape."""

    def __init__(self, between):
        super().__init__()
        self.between, self.first, self.last = between, nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        SEEN.append(math.sqrt)
        return self.last(self.between(torch.relu(self.first(x))))


BETWEEN = {
    "a scale by channels": lambda x: x / math.sqrt(x.size(1)),
    "a scale by positions": lambda x: x * math.log2(x.shape[-1] * x.shape[-2]),
    "rounded up": lambda x: x[:, :, : math.ceil(x.size(2) / 3)],
    "a product of sizes": lambda x: x * x.flatten(1).shape[1] / math.prod(x.shape[1:]),
    "a product of all sizes": lambda x: x * (math.prod(x.shape) / x.numel()),
    "a common divisor": lambda x: x.roll(math.gcd(x.size(2), 6), 2),
}


@pytest.mark.parametrize("between", BETWEEN)
def test_math_of_shapes_is_followed_and_math_stays_as_it_is(between):
    SEEN.clear()
    network = Network.from_module(Counted(BETWEEN[between]).eval(), input_shape=(3, 8, 8))
    assert set(SEEN) == {SQRT}
    pruned = network.prune(0.5, coupling="inner")
    assert sum(unit.size for unit in network.units("inner")) == 8
    assert verify(pruned).equal
