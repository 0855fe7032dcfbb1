"""Fused convolutions: what the plain network computes, and never where somebody writes into memory meanwhile."""

import operator

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fpgm_core import Network
from fpgm_core.inference import folded_module
from fpgm_core.inference.fusing import FusedConv2d, fused

NETWORKS = ["resnet20", "mobilenetv2_cifar", "vgg16_bn_cifar"]


class Net(nn.Module):
    """Convolutions and whatever a test does with what they make."""

    def __init__(self, body):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.on, self.back = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 3, 1)
        self.relu, self.same = nn.ReLU(), nn.Identity()
        self.body = body

    def forward(self, x):
        return self.body(self, x)


@pytest.fixture
def x():
    return torch.randn(2, 3, 7, 5, generator=torch.Generator().manual_seed(0))


def check(body, x, expected):
    """The fused form gives the same and holds `expected` fused convolutions."""
    torch.manual_seed(0)
    plain = torch.fx.symbolic_trace(Net(body).eval().requires_grad_(False))
    quick = fused(plain, torch.float32)
    torch.testing.assert_close(quick(x.clone()), plain(x.clone()), rtol=1e-5, atol=1e-6)
    assert [f.rectifier for f in quick.modules() if isinstance(f, FusedConv2d)] == expected
    return quick


def wide(y, more):
    return F.pad(y, (0, 0, 0, 0, 0, more))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lambda net, x: net.relu(net.a(x)), ["relu"]),
        (lambda net, x: F.relu(net.same(net.a(x)), inplace=True) * 2, ["relu"]),
        (lambda net, x: F.relu6(net.a(x) * 9) + F.relu6(net.b(x)), ["relu6"]),
        (lambda net, x: net.a(x) + 1.5, []),
        (lambda net, x: F.gelu(net.a(x)), []),
        (lambda net, x: torch.relu(net.a(x) + x[:, :1]), ["relu"]),  # what is added spreads over channels
        (lambda net, x: net.relu(net.a(x) + net.same(net.b(x))), ["relu"]),  # one of the two is fused
        (lambda net, x: torch.relu(net.a(x)[:1] * 0 + net.b(x)), ["relu"]),
        (lambda net, x: torch.relu(net.a(x[:1]) + net.b(x) * 2), ["relu"]),  # the convolution's result spreads
        (lambda net, x: F.relu6(net.a(x) + x[:, :1]), ["none"]),
        (lambda net, x: (lambda y: net.relu(y + y))(net.a(x)), []),
        (lambda net, x: (lambda y: net.relu(y) + y)(net.a(x)), []),  # two ask for it
        (lambda net, x: net.relu(wide(net.a(x), 2) + wide(net.b(x), 2)), ["relu"]),
        (lambda net, x: net.relu(wide(net.b(x), 1)), ["relu"]),
        (lambda net, x: net.relu(F.pad(net.a(x), (1, 0))), []),
        (lambda net, x: net.relu(torch.add(net.a(x), x[:, :1], alpha=3)), []),
    ],
)  # fmt: skip
def test_what_is_fused_and_what_is_not(body, expected, x):
    check(body, x, expected)


def test_a_convolution_does_not_wait_while_what_it_reads_is_changed(x):
    def body(net, x):
        y = x * 1
        made = net.a(y)
        other = y.mul_(2)
        return net.relu(made + other[:, :1])

    check(body, x, [])


@pytest.mark.parametrize(("swapped", "expected"), [(False, 1), (True, 0)])
def test_a_sum_in_place_is_fused_where_it_writes_into_the_convolutions_result(x, swapped, expected):
    def body(net, x):
        other, made = x[:, :1].repeat(1, 4, 1, 1), net.a(x)
        return torch.relu(other + made if swapped else made + other) * 2

    plain = torch.fx.symbolic_trace(Net(body).eval())
    for node in plain.graph.nodes:
        node.target = operator.iadd if node.target is operator.add else node.target
    plain.recompile()
    quick = fused(plain, torch.float32)
    torch.testing.assert_close(quick(x.clone()), plain(x.clone()), rtol=1e-5, atol=1e-6)
    assert sum(isinstance(m, FusedConv2d) for m in quick.modules()) == expected


def test_padding_behind_the_channels_becomes_filters(x):
    quick = check(lambda net, x: net.relu(wide(net.a(x), 3)), x, ["relu"])
    (conv,) = (f for f in quick.modules() if isinstance(f, FusedConv2d))
    assert conv.weight.shape == (7, 3, 3, 3)
    assert (conv.weight[4:] == 0).all()
    assert (conv.bias[4:] == 0).all()


