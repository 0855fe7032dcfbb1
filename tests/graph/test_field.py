"""Operations as people write them: what is followed is pruned rightly, what is not is refused where it stands.

Each case is the middle of a small network, of what the first layer makes: `refused` are the layers that `coupled`
leaves whole.
"""

import pytest
import torch
from middles import SHAPE, Case, images, network_of
from networks import wrap
from torch import nn
from torch.nn import functional as F
from toys import Toy, close, conv, run_cost, silenced

from fpgm_core import COUPLINGS
from fpgm_core.graph import count_cost
from fpgm_core.inference import folded_module
from fpgm_core.inference.fusing import fused
from fpgm_core.pruning import verify


def twin():
    return {"p": conv(8, 8), "q": conv(8, 8, 1)}


def pair():
    return {**twin(), "r": conv(8, 8), "s": conv(8, 8)}


def for_two(net, y):
    return net.r(net.m(net.p(y))) + net.s(net.m(net.q(y)))


def excite(width=8):
    return {"s": nn.Linear(width, 4), "e": nn.Linear(4, width)}


class Scale(nn.Module):
    """A learned factor of any shape."""

    def __init__(self, *shape):
        super().__init__()
        self.factor = nn.Parameter(torch.rand(shape) + 0.5)

    def forward(self, x):
        return x * self.factor


class Shift(Scale):
    """A learned offset."""

    def forward(self, x):
        return x + self.factor


class NormAct(nn.BatchNorm2d):
    """A norm that is a function of its own tensors, with the activation behind it."""

    def __init__(self, width):
        super().__init__(width)
        self.act = nn.SiLU()

    def forward(self, x):
        x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, self.eps)
        return self.act(x)


class Named(nn.Conv2d):
    """Only another name."""


class Written(nn.Conv2d):
    """Padded to the size it wants, then a function of its own weight."""

    def forward(self, x):
        if x.shape[2] % 2 == 0:
            x = F.pad(x, [1, 1, 1, 1])
        return F.conv2d(x, self.weight, self.bias, self.stride, (0, 0), self.dilation, self.groups)


