"""Rivals' plans brought to our rungs: what Torch-Pruning prunes, and verdicts by paired intervals."""

import numpy as np
import pytest

from fpgm_core.allocation import SuggestConfig, prepared_work
from fpgm_core.allocation.rates_bench import Match, RatesBench, adjusted, as_csv, as_markdown, rates_bench_work
from fpgm_core.allocation.rivals import RIVALS, CannotCut
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
    cutter = BY_NAME[name].begin(prepared, training)
    for asked in (0.3, 0.2):  # the second as if the first had never been asked for
        pruned = cutter(asked)
        cut = 1 - pruned.cost.macs / prepared.choices.network.dense_cost.macs
        assert asked <= cut < asked + 0.06
        assert set(pruned.plan.rates) <= {one.unit.name for one in prepared.choices.units}
    assert pruned.digest == BY_NAME[name].begin(prepared, training)(0.2).digest


def test_what_cannot_be_cut_is_said(prepared):
    training = load_images("cifar10", "train").first(4)
    for name in ("uniform", "tp_l2_uniform"):
        with pytest.raises(CannotCut):
            BY_NAME[name].begin(prepared, training)(0.99)


def test_torch_prunings_magnitude_is_the_norm(prepared):
    """At equal counts it drops the filters of least L2 norm, with the weights that read them: so nearly ours."""
    pruned = BY_NAME["tp_l2_uniform"].begin(prepared, load_images("cifar10", "train").first(4))(0.3)
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


def test_the_best_of_a_rung_go_on_and_verdicts_are_on_sealed(resnet20):
    images, training = load_images("cifar10", "choose").first(40), load_images("cifar10", "train").first(60)
    names = ("uniform", "random_1", "random_2")
    work = rates_bench_work(
        resnet20, images, training, sealed=load_images("cifar10", "sealed").first(30), coupling="inner", cuts=(0.3,),
        rungs=("as_is", "recalibrated"), rivals=[BY_NAME[name] for name in names], survivors=1,
        config=SuggestConfig(loss="damage"),
    )  # fmt: skip
    bench = run(work)
    first, second = (
        {one.contender: one for one in bench.matches if one.rung == rung} for rung in ("as_is", "recalibrated")
    )
    assert set(first) == {"ours", *names}
    best = max(names, key=lambda name: first[name].measurement.num_correct)
    assert set(second) == {"ours", best}
    assert {name for name, one in first.items() if one.sealed} == {"ours", best}
    assert [(one.rival, one.num_images) for one in bench.verdicts] == [(best, 30)] * 2
    assert len(as_csv([bench]).splitlines()) == 1 + 6
    assert as_markdown([bench]).count("| resnet20 | inner | 30% |") == 2


def test_verdicts_are_adjusted_over_the_grid(resnet20):
    images = load_images("cifar10", "choose").first(60)
    good, bad = (evaluate(resnet20.prune(rate, coupling="inner"), images) for rate in (0.1, 0.9))
    matches = [
        Match(who, cut, "as_is", cut, one) for cut in (0.3, 0.5) for who, one in (("ours", good), ("other", bad))
    ]
    found = RatesBench("resnet20", "inner", tuple(matches)).verdicts
    assert found[0].p == found[1].p
    assert found[0].change.low > 0
    assert [one.p for one in adjusted(found)] == [pytest.approx(2 * found[0].p)] * 2
