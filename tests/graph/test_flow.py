"""The channel-flow graph, on small networks written for one rule each."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toys import Toy, close, conv, head, run_cost, silenced

from fpgm_core import FpgmError
from fpgm_core.graph import COUPLINGS, count_cost, dense_layers, live_sources, trace_flow
from fpgm_core.graph.flow import ALWAYS, NEVER
from fpgm_core.inference import folded_module
from fpgm_core.models import cifar_models, get_model_info


def site(flow, name):
    return next(item for item in flow.sites if item.name == name)


def filters(flow, name):
    """The global indices of a layer's filters."""
    found = site(flow, name)
    return np.arange(found.filter_offset, found.filter_offset + found.outputs)


def add():
    layers = {"a": conv(3, 8), "b": conv(3, 8), "c": conv(8, 8), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: head(net, net.c(F.relu(net.a(x) + net.b(x)))), **layers)


def add_in_place():
    def forward(net, x):
        y = net.a(x)
        y.add_(net.b(x))  # who reads y afterwards reads the sum
        return head(net, net.c(y))

    return Toy(forward, a=conv(3, 8), b=conv(3, 8), c=conv(8, 8), fc=nn.Linear(8, 5))


def cat():
    layers = {"a": conv(3, 8), "b": conv(3, 4), "c": conv(15, 8), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: head(net, net.c(torch.cat([net.a(x), x, net.b(x)], 1))), **layers)


def cat_by_keyword():
    layers = {"a": conv(3, 8), "b": conv(3, 8), "fc": nn.Linear(16, 5)}
    return Toy(lambda net, x: head(net, torch.cat(tensors=[net.a(x), net.b(x)], dim=1)), **layers)


def sliced():
    layers = {"a": conv(3, 8), "b": conv(5, 8), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: head(net, net.b(net.a(x)[:, 1:6, ::2])), **layers)


def padded():
    layers = {"a": conv(3, 32), "b": conv(36, 8), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: head(net, net.b(F.pad(F.relu(net.a(x)), (1, 1, 1, 1, 1, 3)))), **layers)


def padded_norm():
    layers = {"a": conv(3, 32), "n": nn.BatchNorm2d(36), "b": conv(36, 8), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: head(net, net.b(net.n(F.pad(net.a(x), (0, 0, 0, 0, 0, 4))))), **layers)


def padded_features():
    layers = {"a": conv(3, 16), "fc": nn.Linear(18, 5)}
    return Toy(lambda net, x: net.fc(F.pad(net.a(x).mean((2, 3)), (1, 1))), **layers)


def flattened():
    layers = {"a": conv(3, 16), "n": nn.BatchNorm2d(16), "fc": nn.Linear(16 * 16, 5)}
    return Toy(lambda net, x: net.fc(torch.flatten(F.max_pool2d(F.relu(net.n(net.a(x))), 2), 1)), **layers)


def positions_as_rows():
    layers = {"a": conv(3, 8), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: net.fc(net.a(x).view(-1, 8)).sum(1, keepdim=True), **layers)


def opaque():
    layers = {"a": conv(3, 8), "b": conv(8, 8), "c": conv(8, 8), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: head(net, net.c(torch.sigmoid(net.b(F.relu(net.a(x)))))), **layers)


def chunked():
    def forward(net, x):
        first, second = net.a(x).chunk(2, dim=1)
        return head(net, net.b(torch.cat([second, first], 1)))

    return Toy(forward, a=conv(3, 8), b=conv(8, 8), fc=nn.Linear(8, 5))


def split_by_method():
    def forward(net, x):
        return head(net, net.b(net.a(x).split(4, 1)[1]))

    return Toy(forward, a=conv(3, 8), b=conv(4, 8), fc=nn.Linear(8, 5))


def conv_twice():
    def forward(net, x):
        x = F.relu(net.n1(net.b(F.relu(net.a(x)))))
        x = F.relu(net.n2(net.b(x)))
        return head(net, net.c(x))

    norms = {"n1": nn.BatchNorm2d(8), "n2": nn.BatchNorm2d(8)}
    return Toy(forward, a=conv(3, 8), b=conv(8, 8), c=conv(8, 8), fc=nn.Linear(8, 5), **norms)


