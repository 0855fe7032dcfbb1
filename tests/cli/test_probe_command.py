"""`probe`, and what others do with its table: `suggest --ms-cut`, a board's folder and file."""

import json

import pytest
from times import keep

from fpgm_core import Network
from fpgm_core.timing import Target

COUPLED = ["--coupling", "coupled", "--threads", "1"]


@pytest.fixture
def timed(own_home):
    """ResNet-20 on a machine that was probed."""
    keep(Network.load("resnet20"), "coupled", Target(threads=1).identity)


def test_a_table_that_is_kept_is_told(run, timed):
    status, out, err = run("probe", "resnet20", *COUPLED, "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert (found["runtime"], found["threads"], found["batch"]) == ("pytorch", 1, 1)
    assert found["layers"] == 10
    assert found["points"] > 1000
    assert (found["busy_layers"], found["study"]) == (0, None)
    assert found["dense_ms"]["low"] < found["dense_ms"]["value"] < found["dense_ms"]["high"]
    assert found["error"] < 0.01
    status, out, _ = run("probe", "resnet20", *COUPLED)
    assert f"{found['points']} widths of 10 layers, dense" in out


def test_suggest_cuts_milliseconds_by_it(run, timed, tmp_path):
    words = ["suggest", "resnet20", "--ms-cut", "0.3", "--allocator", "uniform", "--criterion", "l2_norm", *COUPLED]
    status, out, err = run(*words, "--as-predicted", "--out", tmp_path / "plan.json", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["goal"] == {"ms": 0.3}
    assert 0.3 <= found["reached"]["ms"] < 0.36
    assert json.loads((tmp_path / "plan.json").read_text())["coupling"] == "coupled"
    assert "timed" not in found
    assert run("suggest", "resnet20", "--macs-cut", "0.3", "--as-predicted")[0] == 2


@pytest.mark.thorough
def test_suggest_times_its_plan_and_takes_the_nearest(run, timed):
    words = ["suggest", "resnet20", "--ms-cut", "0.3", "--allocator", "uniform", "--criterion", "l2_norm", *COUPLED]
    status, out, _ = run(*words, "--json")
    found = json.loads(out)
    off = [abs(one["cut"]["value"] - 0.3) for one in found["timed"]]
    assert status == 0
    assert 1 <= len(off) <= 3
    assert off[found["taken"]] == min(off)
    assert found["plan"] == found["timed"][found["taken"]]["plan"]


def test_other_times_are_not_taken_for_these(run, timed, tmp_path):
    board = tmp_path / "board.json"
    board.write_text("{}")
    status, _, err = run("suggest", "resnet20", "--ms-cut", "0.3", "--on", board, *COUPLED)
    assert (status, err.count("\n")) == (2, 1)
    assert "board.json is no result of probe.py; run that in the folder of `fpgm probe --export`" in err
    status, _, err = run("probe", "resnet20", *COUPLED, "--load", board)
    assert (status, "board.json is no result of probe.py" in err) == (2, True)
    status, _, err = run("probe", "resnet20", *COUPLED, "--study", "3", "--export", tmp_path / "out")
    assert (status, "--study times plans here" in err) == (2, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.thorough
def test_a_probe_a_study_and_a_folder(run, tmp_path):
    status, out, _ = run("probe", "resnet20", *COUPLED, "--study", "2")
    assert status == 0
    assert "median error" in out
    status, out, _ = run("probe", "resnet20", *COUPLED, "--export", tmp_path / "out")
    assert (status, "4 files in" in out) == (0, True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"probe.py", "turns.py", "work.json", "pieces.npz"}
