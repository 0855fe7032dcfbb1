"""Gates, halves of one layer, choices by an index, conditions, kernels of other dimensions: pruned as by brute force.

Each case is the middle of a small network, of what the first layer makes; `refused` are the layers that `coupled`
leaves whole, and no others.
"""

import numpy as np
import pytest
import torch
from middles import SHAPE, Case, images, network_of
from networks import wrap
from torch import nn
from torch.nn import functional as F
from toys import Toy, close, conv, head, run_cost, silenced

from fpgm_core import COUPLINGS, FpgmError, Network
from fpgm_core.graph import Unit, count_cost
from fpgm_core.pruning import verify

ORDER = [3, 1, 0, 2, 7, 6, 5, 4]


class Held(nn.Module):
    """A tensor that is no parameter."""

    def __init__(self, values):
        super().__init__()
        self.register_buffer("values", torch.tensor(values))


def wide(**more):
    return {"w": conv(8, 16), **more}


def twin(**more):
    return {"p": conv(8, 8), "q": conv(8, 8, 1), **more}


def pooled(y):
    return y.mean((2, 3), keepdim=True)


def swish_gate(net, y):
    value, gate = torch.split(net.w(y), 8, dim=1)
    return value * F.silu(gate)


def behind_depthwise(net, y):
    value, gate = net.d(net.w(y)).chunk(2, 1)
    return F.gelu(gate) * value


def value_through_depthwise(net, y):
    value, gate = net.w(y).chunk(2, 1)
    return net.d(value) * torch.sigmoid(gate)


def three_parts(net, y):
    value, gate, rest = net.w(y).chunk(3, 1)
    return value * torch.sigmoid(gate) + rest


def unbound(net, y):
    value, gate = net.w(y).view(-1, 2, 8, *y.shape[2:]).unbind(1)
    return value * gate.sigmoid()


def selective_kernel(net, y):
    branches = torch.stack([F.relu(net.p(y)), F.relu(net.q(y))], 1)
    weights = net.e(F.relu(net.s(pooled(branches.sum(1)))))
    return (branches * torch.softmax(weights.view(weights.shape[0], 2, 8, 1, 1), 1)).sum(1)


def selective_by_parts(net, y):
    first, second = F.relu(net.p(y)), F.relu(net.q(y))
    weights = torch.softmax(net.e(F.relu(net.s(pooled(first + second)))).view(-1, 2, 8, 1, 1), 1)
    return first * weights[:, 0] + second * weights[:, 1]


def softmax_by_hand(net, y):
    first, second = F.relu(net.p(y)), F.relu(net.q(y))
    z = F.relu(net.s(pooled(first + second)))
    one, other = net.e(z).exp(), net.g(z).exp()
    return first * (one / (one + other)) + second * (other / (one + other))


def split_attention(net, y):
    images = y.shape[0]
    u = F.relu(net.w(y)).view(images, 2, 8, *y.shape[2:])
    weights = net.e(F.relu(net.s(pooled(u.sum(1)))))
    weights = weights.view(images, 1, 2, -1).transpose(1, 2).softmax(1).reshape(images, -1).view(images, -1, 1, 1)
    return (u * weights.view(images, 2, 8, 1, 1)).sum(1)


def ghost_gate(net, y):
    gate = net.h(net.g(F.avg_pool2d(y, 2)))
    return net.p(y) * F.interpolate(torch.sigmoid(gate), size=y.shape[2:])


def by_einsum(net, y):
    return torch.einsum("bchw,bc->bchw", y, torch.sigmoid(net.e(F.relu(net.s(y.mean((2, 3)))))))


def as_rows(net, y):
    return F.relu(net.n(net.m(y.flatten(2)))).unflatten(2, (8, 8))


def in_a_stack(net, y):
    return F.relu(net.n(net.m(y.unsqueeze(2)))).squeeze(2)


def written_twice(net, y):
    z = net.p(y)
    y.mul_(2).sub_(net.q(y))
    return z + y


def squeeze():
    return {"s": conv(8, 4, 1), "e": conv(4, 16, 1)}


