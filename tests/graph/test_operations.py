"""The rules for operations, each on a small network of its own: masked, compact and folded, and what they cost."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toys import Toy, close, conv, head, run_cost, silenced

from fpgm_core import COUPLINGS, FpgmError
from fpgm_core.graph import count_cost, live_sources
from fpgm_core.inference import folded_module
from fpgm_core.pruning import PrunedNetwork, compact_module, masked_module, verify

SHAPE = (3, 8, 8)


def shuffle(x, groups):
    count, channels, height, width = x.size()
    spread = x.view(count, groups, channels // groups, height, width)
    return spread.transpose(1, 2).contiguous().view(count, channels, height, width)


def squeeze_and_excite():
    def forward(net, x):
        y = F.relu(net.n(net.a(x)))
        weights = torch.sigmoid(net.fc2(F.silu(net.fc1(F.adaptive_avg_pool2d(y, 1)))))
        return head(net, net.b(weights * y))

    layers = {"fc1": conv(8, 4, 1), "fc2": conv(4, 8, 1), "b": conv(8, 8), "fc": nn.Linear(8, 5)}
    return Toy(forward, a=conv(3, 8), n=nn.BatchNorm2d(8), **layers)


def excite_in_place():
    def forward(net, x):
        y = F.relu(net.a(x))
        y *= net.h(net.fc2(F.silu(net.fc1(y.mean((2, 3), keepdim=True)))))
        return head(net, net.b(y))

    layers = {"fc1": conv(8, 4, 1), "fc2": conv(4, 8, 1), "h": nn.Hardsigmoid(), "b": conv(8, 8)}
    return Toy(forward, a=conv(3, 8), fc=nn.Linear(8, 5), **layers)


def times_its_sigmoid():
    def forward(net, x):
        y = net.n(net.a(x))
        return head(net, net.b(y * torch.sigmoid(y)))

    return Toy(forward, a=conv(3, 8), n=nn.BatchNorm2d(8), b=conv(8, 8), fc=nn.Linear(8, 5))


def shuffled(groups=2):
    def forward(net, x):
        return head(net, net.b(shuffle(F.relu(net.a(x)), groups)))

    return Toy(forward, a=conv(3, 12), b=conv(12, 8), fc=nn.Linear(8, 5))


def shuffle_unit():
    """ShuffleNet's: half of the channels pass by, both halves are shuffled together."""

    def forward(net, x):
        y = F.relu(net.a(x))
        for layer in (net.b, net.c):
            first, second = y.chunk(2, dim=1)
            y = shuffle(torch.cat((first, F.relu(layer(second))), dim=1), 2)
        return head(net, y)

    return Toy(forward, a=conv(3, 12), b=conv(6, 6), c=conv(6, 6), fc=nn.Linear(12, 5))


