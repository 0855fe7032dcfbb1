"""Forwards as people write them: shapes decide, data does not, and what cannot be traced is named by its line."""

import pytest
import torch
from networks import wrap
from torch import nn
from torch.nn import functional as F
from toys import Toy, close, conv, head

from fpgm_core import FpgmError, Network
from fpgm_core.graph.tracer import DataDependent, Tracer

SHAPE = (3, 8, 8)


def shapes_decide(net, x):
    assert x.shape[1] == 3
    y = net.a(x)
    for _ in range(y.shape[1] // 4):
        y = F.relu(net.b(y))
    if len(y.shape) == 4 and 8 in y.shape and float(y.shape[2]) > 4:
        first, second = (F.relu(part) for part in y.chunk(2, dim=1))
        y = torch.cat([second, first], 1)
    return head(net, y)


def test_shapes_may_be_compared_counted_and_looped_over():
    torch.manual_seed(0)
    network = wrap(Toy(shapes_decide, a=conv(3, 8), b=conv(8, 8), fc=nn.Linear(8, 5)), SHAPE)
    assert sum(layer.name == "b" for layer in network.flow.sites) == 2
    plan, x = network.plan(0.5, coupling="coupled"), torch.randn(4, *SHAPE)
    assert close(network.prune(plan).compact()(x), network.prune(plan).masked()(x), network.module(x))


def added_in_place(net, x):
    y = net.a(x)
    z = y
    z += 1  # y, too
    return head(net, net.b(F.relu(y)))


def test_an_addition_in_place_is_one_in_the_trace():
    torch.manual_seed(0)
    network = wrap(Toy(added_in_place, a=conv(3, 8), b=conv(8, 8), fc=nn.Linear(8, 5)), SHAPE)
    x = torch.randn(4, *SHAPE)
    assert close(network.prune(network.plan()).compact()(x), network.module(x), network.module(x))


def asks_for_data(net, x):
    if net.a(x).max() > 0:
        return head(net, net.a(x))
    return head(net, -net.a(x))


def asks_how_many(net, x):
    return head(net, net.a(x) if x.shape[0] > 2 else net.a(-x))


@pytest.mark.parametrize(
    ("forward", "why", "line"),
    [
        (asks_for_data, "depends on the data of a tensor", "if net.a(x).max() > 0:"),
        (asks_how_many, "depends on how many images there are", "return head(net, net.a(x) if x.shape[0] > 2"),
    ],
)
def test_what_cannot_be_traced_is_named_by_its_line(forward, why, line):
    with pytest.raises(FpgmError, match="cannot be traced") as caught:
        _ = wrap(Toy(forward, a=conv(3, 8), fc=nn.Linear(8, 5)), SHAPE).flow
    assert why in str(caught.value)
    assert f"test_tracer.py, line {forward.__code__.co_firstlineno + 1}: {line}" in str(caught.value)


def endless(net, x):
    while x.shape[1] == 3:
        x = F.relu(x)
    return x


def test_tracing_ends():
    with pytest.raises(DataDependent, match="takes too long"):
        Tracer(SHAPE, seconds=0.2).trace(Toy(endless))


def reads_dtype(net, x):
    return head(net, net.b(F.relu(net.a(x.to(net.a.weight.dtype)))))


def reads_value(net, x):
    return head(net, net.b(F.relu(net.a(x)))) * net.b.weight.norm()


@pytest.mark.parametrize(("forward", "refused"), [(reads_dtype, set()), (reads_value, {"a", "b"})])
def test_a_forward_may_read_a_layers_weight(forward, refused):
    torch.manual_seed(0)
    network = wrap(Toy(forward, a=conv(3, 8), b=conv(8, 8), fc=nn.Linear(8, 5)), SHAPE)
    refusals = network.refusals("coupled")
    assert set(refusals) == refused
    assert all("the forward reads the weight of b beside calling it" in reason for reason in refusals.values())
    plan, x = network.plan(0.5, coupling="coupled"), torch.randn(4, *SHAPE)
    assert close(network.prune(plan).compact()(x), network.prune(plan).masked()(x), network.module(x))


class Masked(nn.Module):
    """Takes a mask beside the images, as timm's transformers do; classifiers are called without."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 4)

    def forward(self, x, mask=None):
        return self.fc(torch.relu(self.b(torch.relu(self.a(x)))).mean((2, 3)))


def test_an_argument_beside_the_images_that_nobody_gives():
    network = Network.from_module(Masked(), (3, 12, 12))
    pruned = network.prune(0.5, coupling="coupled")
    images = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pruned.compact()(images), pruned.masked()(images))
    assert pruned.cost.macs < network.dense_cost.macs