class WrittenLinear(nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class Standardised(nn.Conv2d):
    """A weight that is made anew of its parameter in every forward."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, padding=1)


class Blurred(nn.Module):
    """Smoothed before it is strided: a kernel for each channel, which nobody learns."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("kernel", torch.rand(width, 1, 3, 3))

    def forward(self, x):
        return F.conv2d(F.pad(x, [1, 1, 1, 1], "reflect"), self.kernel, stride=2, groups=len(self.kernel))


def global_context(net, y):
    weights = net.k(y).reshape(y.size(0), 1, -1).softmax(-1).unsqueeze(3)
    context = (y.reshape(y.size(0), y.size(1), -1).unsqueeze(1) @ weights).view(y.size(0), y.size(1), 1, 1)
    return y + net.e(F.relu(net.s(context)))


class ChannelsFirst(nn.Module):
    """Layer normalisation of images, written out: each position over its channels."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.rand(width)), nn.Parameter(torch.rand(width)), 1e-6

    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        x = (x - mean) / ((x - mean).pow(2).mean(1, keepdim=True) + self.eps).sqrt()
        return self.weight[:, None, None] * x + self.bias[:, None, None]


def squeezed(net, y):
    weights = y.mean((2, 3))
    weights = torch.sigmoid(net.e(F.relu(net.s(weights))))
    return y * weights.view(weights.size(0), weights.size(1), 1, 1).expand_as(y)


def across_channels(net, y):
    weights = net.k(F.adaptive_avg_pool2d(y, 1).squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
    return y * torch.sigmoid(weights).expand_as(y)


def attended_positions(net, y):
    maps = torch.cat([y.mean(1, keepdim=True), y.max(1, keepdim=True)[0]], 1)
    return y * torch.sigmoid(net.w(maps))


def asserted(net, y):
    assert y.shape[1] == 8
    assert y.size(2) % 2 == 0
    if y.shape[-1] > 4:
        y = F.relu(y)
    return y


def sized(net, y):
    images, channels, height, width = net.p(y).size()
    z = y.reshape(images, channels, height * width)
    return z.view(*z.shape[:2], height, width) / z.shape[-1:][0]


def dealt(net, y):
    parts = list(torch.chunk(y, 2, dim=1))
    return torch.cat([F.relu(parts[1]), parts[0]], 1)


def written_in_place(net, y):
    y += net.p(y)
    torch.tanh_(y)
    y *= 0.5
    return F.relu_(y)


def unpooled(net, y):
    z, places = F.max_pool2d(y, 2, return_indices=True)
    return F.max_unpool2d(z, places, 2)


KEPT = {
    "ReLU6 by hand": lambda net, y: y * F.relu6(y + 3) / 6,
    "clamp": lambda net, y: y.clamp(min=0, max=6),
    "hardtanh": lambda net, y: F.hardtanh(y),
    "celu": lambda net, y: F.celu(y),
    "selu": lambda net, y: F.selu(y), "square": lambda net, y: y**2, "negated": lambda net, y: F.leaky_relu(-y, 0.3),
    "divided": lambda net, y: torch.div(y, 3) / y.size(1),
    "its own mean less": lambda net, y: y - y.mean((2, 3), keepdim=True),
    "times its greatest": lambda net, y: y * y.amax((2, 3), keepdim=True), "twice itself": lambda net, y: y.add_(y),
    "nearest": lambda net, y: F.interpolate(y, scale_factor=2),
    "bilinear": lambda net, y: F.interpolate(y, size=(5, 7), mode="bilinear"),
    "reflected": lambda net, y: F.pad(y, (1, 1, 1, 1), mode="reflect"), "cropped": lambda net, y: y[..., 1:-1, ::2],
    "flipped": lambda net, y: y.flip(3),
    "turned": lambda net, y: y.flip(1),
    "chosen": lambda net, y: y[:, [3, 1, 0, 2, 7, 6, 5, 4]],
    "laid flat and back": lambda net, y: y.flatten(2).view(y.shape),
    "channels last": lambda net, y: y.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    "a new dimension": lambda net, y: y.unsqueeze(2).squeeze(2),
    "greatest of a row": lambda net, y: y + torch.max(y, 3, keepdim=True).values,
    "beside itself": lambda net, y: torch.cat([y, y.flip(2)], 2),
    "asserted": asserted,
    "dealt": dealt,
    "normalised": lambda net, y: F.normalize(y, dim=1),
}  # fmt: skip
CASES = {name: Case(middle) for name, middle in KEPT.items()} | {
    "unpooled": Case(lambda net, y: unpooled(net, F.relu(y))),
    "in place": Case(written_in_place, twin()),
    "squeezed": Case(squeezed, excite()),
    "across channels": Case(across_channels, {"k": nn.Conv1d(1, 1, 3, padding=1)}),
    "attended positions": Case(attended_positions, {"w": conv(2, 1)}, {"w"}),
    "hard gate": Case(lambda net, y: y * (F.relu6(net.q(y) + 3) / 6), twin(), {"q"}),
    "halves": Case(lambda net, y: F.glu(torch.cat([net.p(y), net.q(y)], 1), 1), twin(), {"q"}),
    "streams multiplied": Case(lambda net, y: net.p(y) * F.relu(net.q(y)), twin()),
    "multiplied and added": Case(lambda net, y: net.p(y) * net.q(y) + y, twin()),
    "multiplied, depthwise": Case(lambda net, y: net.d(net.p(y) * net.q(y)), {**twin(), "d": conv(8, 8, groups=8)}),
    "one factor": Case(lambda net, y: y + net.f(F.relu(net.p(y))), {**twin(), "f": Scale(1)}),
    "a factor a channel": Case(lambda net, y: y + net.f(net.p(y)), {**twin(), "f": Scale(8, 1, 1)}),
    "an offset a channel": Case(lambda net, y: net.f(y), {"f": Shift(1, 8, 1, 1)}),
    "sum of a list": Case(lambda net, y: sum([net.p(y), net.q(y), y]), twin()),
    "stack, summed": Case(lambda net, y: torch.stack([net.p(y), net.q(y)]).sum(0), twin()),
    "stack, mean": Case(lambda net, y: torch.stack([net.p(y), net.q(y)], dim=1).mean(1), twin()),
    "viewed as it was": Case(lambda net, y: net.p(y).flatten(2).view(y.shape), {"p": conv(8, 8)}),
    "sized as it was": Case(lambda net, y: net.p(y).flatten(2).view(y.size()), {"p": conv(8, 8)}),
    "summed up in halves": Case(
        lambda net, y: net.p(y).view(-1, 2, 4, 8, 8).cumsum(2).flatten(1, 2), {"p": conv(8, 8)}, {"p"}
    ),
    "sizes from behind": Case(lambda net, y: (y / y.size(-3)).view(-1, *y.shape[1:-1], y.size(dim=-1))),
    "sizes one by one": Case(sized, {"p": conv(8, 8)}),
    "only counted": Case(lambda net, y: F.relu(y) / net.p(y).size(0), {"p": conv(8, 8)}),
    "counted for nobody": Case(lambda net, y: (F.relu(y), net.p(y).size(2) // 2 - 1)[0], {"p": conv(8, 8)}),
    "counted on its side": Case(lambda net, y: F.relu(y) / net.p(y).transpose(0, 1).size(1), {"p": conv(8, 8)}),
    "a size by a number": Case(lambda net, y: F.relu(y) / y.size(y.dim() - 2)),
    "slopes for two": Case(for_two, {**pair(), "m": nn.PReLU(8)}),
    "a norm for two": Case(for_two, {**pair(), "m": nn.BatchNorm2d(8)}),
    "groups for two": Case(for_two, {**pair(), "m": nn.GroupNorm(1, 8)}),
    "difference": Case(lambda net, y: net.p(y) - net.q(y), twin()),
    "weighted sum": Case(lambda net, y: torch.add(net.p(y), net.q(y), alpha=2), twin()),
    "the greater": Case(lambda net, y: torch.maximum(net.p(y), net.q(y)), twin()),
    "the less": Case(lambda net, y: torch.min(net.p(y), net.q(y)), twin()),
    "one slope": Case(lambda net, y: net.m(y), {"m": nn.PReLU()}),
    "a slope a channel": Case(lambda net, y: net.m(y), {"m": nn.PReLU(8)}),
    "instance norm": Case(lambda net, y: F.relu(net.m(y)), {"m": nn.InstanceNorm2d(8)}),
    "norm with activation": Case(lambda net, y: net.m(y), {"m": NormAct(8)}),
    "another name": Case(lambda net, y: F.relu(net.m(y)), {"m": Named(8, 8, 1)}),
    "written out": Case(lambda net, y: F.relu(net.m(y)), {"m": Written(8, 8, 3, stride=2)}),
    "written out, depthwise": Case(lambda net, y: net.m(y), {"m": Written(8, 8, 3, groups=8)}),
    "pointwise, written out": Case(
        lambda net, y: net.m(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), {"m": WrittenLinear(8, 8)}
    ),
    "standardised": Case(lambda net, y: F.relu(net.m(y)), {"m": Standardised(8, 8, 3)}),
    "transposed": Case(lambda net, y: F.relu(net.m(y)), {"m": nn.ConvTranspose2d(8, 8, 2, 2)}),
    "transposed, with norm": Case(
        lambda net, y: F.relu(net.n(net.m(y))), {"m": nn.ConvTranspose2d(8, 8, 3, bias=False), "n": nn.BatchNorm2d(8)}
    ),
    "repeated": Case(lambda net, y: net.m(y.repeat(1, 2, 1, 1)), {"m": conv(16, 8)}),
    "every other": Case(lambda net, y: net.m(y[:, ::2]), {"m": conv(4, 8)}),
    "shuffled pixels": Case(lambda net, y: net.m(F.pixel_shuffle(y, 2)), {"m": conv(2, 8)}),
    "shuffled pixels, some of them zero": Case(
        lambda net, y: net.m(F.pixel_shuffle(F.pad(y, (0, 0, 0, 0, 3, 1)), 2)), {"m": conv(3, 8)}
    ),
    "gathered pixels": Case(lambda net, y: net.m(F.pixel_unshuffle(y, 2)), {"m": conv(32, 8)}),
    "exponential": Case(lambda net, y: torch.exp(-y), {}, {"a"}),
    "exponential, depthwise": Case(lambda net, y: net.d(torch.exp(-y)), {"d": conv(8, 8, groups=8)}, {"a"}),
    "exponential, norm with activation": Case(lambda net, y: net.m(torch.exp(-y)), {"m": NormAct(8)}, {"a"}),
    "one less": Case(lambda net, y: 1 - y, {}, {"a"}),
    "group norm": Case(lambda net, y: net.m(y), {"m": nn.GroupNorm(2, 8)}),
    "group norm of a sum": Case(
        lambda net, y: F.relu(net.m(y + net.p(F.relu(y)))), {"m": nn.GroupNorm(4, 8), "p": conv(8, 8)}
    ),
    "group norm behind a depthwise layer": Case(
        lambda net, y: net.m(net.p(F.relu(y))), {"m": nn.GroupNorm(2, 8), "p": conv(8, 8, groups=8)}
    ),
    "layer norm at each position": Case(
        lambda net, y: F.relu(net.m(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)), {"m": nn.LayerNorm(8)}
    ),
    "layer norm of one's own": Case(lambda net, y: F.relu(net.m(y)), {"m": ChannelsFirst(8)}),
    "root mean square": Case(
        lambda net, y: F.relu(net.m(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)), {"m": nn.RMSNorm(8, 1e-6)}
    ),
    "blurred": Case(lambda net, y: F.relu(net.m(F.relu(y))), {"m": Blurred(8)}),
    "blurred with one kernel": Case(
        lambda net, y: F.conv2d(y, net.m.factor.expand(8, 1, 3, 3), stride=2, groups=8), {"m": Scale(1, 1, 3, 3)}
    ),
    "global context": Case(global_context, {"k": conv(8, 1, 1), "s": conv(8, 4, 1), "e": conv(4, 8, 1)}, {"k"}),
    "layer norm as a function": Case(lambda net, y: F.group_norm(y, 2), {}, {"a"}),
    "padded with ones": Case(lambda net, y: F.pad(y, (1, 1, 1, 1), value=1.0), {}, {"a"}),
    "tanh of a part": Case(lambda net, y: torch.cat([torch.tanh_(y[:, :4]), y[:, 4:]], 1) + net.p(y), twin(), {"a"}),
}  # fmt: skip
POOLS = {
    "one dimension after another": lambda y: y.mean(3).mean(2),
    "negative dimensions": lambda y: y.mean([-1, -2]),
    "sum": lambda y: torch.sum(y, dim=(2, 3)),
    "greatest": lambda y: y.amax((2, 3)),
    "greatest of greatest": lambda y: y.max(3)[0].max(2)[0],
    "of what is laid flat": lambda y: y.flatten(2).mean(2),
    "view": lambda y: y.view(y.size(0), y.size(1), -1).mean(-1),
    "squeezed": lambda y: F.adaptive_avg_pool2d(y, 1).squeeze(),
    "by index": lambda y: F.adaptive_avg_pool2d(y, 1)[:, :, 0, 0],
    "minus one": lambda y: F.max_pool2d(y, 8).view(-1, 8),
    "of sizes": lambda y: F.adaptive_avg_pool2d(y, 1).view(y.shape[:2]),
    "deviation": lambda y: y.std((2, 3)),
    "of the image's size": lambda y: F.avg_pool2d(y, y.shape[2:]).flatten(1),
    "channels last": lambda y: y.permute(0, 2, 3, 1).mean((1, 2)),
}  # fmt: skip


def storages(module):
    """Where a module's tensors lie in memory."""
    return {tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers())}


