"""How modules come in: through torch.fx, through torch.export, as a program; layers made plain; an end to tracing."""

import time

import pytest
import torch
from networks import wrap
from torch import nn
from torch.nn import functional as F
from toys import Toy, close, conv, head

from fpgm_core import COUPLINGS, FpgmError, Network
from fpgm_core.graph.operations import plain_norm
from fpgm_core.pruning import verify
from fpgm_core.runtime.limits import time_limit

SHAPE = (3, 8, 8)


def x(images=4):
    return torch.randn(images, *SHAPE, generator=torch.Generator().manual_seed(1))


class Many(nn.Module):
    """Operations in the forms that torch.export writes: slices, picks, norms, in place, views by the batch's size."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.norm, self.b = conv(3, 8), nn.BatchNorm2d(8), conv(8, 8)
        self.up, self.group, self.c = nn.ConvTranspose2d(8, 8, 2, 2), nn.GroupNorm(2, 8), conv(16, 8)
        self.act, self.flat, self.fc = nn.Hardswish(inplace=True), nn.BatchNorm1d(8), nn.Linear(8, 5)

    def forward(self, x):
        y = self.act(self.norm(self.a(x)))
        z = F.max_pool2d(F.relu_(self.b(y)) + y, 2)
        z = torch.cat([y[:, :4], y[:, 4:], self.group(self.up(z))], 1)
        z = F.dropout(F.relu6(self.c(z)), 0.5, self.training)
        return self.fc(self.flat(F.adaptive_avg_pool2d(z, 1).view(z.size(0), -1)))


def proved(network):
    for coupling in COUPLINGS:
        proof = verify(network.prune(0.5, coupling=coupling, criterion="random"))
        assert proof.holds, proof.problem
        assert proof.tells


def units(network):
    return {coupling: network.units(coupling) for coupling in COUPLINGS}


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("batch", ["one number of images", "any"])
def test_an_exported_program_is_pruned_as_its_module_is(images, batch):
    module = wrap(Many(), SHAPE).module
    shapes = ({0: torch.export.Dim("batch")},) if batch == "any" else None
    program = torch.export.export(module, (x(3 if batch == "any" else images),), dynamic_shapes=shapes)
    network, usual = Network.from_module(program), Network.from_module(module, SHAPE)
    assert network.input_shape == SHAPE
    assert close(network.module(x(5)), module(x(5)), module(x(5)))
    assert units(network) == units(usual)
    assert network.dense_cost.macs == usual.dense_cost.macs
    assert network.flow.repeated == usual.flow.repeated  # plain layers, which can be repaired
    proved(network)


def test_a_program_of_something_else_is_refused():
    program = torch.export.export(nn.Linear(4, 2), (torch.zeros(2, 4),))
    with pytest.raises(FpgmError, match="takes 1 tensors, or no images"):
        Network.from_module(program)


class Typed(nn.Module):
    """What torch.fx cannot trace and torch.export can: what stands for a tensor is asked for its type."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.fc = conv(3, 8), conv(8, 8), nn.Linear(8, 5)

    def forward(self, x):
        if not isinstance(x, torch.Tensor):
            raise TypeError("images, please")
        y = self.b(F.relu(self.a(x)))
        return self.fc(y.mean((2, 3)))


def test_what_torch_fx_cannot_trace_comes_in_through_torch_export():
    module = Typed().requires_grad_(False)
    network = Network.from_module(module, SHAPE)
    assert [unit.name for unit in network.units("coupled")] == ["a", "b"]
    assert close(network.module(x()), module(x()), module(x()))
    assert set(network.module.state_dict()) == set(module.state_dict())
    proved(network)


class Scaled(nn.Conv2d):
    """A standardised weight with a learned gain, on images padded to size."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.gain = nn.Parameter(torch.rand(self.out_channels, 1, 1, 1) + 0.5)

    def forward(self, x):
        weight = F.batch_norm(self.weight.reshape(1, len(self.weight), -1), None, None, training=True, momentum=0.0)
        x = F.pad(x, [1, 1, 1, 1]) if x.shape[-1] % 2 == 0 else x
        return F.conv2d(x, weight.reshape_as(self.weight) * self.gain, self.bias, self.stride)


def test_weights_that_a_forward_makes_are_made_once():
    torch.manual_seed(0)
    module = Toy(
        lambda net, x: head(net, net.b(F.relu(net.a(x)))), a=Scaled(3, 8, 3), b=Scaled(8, 8, 3), fc=nn.Linear(8, 5)
    )
    network = Network.from_module(module.requires_grad_(False), SHAPE)
    assert close(network.module(x()), module(x()), module(x()))
    assert type(network.module.a) is nn.Conv2d
    assert set(network.module.state_dict()) == {f"{n}.{kind}" for n in ("a", "b", "fc") for kind in ("weight", "bias")}
    assert [unit.name for unit in network.units("coupled")] == ["a", "b"]
    assert not network.flow.repeated
    proved(network)


class Loose(nn.Module):
    """Parameters in lists, at the root and under names of one's own, which functions are called with."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.w = nn.Parameter(torch.randn(8, 3, 3, 3) * 0.2)
        self.kernels = nn.ParameterList([torch.randn(8, 8, 3, 3) * 0.1 for _ in range(2)])
        self.offsets = nn.ParameterDict({str(i): torch.randn(8) * 0.1 for i in range(2)})
        self.n = nn.Module()
        self.n.gamma, self.n.beta = nn.Parameter(torch.rand(8) + 0.5), nn.Parameter(torch.randn(8))
        self.n.register_buffer("mean", torch.randn(8) * 0.1)
        self.n.register_buffer("var", torch.rand(8) + 0.5)
        self.last = nn.Parameter(torch.randn(5, 8))

    def forward(self, x):
        y = F.conv2d(x, self.w, padding=1)
        y = F.relu(F.batch_norm(y, self.n.mean, self.n.var, self.n.gamma, self.n.beta, False, 0.1, 1e-3))
        for i, kernel in enumerate(self.kernels):
            y = F.relu(F.conv2d(y, kernel, self.offsets[str(i)], padding=1))
        return F.linear(y.mean((2, 3)), self.last)