def pointwise():
    """ConvNeXt's block without its norm and layer scale: Linear layers over channels in the last dimension."""

    def forward(net, x):
        y = net.a(x)
        z = net.down(F.gelu(net.up(net.d(y).permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
        return head(net, 4 * z + y)

    layers = {"up": nn.Linear(8, 16), "down": nn.Linear(16, 8), "fc": nn.Linear(8, 5)}
    return Toy(forward, a=conv(3, 8), d=conv(8, 8, groups=8), **layers)


def layer_norm():
    def forward(net, x):
        y = net.down(F.gelu(net.up(net.norm(net.a(x).permute(0, 2, 3, 1))))).permute(0, 3, 1, 2)
        return head(net, net.b(y))

    layers = {"norm": nn.LayerNorm(8), "up": nn.Linear(8, 16), "down": nn.Linear(16, 8), "b": conv(8, 8)}
    return Toy(forward, a=conv(3, 8), fc=nn.Linear(8, 5), **layers)


def normed_sum():
    def forward(net, x):
        y = net.a(x)
        return head(net, net.b(F.relu(net.norm(y + net.p(F.relu(y))))))

    layers = {"norm": nn.GroupNorm(4, 8), "p": conv(8, 8), "b": conv(8, 8)}
    return Toy(forward, a=conv(3, 8), fc=nn.Linear(8, 5), **layers)


def add_in_place():
    def forward(net, x):
        y = net.a(x)
        y += net.b(x)
        return head(net, net.c(F.relu(y, inplace=True)))

    return Toy(forward, a=conv(3, 8), b=conv(3, 8), c=conv(8, 8), fc=nn.Linear(8, 5))


def mean_kept():
    layers = {"a": conv(3, 8), "b": conv(8, 8, 1), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: net.fc(net.b(net.a(x).mean((2, 3), keepdim=True)).mean([-2, -1])), **layers)


def mean_of_channels_last():
    layers = {"a": conv(3, 8), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: net.fc(net.a(x).permute(0, 2, 3, 1).mean((1, 2))), **layers)


def broadcast_sum():
    def forward(net, x):
        y = F.relu(net.a(x))
        return head(net, net.b(y + net.s(F.adaptive_avg_pool2d(y, 1))))

    return Toy(forward, a=conv(3, 8), s=conv(8, 8, 1), b=conv(8, 8), fc=nn.Linear(8, 5))


def split_in_three():
    def forward(net, x):
        first, second, third = torch.split(F.relu(net.a(x)), [2, 4, 6], dim=1)
        return head(net, net.b(torch.cat([third, first], 1)) + net.c(second))

    return Toy(forward, a=conv(3, 12), b=conv(8, 8), c=conv(4, 8), fc=nn.Linear(8, 5))


def two_grouped():
    def forward(net, x):
        return head(net, net.h(F.relu(net.n(net.g(F.relu(net.a(x)))))))

    layers = {"g": conv(16, 32, groups=4), "n": nn.BatchNorm2d(32), "h": conv(32, 8, groups=2), "fc": nn.Linear(8, 5)}
    return Toy(forward, a=conv(3, 16), **layers)


def dying_branch():
    def forward(net, x):
        return head(net, net.c(F.relu(net.a(x) + net.d(net.e(x)))))

    layers = {"e": conv(3, 8), "d": conv(8, 8, groups=8), "c": conv(8, 8), "fc": nn.Linear(8, 5)}
    return Toy(forward, a=conv(3, 8), **layers)


def a_chain():
    layers = {"e": conv(3, 8), "d": conv(8, 8, groups=8), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: head(net, net.d(net.e(x))), **layers)


OPERATIONS = {
    "squeeze and excite": squeeze_and_excite, "excite in place": excite_in_place, "x * sigmoid(x)": times_its_sigmoid,
    "shuffle": shuffled, "shuffle by 3": lambda: shuffled(3), "shuffle unit": shuffle_unit, "pointwise": pointwise,
    "layer norm": layer_norm, "normed sum": normed_sum, "add in place": add_in_place, "mean, kept": mean_kept,
    "mean of channels last": mean_of_channels_last, "broadcast sum": broadcast_sum, "split": split_in_three,
    "grouped twice": two_grouped, "dying branch": dying_branch,
}  # fmt: skip


@pytest.fixture
def toy(wrap):
    def build(make):
        torch.manual_seed(0)
        return wrap(make(), SHAPE)

    return build


@pytest.fixture
def images():
    return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))


def check(network, masks, images):
    """Every form computes what silencing the removed channels computes, and costs what was counted."""
    dense, expected = network.module(images), silenced(network, masks, images)
    proof = verify(PrunedNetwork(network, network.plan(), masks), images)
    assert (proof.holds, proof.same_top1) == (True, True)
    for form in forms(network, masks):
        assert close(form(images), expected, dense)
    cost = count_cost(network.flow, masks)
    assert run_cost(compact_module(network.module, network.flow, masks), SHAPE) == (cost.macs, cost.params)
    return expected, dense


def forms(network, masks):
    compact = compact_module(network.module, network.flow, masks)
    aligned = compact_module(network.module, network.flow, masks, aligned=True)
    return masked_module(network.module, network.flow, masks), compact, folded_module(compact, network.flow), aligned


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.75])  # 0.3 of 8 or 12 leaves odd numbers
@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_form_computes_what_silencing_computes(toy, images, name, coupling, rate):
    network = toy(OPERATIONS[name])
    plan = network.plan(rate, criterion="l2_norm", coupling=coupling)
    expected, dense = check(network, network.keep_masks(plan), images)
    if network.units(coupling):
        assert not close(expected, dense, 100 * dense)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", OPERATIONS)
