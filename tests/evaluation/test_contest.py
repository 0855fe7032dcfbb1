"""Contests: equal MACs, hits that are the evaluator's, and files that are kept, or measured anew."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fpgm_core import EvaluationConfig, FpgmError, Network, SelectionOptions, evaluate, recover
from fpgm_core.criteria import get_criterion, score
from fpgm_core.data import load_images
from fpgm_core.evaluation import (
    CONTESTED,
    Contest,
    ContestConfig,
    Entry,
    contest,
    contest_work,
    equal_plan,
    known_contest,
    measure_work,
    paired_change,
    wilson,
)
from fpgm_core.evaluation.contest import BUNDLE, bundle_contest, equal_rate
from fpgm_core.graph import Unit
from fpgm_core.recovery import ladder
from fpgm_core.runtime.progress import run

module = importlib.import_module("fpgm_core.evaluation.contest")  # the package's `contest` is the function
CPU = EvaluationConfig(device="cpu", precision="float32")
QUICK = ContestConfig(criteria=("fpgm",), seeds=1, rungs=("as_is", "merged"))


@pytest.fixture(scope="module")
def choose():
    return load_images("cifar10", "choose")


@pytest.fixture(scope="module")
def training():
    return load_images("cifar10", "train").first(300)


@pytest.fixture(scope="module")
def arguments(resnet20, choose, training):
    """ResNet-20, few images to measure on, few to recover by."""
    return resnet20, choose.first(60), training


def of(hits, seeds=()):
    """A contest on one rung: answers by criterion, and one row of them a seed."""
    entries = [Entry(name, None, 100, {"as_is": np.array(row, bool)}) for name, row in hits.items()]
    entries += [Entry("random", seed, 100, {"as_is": np.array(row, bool)}) for seed, row in enumerate(seeds)]
    images = len(next(iter(hits.values())))
    return Contest("toy", "0" * 64, 0.4, "inner", "choose", images, tuple(entries))


def files(home):
    return list((home / "contests").iterdir())


def same(first, second):
    assert (first.model, first.fingerprint, first.images) == (second.model, second.fingerprint, second.images)
    assert (first.rate, first.coupling, first.split) == (second.rate, second.coupling, second.split)
    assert len(first.entries) == len(second.entries)
    for mine, theirs in zip(first.entries, second.entries, strict=True):
        assert (mine.criterion, mine.seed, mine.macs, mine.given_up) == (
            theirs.criterion, theirs.seed, theirs.macs, theirs.given_up,
        )  # fmt: skip
        assert list(mine.hits) == list(theirs.hits)
        assert all(np.array_equal(mine.hits[rung], theirs.hits[rung]) for rung in mine.hits)


@pytest.mark.parametrize("rate", [0.3, 0.4, 0.5])
@pytest.mark.parametrize("name", ["resnet20", "mobilenetv2_cifar"])
def test_macs_are_equal(resnet20, name, rate):
    net = resnet20 if name == "resnet20" else Network.load(name)
    plain = net.plan(rate, coupling="inner")
    macs = net.cost(plain).macs
    for criterion, seed in (("l2_norm", 0), ("fpgm", 0), ("random", 0), ("random", 1)):
        plan = equal_plan(net, criterion, rate, seed=seed)
        assert (plan.rates, plan.options) == (plain.rates, SelectionOptions(seed=seed))
        assert net.cost(plan).macs == macs
    mixed = equal_plan(net, "fpgm_mix", rate)
    short = {
        unit.size: net.count_pruned(plain, unit) - net.count_pruned(mixed, unit)
        for unit in net.units("inner")
        if net.count_pruned(plain, unit) != net.count_pruned(mixed, unit)
    }
    assert set(short.values()) <= {1}
    assert short == {} or rate == 0.3  # there no rate prunes 19 of 64
    assert (net.cost(mixed).macs == macs) == (short == {})


def test_the_mix_prunes_as_many_of_every_layer_as_the_others(resnet20):
    mixed = equal_plan(resnet20, "fpgm_mix", 0.4)
    counts = {unit.size: resnet20.count_pruned(mixed, unit) for unit in resnet20.units("inner")}
    assert counts == {16: 6, 32: 12, 64: 25}
    first = next(unit for unit in resnet20.units("inner") if unit.size == 16)
    assert resnet20.count_pruned(resnet20.plan(0.4, coupling="inner", criterion="fpgm_mix"), first) == 5
    assert mixed.rate(first.name) == pytest.approx(5 / 12)


@given(st.integers(2, 96), st.integers(1, 3), st.floats(0, 1))
def test_no_rate_of_the_mix_comes_nearer_from_below(size, blocks, rate):
    mix, unit = get_criterion("fpgm_mix"), Unit("unit", ("unit",), size * blocks, blocks)
    wanted = get_criterion("fpgm").count(unit.size, rate, blocks=blocks)
    chosen = equal_rate(mix, unit, rate, SelectionOptions())
    found = mix.count(unit.size, chosen, blocks=blocks)
    counts = {step / 2000: mix.count(unit.size, step / 2000, blocks=blocks) for step in range(2001)}
    assert found == max(count for count in counts.values() if count <= wanted)
    if chosen != rate:
        assert chosen <= min(step for step, count in counts.items() if count == found)


def test_hits_are_the_evaluators(arguments):
    net, images, training = arguments
    shares = []
    rules = ContestConfig(criteria=("fpgm_mix", "refit_cost"), seeds=1)
    work = contest_work(net, images, training, rules=rules, config=CPU)
    found = run(work, lambda progress: shares.append(progress.share))
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.25  # of four parts scoring is one
    assert 0.9 < shares[-1] < 1
    assert [(entry.criterion, entry.seed) for entry in found.entries] == [
        ("fpgm_mix", None), ("refit_cost", None), ("random", 0),
    ]  # fmt: skip
    assert found.rungs == ladder()
    scored = net.with_scores("refit_cost", score(net, "refit_cost", training))
    for entry in found.entries:
        pruned = scored.prune(equal_plan(scored, entry.criterion, 0.4, seed=entry.seed or 0))
        assert entry.macs == pruned.cost.macs
        for rung in found.rungs:
            exact = run(measure_work(pruned, images, method=rung, training=training, config=CPU, preview=False))
            assert np.array_equal(entry.hits[rung], exact.right)
            assert (rung in entry.given_up) == (exact.method != rung)
            assert found.accuracy(entry, rung) == exact.accuracy


def test_a_repair_that_was_given_up_is_told(resnet20, choose, training):
    """Training images whose labels are what the recalibrated network says: no other is right about more."""
    pruned = resnet20.prune(equal_plan(resnet20, "bn_scale", 0.4))
    with torch.inference_mode():
        answers = recover(pruned, "recalibrated", training, device="cpu").compact()(training.normalised(0, 300))
    told = replace(training, labels=answers.argmax(1).clone())
    rules = ContestConfig(criteria=("bn_scale",), seeds=0, rungs=("repaired", "recalibrated"))
    (entry,) = contest(resnet20, choose.first(60), told, rules=rules, config=CPU, use_cache=False).entries
    assert entry.given_up == ("repaired",)
    assert np.array_equal(entry.hits["repaired"], entry.hits["recalibrated"])


def test_what_was_measured_is_kept(arguments, own_home, monkeypatch):
    first = contest(*arguments, rules=QUICK, config=CPU)
    monkeypatch.setattr(module, "measure_work", None)  # nothing is measured again
    again = contest(*arguments, rules=QUICK, config=CPU)
    same(again, first)
    same(known_contest(*arguments, rules=QUICK, config=CPU), first)
    assert not again.entries[0].hits["as_is"].flags.writeable
    assert len(files(own_home)) == 1


def test_what_is_not_to_be_kept_is_neither_written_nor_read(arguments, own_home):
    contest(*arguments, rules=QUICK, config=CPU, use_cache=False)
    assert not (own_home / "contests").exists()


def test_other_rules_or_images_are_another_contest(resnet20, choose, training):
    images = choose.first(60)
    contest(resnet20, images, training, rules=QUICK, config=CPU)
    for rules in (
        {"rate": 0.5},
        {"coupling": "coupled"},
        {"criteria": ("l2_norm",)},
        {"seeds": 2},
        {"rungs": ("as_is",)},
        {"rungs": ("merged", "as_is")},
    ):
        assert known_contest(resnet20, images, training, rules=replace(QUICK, **rules), config=CPU) is None
    brighter = replace(images, mean=(0.4, 0.4, 0.4))
    relabelled = replace(images, labels=images.labels.flip(0))
    for others in (choose.first(61), load_images("cifar10", "sealed").first(60), brighter, relabelled):
        assert known_contest(resnet20, others, training, rules=QUICK, config=CPU) is None
    assert known_contest(resnet20, images, training.first(299), rules=QUICK, config=CPU) is None
    for config, known in ((replace(CPU, precision="bfloat16"), False), (replace(CPU, device="auto"), True)):
        assert (known_contest(resnet20, images, training, rules=QUICK, config=config) is not None) == known


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(bytes(byte ^ (number == 200) for number, byte in enumerate(path.read_bytes()))),
    ],
)
def test_a_damaged_file_is_measured_anew(arguments, own_home, damage):
    asked = {"rules": replace(QUICK, rungs=("as_is",), seeds=0), "config": CPU}
    first = contest(*arguments, **asked)
    (path,) = files(own_home)
    damage(path)
    assert known_contest(*arguments, **asked) is None
    same(contest(*arguments, **asked), first)
    same(known_contest(*arguments, **asked), first)


def test_a_disk_that_takes_nothing_takes_nothing_from_what_was_measured(arguments, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FPGM_HOME", str(tmp_path / "file"))  # where no folder can be
    assert contest(*arguments, rules=QUICK, config=CPU).images == 60
    assert known_contest(*arguments, rules=QUICK, config=CPU) is None


def test_it_can_be_cancelled_between_batches(resnet20, choose, training, own_home, one_core):
    before = [tensor.clone() for tensor in resnet20.module.state_dict().values()]
    running = contest_work(resnet20, choose.first(300), training, rules=QUICK, config=CPU)
    shares = [next(running).share for _ in range(2)]
    assert shares == pytest.approx([1 / 12, 2 / 12])  # a batch of 100 each, of two rungs, two entries
    running.close()
    assert next(running, "closed") == "closed"
    assert not (own_home / "contests").exists()
    assert all((a == b).all() for a, b in zip(resnet20.module.state_dict().values(), before, strict=True))


def test_the_ranking_says_no_more_than_the_intervals():
    found = of({"a": [0] * 40 + [1] * 60, "b": [0] * 10 + [1] * 90, "c": [1] * 90 + [0] * 10, "d": [0] * 12 + [1] * 88})
    ranking = found.ranking("as_is")
    assert ranking.criteria == ("b", "c", "d", "a")  # equals as they were entered
    assert [accuracy.value for accuracy in ranking.accuracies] == [0.9, 0.9, 0.88, 0.6]
    assert ranking.accuracies[0] == wilson(90, 100)
    assert ranking.neighbours[0].value == 0
    assert ranking.neighbours[2] == paired_change(60, 28, 0, 12)
    assert ranking.leaders == ("b", "c", "d")
    assert (ranking.parted("a", "b"), ranking.parted("b", "d")) == (True, False)
    assert ranking.changes["a", "b"].value == -ranking.changes["b", "a"].value
    with pytest.raises(FpgmError, match="not two of b, c, d, a"):
        ranking.parted("a", "random")


def test_every_seed_of_the_control_stands_by_itself():
    found = of({"a": [1] * 80 + [0] * 20}, seeds=([1] * 40 + [0] * 60, [0] * 20 + [1] * 80))
    assert [entry.seed for entry in found.random] == [0, 1]
    assert found.criteria == ("a",)
    first, second = found.against_random("a", "as_is")
    assert (first.low > 0, second.excludes_zero) == (True, False)
    assert found.change(found.entry("random", 1), found.entry("a"), "as_is").value == -second.value
    assert found.ranking("as_is").criteria == ("a",)
    assert found.ranking("as_is").leaders == ("a",)


def test_what_is_not_in_a_contest_is_said():
    found = of({"a": [1, 0]}, seeds=([0, 1],))
    with pytest.raises(FpgmError, match="fpgm is not in this contest of a and 1 random draws"):
        found.entry("fpgm")
    with pytest.raises(FpgmError, match="random with seed 3"):
        found.entry("random", 3)
    with pytest.raises(FpgmError, match="rung 'repaired' was not measured; choose one of as_is"):
        found.ranking("repaired")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"rate": 1.2}, "not a fraction"),
        ({"coupling": "outer"}, "unknown coupling"),
        ({"criteria": ("fpgm", "median")}, "unknown criterion"),
        ({"criteria": ()}, "at least one criterion"),
        ({"criteria": ("fpgm", "fpgm")}, "none twice"),
        ({"criteria": ("random",)}, "the control"),
        ({"rungs": ("mended",)}, "unknown rung"),
        ({"rungs": ()}, "at least one rung"),
        ({"seeds": -1}, "seeds -1"),
        ({"seeds": True}, "seeds True"),
    ],
)
def test_rules_that_cannot_be_are_refused(fields, says):
    with pytest.raises(FpgmError, match=says):
        ContestConfig(**fields)


def test_a_contest_of_nothing_is_refused(arguments):
    _, images, training = arguments
    with pytest.raises(FpgmError, match="a rate of 0 prunes nothing here; raise it"):
        contest(*arguments, rules=replace(QUICK, rate=0.0), config=CPU)
    with pytest.raises(FpgmError, match="no trained weights"):
        contest(Network.load("resnet20", "random"), images, training, rules=QUICK, config=CPU)


def test_a_bundle_is_written_and_found(arguments, tmp_path):
    path = bundle_contest(*arguments, tmp_path, rules=QUICK, config=CPU)
    assert path.name == f"{arguments[0].fingerprint}.npz"
    found = known_contest(*arguments, rules=QUICK, config=CPU, bundle=tmp_path)
    same(found, contest(*arguments, rules=QUICK, config=CPU, use_cache=False))
    assert known_contest(*arguments, rules=QUICK, config=CPU) is None


@pytest.mark.parametrize("name", ["resnet20", "resnet56", "mobilenetv2_cifar"])
def test_what_ships_is_what_is_measured(resnet20, choose, name):
    net = resnet20 if name == "resnet20" else Network.load(name)
    found = known_contest(net, choose, load_images("cifar10", "train"))
    assert found is not None
    assert (found.criteria, len(found.random), found.rungs) == (CONTESTED, 10, ladder())
    assert (found.model, found.split, found.images) == (name, "choose", 5000)
    assert (BUNDLE / f"{net.fingerprint}.npz").stat().st_size < 100_000
    for criterion, seed in (("fpgm", None), ("fpgm_mix", None), ("random", 3)):
        entry, pruned = found.entry(criterion, seed), net.prune(equal_plan(net, criterion, found.rate, seed=seed or 0))
        assert entry.macs == pruned.cost.macs
        for rung in ("as_is", "merged"):
            exact = evaluate(recover(pruned, rung, device="cpu"), choose.first(100))
            assert np.count_nonzero(entry.hits[rung][:100] != exact.right) <= 1  # sums may round otherwise elsewhere


def test_only_the_bundled_images_have_a_bundled_contest(resnet20, choose):
    training = load_images("cifar10", "train")
    assert known_contest(resnet20, load_images("cifar10", "sealed"), training) is None
    assert known_contest(resnet20, choose, training.first(4999)) is None
