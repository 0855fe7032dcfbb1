"""Figures, tested on their data."""

import numpy as np
import pytest

from fpgm_core.criteria import norm_diagnostics, pca, radial
from fpgm_core.criteria.layouts import known_layout
from fpgm_core.evaluation import Interval
from fpgm_core.figures import (
    FilterStates,
    TracePoint,
    cut_line,
    kernels_figure,
    map_figure,
    norms_figure,
    radial_figure,
    scores_figure,
    tile,
    trace_figure,
)

KEEP = np.array([True, False, True, True, False, True] * 2)


@pytest.fixture
def filters():
    return np.random.default_rng(0).normal(1, 1, (12, 4, 3, 3))


def by_name(figure, start):
    return next(trace for trace in figure.data if (trace.name or "").startswith(start))


def test_scores_show_each_filter_once_by_state_with_its_index():
    norms, sums = np.arange(12.0), np.arange(12.0)[::-1]
    figure = scores_figure(norms, sums, states=FilterStates(KEEP, (1, 2)), count=4)
    kept, pruned = by_name(figure, "kept"), by_name(figure, "pruned")
    assert pruned.customdata[:, 0].tolist() == [1, 4, 7, 10]
    assert kept.x.tolist() == [0, 2, 3, 5, 6, 8, 9, 11]
    assert pruned.y.tolist() == [10, 7, 4, 1]
    assert kept.marker.symbol != pruned.marker.symbol
    assert list(pruned.marker.line.width) == [3, 0, 0, 0]
    vertical, horizontal = figure.layout.shapes
    assert (vertical.x0, horizontal.y0) == (3.5, 3.5)


@pytest.mark.parametrize(("count", "line"), [(0, None), (1, 1.5), (3, None)])
def test_the_cut_lies_between_the_last_pruned_and_the_first_kept(count, line):
    assert cut_line(np.array([3.0, 1.0, 2.0]), count) == line


def test_map_has_an_exact_star_under_pca(filters):
    import torch

    projection = pca(torch.from_numpy(filters))
    star = by_name(map_figure(projection, FilterStates(KEEP)), "geometric median")
    assert star.name == "geometric median"
    assert star.x[0] == pytest.approx(projection.median[0])


def test_an_approximate_star_says_so_and_is_tied_to_the_three_nearest(resnet20):
    layer = "layer1.2.conv1"
    weights = resnet20.module.get_submodule(layer).weight
    projection = known_layout(resnet20.fingerprint, layer, weights)
    figure = map_figure(projection, FilterStates(np.ones(16, dtype=bool)))
    assert "approximate" in by_name(figure, "geometric median").name
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    ends = {int(np.flatnonzero(projection.points[:, 0] == line.x[1])[0]) for line in lines}
    assert ends == set(np.argsort(projection.distances)[:3])


def test_radial_radii_are_true_distances(filters):
    import torch

    projection = radial(torch.from_numpy(filters))
    figure = radial_figure(projection, FilterStates(KEEP))
    kept = by_name(figure, "kept")
    assert np.hypot(kept.x, kept.y) == pytest.approx(projection.distances[KEEP], rel=1e-5)


def test_norms_are_sorted_and_the_layer_stands_out(filters):
    import torch

    norms = np.linalg.norm(filters.reshape(12, -1), axis=1)
    figures = {"a": norm_diagnostics(torch.from_numpy(filters)), "b": norm_diagnostics(torch.from_numpy(filters * 2))}
    figure = norms_figure(norms, FilterStates(KEEP), layer="b", diagnostics=figures)
    kept = by_name(figure, "kept")
    assert kept.y[np.argsort(kept.x)].tolist() == sorted(kept.y.tolist())
    everyone = figure.data[-1]
    assert list(everyone.text) == ["a", "b"]
    assert everyone.marker.size[1] > everyone.marker.size[0]
    assert everyone.x[0] == pytest.approx(norms.min() / norms.mean())


def test_kernels_share_one_scale_around_zero(filters):
    figure = kernels_figure(filters, 3, twin=5)
    assert {(trace.zmin, trace.zmax) for trace in figure.data} == {(-np.abs(filters).max(), np.abs(filters).max())}
    expected = tile(filters[3] - filters[5])[::-1].astype(np.float32)
    assert np.array_equal(figure.data[2].z, expected, equal_nan=True)


def test_tiles_keep_every_weight_apart(filters):
    sheet = tile(filters[0])
    assert sheet.shape == (7, 7)
    assert np.array_equal(sheet[4:, 4:], filters[0][3])
    assert np.isnan(sheet[3]).all()


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