@pytest.mark.parametrize("coupling", ["inner", "independent", "coupled"])
@pytest.mark.parametrize("model", NETWORKS)
def test_networks_compute_the_same(model, coupling):
    network = Network.load(model, weights=None if model != "vgg16_bn_cifar" else "random")
    plan = network.plan(0.4, coupling=coupling)
    plain = folded_module(network.prune(plan).compact(), network.flow)
    quick = fused(plain, torch.float32)
    # The last is read by pooling in VGG, or not rectified in MobileNetV2's projections; all others are fused.
    assert sum(isinstance(m, FusedConv2d) for m in quick.modules()) >= 13
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = plain(x)
        torch.testing.assert_close(quick(x), expected, rtol=1e-3, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            low = quick(x)
    assert (low - expected).norm() < 0.03 * expected.norm()


def overwriting(network):
    return sum(isinstance(m, FusedConv2d) and m.overwrites for m in network.modules())


def residual(net, y, x):
    """What a block makes of y, given what else reads it."""
    return net.relu(net.on(net.relu(net.on(y))) + x)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lambda net, x: (lambda y: residual(net, y, y))(net.relu(net.a(x))), 1),
        (lambda net, x: (lambda y: residual(net, residual(net, y, y), y))(net.a(x)), 1),  # the first sum's y is read on
        (lambda net, x: (lambda y: residual(net, y, y) * y)(net.relu(net.a(x))), 0),  # read later
        (lambda net, x: (lambda y, v: residual(net, y, y) + v)(*(lambda y: (y, y[:, :1]))(net.a(x))), 0),  # a view is
        (lambda net, x: (lambda y: net.relu(net.on(y) + y))(net.relu(net.a(x))), 0),  # the convolution's own input
        (lambda net, x: net.relu(net.a(x) + wide(x, 1)), 1),  # padding copies
        (lambda net, x: net.relu(net.a(x) + wide(torch.clone(x[:, :, ::1]), 1)), 1),
        (lambda net, x: net.relu(net.a(x) + net.b(x)), 1),
        (lambda net, x: net.relu(net.a(x) + net.b(x)[:, :1]), 0),  # the sum is wider
        (lambda net, x: net.relu(net.back(net.relu(net.a(x))) + x), 0),  # the caller's
    ],
)  # fmt: skip
def test_sums_overwrite_what_nobody_reads_any_more(body, expected, x):
    torch.manual_seed(0)
    plain = torch.fx.symbolic_trace(Net(body).eval().requires_grad_(False))
    quick, given = fused(plain, torch.float32), x.clone()
    assert overwriting(quick) == expected
    for _ in range(2):  # the second time on what the first one left
        torch.testing.assert_close(quick(given), plain(x.clone()), rtol=1e-5, atol=1e-6)
    assert torch.equal(given, x)
    assert not quick.overwrites_input


def test_a_network_overwrites_its_input_only_where_that_is_given_away(x):
    plain = torch.fx.symbolic_trace(Net(lambda net, x: net.relu(net.back(net.relu(net.a(x))) + x)).eval())
    plain.requires_grad_(False)
    quick = fused(plain, torch.float32, given=True)
    given = x.contiguous(memory_format=torch.channels_last)
    assert overwriting(quick) == 1
    assert quick.overwrites_input
    torch.testing.assert_close(quick(given), plain(x.clone()), rtol=1e-5, atol=1e-6)
    assert not torch.equal(given, x)


def test_tensors_are_shared_and_the_network_stays(x):
    plain = torch.fx.symbolic_trace(Net(lambda net, x: net.relu(net.a(x))).eval())
    code = plain.code
    quick = fused(plain, torch.float32)
    (conv,) = (f for f in quick.modules() if isinstance(f, FusedConv2d))
    assert conv.weight is plain.a.weight
    assert plain.code == code
    assert isinstance(plain.a, nn.Conv2d)


def test_what_is_not_traced_is_returned():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert fused(net, torch.float32) is net
    without = torch.fx.symbolic_trace(nn.ReLU())
    assert fused(without, torch.float32) is without


@pytest.mark.parametrize("coupling", ["inner", "independent"])
@pytest.mark.parametrize("model", ["resnet20", "mobilenetv2_cifar"])
def test_without_onednn_fused_networks_compute_the_same_by_public_operations(model, coupling):
    network = Network.load(model)
    plain = folded_module(network.prune(0.4, coupling=coupling).compact(), network.flow)
    quick, x = fused(plain, torch.float32), torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert overwriting(quick)
    with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):
        torch.testing.assert_close(quick(x), plain(x), rtol=1e-3, atol=1e-4)


def test_without_onednn_nothing_is_fused():
    plain = torch.fx.symbolic_trace(Net(lambda net, x: net.relu(net.a(x))).eval())
    with torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):
        assert fused(plain, torch.float32) is plain