def test_odd_plans(toy, mixed, images, name, seed):
    network = toy(OPERATIONS[name])
    check(network, network.keep_masks(mixed(network, "independent", "random", seed)), images)


def site(flow, name):
    return next(item for item in flow.sites if item.name == name)


def filters(flow, name):
    found = site(flow, name)
    return np.arange(found.filter_offset, found.filter_offset + found.outputs)


def live_of(network, masks, layer):
    return live_sources(network.flow, masks)[filters(network.flow, layer)]


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_what_weighs_channels_leaves_with_them(toy, coupling):
    network = toy(squeeze_and_excite)
    reason = network.refusals(coupling)["fc2"]
    assert reason == "its filters weigh the channels of a one by one and leave with them"
    masks = network.keep_masks(network.plan(0.5, coupling=coupling))
    assert np.array_equal(live_of(network, masks, "fc2"), masks["a"])
    layer = next(layer for layer in count_cost(network.flow, masks).layers if layer.name == "fc2")
    assert (layer.kept, layer.live_inputs, layer.macs) == (4, 2, 4 * 2)


def test_shuffling_permutes(toy):
    flow = toy(shuffled).flow
    a = filters(flow, "a")
    assert site(flow, "b").reads.tolist() == [[c for pair in zip(a[:6], a[6:], strict=True) for c in pair]]
    assert "a" not in flow.joined


def test_a_shuffle_unit_permutes_what_it_appends(toy):
    flow = toy(shuffle_unit).flow
    a, b = filters(flow, "a"), filters(flow, "b")
    once = [c for pair in zip(a[:6], b, strict=True) for c in pair]
    assert site(flow, "c").reads.tolist() == [once[6:]]
    c = filters(flow, "c")
    twice = [i for pair in zip(once[:6], c, strict=True) for i in pair]
    assert site(flow, "fc").reads.tolist() == [twice]


def test_a_pointwise_linear_layer_is_a_convolution(toy):
    network = toy(pointwise)
    assert {"up", "down"} <= {unit.name for unit in network.units("independent")}
    assert [(layer.name, layer.shape) for layer in network.layers if layer.name == "up"] == [("up", (16, 8, 1, 1))]
    assert site(network.flow, "up").cost_per_weight == 8 * 8
    assert network.unit_of("a", "coupled").members == ("a", "d", "down")
    compact = network.prune(network.plan({"up": 0.25})).compact()
    assert (compact.up.out_features, compact.down.in_features) == (12, 12)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_a_layer_norm_runs_over_the_channels_that_are_left(toy, coupling):
    network = toy(layer_norm)
    assert not network.refusals(coupling)
    compact = network.prune(network.plan({"a": 0.25}, coupling=coupling)).compact()
    assert compact.norm.normalized_shape == (6,)
    assert compact.norm.weight.shape == compact.norm.bias.shape == (6,)


def test_what_goes_into_a_group_norm_together_is_not_pruned_by_itself(toy):
    network = toy(normed_sum)
    reason = "it feeds norm, a group norm, together with other layers"
    assert network.refusals("independent") == {"a": reason, "p": reason}
    (unit,) = (unit for unit in network.units("coupled") if unit.name == "a")
    assert (unit.members, unit.blocks) == (("a", "p"), 4)
    compact = network.prune(network.plan(0.6, coupling="coupled")).compact()
    assert (compact.norm.num_channels, compact.norm.num_groups) == (4, 4)


