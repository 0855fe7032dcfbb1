"""Pictures of the page Choose, tested on their data: the front, criteria over goals, what classes lost."""

import numpy as np
import pytest

from fpgm_core.evaluation import ClassChange, Contest, ContestGrid, Entry, Interval
from fpgm_core.figures import class_change_figure, confusion_figure, grid_figure


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def grid():
    hits = {"fpgm": [1, 1, 1, 0], "random": [1, 0, 0, 0]}
    entries = tuple(
        Entry(name, seed, 60, {"as_is": np.array(hits[name], dtype=bool) if seed != 1 else np.ones(4, dtype=bool)})
        for name, seed in (("fpgm", None), ("random", 0), ("random", 1))
    )
    return ContestGrid((Contest("net", "f", 0.4, "inner", "choose", 4, entries),), 1, 100)


def test_criteria_over_goals_lie_on_the_band_of_the_random_draws():
    figure = grid_figure(grid(), "as_is", {"fpgm": "FPGM", "l2_norm": "L2 norm"})
    assert list(named(figure, "FPGM").x) == pytest.approx([40])
    assert list(named(figure, "FPGM").y) == pytest.approx([75])
    area, middle = (trace for trace in figure.data if trace.name == "random draws")
    assert sorted(area.y) == pytest.approx([25, 100])
    assert list(middle.y) == pytest.approx([62.5])
    assert all(trace.name != "L2 norm" for trace in figure.data)  # not measured


def change(name, value, p):
    return ClassChange(name, 10, 5, 5, Interval(value, value - 0.1, value + 0.1), p)


def test_classes_that_truly_changed_are_filled_and_the_most_changed_are_shown():
    rows = [change("cat", -0.2, 0.01), change("dog", 0.05, 0.9), change("frog", -0.1, 0.2)]
    (trace,) = class_change_figure({"plan": rows}).data
    assert list(trace.x) == pytest.approx([-20, 5, -10])
    assert list(trace.marker.symbol) == ["circle", "circle-open", "circle-open"]
    figure = class_change_figure({"plan": rows}, most=2)
    assert list(figure.layout.yaxis.ticktext) == ["cat", "frog"]


def test_confusion_is_shown_as_its_change():
    before, after = np.array([[5, 1], [0, 6]]), np.array([[3, 3], [1, 5]])
    (heat,) = confusion_figure(before, after, ["cat", "dog"]).data
    assert np.array_equal(np.array(heat.z), [[-2, 2], [1, -1]])
    assert heat.hovertext[0][1] == "cat → dog: 1 → 3"
    assert heat.zmax == -heat.zmin == 2


def test_before_anything_is_measured_a_grid_has_its_axes():
    figure = grid_figure(ContestGrid((), 6, 1), "as_is", {"fpgm": "FPGM"})
    assert (figure.layout.xaxis.range, figure.layout.yaxis.range) == ((0, 100), (0, 100))
    assert grid_figure(grid(), "as_is", {"fpgm": "FPGM"}).layout.xaxis.range is None
