"""An operation of one's own, registered from outside: followed, rebuilt and counted like any other."""

import numpy as np
import pytest
import torch
from networks import wrap
from torch import nn
from torch.nn import functional as F
from toys import Toy, close, conv, head, run_cost

from fpgm_core import COUPLINGS, FpgmError, Network
from fpgm_core.data import Batch, load_images
from fpgm_core.graph import Operation, Value, is_in_place, operation_of, register_op
from fpgm_core.graph.operations import OPERATIONS
from fpgm_core.inference import Chain, PrefixCache


class Halve(nn.Module):
    """Every second channel, halved."""

    def forward(self, x):
        return x[:, ::2] * 0.5


class Halving(Operation):
    """The example of `register_op`."""

    def propagate(self, walk, node, inputs):
        (value,) = inputs
        walk.join(value.sources, f"its channels are split ({node.name})")
        return Value(value.sources[:, ::2], value.dim, self)

    def rebuild(self, network, node, value):
        source, live = node.all_input_nodes[0], network.live(value)
        taken = network.placed(source, 2 * live)
        return (None if taken is None else network.call(torch.mul, taken, 0.5)), live


@torch.fx.wrap
def squashed(x):
    return x / (1 + x.abs())


@pytest.fixture
def registered():
    """A function that registers for this test alone."""
    before = dict(OPERATIONS)
    yield register_op
    OPERATIONS.clear()
    OPERATIONS.update(before)


def halving():
    layers = {"a": conv(3, 16), "h": Halve(), "b": conv(8, 8), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: head(net, net.b(F.relu(net.h(net.a(x))))), **layers)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_an_operation_of_ones_own_is_followed(registered, coupling):
    registered(Halve, Halving())
    torch.manual_seed(0)
    network = wrap(halving())
    plan, x = network.plan(0.5, criterion="l2_norm", coupling=coupling), torch.randn(2, 3, 8, 8)
    assert network.flow.sites[1].reads.tolist() == [list(range(1, 17, 2))]
    dense, masked, compact = network.module(x), network.prune(plan).masked()(x), network.prune(plan).compact()
    assert close(compact(x), masked, dense)
    assert ("a" in network.refusals(coupling)) == (coupling == "inner")
    cost = network.cost(plan)
    assert run_cost(compact, (3, 8, 8)) == (cost.macs, cost.params)
    if coupling != "inner":
        assert compact.a.out_channels < 8  # what nobody reads is gone too


def test_a_function_needs_no_more_than_a_known_operation(registered):
    layers = {"a": conv(3, 16), "b": conv(16, 8), "fc": nn.Linear(8, 5)}
    net = Toy(lambda net, x: head(net, net.b(squashed(net.a(x)))), **layers)
    assert "a" in wrap(net).refusals("inner")
    registered(squashed, OPERATIONS[torch.tanh])
    assert np.array_equal(wrap(net).flow.sites[1].reads, [np.arange(1, 17)])


class Scaled(nn.Module):
    """Channels times what it was set to: a number, one of several, a tensor that no state dict has."""

    def __init__(self, factor=1.0, *, more=(1.0,), gain=1.0, shift=0.0):
        super().__init__()
        self.factor, self.more, self._gain = factor, more, torch.tensor(gain)
        self.register_buffer("shift", torch.tensor(shift), persistent=False)

    def forward(self, x):
        return x * (self.factor * sum(self.more) * self._gain) - x * self.shift


SETTINGS = [{}, {"factor": 2.0}, {"more": (1.0, 2.0)}, {"gain": 3.0}, {"shift": 4.0}]


def test_what_an_operation_is_set_to_tells_networks_apart(registered):
    """Nothing that is kept, or remembered, of one network answers for another of the same weights."""
    registered(Scaled, OPERATIONS[nn.ReLU])
    images = load_images("cifar10", "choose").first(20)

    def network(settings):
        torch.manual_seed(0)
        layers = {"a": conv(3, 8), "b": conv(8, 8), "c": conv(8, 8), "fc": nn.Linear(8, 10)}

        def forward(net, x):
            return head(net, net.c(F.relu(net.b(F.relu(net.s(net.a(x)))))))

        return Network.from_module(Toy(forward, s=Scaled(**settings), **layers), (3, 32, 32), trained=False)

    networks = [network(settings) for settings in SETTINGS]
    assert len({one.fingerprint for one in networks}) == 1
    assert len({one.identity for one in networks}) == len(SETTINGS)
    assert [network(settings).identity for settings in SETTINGS] == [one.identity for one in networks]
    for one in networks:
        compact = one.prune(0.25, coupling="inner").compact()
        found, _ = Chain.cut(compact, "kind").run(Batch(images, 0, 20))
        torch.testing.assert_close(found, compact(images.normalised(0, 20)))
    assert PrefixCache.on(torch.device("cpu")).bytes > 0


def test_what_is_no_operation_is_refused():
    with pytest.raises(FpgmError, match="no Operation; derive a class"):
        register_op(Halve, Halving)


def only_call(forward, **layers):
    graph = torch.fx.symbolic_trace(Toy(forward, **layers))
    node = next(node for node in graph.graph.nodes if node.op.startswith("call"))
    return dict(graph.named_modules()), node


@pytest.mark.parametrize(
    ("forward", "changes"),
    [
        (lambda net, x: torch.relu(x), False),
        (lambda net, x: torch.relu_(x), True),
        (lambda net, x: F.relu_(x), True),
        (lambda net, x: F.relu(x, True), True),
        (lambda net, x: F.relu(x, inplace=True), True),
        (lambda net, x: F.leaky_relu(x, 0.1, True), True),
        (lambda net, x: F.elu_(x), True),
        (lambda net, x: F.hardtanh(x, 0.0, 6.0, inplace=True), True),
        (lambda net, x: torch.tanh_(x), True),
        (lambda net, x: torch.sigmoid_(x), True),
        (lambda net, x: torch.clamp_(x, 0, 6), True),
        (lambda net, x: x.mul_(2), True),
        (lambda net, x: x.add(2), False),
        (lambda net, x: x + 1, False),
        (lambda net, x: torch.add(x, 1, out=x), True),
        (lambda net, x: torch.mean(x, 1, True), False),  # it keeps a dimension
        (lambda net, x: net.a(x), True),
    ],
)
def test_one_place_says_what_is_in_place(forward, changes):
    modules, node = only_call(forward, a=nn.ReLU(inplace=True))
    assert is_in_place(modules, node) is changes


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: torch.relu_(x), lambda net, x: F.elu_(x), lambda net, x: x.tanh_(),
        lambda net, x: x.clamp_(0, 6), lambda net, x: x.mul_(2),
    ],
)  # fmt: skip
def test_the_form_in_place_is_the_operation_it_is_a_form_of(forward):
    assert operation_of(*only_call(forward)) is not None


def test_a_class_that_changes_nothing_is_the_one_it_is_derived_from():
    class Own(nn.ReLU):
        """Only another name."""

    class Other(nn.ReLU):
        def forward(self, x):
            return super().forward(x) + 1

    node = torch.fx.Graph().call_module("a")
    assert operation_of({"a": Own()}, node) is OPERATIONS[nn.ReLU]
    assert operation_of({"a": Other()}, node) is None
