"""The history: kept, found, named, exported; several processes; damage set aside."""

import csv
import io
import json
import sqlite3
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace

import numpy as np
import pytest

from fpgm_core import FpgmError
from fpgm_core.criteria import get_criterion, register_criterion, unregister_criterion
from fpgm_core.data import load_images
from fpgm_core.evaluation import History, evaluate

WRITER = textwrap.dedent("""
    import sys
    from fpgm_core import Network
    from fpgm_core.data import load_images
    from fpgm_core.evaluation import History, evaluate
    network, images = Network.load("resnet20"), load_images("cifar10", "choose").first(4)
    measurement = evaluate(network.prune(0.3, coupling="inner"), images)
    history, name = History(), int(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    for step in range(40):
        pruned = network.prune((name * 40 + step + 1) / 1000, criterion="random", coupling="inner")
        history.add(pruned, images, measurement, study="together")
        print(step, flush=True)
    sys.stdin.readline()
""")


@pytest.fixture(scope="module")
def images():
    return load_images("cifar10", "choose").first(20)


@pytest.fixture
def measured(resnet20, images):
    """A function that measures a rate and keeps it."""

    def measure(rate, history=None, **fields):
        pruned = resnet20.prune(rate, coupling="inner")
        return (history or History()).add(pruned, images, evaluate(pruned, images), **fields)

    return measure


def test_what_was_measured_is_read_back(resnet20, images, measured):
    number = measured(0.4, study="some")
    pruned = resnet20.prune(0.4, coupling="inner")
    truth = evaluate(pruned, images)
    entry = History().entry(number)
    assert entry.plan == pruned.plan
    assert (entry.accuracy, entry.change) == (truth.accuracy, truth.change)
    assert (entry.macs, entry.params) == (pruned.cost.macs, pruned.cost.params)
    assert (entry.method, entry.images, entry.study) == ("as_is", images.name, "some")
    assert np.array_equal(entry.right, truth.right)


def test_it_is_searched_named_pinned_and_deleted(measured):
    history = History()
    first, second = measured(0.3), measured(0.5)
    history.rename(first, "the careful one")
    history.pin(second)
    assert [entry.id for entry in history.entries(search="careful")] == [first]
    assert [entry.id for entry in history.entries(pinned=True)] == [second]
    assert [entry.id for entry in history.entries(model="resnet20")] == [second, first]
    assert history.entries(model="resnet56") == ()
    measured(0.3)
    assert history.entry(first).name == "the careful one"  # measured again, it is still that one
    history.pin(second, False)
    history.delete(first)
    assert [entry.id for entry in history.entries()] == [second]
    assert not history.entries(pinned=True)
    for act in (history.entry, history.delete, history.pin, lambda number: history.rename(number, "x")):
        with pytest.raises(FpgmError, match="no entry 77"):
            act(77)


def test_exports_say_the_same(measured):
    measured(0.3)
    measured(0.6)
    as_json = json.loads(History().as_json())
    as_csv = list(csv.DictReader(io.StringIO(History().as_csv())))
    assert [row["macs"] for row in as_json] == [int(row["macs"]) for row in as_csv]
    assert [row["plan"] for row in as_json] == [json.loads(row["plan"]) for row in as_csv]
    assert History().as_csv(model="none") == ""


@pytest.mark.parametrize("harm", ["no data base", "another version", "another's tables"])
def test_what_cannot_be_read_is_set_aside(measured, harm, own_home, caplog):
    measured(0.3)
    path = own_home / "history.sqlite"
    if harm == "no data base":
        path.write_bytes(b"something else" * 100)
    else:
        with sqlite3.connect(path) as data:
            data.execute("PRAGMA user_version = 9" if harm == "another version" else "ALTER TABLE measured RENAME TO x")
        data.close()
    history = History()
    assert history.entries() == ()
    assert "lies beside the new one as history.sqlite" in history.notice
    assert len(list(own_home.glob("history.sqlite.*.damaged"))) == 1
    measured(0.5, history)
    assert len(History().entries()) == 1


def test_only_exact_measurements_are_kept(resnet20, images):
    from dataclasses import replace

    pruned = resnet20.prune(0.3)
    with pytest.raises(FpgmError, match="a provisional measurement is not kept"):
        History().add(pruned, images, replace(evaluate(pruned, images), state="provisional"))


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FpgmError, match="cannot open the history"):
        History(tmp_path / "file" / "history.sqlite").entries()


def test_a_new_data_base_that_another_process_is_making_is_waited_for(tmp_path):
    maker = sqlite3.connect(tmp_path / "history.sqlite", isolation_level=None, check_same_thread=False)
    maker.execute("BEGIN IMMEDIATE")
    done = threading.Timer(0.2, maker.execute, ["ROLLBACK"])
    done.start()
    assert History(tmp_path / "history.sqlite").entries() == ()
    done.join()
    maker.close()