def test_groups_stay_of_equal_size(toy):
    network = toy(two_grouped)
    units = {unit.name: unit.blocks for unit in network.units("independent")}
    assert units == {"a": 4, "g": 4, "h": 2}
    compact = network.prune(network.plan(0.5)).compact()
    assert (compact.g.in_channels, compact.g.out_channels, compact.g.groups) == (8, 16, 4)
    assert (compact.h.in_channels, compact.h.out_channels, compact.h.groups) == (16, 4, 2)


def halves(size):
    low = np.arange(size) < size // 2
    return low, ~low


def test_a_branch_that_dies_leaves_the_other(toy, images):
    network = toy(dying_branch)
    low, high = halves(8)
    masks = {"e": low, "d": high}  # no filter of d has anything to filter
    check(network, masks, images)
    assert not live_of(network, masks, "d").any()
    assert not live_of(network, masks, "e").any()
    compact = forms(network, masks)[1]
    assert not hasattr(compact, "d")
    assert compact.c.in_channels == 8


def test_a_plan_that_leaves_nothing_is_refused(toy):
    network = toy(a_chain)
    plan = network.plan(0.5, locked_out={"e": (0, 1, 2, 3), "d": (4, 5, 6, 7)})
    for refused in (network.cost, network.prune):
        with pytest.raises(FpgmError, match="nothing is left that reaches fc under these rates; lower them"):
            refused(plan)
    masks = network.keep_masks(plan)
    for form in (masked_module, compact_module):
        with pytest.raises(FpgmError, match="nothing is left that reaches fc"):
            form(network.module, network.flow, masks)


# What follows expects the right behaviour where the library was found to be wrong.


def depthwise_then_grouped():
    layers = {"e": conv(3, 16), "d": conv(16, 16, groups=16), "g": conv(16, 8, groups=4), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: head(net, net.g(F.relu(net.d(net.e(x))))), **layers)


def grouped_then_depthwise():
    layers = {"a": conv(3, 16), "g": conv(16, 16, groups=4), "d": conv(16, 16, groups=16), "b": conv(16, 8)}
    return Toy(lambda net, x: head(net, net.b(net.d(F.relu(net.g(net.a(x)))))), fc=nn.Linear(8, 5), **layers)


def grouped_then_sliced():
    layers = {"a": conv(3, 16), "g": conv(16, 16, groups=4), "b": conv(6, 8), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: head(net, net.b(F.relu(net.g(net.a(x)))[:, 1:7])), **layers)


def grouped_excite():
    def forward(net, x):
        y = F.relu(net.a(x))
        return head(net, net.b(y * torch.sigmoid(net.fc2(net.fc1(F.adaptive_avg_pool2d(y, 1))))))

    layers = {"fc1": conv(8, 4, 1), "fc2": conv(4, 8, 1, groups=2), "b": conv(8, 8), "fc": nn.Linear(8, 5)}
    return Toy(forward, a=conv(3, 8), **layers)


def weighed_by_a_depthwise():
    """Where d's input is absent its channel is, and a sigmoid of it 1/2: as when every filter of d's is silenced."""

    def forward(net, x):
        return head(net, net.b(net.a(x) * torch.sigmoid(net.d(net.e(x)))))

    layers = {"a": conv(3, 8), "e": conv(3, 8), "d": conv(8, 8, groups=8), "b": conv(8, 8), "fc": nn.Linear(8, 5)}
    return Toy(forward, **layers)


def relu_in_place_after_a_shuffle():
    def forward(net, x):
        y = net.a(x)
        z = F.relu(shuffle(y, 2), inplace=True)  # a shuffle copies: y stays as it is
        return head(net, net.c(torch.cat([net.b(z), y], 1)))

    return Toy(forward, a=conv(3, 4), b=conv(4, 8), c=conv(12, 8), fc=nn.Linear(8, 5))


def relu_in_place_after_padding():
    def forward(net, x):
        y = net.a(x)
        z = F.relu(F.pad(y, (0, 0, 0, 0, 0, 4)), inplace=True)
        return head(net, net.c(torch.cat([net.b(z), y], 1)))

    return Toy(forward, a=conv(3, 4), b=conv(8, 8), c=conv(12, 8), fc=nn.Linear(8, 5))