def conv_twice_once_sliced():
    def forward(net, x):
        x = F.relu(net.a(x))
        return head(net, net.d(net.b(x)[:, :4]) + net.b(x))

    return Toy(forward, a=conv(3, 8), b=conv(8, 8), d=conv(4, 8), fc=nn.Linear(8, 5))


def norm_twice():
    def forward(net, x):
        return head(net, net.n(net.b(F.relu(net.n(net.a(x))))))

    return Toy(forward, a=conv(3, 8), b=conv(8, 8), n=nn.BatchNorm2d(8), fc=nn.Linear(8, 5))


def two_names():
    shared = conv(3, 32)
    layers = {"a": shared, "z": shared, "b": conv(32, 8), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: head(net, net.b(F.relu(net.z(x)))), **layers)


def tied_weights():
    net = Toy(
        lambda net, x: head(net, net.c(F.relu(net.b(F.relu(net.a(x)))))),
        a=conv(3, 8), b=conv(8, 8), c=conv(8, 8), fc=nn.Linear(8, 5),
    )  # fmt: skip
    net.c.weight = net.b.weight
    return net


def unused_branch():
    def forward(net, x):
        x = F.relu(net.a(x))
        net.c(net.b(x))
        return head(net, x)

    return Toy(forward, a=conv(3, 32), b=conv(32, 32), c=conv(32, 32), fc=nn.Linear(32, 5))


def norm_without_statistics():
    layers = {"a": conv(3, 32), "n": nn.BatchNorm2d(32, track_running_stats=False), "fc": nn.Linear(32, 5)}
    return Toy(lambda net, x: head(net, net.n(net.a(x))), **layers)


def norm_without_affine():
    layers = {"a": conv(3, 32), "n": nn.BatchNorm2d(32, affine=False), "b": conv(32, 8), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: head(net, net.b(net.n(net.a(x)))), **layers)


def depthwise(multiplier=1):
    wide = 16 * multiplier
    return Toy(
        lambda net, x: head(net, net.p(F.relu6(net.n2(net.d(F.relu6(net.n1(net.e(x)))))))),
        e=conv(3, 16, 1), n1=nn.BatchNorm2d(16), d=conv(16, wide, groups=16), n2=nn.BatchNorm2d(wide),
        p=conv(wide, 8, 1), fc=nn.Linear(8, 5),
    )  # fmt: skip


def grouped():
    layers = {"a": conv(3, 16), "g": conv(16, 16, groups=4), "b": conv(16, 8), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: head(net, net.b(F.relu(net.g(F.relu(net.a(x)))))), **layers)


TOYS = {
    "add": add, "add in place": add_in_place, "cat": cat, "cat by keyword": cat_by_keyword, "slice": sliced,
    "pad": padded, "pad and norm": padded_norm, "pad features": padded_features, "flatten": flattened,
    "view of positions": positions_as_rows, "opaque": opaque, "chunk": chunked, "split": split_by_method,
    "conv twice": conv_twice, "conv twice, sliced": conv_twice_once_sliced, "norm twice": norm_twice,
    "two names": two_names, "tied weights": tied_weights, "unused branch": unused_branch,
    "no affine": norm_without_affine, "no statistics": norm_without_statistics,
    "depthwise": depthwise, "depthwise x 2": lambda: depthwise(2), "grouped": grouped,
}  # fmt: skip


@pytest.fixture
def toy(wrap):
    def build(make):
        torch.manual_seed(0)
        return wrap(make())

    return build


@pytest.fixture
def images():
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", TOYS)
def test_nothing_pruned_changes_nothing(toy, images, name, coupling):
    network = toy(TOYS[name])
    plan, dense = network.plan(coupling=coupling), network.module(images)
    assert torch.equal(network.prune(plan).masked()(images), dense)
    compact = network.prune(plan).compact()
    assert close(compact(images), dense, dense)
    assert close(folded_module(compact, network.flow)(images), dense, dense)


