"""Contests: equal MACs, hits that are the evaluator's, and files that are kept, or measured anew."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpgm_core import EvaluationConfig, FpgmError, Network, SelectionOptions, evaluate
from fpgm_core.criteria import get_criterion
from fpgm_core.data import load_images
from fpgm_core.evaluation import (
    CONTESTED,
    Contest,
    ContestConfig,
    Entry,
    contest,
    contest_steps,
    equal_plan,
    known_contest,
    paired_change,
    wilson,
)
from fpgm_core.evaluation import accuracy as evaluator
from fpgm_core.graph import Unit
from fpgm_core.recovery import RECOVERY_METHODS
from fpgm_core.recovery import methods as rungs

module = importlib.import_module("fpgm_core.evaluation.contest")  # the package's `contest` is the function
FEW = EvaluationConfig(images=60, device="cpu", precision="float32")
QUICK = ContestConfig(criteria=("fpgm",), seeds=1, rungs=("as_is", "merged"))


@pytest.fixture
def small(monkeypatch):
    """Few training images for every rung and score."""

    def few(name, split, root=None):
        return load_images(name, split, root).first(300)

    monkeypatch.setattr(evaluator, "load_images", few)
    monkeypatch.setattr(
        module,
        "load_images",
        lambda name, split, root=None: few(name, split, root) if split == "train" else load_images(name, split, root),
    )
    for room in (evaluator, rungs):
        monkeypatch.setattr(room, "IMAGES", 128)


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
    chosen = module._equal_rate(mix, unit, rate, SelectionOptions())
    found = mix.count(unit.size, chosen, blocks=blocks)
    counts = {step / 2000: mix.count(unit.size, step / 2000, blocks=blocks) for step in range(2001)}
    assert found == max(count for count in counts.values() if count <= wanted)
    if chosen != rate:
        assert chosen <= min(step for step, count in counts.items() if count == found)


def test_hits_are_the_evaluators(small):
    net, settings = Network.load("resnet20"), FEW
    steps = list(contest_steps(net, ContestConfig(criteria=("fpgm_mix", "refit_cost"), seeds=1), settings))
    *shares, found = steps
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.25  # of four parts scoring is one
    assert 0.9 < shares[-1] < 1
    assert [(entry.criterion, entry.seed) for entry in found.entries] == [
        ("fpgm_mix", None), ("refit_cost", None), ("random", 0),
    ]  # fmt: skip
    assert found.rungs == tuple(RECOVERY_METHODS)
    for entry in found.entries:
        plan = equal_plan(net, entry.criterion, 0.4, seed=entry.seed or 0)
        assert entry.macs == net.cost(plan).macs
        for rung in found.rungs:
            figure = evaluate(net, plan, replace(settings, rung=rung))
            assert np.array_equal(entry.hits[rung], figure.right)
            assert (rung in entry.given_up) == (figure.rung != rung)
            assert found.accuracy(entry, rung) == figure.accuracy


def test_a_repair_that_was_given_up_is_told(resnet20, small, monkeypatch):
    monkeypatch.setattr(rungs, "_right", lambda network, images, rights=iter((1, 2)): next(rights))
    found = contest(
        resnet20, ContestConfig(criteria=("bn_scale",), seeds=0, rungs=("repaired", "recalibrated")), FEW, False
    )
    (entry,) = found.entries
    assert entry.given_up == ("repaired",)


def test_what_was_measured_is_kept(resnet20, own_home, monkeypatch):
    first = contest(resnet20, QUICK, FEW)
    monkeypatch.setattr(module, "measure", None)  # nothing is measured again
    (again,) = contest_steps(resnet20, QUICK, FEW)
    same(again, first)
    same(known_contest(resnet20, QUICK, FEW), first)
    assert not again.entries[0].hits["as_is"].flags.writeable
    assert len(files(own_home)) == 1


def test_what_is_not_to_be_kept_is_neither_written_nor_read(resnet20, own_home):
    contest(resnet20, QUICK, FEW, kept=False)
    assert not (own_home / "contests").exists()


def test_other_rules_or_settings_are_another_contest(resnet20):
    contest(resnet20, QUICK, FEW)
    for rules in (
        {"rate": 0.5},
        {"coupling": "coupled"},
        {"criteria": ("l2_norm",)},
        {"seeds": 2},
        {"rungs": ("as_is",)},
        {"rungs": ("merged", "as_is")},
    ):
        assert known_contest(resnet20, replace(QUICK, **rules), FEW) is None
    for settings in ({"images": 61}, {"split": "sealed"}, {"precision": "bfloat16"}):
        assert known_contest(resnet20, QUICK, replace(FEW, **settings)) is None
    assert known_contest(resnet20, QUICK, replace(FEW, rung="repaired", device="auto")) is not None


def pickled(path):
    np.savez(path, header=np.array([{"a": 1}], dtype=object), hits=np.zeros(3))


def emptied(path):
    with np.load(path) as held:
        np.savez(path, header=held["header"])


def shortened(path):
    with np.load(path) as held:
        np.savez(path, header=held["header"], hits=held["hits"][..., :-1])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(bytes(byte ^ (number == 200) for number, byte in enumerate(path.read_bytes()))),
        pickled,
        emptied,
        shortened,
    ],
)
def test_a_damaged_file_is_measured_anew(resnet20, own_home, damage):
    rules = replace(QUICK, rungs=("as_is",), seeds=0)
    first = contest(resnet20, rules, FEW)
    (path,) = files(own_home)
    damage(path)
    assert known_contest(resnet20, rules, FEW) is None
    same(contest(resnet20, rules, FEW), first)
    same(known_contest(resnet20, rules, FEW), first)


def test_a_full_disk_takes_nothing_from_what_was_measured(resnet20, own_home, monkeypatch):
    def full(path, content):
        raise FpgmError("cannot write: No space left on device")

    monkeypatch.setattr(module, "write_atomic", full)
    assert contest(resnet20, QUICK, FEW).images == 60
    assert known_contest(resnet20, QUICK, FEW) is None


def test_it_can_be_cancelled_between_batches(resnet20, own_home, one_core):
    before = [tensor.clone() for tensor in resnet20.module.state_dict().values()]
    running = contest_steps(resnet20, QUICK, replace(FEW, images=300))
    shares = [next(running) for _ in range(2)]
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


def test_a_contest_of_nothing_is_refused(resnet20):
    with pytest.raises(FpgmError, match="a rate of 0 prunes nothing here; raise it"):
        contest(resnet20, replace(QUICK, rate=0.0), FEW)
    untrained = Network(replace(resnet20.loaded, trained=False, weights="random"))
    with pytest.raises(FpgmError, match="no trained weights"):
        contest(untrained, QUICK, FEW)
    with pytest.raises(FpgmError, match="ask for 1 to 5000"):
        contest(resnet20, QUICK, replace(FEW, images=0))


def test_a_bundle_is_written_and_found(resnet20, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ContestConfig", lambda: QUICK)
    monkeypatch.setattr(module, "EvaluationConfig", lambda: FEW)
    monkeypatch.setattr(module, "contest", lambda network, kept: contest(network, QUICK, FEW, kept))
    path = module.bundle_contest("resnet20", tmp_path)
    monkeypatch.setattr(module, "_bundled", lambda fingerprint: tmp_path / f"{fingerprint}.npz")
    assert path.name == f"{resnet20.fingerprint}.npz"
    same(known_contest(resnet20, QUICK, FEW), contest(resnet20, QUICK, FEW, kept=False))


@pytest.mark.parametrize("name", ["resnet20", "mobilenetv2_cifar"])
def test_what_ships_is_what_is_measured(resnet20, name):
    net = resnet20 if name == "resnet20" else Network.load(name)
    found = known_contest(net)
    assert found is not None
    assert (found.criteria, len(found.random), found.rungs, found.images) == (
        CONTESTED,
        10,
        tuple(RECOVERY_METHODS),
        5000,
    )
    assert module._bundled(net.fingerprint).stat().st_size < 100_000
    for criterion, seed in (("fpgm", None), ("fpgm_mix", None), ("random", 3)):
        entry, plan = found.entry(criterion, seed), equal_plan(net, criterion, found.rate, seed=seed or 0)
        assert entry.macs == net.cost(plan).macs
        for rung in ("as_is", "merged"):
            figure = evaluate(net, plan, EvaluationConfig(images=100, rung=rung))
            assert np.count_nonzero(entry.hits[rung][:100] != figure.right) <= 1  # sums may round otherwise elsewhere
