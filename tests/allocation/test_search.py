"""The search on measured accuracy: every plan meets the goal, the best is kept, two share a history; its optimism."""

import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from fpgm_core import FpgmError
from fpgm_core.allocation import (
    Goal,
    SearchConfig,
    SuggestConfig,
    front_work,
    prepared_work,
    search_work,
    suggestion_of,
)
from fpgm_core.allocation.optimism import optimism_work
from fpgm_core.data import load_images
from fpgm_core.evaluation import History, evaluate
from fpgm_core.recovery import get_recovery_method
from fpgm_core.runtime.progress import run

GOAL = Goal({"macs": 0.4})
FEW = SearchConfig(seconds=600, trials=6, method="as_is", sample=30, more=80)
TOGETHER = textwrap.dedent("""
    import sys
    from fpgm_core import Network
    from fpgm_core.allocation import Goal, SearchConfig, SuggestConfig, prepared_work, search_work
    from fpgm_core.data import load_images
    from fpgm_core.runtime.progress import run
    network, train = Network.load("resnet20"), load_images("cifar10", "train").first(100)
    config = SuggestConfig(loss="damage")
    prepared = run(prepared_work(network, train, like=network.plan(coupling="inner"), config=config))
    search = SearchConfig(600, int(sys.argv[2]), "as_is", 20, 40, seed=int(sys.argv[1]))
    choose = load_images("cifar10", "choose").first(40)
    for progress in search_work(prepared, Goal({"macs": 0.4}), choose, train, search=search, together=""):
        print(progress.what, flush=True)
""")


@pytest.fixture(scope="module")
def train():
    return load_images("cifar10", "train").first(100)


@pytest.fixture(scope="module")
def choose():
    return load_images("cifar10", "choose").first(100)


@pytest.fixture(scope="module")
def prepared(resnet20, train):
    like = resnet20.plan(coupling="inner")
    return run(prepared_work(resnet20, train, like=like, config=SuggestConfig(loss="damage")))


def test_the_best_so_far_meets_the_goal_and_only_rises(prepared, choose, train):
    told = []
    found = run(search_work(prepared, GOAL, choose, train, search=FEW), told.append)
    best = [progress.partial.best for progress in told if progress.partial is not None]
    assert len(best) >= found.num_measured - 1  # told after every plan
    assert found.num_measured >= 6
    assert found.start.plan == suggestion_of(prepared, GOAL).plan
    assert all(GOAL.met(one.pruned) for one in [*best, found.best])
    counts = [one.measurement.num_correct for one in [*best, found.best]]
    assert counts == sorted(counts)
    assert evaluate(found.best.pruned, choose.first(80)).num_correct == counts[-1]
    assert found.gain.value == pytest.approx((counts[-1] - counts[0]) / 80)


def test_it_can_be_stopped_at_any_time(prepared, choose, train):
    work = search_work(prepared, GOAL, choose, train, search=FEW)
    partial = next(progress.partial for progress in work if progress.partial is not None)
    work.close()
    assert partial.best.measurement.num_images == 80


def test_what_is_measured_is_in_the_history(prepared, choose, train):
    found = run(search_work(prepared, GOAL, choose, train, search=FEW, history=History()))
    entries = History().entries()
    assert len({entry.study for entry in entries}) == 1
    assert max(entry.num_correct for entry in entries) == found.best.measurement.num_correct


def test_those_who_search_together_go_on_from_the_best_of_all(prepared, choose, train):
    first = run(search_work(prepared, GOAL, choose, train, search=FEW, together=""))
    again = SearchConfig(600, 2, "as_is", 30, 80, seed=5)
    second = run(search_work(prepared, GOAL, choose, train, search=again, together=""))
    assert second.best.measurement.num_correct >= first.best.measurement.num_correct
    alone = run(search_work(prepared, GOAL, choose, train, search=FEW))
    assert first.best.plan == alone.best.plan  # one process alone finds what it finds without the others


def test_a_plan_is_recovered_once_however_often_it_is_measured(prepared, choose, train, monkeypatch):
    record, recovered = get_recovery_method("recalibrated"), []

    def counted(pruned, *arguments):
        recovered.append(pruned.digest)
        return record.begin(pruned, *arguments)

    def method(name):
        return replace(record, begin=counted) if name == "recalibrated" else get_recovery_method(name)

    monkeypatch.setattr("fpgm_core.evaluation.accuracy.get_recovery_method", method)
    found = run(search_work(prepared, GOAL, choose, train, search=replace(FEW, method="recalibrated")))
    assert found.best.measurement.method == "recalibrated"
    assert found.best.plan != found.start.plan, "so that one was measured twice"
    assert len(recovered) == len(set(recovered)) == found.num_measured


def test_where_every_single_move_is_known_two_are_made_at_once(prepared, choose, train):
    units, stages = len(prepared.choices.units), 3
    singles = 6 * (units + stages)  # shifts of each
    right = np.flatnonzero(evaluate(suggestion_of(prepared, GOAL).pruned, choose).right)
    search = SearchConfig(600, 1 + singles + 10, "as_is", 4, 8)
    found = run(search_work(prepared, GOAL, choose.take(right[:8], "right"), train, search=search))
    assert found.best.plan == found.start.plan, "nothing can be ahead of it"
    assert found.num_measured == 1 + singles + 10


def test_a_search_needs_losses(resnet20, choose, train):
    bare = run(prepared_work(resnet20, train, config=SuggestConfig(allocator="uniform")))
    with pytest.raises(FpgmError, match="needs predicted losses"):
        run(search_work(bare, GOAL, choose, train))


def test_optimism_is_the_change_here_minus_the_change_there(prepared, choose, train):
    few = SearchConfig(600, 1, "as_is", 20, 40)  # only the first plan: nothing was chosen
    found = run(optimism_work(prepared, GOAL, choose, train, halves=2, search=few))
    pruned = suggestion_of(prepared, GOAL).pruned
    here, there = (evaluate(pruned, half).change.value for half in choose.halves(0))
    assert len(found.gaps) == 2
    assert found.gaps[0] == pytest.approx(here - there)
    assert found.mean.low <= found.mean.value <= found.mean.high


def test_the_front(prepared, choose, train):
    history = History()
    work = front_work(
        prepared, choose.first(40), train, cuts=(0.5, 0.2, 0.999), allocators=("solved", "random"), seeds=2,
        method="as_is", history=history,
    )  # fmt: skip
    front = run(work)
    assert [(one.allocator, one.seed, one.cut) for one in front.points] == [
        ("solved", 0, 0.2), ("solved", 0, 0.5), ("random", 0, 0.2), ("random", 0, 0.5), ("random", 1, 0.2),
        ("random", 1, 0.5),
    ]  # fmt: skip
    assert front.impossible == (("solved", 0.999), ("random", 0.999), ("random", 0.999))
    assert all(one.suggestion.reached["macs"] >= one.cut for one in front.points)
    assert len(front.as_csv().splitlines()) == 7
    assert len(history.entries()) == 6


@pytest.mark.thorough
def test_two_processes_search_together_and_one_is_killed(prepared, choose, train):
    def begin(seed, trials):
        command = [sys.executable, "-c", TOGETHER, str(seed), str(trials)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    killed, other = begin(0, 10_000), begin(1, 8)
    with killed, other:
        killed.stdout.readline()
        killed.kill()
        assert other.communicate(timeout=300)[0]
    assert other.returncode == 0