ONCE = [name for name in TOYS if "twice" not in name and name != "pad and norm"]


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", ONCE)
def test_every_form_computes_what_silencing_the_channels_computes(toy, images, name, coupling):
    network = toy(TOYS[name])
    plan = network.plan(0.5, coupling=coupling)
    masks, dense = network.keep_masks(plan), network.module(images)
    expected = silenced(network, masks, images)
    compact = network.prune(plan).compact()
    for form in (
        network.prune(plan).masked(),
        compact,
        folded_module(compact, network.flow),
        network.prune(plan).compact(aligned=True),
    ):
        assert close(form(images), expected, dense)
    read = [mask for layer, mask in masks.items() if np.isin(filters(network.flow, layer), dense_live(network)).all()]
    if read:  # something the output depends on was pruned, so that equality proves something
        assert not close(expected, dense, 100 * dense)


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", TOYS)
def test_counted_cost_is_the_compact_networks(toy, name, coupling):
    network = toy(TOYS[name])
    plan = network.plan(0.5, coupling=coupling)
    cost = network.cost(plan)
    assert run_cost(network.prune(plan).compact(), (3, 8, 8)) == (cost.macs, cost.params)


def dense_live(network):
    return np.flatnonzero(live_sources(network.flow, {}))


@pytest.mark.parametrize("name", ["conv twice", "conv twice, sliced", "norm twice", "pad and norm"])
def test_every_form_of_layers_run_twice_agrees(toy, images, name):
    network = toy(TOYS[name])
    plan = network.plan(0.5)
    masked, compact = network.prune(plan).masked()(images), network.prune(plan).compact()
    assert close(compact(images), masked, masked)
    assert close(folded_module(compact, network.flow)(images), masked, masked)


def test_addition_unites_writers(toy):
    flow = toy(add).flow
    assert np.array_equal(np.sort(site(flow, "c").reads, 0), np.stack([filters(flow, "a"), filters(flow, "b")]))
    assert set(flow.joined) == {"a", "b"}
    assert "residual sum" in flow.joined["a"]


def test_concatenation_appends(toy):
    flow = toy(cat).flow
    expected = [*filters(flow, "a"), ALWAYS, ALWAYS, ALWAYS, *filters(flow, "b")]
    assert site(flow, "c").reads.tolist() == [expected]
    assert "concatenated" in flow.joined["a"]


def test_slicing_shifts(toy):
    flow = toy(sliced).flow
    assert site(flow, "b").reads.tolist() == [filters(flow, "a")[1:6].tolist()]
    assert "split" in flow.joined["a"]


def test_chunks_are_dealt_out(toy):
    flow = toy(chunked).flow
    a = filters(flow, "a")
    assert site(flow, "b").reads.tolist() == [[*a[4:], *a[:4]]]
    assert "split" in flow.joined["a"]


def test_a_split_takes_its_part(toy):
    flow = toy(split_by_method).flow
    assert site(flow, "b").reads.tolist() == [filters(flow, "a")[4:].tolist()]
    assert "split" in flow.joined["a"]


def test_concatenation_by_keyword_appends(toy):
    flow = toy(cat_by_keyword).flow
    assert site(flow, "fc").reads.tolist() == [[*filters(flow, "a"), *filters(flow, "b")]]


def test_padding_adds_channels_nobody_writes(toy):
    flow = toy(padded).flow
    assert site(flow, "b").reads.tolist() == [[NEVER, *filters(flow, "a"), NEVER, NEVER, NEVER]]
    assert "padded" in flow.joined["a"]


def test_a_norm_makes_a_constant_of_padding(toy):
    flow = toy(padded_norm).flow
    assert site(flow, "b").reads.tolist() == [[*filters(flow, "a"), ALWAYS, ALWAYS, ALWAYS, ALWAYS]]


def test_flattening_repeats_each_channel(toy):
    flow = toy(flattened).flow
    assert site(flow, "fc").reads.tolist() == [np.repeat(filters(flow, "a"), 16).tolist()]


@pytest.mark.parametrize(
    ("make", "layer", "word"),
    [
        (opaque, "b", "after a sigmoid"),
        (positions_as_rows, "a", "view"),
        (padded_features, "a", "pad"),
    ],
)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_filters_that_cannot_be_followed_are_refused_with_the_reason(toy, make, layer, word, coupling):
    network = toy(make)
    assert word in network.refusals(coupling)[layer]
    assert network.unit_of(layer, coupling) is None