CASES = {
    "glu": Case(lambda net, y: F.glu(net.w(y), 1), wide()),
    "glu behind a norm": Case(lambda net, y: net.u(net.n(net.w(y))), wide(n=nn.BatchNorm2d(16), u=nn.GLU(1))),
    "halves multiplied": Case(lambda net, y: torch.mul(*net.w(y).chunk(2, 1)), wide()),
    "halves by slices": Case(lambda net, y: net.w(y)[:, :8] * net.w(y)[:, 8:].sigmoid(), wide()),
    "swish gate": Case(swish_gate, wide()),
    "halves unbound": Case(unbound, wide()),
    "halves behind a depthwise layer": Case(behind_depthwise, wide(d=conv(16, 16, groups=16))),
    "value through a depthwise layer": Case(value_through_depthwise, wide(d=conv(8, 8, groups=8)), {"d"}),
    "three parts": Case(three_parts, {"w": conv(8, 24)}),
    "greater half": Case(lambda net, y: torch.max(*torch.split(net.w(y), 8, 1)), wide()),
    "greatest of two layouts": Case(lambda net, y: net.w(y).view(-1, 2, 8, 8, 8).max(1)[0], wide()),
    "selective kernel": Case(selective_kernel, {**twin(), **squeeze()}, {"e"}),
    "selective by parts": Case(selective_by_parts, {**twin(), **squeeze()}, {"e"}),
    "softmax by hand": Case(
        softmax_by_hand, {**twin(), "s": conv(8, 4, 1), "e": conv(4, 8, 1), "g": conv(4, 8, 1)}, {"e", "g"}
    ),
    "split attention": Case(split_attention, {"w": conv(8, 16, groups=2), **squeeze()}, {"e"}),
    "gate of a depthwise layer": Case(lambda net, y: y * torch.sigmoid(net.d(y)), {"d": conv(8, 8, groups=8)}, {"d"}),
    "gate of a layer and a depthwise one": Case(
        lambda net, y: net.p(y) * torch.sigmoid(net.d(net.q(y))), twin(d=conv(8, 8, groups=8)), {"q", "d"}
    ),
    "gate of two streams": Case(lambda net, y: y * torch.sigmoid(net.p(y) + net.q(y)), twin(), {"p", "q"}),
    "ghost gate": Case(ghost_gate, {"p": conv(8, 8), "g": conv(8, 8, 1), "h": conv(8, 8, groups=8)}, {"g", "h"}),
    "gate by einsum": Case(by_einsum, {"s": nn.Linear(8, 4), "e": nn.Linear(4, 8)}),
    "gate over all channels": Case(lambda net, y: y * torch.softmax(pooled(y), 1)),
    "index_select": Case(lambda net, y: torch.index_select(y, 1, net.i.values), {"i": Held(ORDER)}),
    "by a tensor": Case(lambda net, y: net.m(y[:, net.i.values]), {"i": Held([0, 0, 2, 5]), "m": conv(4, 8)}),
    "by truth": Case(lambda net, y: net.m(y[:, net.i.values]), {"i": Held([True, False] * 4), "m": conv(4, 8)}),
    "positions by a tensor": Case(lambda net, y: y[:, :, net.i.values], {"i": Held([1, 3, 5])}),
    "by a constant": Case(lambda net, y: y[:, torch.tensor(ORDER)]),
    "by a tuple": Case(lambda net, y: net.m(y[:, (0, 2, 5)]), {"m": conv(3, 8)}),
    "rolled": Case(lambda net, y: torch.roll(y.roll(3, dims=1), (1, 2), (2, 3))),
    "each twice": Case(lambda net, y: net.m(y.repeat_interleave(2, dim=1)), {"m": conv(16, 8)}),
    "parts the other way round": Case(lambda net, y: torch.cat(y.tensor_split(3, dim=1)[::-1], axis=1)),
    "beside zeros": Case(lambda net, y: torch.cat([y, y.new_zeros(y.shape[0], 2, 8, 8), torch.zeros_like(y)], 1)),
    "beside coordinates": Case(
        lambda net, y: torch.cat([y, torch.linspace(-1, 1, y.shape[3]).expand(y.shape[0], 1, y.shape[2], -1)], 1)
    ),
    "leaky by where": Case(lambda net, y: torch.where(y > 0, y, 0.1 * y)),
    "where, of two streams": Case(lambda net, y: torch.where(pooled(y).mean(1, True) > 0, net.p(y), net.q(y)), twin()),
    "masked": Case(lambda net, y: y.masked_fill(y < 0, 0.0)),
    "filled with ones": Case(lambda net, y: y.masked_fill(y < 0, 1.0), {}, {"a"}),
    "times what is positive": Case(lambda net, y: y * (y > 0.1).float()),
    "greatest around": Case(lambda net, y: y * (y == F.max_pool2d(y, 3, 1, 1))),
    "lerp": Case(lambda net, y: torch.lerp(net.p(y), net.q(y), 0.3), twin()),
    "addcmul": Case(lambda net, y: torch.addcmul(net.p(y), net.q(y), y, value=0.5), twin()),
    "instance norm by hand": Case(
        lambda net, y: (y - pooled(y)) / (y.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    ),
    "length of each position": Case(lambda net, y: y / (y.norm(p=2, dim=1, keepdim=True) + 1e-6)),
    "a norm's scale by where": Case(lambda net, y: y / (torch.norm(y, dim=(2, 3), keepdim=True).mean(1, True) + 1)),
    "written twice": Case(written_twice, twin()),
    "one dimension": Case(as_rows, {"m": nn.Conv1d(8, 8, 3, padding=1), "n": nn.BatchNorm1d(8)}),
    "three dimensions": Case(in_a_stack, {"m": nn.Conv3d(8, 8, (1, 3, 3), padding=(0, 1, 1)), "n": nn.BatchNorm3d(8)}),
    "transposed, grouped": Case(
        lambda net, y: F.relu(net.m(net.p(y))), {"p": conv(8, 8), "m": nn.ConvTranspose2d(8, 8, 2, 2, groups=2)}
    ),
    "transposed, depthwise": Case(
        lambda net, y: F.relu(net.m(net.p(y))), {"p": conv(8, 8), "m": nn.ConvTranspose2d(8, 16, 2, 2, groups=8)}
    ),
    "transposed to a size": Case(
        lambda net, y: F.relu(net.m(y, output_size=(16, 16))), {"m": nn.ConvTranspose2d(8, 8, 3, 2, 1)}
    ),
    "sampled": Case(
        lambda net, y: F.grid_sample(
            y,
            F.affine_grid(torch.eye(2, 3).expand(y.shape[0], 2, 3), (y.shape[0], 8, 4, 4), False),
            align_corners=False,
        )
    ),
}


def check(network, pruned):
    """Masked and compact agree with what silencing computes, and cost what is counted."""
    x, masks = images(), pruned.keep_masks
    expected, dense, compact = silenced(network, masks, x), network.module(x), pruned.compact()
    assert close(compact(x), expected, dense)
    assert close(pruned.masked()(x), expected, dense)
    assert close(pruned.compact(aligned=True)(x), expected, dense)
    cost = count_cost(network.flow, masks)
    assert run_cost(compact, SHAPE) == (cost.macs, cost.params)
    proof = verify(pruned)
    assert proof.holds, proof.problem


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", CASES)
def test_pruned_as_by_brute_force(name, coupling):
    network = network_of(CASES[name])
    if coupling == "coupled":
        assert set(network.refusals(coupling)) == CASES[name].refused
    if "halves by slices" not in name:  # which runs a layer twice; silencing does not
        assert network.dense_cost.macs == run_cost(network.module, SHAPE)[0]
    check(network, network.prune(0.3, criterion="random", coupling=coupling))


class OwnResponseNorm(nn.Module):
    """Global response normalisation as its authors' followers write it, of images or with channels last."""

    def __init__(self, width, first):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(width) + 0.5), nn.Parameter(torch.rand(width))
        self.eps, self.axis, self.shape = 1e-6, 1 if first else -1, (1, -1, 1, 1) if first else (1, 1, 1, -1)
        self.positions = (2, 3) if first else (1, 2)

    def forward(self, x):
        lengths = x.norm(p=2, dim=self.positions, keepdim=True)
        beside = lengths / (lengths.mean(dim=self.axis, keepdim=True) + self.eps)
        return x + torch.addcmul(self.bias.view(self.shape), self.weight.view(self.shape), x * beside)


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("first", [True, False])
def test_global_response_norms_run_over_the_channels_that_are_left(first, coupling):
    def forward(net, x):
        y = F.relu(net.a(x))
        if first:
            return head(net, net.b(net.n(y)))
        return head(net, net.b(net.n(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)))

    torch.manual_seed(0)
    norm = OwnResponseNorm(8, first)
    network = wrap(Toy(forward, a=conv(3, 8), n=norm, b=conv(8, 8), fc=nn.Linear(8, 5)), SHAPE)
    assert not network.refusals(coupling)
    pruned = network.prune({"a": 0.25}, criterion="random", coupling=coupling)
    proof = verify(pruned)
    assert proof.holds, proof.problem
    keep, x = torch.tensor(pruned.keep_masks["a"]), images()
    alone = Toy(forward, a=conv(3, 6), n=OwnResponseNorm(6, first), b=conv(6, 8), fc=nn.Linear(8, 5))
    dense = network.module.state_dict()
    kept = {k: v[keep] if k[0] in "an" else v[:, keep] if k == "b.weight" else v for k, v in dense.items()}
    alone.load_state_dict(kept)
    alone.requires_grad_(False)
    assert close(pruned.compact()(x), alone(x), alone(x))


