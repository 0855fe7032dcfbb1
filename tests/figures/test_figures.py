"""Figures, tested on their data."""

import numpy as np
import pytest

from fpgm_core.evaluation import Interval
from fpgm_core.figures import TracePoint, trace_figure

KEEP = np.array([True, False, True, True, False, True] * 2)


@pytest.fixture
def filters():
    return np.random.default_rng(0).normal(1, 1, (12, 4, 3, 3))


def by_name(figure, start):
    return next(trace for trace in figure.data if (trace.name or "").startswith(start))


def test_the_trace_shows_intervals_and_marks_the_plan_on_screen():
    points = [
        TracePoint("one", 10_000_000, Interval(0.5, 0.4, 0.6)),
        TracePoint("two", 5_000_000, Interval(0.3, 0.2, 0.5)),
    ]
    figure = trace_figure(points, TracePoint("dense", 40_000_000, Interval(0.9, 0.9, 0.9)), current=1)
    tried = by_name(figure, "tried")
    assert list(tried.x) == [10, 5]
    assert list(tried.error_y.array) == pytest.approx([10, 20])
    assert list(tried.error_y.arrayminus) == pytest.approx([10, 10])
    assert tried.marker.symbol[1] == "diamond"
