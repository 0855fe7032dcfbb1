"""Costs of many allocations at once against the graph's own count."""

import networks
import numpy as np
import pytest

from fpgm_core import FpgmError, SelectionOptions
from fpgm_core.allocation import Choices, macs_of, params_of

NAMES = ("resnet20", "mobilenetv2_cifar", "vgg16_bn_cifar", "densenet121", "shufflenet_v2_x1_0", "resnext50_32x4d")


# Coupled, filters of these also go for want of readers, which no count of one unit tells: costs are near, from above.
NEAR = {("densenet121", "coupled"), ("shufflenet_v2_x1_0", "coupled")}


def some(choices, count=3, seed=0):
    """A few random allocations that leave every layer something."""
    rng = np.random.RandomState(seed)
    return np.array([[rng.randint(0, 1 + len(one.counts) * 3 // 4) for one in choices.units] for _ in range(count)])


@pytest.mark.parametrize("coupling", ["inner", "coupled"])
@pytest.mark.parametrize("name", [*NAMES[:2], *(pytest.param(name, marks=pytest.mark.thorough) for name in NAMES[2:])])
def test_costs_are_the_graphs_own(name, coupling):
    network = networks.load(name)
    choices = Choices.of(network, network.plan(coupling=coupling))
    macs, params = macs_of(choices), params_of(choices)
    allocations = some(choices)
    counts = choices.counts(allocations)
    for row, chosen in enumerate(allocations):
        exact = network.cost(choices.plan(chosen))
        slack = 1.05 if (name, coupling) in NEAR else 1.0
        assert exact.macs <= macs(counts)[row] <= slack * exact.macs
        assert exact.params <= params(counts)[row] <= slack * exact.params


def test_independent_costs_of_a_residual_network(resnet20):
    choices = Choices.of(resnet20, resnet20.plan(coupling="independent"))
    allocations = some(choices)
    for chosen, macs in zip(allocations, macs_of(choices)(choices.counts(allocations)), strict=True):
        assert macs == resnet20.cost(choices.plan(chosen)).macs


@pytest.mark.parametrize("criterion", ["fpgm", "fpgm_mix"])
@pytest.mark.parametrize("round_to", [1, 8])
def test_choices_are_what_plans_prune(resnet20, criterion, round_to):
    like = resnet20.plan(criterion=criterion, coupling="coupled", options=SelectionOptions(round_to=round_to))
    for one in Choices.of(resnet20, like).units:
        assert one.counts[0] == 0
        assert (np.diff(one.counts) > 0).all()
        for count, rate in zip(one.counts, one.rates, strict=True):
            plan = like.with_rates({one.unit.name: rate})
            assert resnet20.count_pruned(plan, one.unit) == count
            assert (one.unit.size - count) % round_to == 0


def test_locks_leave_room_and_fixed_units_stay(resnet20):
    like = resnet20.plan({"conv1": 0.25, "layer3.0.conv1": 0.5}, coupling="coupled")
    like = like.with_lock("conv1", 3, "out").with_lock("layer1.0.conv1", 0, "in").with_lock("layer1.0.conv1", 1, "in")
    units = {one.unit.name: one for one in Choices.of(resnet20, like, fixed=("layer3.0.conv1",)).units}
    assert units["conv1"].counts.tolist() == list(range(1, 16))
    assert units["layer1.0.conv1"].counts.tolist() == list(range(15))
    assert units["layer3.0.conv1"].counts.tolist() == [32]
    with pytest.raises(FpgmError, match="no unit 'fc'"):
        Choices.of(resnet20, like, fixed=("fc",))


def test_a_nearest_allocation(resnet20):
    like = resnet20.plan(coupling="inner", options=SelectionOptions(round_to=8))
    choices = Choices.of(resnet20, like)
    chosen = choices.nearest({"layer1.0.conv1": 7, "layer3.0.conv1": 60})
    assert choices.counts(chosen)[[0, 1, 6]].tolist() == [8, 0, 56]
    assert (choices.counts(choices.least) == 0).all()
    assert choices.counts(choices.most)[6] == 56