def test_the_same_filters_leave_of_both_halves():
    network = network_of(CASES["glu"])
    unit = network.unit_of("w", "inner")
    assert (unit.size, unit.blocks, unit.copies) == (16, 2, 2)
    assert unit.with_copies([3]) == (3, 11)
    plan = network.plan({"w": 0.5}, coupling="inner", locked_in={"w": (2,)}, locked_out={"w": (11,)})
    mask = network.keep_mask(plan, unit)
    assert mask.sum() == 8
    assert np.array_equal(mask[:8], mask[8:])
    assert (mask[2], mask[3]) == (True, False)
    pruned = network.prune(plan)
    check(network, pruned)
    compact = pruned.compact()
    assert (compact.w.out_channels, compact.b.in_channels) == (8, 4)


def test_a_unit_without_copies_leaves_its_locks_alone():
    assert Unit("a", ("a",), 8).with_copies((5, 1)) == (5, 1)


def test_a_gate_that_cannot_follow_is_left_whole_alone():
    torch.manual_seed(0)
    layers = {"a": conv(3, 8), "w": conv(8, 16), "b": conv(8, 8), "fc": nn.Linear(8, 5)}

    def forward(net, x):
        y = net.a(x)
        return head(net, net.b(y * torch.sigmoid(net.w(y)[:, ::2] + net.w(y)[:, 1:9])))

    network = wrap(Toy(forward, **layers), SHAPE)
    assert set(network.refusals("coupled")) == {"w"}
    proof = verify(network.prune(0.5, coupling="coupled"))
    assert proof.holds, proof.problem