@pytest.mark.parametrize(
    ("make", "free"), [(opaque, {"a", "c"}), (positions_as_rows, set()), (conv_twice, {"a", "b", "c"})]
)
def test_a_refusal_stops_at_the_filters_concerned(toy, make, free):
    assert {unit.name for unit in toy(make).units("independent")} == free


def test_network_outputs_are_never_pruned(toy):
    network = toy(lambda: Toy(lambda net, x: net.b(F.relu(net.a(x))), a=conv(3, 8), b=conv(8, 5)))
    assert [unit.name for unit in network.units("independent")] == ["a"]
    assert "outputs" in network.refusals("independent")["b"]


def test_what_an_operation_without_a_rule_reads_stays_live(toy):
    network = toy(opaque)
    plan = network.plan({"a": 0.5, "c": 0.5})
    assert np.array_equal(live_of(network, plan, "a"), network.keep_masks(plan)["a"])
    assert live_of(network, plan, "b").all()


def live_of(network, plan, layer):
    return live_sources(network.flow, network.keep_masks(plan))[filters(network.flow, layer)]


def test_filters_without_a_live_reader_are_dropped_and_counted_as_dropped(toy):
    network = toy(sliced)  # b reads a's channels 1 to 5 only
    assert live_of(network, network.plan(), "a").tolist() == [False] + [True] * 5 + [False] * 2
    first = next(layer for layer in network.cost(network.plan()).layers if layer.name == "a")
    assert (first.kept, first.macs) == (5, 5 * 3 * 9 * 8 * 8)


def test_the_dense_count_has_filters_that_nobody_reads(toy):
    network = toy(sliced)
    first = next(layer for layer in network.dense_cost.layers if layer.name == "a")
    assert (first.kept, first.macs) == (8, 8 * 3 * 9 * 8 * 8)
    assert (network.dense_cost.macs, network.dense_cost.params) == run_cost(network.module, (3, 8, 8))


def test_dropping_runs_up_a_chain(toy):
    network = toy(depthwise)
    out = {"d": np.arange(16) % 2 == 0, "p": np.ones(8, dtype=bool)}
    live = live_sources(network.flow, out)
    assert np.array_equal(live[filters(network.flow, "e")], out["d"])  # an expansion nobody filters further
    layers = {layer.name: layer for layer in count_cost(network.flow, out).layers}
    assert (layers["e"].kept, layers["d"].kept, layers["p"].live_inputs) == (8, 8, 8)


def test_an_unused_branch_is_dropped_whole(toy):
    network = toy(unused_branch)
    layers = {layer.name: layer for layer in network.cost(network.plan()).layers}
    assert (layers["a"].kept, layers["b"].macs, layers["c"].kept) == (32, 0, 0)


def branching(net, x):
    return net.a(x) if x.sum() > 0 else net.a(-x)


def reading_a_value(net, x):
    y = net.a(x)
    return y * y.max().item()


@pytest.mark.parametrize("forward", [branching, reading_a_value])
def test_control_flow_that_depends_on_data_is_refused(toy, forward):
    with pytest.raises(FpgmError, match="forward") as caught:
        _ = toy(lambda: Toy(forward, a=conv(3, 8))).flow
    assert "\n" not in str(caught.value)


def test_images_of_the_wrong_shape_are_refused(wrap):
    with pytest.raises(FpgmError, match="check the shape"):
        _ = wrap(Toy(lambda net, x: net.a(x), a=conv(4, 8)), (3, 8, 8)).flow


@pytest.mark.parametrize("name", [info.name for info in cifar_models()])
def test_shapes_are_the_same_wherever_they_are_taken_from(name):
    info = get_model_info(name)
    module = info.build()
    flows = [trace_flow(module, info.input_shape, device) for device in ("meta", "cpu")]
    shapes = [{node.name: node.meta.get("shape") for node in flow.graph.graph.nodes} for flow in flows]
    assert shapes[0] == shapes[1]
    assert any(shape and shape[0] == 1 for shape in shapes[0].values())
    assert count_cost(flows[0], {}) == count_cost(flows[1], {})
    assert {tensor.device.type for tensor in flows[1].graph.parameters()} == {"meta"}  # and nothing is held of it
    assert dense_layers(module, info.input_shape) == dense_layers(module, info.input_shape, "cpu")
