"""Rivals' plans brought to our rungs: what Torch-Pruning prunes, and verdicts by paired intervals."""

import numpy as np
import pytest

from fpgm_core.allocation import SuggestConfig, prepared_work
from fpgm_core.allocation.rivals import RIVALS, Match, RatesBench, rates_bench_work
from fpgm_core.data import load_images
from fpgm_core.evaluation import evaluate
from fpgm_core.runtime.progress import run

BY_NAME = {rival.name: rival for rival in RIVALS}


@pytest.fixture(scope="module")
def prepared(resnet20):
    like = resnet20.plan(coupling="inner")
    return run(
        prepared_work(resnet20, load_images("cifar10", "train"), like=like, config=SuggestConfig(allocator="uniform"))
    )


@pytest.mark.parametrize("name", ["tp_l2_uniform", "tp_fpgm_global", "tp_taylor_isomorphic"])
def test_torch_pruning_cuts_what_was_asked(prepared, name):
    training = load_images("cifar10", "train").first(20)
    pruned = BY_NAME[name].prune(prepared, 0.3, training)
    cut = 1 - pruned.cost.macs / prepared.choices.network.dense_cost.macs
    assert 0.3 <= cut < 0.36
    assert set(pruned.plan.rates) <= {one.unit.name for one in prepared.choices.units}


def test_torch_prunings_magnitude_is_the_norm(prepared):
    """At equal counts it drops the filters of least L2 norm, with the weights that read them: so nearly ours."""
    pruned = BY_NAME["tp_l2_uniform"].prune(prepared, 0.3, load_images("cifar10", "train").first(4))
    network = prepared.choices.network
    ours = network.prune(pruned.plan.rates, criterion="l2_norm", coupling="inner")
    same = [(pruned.keep_masks[name] == mask).mean() for name, mask in ours.keep_masks.items()]
    assert np.mean(same) > 0.7


def test_a_bench_ends_in_verdicts(resnet20):
    images, training = load_images("cifar10", "choose").first(40), load_images("cifar10", "train").first(60)
    config = SuggestConfig(loss="damage")
    work = rates_bench_work(
        resnet20, images, training, coupling="inner", cuts=(0.3, 0.99), rungs=("as_is",), config=config,
        rivals=(BY_NAME["uniform"], BY_NAME["random_1"]),
    )  # fmt: skip
    bench = run(work)
    assert [(one.contender, one.cut) for one in bench.matches] == [
        (name, cut) for cut in (0.3, 0.99) for name in ("ours", "uniform", "random_1")
    ]
    assert all((one.measurement is None) == (one.cut == 0.99) for one in bench.matches)
    (verdict,) = bench.verdicts
    assert verdict.rival in ("uniform", "random_1")
    best = max(one.measurement.num_correct for one in bench.matches[1:3])
    assert verdict.change.value == pytest.approx((bench.matches[0].measurement.num_correct - best) / 40)


def test_verdicts_are_adjusted_over_the_grid(resnet20):
    images = load_images("cifar10", "choose").first(60)
    good, bad = (evaluate(resnet20.prune(rate, coupling="inner"), images) for rate in (0.1, 0.9))
    matches = [
        Match(who, cut, "as_is", cut, one) for cut in (0.3, 0.5) for who, one in (("ours", good), ("other", bad))
    ]
    found = RatesBench("resnet20", "inner", tuple(matches)).verdicts
    assert [one.p for one in found] == [found[0].p] * 2
    alone = RatesBench("resnet20", "inner", tuple(matches[:2])).verdicts
    assert found[0].p == pytest.approx(2 * alone[0].p)
    assert found[0].change.low > 0