class Asking(nn.Module):
    """What a forward may be given beside the images, and is not."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.fc = conv(3, 8), conv(8, 8), nn.Linear(8, 5)

    def features(self, x):
        return self.b(F.relu(self.a(x)))


class Masked(Asking):
    def forward(self, x, mask=None, *, scale=1.0, **more):
        y = self.features(x)
        if mask is not None:
            y = y * mask
        return head(self, y * more.get("factor", scale))


class Several(Asking):
    def forward(self, *xs):
        return head(self, self.features(xs[0]))


class Placed(Asking):
    def forward(self, x):
        first = next(self.parameters())
        x = x.to(first.device).type(self.a.weight.type()).to(self.b.weight).to("cpu")
        return head(self, self.features(x / np.prod(x.shape[1:]) ** 0.5))


class Sized(Asking):
    def forward(self, x):
        scale = self.a.weight.data.dtype.itemsize * self.b.weight.numel() / self.b.weight.nelement()
        return head(self, self.features(x) * scale) + torch.ones(5) * torch.arange(5, device=x.device)


@pytest.mark.parametrize("module", [Masked, Several, Placed, Sized])
def test_forwards_that_ask_for_more(module):
    module = module().eval().requires_grad_(False)
    network = Network.from_module(module, SHAPE)
    assert [unit.name for unit in network.units("coupled")] == ["a", "b"]
    assert close(network.module(images()), module(images()), module(images()))
    proof = verify(network.prune(0.5, coupling="coupled", criterion="random"))
    assert proof.holds, proof.problem


def test_a_forward_that_reads_numbers_is_named_by_its_line():
    class Reads(Asking):
        def forward(self, x):
            return head(self, self.features(x) * x.abs().max().item())

    with pytest.raises(FpgmError, match=r"it calls item\(\) at test_followed\.py, line \d+: return head"):
        _ = Network.from_module(Reads(), SHAPE).flow


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_only_runs_a_network_otherwise_is_that_network():
    module = Masked().eval()
    for wrapped in (nn.DataParallel(module), torch.compile(module)):
        assert [layer.name for layer in Network.from_module(wrapped, SHAPE).layers] == ["a", "b"]
    with pytest.raises(FpgmError, match="give the module that it was made of"):
        Network.from_module(torch.jit.trace(module, images()), SHAPE)
    module.a = torch.jit.trace(module.a, images())
    with pytest.raises(FpgmError, match="a is scripted, and cannot be followed"):
        Network.from_module(module, SHAPE)


def test_two_weights_made_of_one_parameter_stay_two():
    def forward(net, x):
        y = F.relu(net.a(x))
        first = F.conv2d(y, net.b.weight * 0.5, net.b.bias, padding=1)
        return head(net, first + F.conv2d(y, net.b.weight * 2, net.b.bias, padding=1))

    torch.manual_seed(0)
    network = wrap(Toy(forward, a=conv(3, 8), b=conv(8, 8), fc=nn.Linear(8, 5)), SHAPE)
    wanted = Toy(forward, a=network.module.a, b=network.module.b, fc=network.module.fc)(images())
    assert close(network.module(images()), wanted, wanted)
    assert set(network.refusals("coupled")) == {"a"}


def test_a_module_that_is_called_too_is_not_replaced():
    def forward(net, x):
        y = F.relu(F.conv2d(F.relu(net.a(x)), net.l.weight[:, :, None, None]))
        return net.fc(net.l(y.mean((2, 3))))

    torch.manual_seed(0)
    module = Toy(forward, a=conv(3, 8), l=nn.Linear(8, 8), fc=nn.Linear(8, 5)).requires_grad_(False)
    network = Network.from_module(module, SHAPE)
    assert close(network.module(images()), module(images()), module(images()))
    proof = verify(network.prune(0.5, coupling="coupled"))
    assert proof.holds, proof.problem
