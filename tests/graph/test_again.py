"""What runs more than once with something of its own for each channel, and choices of channels by an index.

Norms, slopes and depthwise layers in several calls: the same channels leave of every call, or what is around them
stays. Each case is the middle of a small network; `refused` are the layers that `coupled` leaves whole.
"""

import pytest
import torch
from middles import SHAPE, Case, images, network_of
from networks import wrap
from torch import nn
from torch.nn import functional as F
from toys import Toy, close, conv, run_cost, silenced

from fpgm_core import COUPLINGS, Network
from fpgm_core.export.networks import reload_onnx
from fpgm_core.graph import count_cost
from fpgm_core.pruning import verify
from fpgm_core.timing import as_onnx

ORDER = [3, 1, 0, 2, 7, 6, 5, 4]


def twin(**more):
    return {"p": conv(8, 8), "q": conv(8, 8, 1), **more}


class Held(nn.Module):
    """Whole numbers that are no parameter."""

    def __init__(self, *shape):
        super().__init__()
        self.register_buffer("values", torch.tensor(ORDER).view(shape))


class Blur(nn.Module):
    """A kernel for every channel that nobody learns."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("values", torch.full((width, 1, 3, 3), 1 / 9))


def last(layer, y):
    """A layer of channels that lie last."""
    return layer(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def levels(net, y):
    """A head for two resolutions whose layers are its own but for the depthwise one and the norm."""
    small = net.p(F.relu(y))
    first, second = (F.relu(net.n(net.d(F.relu(level)))) for level in (y, F.max_pool2d(small, 2)))
    return net.q(first) + F.interpolate(second, scale_factor=2)


def spread_index(net, y):
    return torch.gather(y, 1, net.i.values.expand(y.size(0), -1, y.size(2), y.size(3)))


def counted_index(net, y):
    pairs = torch.arange(y.shape[1], device=y.device).view(-1, 2).flip(1).reshape(-1)
    return y[:, pairs]


def interleaved_gate(net, y):
    z = net.w(y)
    return z[:, ::2] * torch.sigmoid(z[:, 1::2])


def focal(net, y):
    """Focal modulation: of one layer's filters some are the query, some the context, and some weigh whole levels."""
    query, context, gates = torch.split(net.f(y), [8, 8, 2], 1)
    context = F.gelu(net.d(context))
    focus = context * gates[:, :1] + F.gelu(context.mean((2, 3), keepdim=True)) * gates[:, 1:]
    return net.q(query * net.p(focus))


