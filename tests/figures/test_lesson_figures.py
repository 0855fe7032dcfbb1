"""The lesson's pictures, tested on their data."""

import numpy as np
import plotly.graph_objects as go
import pytest

from fpgm_core.evaluation import Interval
from fpgm_core.figures import lesson as figures
from fpgm_core.figures.colours import PRUNED, QUIET
from fpgm_core.lesson.toys import FOUR_POINTS, PLANES, bell_curve, sum_of_distances


def words(name, /, **filled):
    """Words that say their own names."""
    return name + "".join(f" {key}={value}" for key, value in filled.items())


def by_name(figure, name):
    (match,) = (trace for trace in figure.data if trace.name == name)
    return match


def titles(figure):
    return figure.layout.xaxis.title.text, figure.layout.yaxis.title.text


def places(trace):
    return list(zip(np.asarray(trace.x).tolist(), np.asarray(trace.y).tolist(), strict=True))


@pytest.fixture
def points():
    return np.array(PLANES["apart"])


def test_the_plane_shows_every_filter_by_its_number_and_what_each_criterion_drops(points):
    figure = figures.plane_figure(
        points, median=(1.5, 1.0), by_norm=[3, 7, 8], by_distance=[2, 1, 0], cut=1.75, words=words
    )
    filters = by_name(figure, "figure.filters")
    assert places(filters) == [tuple(point) for point in points.tolist()]
    assert list(filters.text) == [str(n) for n in range(9)]
    assert places(by_name(figure, "figure.norm_drops")) == [tuple(point) for point in points[[3, 7, 8]].tolist()]
    assert places(by_name(figure, "figure.fpgm_drops")) == [tuple(point) for point in points[[2, 1, 0]].tolist()]
    assert by_name(figure, "figure.norm_drops").marker.symbol != by_name(figure, "figure.fpgm_drops").marker.symbol
    assert places(by_name(figure, "figure.median")) == [(1.5, 1.0)]
    cut = by_name(figure, "figure.norm_cut")
    assert np.hypot(cut.x, cut.y) == pytest.approx(np.full(len(cut.x), 1.75))
    assert cut.line.dash == "dash"
    assert figure.layout.yaxis.scaleanchor == "x"


def test_a_plane_that_is_covered_shows_no_drops(points):
    figure = figures.plane_figure(points, median=(1.5, 1.0), by_norm=[], by_distance=[], cut=None, words=words)
    assert places(by_name(figure, "figure.norm_drops")) == places(by_name(figure, "figure.fpgm_drops")) == []
    assert "figure.norm_cut" not in [trace.name for trace in figure.data]
    rings = [trace for trace in figure.data if trace.mode == "lines"]
    assert [float(np.hypot(ring.x[7], ring.y[7])) for ring in rings] == pytest.approx([1, 2, 3, 4])


def test_bells_are_shaded_below_their_cuts():
    ideal, toy = bell_curve(0.2, 0.0), bell_curve(0.05, 0.6)
    figure = figures.bells_figure(ideal, toy, cuts=(0.4, 0.71), words=words)
    for name, (norms, density) in (("ideal", ideal), ("toy_layer", toy)):
        trace = by_name(figure, f"figure.{name}")
        assert np.array_equal(trace.x, norms)
        assert np.array_equal(trace.y, density)
    shaded = [trace for trace in figure.data if trace.fill == "tozeroy"]
    assert [max(trace.x) <= cut for trace, cut in zip(shaded, (0.4, 0.71), strict=True)] == [True, True]
    assert [len(trace.x) for trace in shaded] == [(ideal[0] <= 0.4).sum(), (toy[0] <= 0.71).sum()]
    assert [shape.x0 for shape in figure.layout.shapes] == [0.4, 0.71]
    assert figure.layout.shapes[1].label.text == "figure.threshold"
    assert figure.layout.xaxis.range[1] >= max(ideal[0][-1], toy[0][-1])


def test_requirements_of_layers_toy_and_ideal():
    figure = figures.requirements_figure(
        {"a": (0.2, 0.5), "b": (0.9, 0.1)}, toy=(0.8, 0.07), ideal=(0.0, 0.4), words=words
    )
    assert places(by_name(figure, "figure.layers")) == [(0.2, 0.5), (0.9, 0.1)]
    assert list(by_name(figure, "figure.layers").text) == ["a", "b"]
    assert places(by_name(figure, "figure.toy_layer")) == [(0.8, 0.07)]
    assert places(by_name(figure, "figure.ideal")) == [(0.0, 0.4)]
    assert len({trace.marker.symbol for trace in figure.data}) == 3
    assert titles(figure) == ("figure.floor", "figure.spread")