def unread(graph):
    """The names of a graph's operations whose results nothing reads."""
    return {node.name for node in graph.nodes if node.op.startswith(("call", "get")) and not node.users}


def check(network, coupling, oracle=True):
    """Masked, compact, aligned, folded and fused agree with what silencing computes, and cost what is counted."""
    assert network.dense_cost.macs == run_cost(network.module, SHAPE)[0]
    for rate in (0.3, 0.5):
        plan, x = network.plan(rate, criterion="random", coupling=coupling), images()
        masks, dense = network.keep_masks(plan), network.module(x)
        pruned = network.prune(plan)
        compact, masked = pruned.compact(), pruned.masked()(x)
        folded = folded_module(compact, network.flow)
        expected = silenced(network, masks, x) if oracle else masked
        for form in (compact, pruned.compact(aligned=True), folded, fused(folded, torch.float32)):
            assert close(form(x), expected, dense)
        assert unread(compact.graph) <= unread(network.flow.graph.graph)
        assert not storages(compact) & storages(network.module), "a compact network's tensors are its own"
        assert close(masked, expected, dense)
        cost = count_cost(network.flow, masks)
        assert run_cost(compact, SHAPE) == (cost.macs, cost.params)
        proof = verify(pruned)
        assert proof.holds, proof.problem


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", CASES)
def test_what_people_write(name, coupling):
    network = network_of(CASES[name])
    if coupling == "coupled":
        assert set(network.refusals(coupling)) == CASES[name].refused
    check(network, coupling, oracle=name not in {"transposed, with norm", "transposed", "layer norm of one's own"})