@pytest.mark.thorough
def test_two_processes_write_at_once_and_one_is_killed():
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in range(2)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    told = [next(line for line in writers[0].stdout if line == "10\n")]
    writers[0].kill()
    writers[0].communicate()
    for line in writers[1].stdout:
        if line == "39\n":
            break
    writers[1].communicate("\n", timeout=60)
    entries = History().entries(study="together")
    assert told
    assert 51 <= len(entries) <= 80  # all of one, and all that the other said it had kept


def test_the_oldest_that_nobody_pinned_goes_where_there_are_too_many(measured):
    history = History(limit=3)
    first, second, *_ = (measured(rate, history) for rate in (0.1, 0.2, 0.3))
    history.pin(first)
    assert len(history.entries()) == 3
    fourth = measured(0.4, history)
    left = [entry.id for entry in history.entries()]
    assert len(left) == 3
    assert first in left
    assert fourth in left
    assert second not in left
    found, by_hand = measured(0.45, history, study="search"), measured(0.46, history)
    left = [entry.id for entry in history.entries()]
    assert by_hand in left
    assert found not in left  # what a study measured goes before what a hand did
    for entry in history.entries():
        history.pin(entry.id)
    measured(0.5, history)
    assert len(history.entries()) == 3  # pins do not fill a disk


def test_a_plan_is_found_and_stays_in_the_study_that_it_was_measured_for(resnet20, images, measured):
    history = History()
    plan = resnet20.prune(0.3, coupling="inner").plan
    assert history.find(plan, "as_is", images) is None
    before = history.stamp
    measured(0.3, study="front")
    assert history.stamp != before
    measured(0.3)
    found = history.find(plan, "as_is", images)
    assert found.study == "front"
    truth = evaluate(resnet20.prune(plan), images)
    assert (found.measurement.change, found.measurement.accuracy) == (truth.change, truth.accuracy)
    assert history.find(plan, "recalibrated", images) is None
    assert [entry.plan for entry in history.entries(fingerprint=plan.fingerprint, digest=images.digest)] == [plan]
    assert not history.entries(digest="another")


def test_a_clock_that_goes_back_loses_nothing_that_was_just_measured(measured, monkeypatch):
    small = History(limit=2)
    first = [measured(rate, small) for rate in (0.2, 0.3)]
    monkeypatch.setattr("time.time", lambda: 1000.0)
    last = measured(0.4, small)
    assert [entry.id for entry in small.entries()] == [first[1], last]


def test_a_plan_by_a_criterion_of_another_process_hides_no_other(resnet20, measured):
    history = History()
    known, other = measured(0.2), measured(0.4)
    with sqlite3.connect(history.path) as data:
        data.execute("UPDATE measured SET plan = replace(plan, 'fpgm', 'somebodys_own') WHERE id = ?", (other,))
    assert [entry.id for entry in history.entries()] == [known]


def test_a_plan_by_a_criterion_that_is_not_registered_here_is_left_out_and_stays(resnet20, images):
    register_criterion(replace(get_criterion("l2_norm"), name="own"))
    try:
        pruned = resnet20.prune(0.4, criterion="own", coupling="inner")
        History().add(pruned, images, evaluate(pruned, images))
        unregister_criterion("own")
        history = History()
        assert (history.entries(), history.notice) == ((), None)
        register_criterion(replace(get_criterion("l2_norm"), name="own"))
        assert [entry.plan for entry in history.entries()] == [pruned.plan]
    finally:
        unregister_criterion("own")


def test_top5_is_kept_where_it_was_measured_and_covered_by_the_checksum(resnet20, images):
    pruned = resnet20.prune(0.4, coupling="inner")
    measurement = replace(evaluate(pruned, images), num_correct_top5=19, num_dense_correct_top5=20)
    history = History()
    number = history.add(pruned, images, measurement)
    entry = history.entry(number)
    assert (entry.measurement.top5, entry.measurement.dense_top5) == (measurement.top5, measurement.dense_top5)
    assert json.loads(history.as_json())[0]["top5"] == 0.95
    assert next(csv.DictReader(io.StringIO(history.as_csv())))["top5"] == "0.95"
    with sqlite3.connect(history.path) as data:
        data.execute("UPDATE measured SET num_correct_top5 = 20")
    assert history.entries() == ()
    assert "damaged" in history.notice


def test_a_history_that_had_no_top5_is_taken_over_whole(measured):
    history = History()
    numbers = {measured(0.3), measured(0.4)}
    history.rename(min(numbers), "mine")
    before = history.entries()
    with sqlite3.connect(history.path) as data:  # as version 2 was
        for table in ("measured", "damaged"):
            for name in ("num_correct_top5", "num_dense_correct_top5"):
                data.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
        data.execute("PRAGMA user_version = 2")
    assert History().entries() == before
    assert [entry.measurement.top5 for entry in before] == [None, None]
    measured(0.5)
    assert {entry.id for entry in history.entries()} > numbers
