"""UMAP in a process of its own: the same picture, and a process that ends, dies and is begun anew."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from fpgm_core.criteria import umap, umap_reduction
from fpgm_core.criteria.umap_reduction import UmapProcess

FILTERS = torch.randn(16, 4, 3, 3, generator=torch.Generator().manual_seed(0))
# What the process runs in place of UMAP, whose first fit compiles for many seconds.
STAND_IN = """
import runpy, sys
from types import ModuleType

class UMAP:
    def __init__(self, **settings):
        print("what a library prints")
        self.settings = settings
        if settings.get("end"):
            sys.exit(1)
    def fit_transform(self, x):
        if self.settings.get("fail"):
            raise ValueError("no fit")
        return x[:, :2]
    def transform(self, x):
        return x[:, :2] + 1

sys.modules["umap"] = ModuleType("umap")
sys.modules["umap"].UMAP = UMAP
assert "torch" not in sys.modules
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""
ROWS = np.arange(12.0).reshape(4, 3)


@pytest.fixture
def process():
    process = UmapProcess()
    yield process
    process.close()


@pytest.fixture
def quick(process, monkeypatch):
    """A process with the stand-in; `begun` are the processes begun so far."""
    begun, popen = [], subprocess.Popen

    def begin(command, **options):
        begun.append(popen([sys.executable, "-c", STAND_IN, umap_reduction.__file__, command[-1]], **options))
        return begun[-1]

    monkeypatch.setattr(subprocess, "Popen", begin)
    process.begun = begun
    return process


def assert_answers(process):
    points, places = process.reduce({}, ROWS, ROWS[:1])
    np.testing.assert_array_equal(points, ROWS[:, :2])
    np.testing.assert_array_equal(places, ROWS[:1, :2] + 1)


@pytest.mark.thorough
def test_the_picture_is_the_one_made_here(process):
    here, there = umap(FILTERS, 3), umap(FILTERS, 3, reduction=process.reduce)
    np.testing.assert_array_equal(there.points, here.points)
    np.testing.assert_array_equal(there.median, here.median)


def test_one_process_answers_one_question_after_another(quick):
    for _ in range(3):
        assert_answers(quick)
    assert len(quick.begun) == 1


def test_what_goes_wrong_there_is_raised_here_and_the_process_goes_on(quick):
    with pytest.raises(ValueError, match="no fit"):
        quick.reduce({"fail": True}, ROWS, ROWS)
    assert_answers(quick)
    assert len(quick.begun) == 1


def test_a_process_that_was_killed_or_was_idle_is_begun_anew(quick):
    assert_answers(quick)
    quick.begun[0].kill()
    quick.begun[0].wait()
    assert_answers(quick)
    assert len(quick.begun) == 2


def test_a_process_that_ends_over_its_question_is_begun_anew_once(quick):
    with pytest.raises(EOFError):
        quick.reduce({"end": True}, ROWS, ROWS)
    assert len(quick.begun) == 2
    assert_answers(quick)


def test_it_ends_where_nobody_asks(quick):
    quick._idle = 0.2
    assert_answers(quick)
    assert quick.begun[0].wait(20) == 0


def test_it_ends_with_who_asked(quick):
    assert_answers(quick)
    quick.begun[0].stdin.close()  # as the system does for a process that died
    assert quick.begun[0].wait(20) == 0