def half_by_size(net, y):
    z = net.w(y)
    return z[:, : z.size(1) // 2] * torch.sigmoid(z[:, z.size(1) // 2 :])


AGAIN = {
    "a norm": Case(lambda net, y: net.n(net.p(F.relu(net.n(y)))), twin(n=nn.BatchNorm2d(8))),
    "a norm, three times": Case(
        lambda net, y: net.n(net.q(F.relu(net.n(net.p(F.relu(net.n(y))))))), twin(n=nn.BatchNorm2d(8))
    ),
    "an instance norm": Case(lambda net, y: net.n(net.p(F.relu(net.n(y)))), twin(n=nn.InstanceNorm2d(8, affine=True))),
    "a layer norm": Case(
        lambda net, y: last(net.n, net.p(F.relu(last(net.n, y)))),
        {"p": conv(8, 8), "n": nn.LayerNorm(8)},
    ),
    "a group norm": Case(lambda net, y: net.n(net.p(F.relu(net.n(y)))), {"p": conv(8, 8), "n": nn.GroupNorm(2, 8)}),
    "a norm of a gate too": Case(
        lambda net, y: F.relu(net.n(y)) * torch.sigmoid(net.n(net.p(y.mean((2, 3), keepdim=True)))),
        {"p": conv(8, 8, 1), "n": nn.BatchNorm2d(8)},
        {"p"},
    ),
    "slopes": Case(lambda net, y: net.s(net.p(net.s(y))), {"p": conv(8, 8), "s": nn.PReLU(8)}),
    "slopes of one stream": Case(lambda net, y: net.s(y) + net.s(F.avg_pool2d(y, 3, 1, 1)), {"s": nn.PReLU(8)}),
    "a depthwise layer": Case(
        lambda net, y: net.d(F.relu(net.p(F.relu(net.d(y))))), {"p": conv(8, 8), "d": conv(8, 8, groups=8)}
    ),
    "a depthwise layer of itself": Case(lambda net, y: net.d(F.relu(net.d(y))), {"d": conv(8, 8, groups=8)}),
    "a head of two levels": Case(levels, twin(d=conv(8, 8, groups=8), n=nn.BatchNorm2d(8))),
}
LEFT_WHOLE = {
    "a gate of every other filter": Case(interleaved_gate, {"w": conv(8, 16)}, {"w"}),
    "focal modulation": Case(focal, twin(f=conv(8, 18, 1), d=conv(8, 8, groups=8)), {"f"}),
    "an instance norm as a function, with scales": Case(
        lambda net, y: F.instance_norm(y, weight=net.n.weight, bias=net.n.bias),
        {"n": nn.InstanceNorm2d(8, affine=True)},
        {"a"},
    ),
    "a norm of ones too": Case(
        lambda net, y: net.n(y.new_ones(y.shape)) + net.p(net.n(y)), {"p": conv(8, 8), "n": nn.BatchNorm2d(8)}, {"a"}
    ),
    "a norm, turned round": Case(
        lambda net, y: net.n(net.p(F.relu(net.n(y)).flip(1))) + net.n(y.flip(1)),
        {"p": conv(8, 8), "n": nn.BatchNorm2d(8)},
        {"a", "p"},
    ),
    "a grouped layer": Case(
        lambda net, y: net.d(F.relu(net.p(F.relu(net.d(y))))),
        {"p": conv(8, 8), "d": conv(8, 8, groups=2)},
        {"a", "p", "d"},
    ),
}
CHOSEN = {
    "gather": Case(spread_index, {"i": Held(1, 8, 1, 1)}),
    "take_along_dim": Case(lambda net, y: torch.take_along_dim(y, net.i.values, dim=1), {"i": Held(1, 8, 1, 1)}),
    "counted": Case(counted_index),
    "every other and the others": Case(lambda net, y: F.relu(net.w(y)[:, ::2] + net.w(y)[:, 1::2]), {"w": conv(8, 16)}),
    "every other, counted": Case(
        lambda net, y: net.m(torch.index_select(y, 1, torch.arange(0, y.shape[1], 2))), {"m": conv(4, 8)}
    ),
    "blurred, each by itself": Case(
        lambda net, y: F.conv2d(y, net.k.values, padding=1, groups=y.shape[1]), {"k": Blur(8)}
    ),
    "a half by the size": Case(half_by_size, {"w": conv(8, 16)}),
}
LONG = pytest.mark.thorough  # there are many, and one coupling of each tells most
CASES = {**AGAIN, **CHOSEN, **LEFT_WHOLE}


@pytest.mark.parametrize("coupling", [pytest.param(c, marks=() if c == "coupled" else LONG) for c in COUPLINGS])
@pytest.mark.parametrize("name", CASES)
def test_pruned_as_by_brute_force(name, coupling):
    network = network_of(CASES[name])
    if coupling == "coupled":
        assert set(network.refusals(coupling)) == CASES[name].refused
    assert network.dense_cost.macs == run_cost(network.module, SHAPE)[0]
    pruned = network.prune(0.5, criterion="random", coupling=coupling)
    x, masks, compact = images(), pruned.keep_masks, pruned.compact()
    dense = network.module(x)
    # Of an instance norm's shift silencing knows nothing.
    expected = pruned.masked()(x) if name == "an instance norm" else silenced(network, masks, x)
    for form in (compact, pruned.masked(), pruned.compact(aligned=True)):
        assert close(form(x), expected, dense)
    cost = count_cost(network.flow, masks)
    assert run_cost(compact, SHAPE) == (cost.macs, cost.params)
    proof = verify(pruned)
    assert proof.holds, proof.problem


@pytest.mark.parametrize(
    "name", ["a norm", *(pytest.param(n, marks=LONG) for n in ("a depthwise layer", "slopes", "gather"))]
)
def test_the_onnx_file_answers_alike(name):
    pruned = network_of(CASES[name]).prune(0.5, criterion="random", coupling="coupled")
    compact = pruned.compact()
    reloaded = reload_onnx({"compact.onnx": as_onnx(compact, SHAPE)})
    assert close(reloaded(images()), compact(images()), compact(images()))


def test_a_shared_norm_is_small_where_all_its_writers_are():
    network = network_of(AGAIN["a norm"])
    assert {unit.members for unit in network.units("coupled")} == {("a", "p"), ("b",)}
    for coupling in ("independent", "inner"):
        assert "n runs more than once" in network.refusals(coupling)["p"]
    assert network.prune(0.5, coupling="coupled").compact().n.num_features == 4


def test_slopes_leave_where_no_call_has_the_channel():
    network = network_of(AGAIN["slopes"])
    pruned = network.prune({"a": 0.5, "p": 0.25}, criterion="random", coupling="independent")
    left = pruned.keep_masks["a"] | pruned.keep_masks["p"]
    assert pruned.compact().s.weight.numel() == left.sum()


def condition(net, x):
    """A kernel for every image, made of the images: their channels and their number in one dimension."""
    y = F.relu(net.a(x))
    images, channels, height, width = y.shape
    kernels = torch.einsum("be,eoikl->boikl", torch.sigmoid(net.r(y.mean((2, 3)))), net.w.values).reshape(-1, 8, 3, 3)
    z = F.conv2d(y.reshape(1, images * channels, height, width), kernels, padding=1, groups=images)
    return net.fc(net.b(z.view(images, -1, height, width)).mean((2, 3)))


class Kernels(nn.Module):
    def __init__(self):
        super().__init__()
        self.values = nn.Parameter(torch.randn(2, 8, 8, 3, 3))


def test_images_and_channels_in_one_dimension_are_told_apart():
    torch.manual_seed(0)
    layers = {"a": conv(3, 8), "r": nn.Linear(8, 2), "w": Kernels(), "b": conv(8, 8), "fc": nn.Linear(8, 5)}
    network = wrap(Toy(condition, **layers), SHAPE)
    assert set(network.refusals("coupled")) == {"a"}
    proof = verify(network.prune(0.5, coupling="coupled"))
    assert proof.holds, proof.problem


def test_the_number_of_images_by_len():
    def forward(net, x):
        y = F.relu(net.b(F.relu(net.a(x))))
        assert len(y.shape) == 4
        return net.fc(F.adaptive_avg_pool2d(y, 1).view(len(x), -1)) / len(net.fc.weight)

    torch.manual_seed(0)
    module = Toy(forward, a=conv(3, 8), b=conv(8, 8), fc=nn.Linear(8, 5)).requires_grad_(False)
    network = Network.from_module(module, SHAPE)
    assert [unit.name for unit in network.units("coupled")] == ["a", "b"]
    pruned = network.prune(0.5, coupling="coupled")
    for count in (1, 2, 5):
        x = torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(0))
        assert close(pruned.compact()(x), pruned.masked()(x), module(x))
    assert "len" not in forward.__globals__
