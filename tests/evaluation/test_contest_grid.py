"""Contests over a grid of goals: equal MACs at each, streamed, kept, and what the measurements say."""

import pytest

from fpgm_core import FpgmError
from fpgm_core.data import load_images
from fpgm_core.evaluation import ContestConfig, contest_grid_work, equal_plan, evaluate, wilson
from fpgm_core.evaluation.contest_grid import rate_for
from fpgm_core.runtime.progress import run

RULES = ContestConfig(criteria=("fpgm", "l2_norm"), seeds=2, rungs=("as_is",))
GOALS = (0.5, 0.3)


@pytest.fixture(scope="module")
def images():
    return load_images("cifar10", "choose").first(600)


@pytest.fixture(scope="module")
def train():
    return load_images("cifar10", "train").first(64)


def test_at_each_goal_all_cut_as_much_and_the_figures_are_evaluates(resnet20, images, train):
    told = []
    grid = run(contest_grid_work(resnet20, images, train, goals=GOALS, rules=RULES), told.append)
    assert [contest.rate for contest in grid.contests] == [rate_for(resnet20, goal, "inner") for goal in sorted(GOALS)]
    for goal, contest in zip(sorted(GOALS), grid.contests, strict=True):
        (macs,) = {entry.macs for entry in contest.entries}
        assert 1 - macs / resnet20.dense_cost.macs >= goal
        plan = equal_plan(resnet20, "fpgm", contest.rate)
        right = evaluate(resnet20.prune(plan), images).num_correct
        assert dict(grid.points("fpgm", "as_is"))[1 - macs / resnet20.dense_cost.macs] == wilson(right, 600)
    assert [len(accuracies) for _, accuracies in grid.control("as_is")] == [2, 2]
    sizes = [sum(len(one.entries) for one in step.partial.contests) for step in told]
    assert sizes == sorted(sizes)  # streamed: entries come one by one
    assert set(sizes) >= {1, 2, 3, 5}
    again = []
    run(contest_grid_work(resnet20, images, train, goals=GOALS, rules=RULES), again.append)
    assert again == []  # kept


def test_a_goal_that_no_rate_meets_is_left_out(resnet20, images, train):
    grid = run(contest_grid_work(resnet20, images, train, goals=(0.3, 0.999), rules=RULES))
    assert (len(grid.contests), grid.total) == (1, 2)
    with pytest.raises(FpgmError, match="ask for less"):
        rate_for(resnet20, 0.999, "inner")


@pytest.mark.parametrize("coupling", ["inner", "coupled"])
def test_the_rate_of_a_goal_is_the_smallest(resnet20, coupling):
    rate = rate_for(resnet20, 0.4, coupling)
    cuts = [
        1 - resnet20.cost(equal_plan(resnet20, "random", each, coupling)).macs / resnet20.dense_cost.macs
        for each in (rate, rate - 0.01)
    ]
    assert cuts[0] >= 0.4 > cuts[1]
