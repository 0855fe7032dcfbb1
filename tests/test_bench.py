"""The benches: what they time is the same work on both sides."""

import json

import pytest

from fpgm_core import bench
from fpgm_core.__main__ import main
from fpgm_core.bench import BENCHES, Bench, Result, run_benches


@pytest.fixture
def small():
    """Everything on few images, one rate in the sweep, one small network to score."""
    return Bench.create(
        "cpu", 250, num_training=256, rates=(0.5,), scored=("resnet18",), limit=lambda device, dtype: 1e11
    )


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_times_both_sides(small, name):
    results = list(run_benches(small, [name]))
    assert results
    for result in results:
        assert result.seconds > 0
        assert result.ratio == result.baseline_seconds / result.seconds > 0
        notes = result.notes
        assert notes.get("correct") == notes.get("baseline_correct")  # the same answers
        assert notes.get("same_order") == notes.get("layers")
        assert notes.get("paired_width", 0) <= notes.get("unpaired_width", 0)


def test_the_command_shows_what_was_measured(monkeypatch, capsys):
    result = Result("scoring", "resnet18, 20 layers", 0.5, "scipy", 4.0, {"layers": 20})
    monkeypatch.setattr(bench, "run_benches", lambda bench, names: iter([result] * len(names)))
    assert main(["bench", "--only", "scoring", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "0.500 s  resnet18, 20 layers" in out
    assert "4.000 s  scipy: 8.00 times as long" in out
    assert "layers 20" in out
    assert main(["bench", "--json", "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["results"]) == len(BENCHES)
    assert found["results"][0]["ratio"] == 8
    assert found["machine"]["device"] == "cpu"


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--only", "speed"], "unknown bench 'speed'"), (["--images", "10"], "give 250 to 10000"),
     (["--images", "20000"], "give 250 to 10000")],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(words, told, capsys):
    assert main(["bench", *words]) == 2
    assert told in capsys.readouterr().err