@pytest.mark.parametrize("name", POOLS)
def test_every_spelling_of_a_mean_or_greatest_over_positions(name):
    torch.manual_seed(0)
    layers = {"a": conv(3, 8), "b": conv(8, 8), "fc": nn.Linear(8, 5)}
    network = wrap(Toy(lambda net, x: net.fc(POOLS[name](F.relu(net.b(F.relu(net.a(x)))))), **layers), SHAPE)
    assert [unit.name for unit in network.units("coupled")] == ["a", "b"]
    check(network, "coupled")


def shared_head(net, x):
    y = F.relu(net.a(x))
    z = F.relu(net.b(F.max_pool2d(y, 2)))
    return sum(net.o(F.relu(net.h(level))).mean((2, 3)) for level in (y, z))


def recurrent(net, x):
    y = F.relu(net.a(x))
    for _ in range(3):
        y = F.relu(net.b(y) + y)
    return net.fc(y.mean((2, 3)))


def shared_classifier(net, x):
    y = F.relu(net.a(x))
    return net.fc(y.mean((2, 3))) + net.fc(F.relu(net.b(y)).amax((2, 3)))


def two_views(net, x):
    z = F.relu(net.b(F.relu(net.a(torch.cat([x, x.flip(3)], 0)))))
    return net.fc((z[: x.shape[0]] + z[x.shape[0] :]).mean((2, 3)))


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("forward", [shared_head, recurrent, shared_classifier, two_views])
def test_layers_that_run_several_times_are_pruned_for_all_calls_together(forward, coupling):
    torch.manual_seed(0)
    layers = {"a": conv(3, 8), "b": conv(8, 8), "h": conv(8, 8), "o": conv(8, 5, 1), "fc": nn.Linear(8, 5)}
    used = {"a", "b", "h", "o"} if forward is shared_head else {"a", "b", "fc"}
    network = wrap(Toy(forward, **{name: layer for name, layer in layers.items() if name in used}), SHAPE)
    assert {m for unit in network.units("coupled") for m in unit.members} == used - {"o", "fc"}
    check(network, coupling, oracle=False)
    plan = network.plan(0.5, coupling=coupling)
    if coupling == "coupled":
        assert network.prune(plan).compact().b.out_channels == 4
