"""The solver against brute force, and the goals that it meets."""

import itertools

import numpy as np
import pytest
from torch import nn
from torch.nn import functional as F
from toys import Toy, conv, head

from fpgm_core import FpgmError, Network, SelectionOptions
from fpgm_core.allocation import (
    ALLOCATORS,
    Allocator,
    Choices,
    Goal,
    Problem,
    allocated,
    macs_of,
    params_of,
    register_allocator,
    solve,
    unregister_allocator,
)
from fpgm_core.allocation.losses import Losses


def made_up(choices, seed=0):
    """Losses that rise, neither convex nor alike."""
    rng = np.random.RandomState(seed)
    rows = (np.concatenate([[0], np.cumsum(rng.exponential(size=len(one.counts) - 1) ** 3)]) for one in choices.units)
    return Losses("made up", choices, tuple(rows))


@pytest.fixture
def small():
    """Three layers in a row: every cost is a product of neighbours."""
    layers = {"one": conv(3, 6), "two": conv(6, 7), "three": conv(7, 5)}
    module = Toy(
        lambda net, x: head(net, F.relu(net.three(F.relu(net.two(F.relu(net.one(x))))))), **layers, fc=nn.Linear(5, 4)
    )
    network = Network.from_module(module, (3, 8, 8))
    return Choices.of(network, network.plan(coupling="coupled"))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cut", [0.2, 0.5, 0.8])
def test_near_the_best_of_all_allocations(small, seed, cut):
    losses, cost = made_up(small, seed), macs_of(small)
    dense = small.network.dense_cost.macs
    problem = Problem(losses, (cost,), (dense * (1 - cut),))
    found = solve(problem)
    everything = np.array(list(itertools.product(*(range(len(one.counts)) for one in small.units))))
    met = everything[problem.meets(everything)]
    best = losses.of(met).min()
    assert problem.meets(found[None])[0]
    assert losses.of(found) <= 1.1 * best + 1e-12
    fewer = [found - step for step in np.eye(len(found), dtype=int) if (found - step >= 0).all()]
    assert not problem.meets(np.array(fewer)).any()  # to within one filter


def test_two_goals_at_once(small):
    losses, costs = made_up(small), (macs_of(small), params_of(small))
    dense = small.network.dense_cost
    limits = (0.7 * dense.macs, 0.4 * dense.params)
    found = solve(Problem(losses, costs, limits))
    cost = small.network.cost(small.plan(found))
    assert cost.macs <= limits[0]
    assert cost.params <= limits[1]


@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize("coupling", ["inner", "coupled", "independent"])
def test_every_allocator_meets_the_goal_to_within_one_filter(resnet20, allocator, coupling):
    choices = Choices.of(resnet20, resnet20.plan(coupling=coupling))
    goal = Goal({"macs": 0.35})
    pruned = allocated(choices, goal, allocator, losses=made_up(choices))
    assert goal.met(pruned)
    counts = {one.unit.name: int((~pruned.keep_masks[one.unit.name]).sum()) for one in choices.units}
    chosen = choices.nearest(counts)
    for unit in np.flatnonzero(chosen):
        one_less = chosen.copy()
        one_less[unit] -= 1
        assert not goal.met(resnet20.prune(choices.plan(one_less)))


def test_solved_loses_no_more_than_any_other(resnet20):
    choices = Choices.of(resnet20, resnet20.plan(coupling="coupled"))
    losses = made_up(choices)

    def loss(allocator):
        pruned = allocated(choices, Goal({"macs": 0.5}), allocator, losses=losses)
        return losses.of(choices.nearest({n: int((~m).sum()) for n, m in pruned.keep_masks.items()}))

    assert all(loss("solved") <= loss(other) for other in ALLOCATORS)


def test_locks_and_multiples_are_respected(resnet20):
    like = resnet20.plan(coupling="coupled", options=SelectionOptions(round_to=8)).with_lock("layer3.0.conv1", 5, "in")
    choices = Choices.of(resnet20, like, fixed=("layer3.1.conv1",))
    pruned = allocated(choices, Goal({"macs": 0.4}), "solved", losses=made_up(choices))
    assert Goal({"macs": 0.4}).met(pruned)
    assert all(mask.sum() % 8 == 0 for mask in pruned.keep_masks.values())
    assert pruned.keep_masks["layer3.0.conv1"][5]
    assert pruned.keep_masks["layer3.1.conv1"].all()


def test_depthwise_and_independent_costs_are_put_right_by_exact_ones():
    network = Network.load("mobilenetv2_cifar")
    choices = Choices.of(network, network.plan(coupling="independent"))
    assert Goal({"macs": 0.3}).met(allocated(choices, Goal({"macs": 0.3}), "uniform"))


def test_what_cannot_be_is_said(resnet20):
    choices = Choices.of(resnet20, resnet20.plan(coupling="inner"), fixed=("layer3.0.conv1",))
    with pytest.raises(FpgmError, match="the goal cannot be met: all that may go"):
        allocated(choices, Goal({"macs": 0.99}), "solved", losses=made_up(choices))
    with pytest.raises(FpgmError, match="solved reads predicted losses"):
        allocated(choices, Goal({"macs": 0.3}), "solved")
    with pytest.raises(FpgmError, match="unknown allocator 'best'"):
        allocated(choices, Goal({"macs": 0.3}), "best")
    mix = Choices.of(resnet20, resnet20.plan(criterion="fpgm_mix", coupling="inner"))
    with pytest.raises(FpgmError, match="selects in stages"):
        allocated(mix, Goal({"macs": 0.3}), "global")
    for cuts, said in (({}, "something to cut"), ({"macs": 1.0}, "no share"), ({"joules": 0.5}, "unknown cost")):
        with pytest.raises(FpgmError, match=said):
            Goal(cuts)


def test_an_allocator_of_ones_own(resnet20):
    choices = Choices.of(resnet20, resnet20.plan(coupling="inner"))
    register_allocator(Allocator("all_of_it", "All", "Prunes all it may.", lambda problem, seed: choices.most))
    try:
        assert allocated(choices, Goal({"macs": 0.3}), "all_of_it").plan.rates
    finally:
        unregister_allocator("all_of_it")
    with pytest.raises(FpgmError, match="the library's own"):
        register_allocator(ALLOCATORS["uniform"])
    with pytest.raises(FpgmError, match="no allocator"):
        unregister_allocator("all_of_it")