def test_functions_of_parameters_that_no_layer_owns_are_layers():
    module = Loose().requires_grad_(False)
    network = Network.from_module(module, SHAPE)
    assert close(network.module(x()), module(x()), module(x()))
    assert [unit.name for unit in network.units("inner")] == ["w", "kernels_0", "kernels_1"]
    assert (type(network.module.n), network.module.n.eps) == (nn.BatchNorm2d, 1e-3)
    assert not network.flow.repeated
    proved(network)
    compact = network.prune(0.5, coupling="coupled").compact()
    assert (compact.kernels_1.out_channels, compact.n.num_features) == (4, 4)


def test_parameters_that_two_calls_read_are_left_where_they_are():
    def forward(net, x):
        y = F.relu(net.a(x))
        for _ in range(2):
            y = F.relu(F.conv2d(y, net.k[0], padding=1))
        return head(net, net.b(y))

    torch.manual_seed(0)
    kernels = nn.ParameterList([torch.randn(8, 8, 3, 3) * 0.1])
    layers = {"a": conv(3, 8), "k": kernels, "b": conv(8, 8), "fc": nn.Linear(8, 5)}
    network = wrap(Toy(forward, **layers), SHAPE)
    assert set(network.refusals("coupled")) == {"a"}
    proof = verify(network.prune(0.5, coupling="coupled"))
    assert proof.holds, proof.problem


class NormAct(nn.GroupNorm):
    """A norm as a function of its own tensors, and the activation below it."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.act = nn.SiLU()

    def forward(self, x):
        return self.act(F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps))


def test_a_norm_that_is_called_as_a_function_is_a_module():
    torch.manual_seed(0)
    layers = {"a": conv(3, 8), "n": NormAct(2, 8), "b": conv(8, 8), "fc": nn.Linear(8, 5)}
    network = Network.from_module(Toy(lambda net, x: head(net, net.b(net.n(net.a(x)))), **layers), SHAPE)
    assert {unit.name: unit.blocks for unit in network.units("inner")} == {"a": 2, "b": 1}
    proved(network)


class Doubled(nn.LayerNorm):
    def forward(self, x):
        return 2 * super().forward(x)


def of(kind, forward):
    return type("Own", (kind,), {"forward": forward})


@pytest.mark.parametrize(
    ("module", "plain"),
    [
        (nn.LayerNorm(6), None),  # known as it is
        (Doubled(6), None),
        (nn.BatchNorm2d(6), None),
        (of(nn.GroupNorm, lambda s, x: F.group_norm(x, 3, s.weight, s.bias, s.eps))(3, 6), "GroupNorm"),
        (of(nn.LayerNorm, lambda s, x: F.layer_norm(x, (6,), s.weight, s.bias, s.eps))(6), "LayerNorm"),
    ],
)
def test_a_norm_of_ones_own_is_known_by_what_it_computes(module, plain):
    found = plain_norm(module)
    assert (None if found is None else type(found).__name__) == plain


class Stopped(Exception):
    pass


def test_somebody_elses_loop_comes_to_an_end():
    def loop():
        with time_limit(0.2, Stopped):
            while True:
                pass

    start = time.monotonic()
    with pytest.raises(Stopped):
        loop()
    assert time.monotonic() - start < 10
    with time_limit(0.05, Stopped):
        pass
    time.sleep(0.1)  # nothing comes later


def test_a_forward_without_an_end_is_refused():
    def endless(net, x):
        while net is not None:
            pass

    with pytest.raises(FpgmError, match=r"takes too long at test_opening\.py, line"):
        Network.from_module(Toy(endless, a=conv(3, 8)), SHAPE, seconds=0.5)


def test_tracing_tells_how_far_it_is():
    seen = []
    Network.from_module(Many(), SHAPE, on_progress=seen.append)
    assert [progress.share for progress in seen] == sorted(progress.share for progress in seen)
    assert seen[-1].share == 1
    assert "operations" in seen[-1].what
