"""Rivals' plans brought to our rungs: what Torch-Pruning prunes, and verdicts by paired intervals."""

import numpy as np
import pytest
from documents import ROOT

from fpgm_core.allocation import SearchConfig, SuggestConfig, prepared_work
from fpgm_core.allocation.rates_bench import Match, RatesBench, rates_bench_work
from fpgm_core.allocation.rates_table import Row, adjusted, as_csv, as_markdown, from_csv, joined, verdicts_of
from fpgm_core.allocation.rivals import RIVALS, CannotCut
from fpgm_core.data import load_images
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import evaluate
from fpgm_core.evaluation.compare import mcnemar
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
    assert len(as_csv(bench.rows).splitlines()) == 1 + 6
    assert as_markdown(bench.rows).count("| resnet20 | inner | 30% |") == 2


def test_with_a_search_ours_is_the_best_of_many_on_choose_on_each_rung(resnet20):
    images, training = load_images("cifar10", "choose").first(60), load_images("cifar10", "train").first(60)
    given = {"coupling": "inner", "cuts": (0.5,), "rungs": ("as_is", "recalibrated"), "rivals": (BY_NAME["uniform"],)}
    found = {
        search: run(
            rates_bench_work(
                resnet20, images, training, **given, config=SuggestConfig(loss="damage"),
                search=SearchConfig(trials=search, sample=20, more=60) if search else None,
            )
        )
        for search in (None, 12)
    }  # fmt: skip
    solved, searched = (
        {one.rung: one.measurement.num_correct for one in bench.matches if one.contender == "ours"}
        for bench in found.values()
    )
    assert all(searched[rung] >= solved[rung] for rung in solved)
    assert searched != solved
    assert [bench.selection for bench in found.values()] == ["fpgm, damage", "fpgm, damage, 12 plans searched"]


def test_verdicts_are_adjusted_over_the_grid(resnet20):
    images = load_images("cifar10", "choose").first(60)
    good, bad = (evaluate(resnet20.prune(rate, coupling="inner"), images) for rate in (0.1, 0.9))
    matches = [
        Match(who, cut, "as_is", cut, one) for cut in (0.3, 0.5) for who, one in (("ours", good), ("other", bad))
    ]
    found = RatesBench("resnet20", "inner", "fpgm, kl", tuple(matches)).verdicts
    assert found[0].p == found[1].p
    assert found[0].change.low > 0
    assert [one.p for one in adjusted(found)] == [pytest.approx(2 * found[0].p)] * 2


def rows_of(ours=60, *, cut=0.3, sealed=False, **rivals):
    """A table of one place, of 100 images: right answers by contender, of which ours has all but five too."""

    def row(name, right):
        both = right if name == "ours" else min(right, ours) - 5
        on_sealed = (right, 100, both) if sealed else (None, None, None)
        selection = "fpgm, kl" if name == "ours" else ""
        return Row("resnet20", "inner", cut, "as_is", name, selection, 0.3123, right, 100, both, *on_sealed)

    return tuple(row(name, right) for name, right in {"ours": ours, **rivals}.items())


def test_a_table_reads_back():
    rows = (*rows_of(uniform=40, sealed=True), Row("resnet20", "inner", 0.9, "as_is", "uniform", "", None))
    assert from_csv(as_csv(rows)) == rows
    for other in ("model,coupling\nresnet20,inner\n", as_csv(rows).replace("100", "many")):
        with pytest.raises(FpgmError, match="--out"):
            from_csv(other)


def test_verdicts_from_counts_are_those_of_the_answers(resnet20):
    images = load_images("cifar10", "choose").first(60)
    good, bad = (evaluate(resnet20.prune(rate, coupling="inner"), images) for rate in (0.2, 0.5))
    matches = (Match("ours", 0.3, "as_is", 0.3, good), Match("uniform", 0.3, "as_is", 0.3, bad))
    (verdict,) = RatesBench("resnet20", "inner", "fpgm, kl", matches).verdicts
    assert verdict.change == good.against(bad)
    assert verdict.p == mcnemar(bad.right, good.right)


def test_tables_of_one_contest_join():
    first, later = rows_of(uniform=40, random_1=45, sealed=True), rows_of(fastnas=50)
    table = joined(first, later)
    assert {one.contender for one in table} == {"ours", "uniform", "random_1", "fastnas"}
    (verdict,) = verdicts_of(table)
    assert (verdict.rival, verdict.num_rivals, verdict.theirs) == ("fastnas", 3, 50)
    (ours,) = (one for one in table if one.contender == "ours")
    assert ours.sealed_right == 60  # measured before, and not again
    assert joined(table, table) == table


def test_a_place_where_ours_is_another_is_begun_anew():
    table = joined((*rows_of(uniform=40), *rows_of(uniform=30, cut=0.5)), rows_of(61, random_1=45))
    assert [(one.cut, one.contender) for one in table] == [
        (0.5, "ours"), (0.5, "uniform"), (0.3, "ours"), (0.3, "random_1"),
    ]  # fmt: skip
    assert as_markdown(table).count("best of 1 |") == 2


def test_the_documented_table_says_what_its_matches_do():
    table = ROOT / "docs" / "rates.csv"
    assert table.with_suffix(".md").read_text() == as_markdown(from_csv(table.read_text()))