def test_every_layers_norms_are_relative_to_their_mean():
    norms = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([10.0, 30.0])}
    figure = figures.layer_norms_figure(norms, words)
    assert [box.name for box in figure.data] == ["a", "b"]
    assert [list(box.y) for box in figure.data] == [[0.5, 1.0, 1.5], [0.5, 1.5]]


def test_the_walk_on_its_contour():
    points = np.array(FOUR_POINTS)
    x, y = np.linspace(-1, 3, 5), np.linspace(-2, 2, 4)
    path = np.array([[1.0, 2.0], [1.0, 1.6]])
    figure = figures.median_figure(
        points,
        grid=(x, y, sum_of_distances(points, x=x, y=y)),
        path=path,
        median=(1.0, 1.5),
        mean=(1.0, 2.75),
        words=words,
    )
    contour = next(trace for trace in figure.data if isinstance(trace, go.Contour))
    assert np.asarray(contour.z).shape == (4, 5)
    assert contour.z[1][2] == pytest.approx(sum(np.hypot(*(np.array([x[2], y[1]]) - point)) for point in points))
    assert places(by_name(figure, "figure.path")) == [(1.0, 2.0), (1.0, 1.6)]
    assert list(by_name(figure, "figure.path").text) == ["0", "1"]
    assert places(by_name(figure, "figure.mean")) == [(1.0, 2.75)]
    assert places(by_name(figure, "figure.median")) == [(1.0, 1.5)]
    assert places(by_name(figure, "figure.filters")) == list(FOUR_POINTS)
    assert (list(figure.layout.xaxis.range), list(figure.layout.yaxis.range)) == ([-1, 3], [-2, 2])


@pytest.mark.parametrize("chosen", [0, 2, 3])
def test_the_own_term_stands_apart_from_the_others(chosen):
    distances = np.array([1.0, 2.0, 3.0, 4.0])
    distances[chosen] = 0
    figure = figures.terms_figure(distances, chosen, words=words)
    assert places(by_name(figure, "figure.own_term")) == [(chosen, 0.0)]
    bars = by_name(figure, "figure.terms")
    assert dict(places(bars)) == {n: distances[n] for n in range(4) if n != chosen}
    assert titles(figure) == ("figure.filter_number", f"figure.distance chosen={chosen}")


def test_four_points_with_the_nearest_and_the_medoid():
    figure = figures.four_points_figure(np.array(FOUR_POINTS), median=(1.0, 1.5), nearest=2, medoid=0, words=words)
    assert places(by_name(figure, "figure.nearest")) == [(1, 0)]
    assert places(by_name(figure, "figure.medoid")) == [(0, 3)]
    assert places(by_name(figure, "figure.median")) == [(1.0, 1.5)]
    assert [text.split(";")[-1] for text in by_name(figure, "figure.filters").text] == [
        "(0, 3)", "(2, 0)", "(1, 0)", "(1, 8)",
    ]  # fmt: skip
    x, y = figure.layout.xaxis.range, figure.layout.yaxis.range
    assert all(x[0] < a < x[1] and y[0] < b < y[1] for a, b in FOUR_POINTS)


def test_a_cloud_is_norm_against_g():
    figure = figures.cloud_figure(np.array([1.0, 2.0]), np.array([5.0, 4.0]), words=words)
    assert places(figure.data[0]) == [(1.0, 5.0), (2.0, 4.0)]
    assert titles(figure) == ("figure.norm", "figure.g")


def test_curves_have_their_bands_and_the_cloud_on_screen():
    curves = {0.0: [(0.9, 0.8, 1.0), (0.95, 0.9, 1.0)], 1.5: [(0.2, -0.1, 0.4), (0.4, 0.3, 0.5)]}
    figure = figures.dimensions_figure((2, 9), curves, on_screen=(9, 0.4), words=words)
    low = by_name(figure, "figure.centre_at centre=1.5")
    assert places(low) == [(2, 0.2), (9, 0.4)]
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    assert places(bands[1]) == [(2, -0.1), (9, 0.3), (9, 0.5), (2, 0.4)]
    assert bands[1].fillcolor == low.line.color != bands[0].fillcolor
    assert places(by_name(figure, "figure.on_screen")) == [(9, 0.4)]
    assert figure.layout.xaxis.type == "log"
    assert list(figure.layout.xaxis.ticktext) == ["2", "9"]


