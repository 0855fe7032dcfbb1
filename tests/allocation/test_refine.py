"""Prices in context: the goal stays met, the divergence only falls, test images are not read."""

import numpy as np
import pytest

from fpgm_core import FpgmError
from fpgm_core.allocation import Goal, SuggestConfig, prepared_work, refined_work, suggestion_of
from fpgm_core.data import load_images
from fpgm_core.runtime.progress import run

GOAL = Goal({"macs": 0.5})


@pytest.fixture(scope="module")
def train():
    return load_images("cifar10", "train").first(120)


@pytest.fixture
def prepared(resnet20, train):
    like = resnet20.plan(coupling="inner")
    return run(prepared_work(resnet20, train, like=like, config=SuggestConfig(loss="damage")))


def test_a_round_meets_the_goal_and_makes_nothing_worse(prepared, train):
    partials = []
    found = run(refined_work(prepared, GOAL, train, rounds=1), lambda progress: partials.append(progress.partial))
    assert found.start.plan == suggestion_of(prepared, GOAL).plan
    assert GOAL.met(found.best.pruned)
    assert found.divergence <= found.start_divergence
    assert (found.best.plan == found.start.plan) == (found.divergence == found.start_divergence)
    pruned = sum(bool((~mask).any()) for mask in found.start.pruned.keep_masks.values())
    assert pruned + 2 <= found.num_measured <= pruned + 4  # the first, every unit, one to three new ones
    assert all(one is None or one.best.plan == found.start.plan for one in partials)
    before, after = (np.array([price.loss for price in one.prices]) for one in (found.start, found.best))
    assert before.shape == after.shape


def test_it_needs_losses_and_images(resnet20, prepared, train):
    bare = run(prepared_work(resnet20, train, config=SuggestConfig(allocator="uniform")))
    with pytest.raises(FpgmError, match="scale predicted losses"):
        run(refined_work(bare, GOAL, train))
    with pytest.raises(FpgmError, match="images to fit to"):
        run(refined_work(prepared, GOAL, train.first(1)))