def relu_in_place_of_a_slice():
    def forward(net, x):
        y = net.a(x)
        z = F.relu(y[:, 1:6], inplace=True)  # a slice shares memory: y changes too
        return head(net, net.c(torch.cat([net.b(z), y], 1)))

    return Toy(forward, a=conv(3, 8), b=conv(5, 8), c=conv(16, 8), fc=nn.Linear(8, 5))


def relu_in_place_for_its_effect():
    def forward(net, x):
        y = net.a(x)
        z = y + net.b(x)
        F.relu(z, inplace=True)  # nobody reads what it returns
        return head(net, net.c(torch.cat([z, y], 1)))

    return Toy(forward, a=conv(3, 8), b=conv(3, 8), c=conv(16, 8), fc=nn.Linear(8, 5))


def add_to_a_slice():
    def forward(net, x):
        y = net.a(x)
        y[:, :4].add_(net.b(x))
        return head(net, net.c(y))

    return Toy(forward, a=conv(3, 8), b=conv(3, 4), c=conv(8, 8), fc=nn.Linear(8, 5))


def sigmoid_in_place():
    def forward(net, x):
        y = net.a(x)
        net.h(y)
        return head(net, net.b(y))

    return Toy(forward, a=conv(3, 8), h=nn.Hardsigmoid(inplace=True), b=conv(8, 8), fc=nn.Linear(8, 5))


def sum_by_keyword():
    layers = {"a": conv(3, 8), "b": conv(3, 8), "c": conv(8, 8), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: head(net, net.c(torch.add(net.a(x), other=net.b(x)))), **layers)


def product_by_keyword():
    def forward(net, x):
        y = net.a(x)
        return head(net, net.c(torch.mul(y, other=torch.sigmoid(y))))

    return Toy(forward, a=conv(3, 8), c=conv(8, 8), fc=nn.Linear(8, 5))


def sliced_by_its_size():
    def forward(net, x):
        y = net.a(x)
        return head(net, net.c(y[:, : y.shape[1] // 2]))

    return Toy(forward, a=conv(3, 8), c=conv(4, 8), fc=nn.Linear(8, 5))


def cropped_to_another():
    def forward(net, x):
        y, z = net.a(x), net.b(x)
        return head(net, net.c(y[:, :, : z.shape[2], : z.shape[3]] + z))

    return Toy(forward, a=conv(3, 8), b=nn.Conv2d(3, 8, 3), c=conv(8, 8), fc=nn.Linear(8, 5))


def padded_by_its_size():
    def forward(net, x):
        y = net.a(x)
        edge = y.shape[3] // 8
        return head(net, net.c(F.pad(y, (edge, edge, edge, edge))))

    return Toy(forward, a=conv(3, 8), c=conv(8, 8), fc=nn.Linear(8, 5))


ONCE_WRONG = {
    make.__name__.replace("_", " "): make
    for make in (
        depthwise_then_grouped, grouped_then_depthwise, grouped_then_sliced, grouped_excite, weighed_by_a_depthwise,
        relu_in_place_after_a_shuffle, relu_in_place_after_padding, relu_in_place_of_a_slice,
        relu_in_place_for_its_effect, add_to_a_slice, sigmoid_in_place, sum_by_keyword, product_by_keyword,
        sliced_by_its_size, cropped_to_another, padded_by_its_size,
    )
}  # fmt: skip


@pytest.mark.parametrize("criterion", ["l2_norm", "random"])
@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", ONCE_WRONG)
def test_what_was_once_wrong(toy, images, name, coupling, criterion):
    network = toy(ONCE_WRONG[name])
    dense = network.module(images)
    assert close(network.prune(network.plan(coupling=coupling)).masked()(images), dense, dense)
    for rate in (0.3, 0.5):
        plan = network.plan(rate, criterion=criterion, coupling=coupling)
        proof = verify(network.prune(plan), images)
        assert (proof.holds, proof.same_top1) == (True, True)