def test_real_layers_have_a_shape_a_group_and_the_centres_colour():
    groups = {"others": [("a", 144, 0.5, 0.97), ("b", 288, 0.9, 0.99)], "first": [("c", 27, 2.0, 0.91)]}
    figure = figures.layers_figure(groups, words)
    others = by_name(figure, "others")
    assert places(others) == [(144, 0.97), (288, 0.99)]
    assert list(others.text) == ["a", "b"]
    assert list(others.marker.color) == list(others.customdata) == [0.5, 0.9]
    assert by_name(figure, "first").marker.symbol != others.marker.symbol
    assert {trace.marker.coloraxis for trace in figure.data} == {"coloraxis"}


def test_stand_ins_mark_the_nearest_the_smallest_and_the_chosen():
    sums, costs = np.array([3.0, 1.0, 2.0]), np.array([0.3, 0.1, 0.2])
    figure = figures.stand_in_figure(sums, costs, chosen=2, nearest=1, smallest=0, words=words)
    assert places(by_name(figure, "figure.filters")) == [(3.0, 0.3), (1.0, 0.1), (2.0, 0.2)]
    for name, index in (("nearest", 1), ("smallest", 0), ("chosen", 2)):
        assert places(by_name(figure, f"figure.{name}")) == [(sums[index], costs[index])]
    assert figure.layout.yaxis.type == "log"
    free = figures.stand_in_figure(sums, np.array([0.3, 0.0, 0.2]), chosen=2, nearest=1, smallest=0, words=words)
    assert free.layout.yaxis.type != "log"  # 0 has no place on it


def test_bars_carry_their_values():
    figure = figures.bars_figure({"one": 0.5, "two": 0.25}, axis="share", number_format=".2%")
    assert places(figure.data[0]) == [("one", 0.5), ("two", 0.25)]
    assert figure.data[0].texttemplate == "%{y:.2%}"
    assert titles(figure)[1] == "share"


def test_a_contest_has_intervals_and_every_draw_of_the_control():
    criteria = {"norm": [Interval(0.5, 0.4, 0.7), Interval(0.8, 0.75, 0.85)], "FPGM": [Interval(0.6, 0.5, 0.65)] * 2}
    figure = figures.contest_figure(
        ["as is", "repaired"],
        criteria=criteria,
        control=[[0.1, 0.2, 0.3], [0.7, 0.6, 0.5]],
        dense=0.9,
        words=words,
    )
    norm = by_name(figure, "norm")
    assert list(norm.y) == pytest.approx([50, 80])
    assert list(norm.error_y.array) == pytest.approx([20, 5])
    assert list(norm.error_y.arrayminus) == pytest.approx([10, 5])
    control = by_name(figure, "figure.random")
    assert list(control.y) == pytest.approx([10, 20, 30, 70, 60, 50])
    assert [round(x) for x in control.x] == [0, 0, 0, 1, 1, 1]
    assert [round(x) for x in norm.x] == [0, 1]
    assert by_name(figure, "FPGM").marker.symbol != norm.marker.symbol
    (dense,) = figure.layout.shapes
    assert (dense.y0, dense.y1, dense.label.text) == (90, 90, "figure.dense")
    assert list(figure.layout.xaxis.ticktext) == ["as is", "repaired"]
    covered = figures.contest_figure(["as is"], criteria={}, control=[[0.1]], dense=None, words=words)
    assert [trace.name for trace in covered.data] == ["figure.random"]
    assert not covered.layout.shapes


def test_changes_that_hold_zero_are_hollow():
    changes = {
        "norm": Interval(0.02, 0.01, 0.04),
        "mix": Interval(-0.01, -0.03, 0.01),
        "x": Interval(-0.2, -0.3, -0.1),
    }
    (dots,) = figures.changes_figure(changes, words).data
    assert list(dots.y) == ["x", "mix", "norm"]  # the first row on top
    assert list(dots.x) == pytest.approx([-20, -1, 2])
    assert list(dots.error_x.array) == pytest.approx([10, 2, 2])
    assert list(dots.error_x.arrayminus) == pytest.approx([10, 2, 1])
    assert list(dots.marker.symbol) == ["circle", "circle-open", "circle"]
    assert list(dots.marker.color) == [PRUNED, QUIET, PRUNED]


def test_flops_beside_what_the_paper_printed():
    figure = figures.flops_figure(
        [0.3, 0.4], counted=[0.39, 0.528], closed_form=[0.422, 0.54], printed={0.3: 42.2, 0.4: 54.0}, words=words
    )
    assert list(by_name(figure, "figure.counted").y) == pytest.approx([39, 52.8])
    assert list(by_name(figure, "figure.closed_form").y) == pytest.approx([42.2, 54])
    printed = by_name(figure, "figure.printed")
    assert places(printed) == [(30, 42.2), (40, 54.0)]
    assert list(by_name(figure, "figure.counted").x) == [30, 40]
