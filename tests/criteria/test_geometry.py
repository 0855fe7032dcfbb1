"""Distances, sums, medoid and geometric median, against loops, scipy and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from fpgm_core.criteria import (
    cosine_sums,
    distance_sums,
    geometric_median,
    manhattan_sums,
    medoid,
    pairwise_distances,
    weiszfeld_step,
)
from fpgm_core.errors import FpgmError
from fpgm_core.graph import weights_of

TOY = torch.stack([torch.full((1, 3, 3), value, dtype=torch.float64) for value in (3.0, 2.0, 0.1)])
FOUR_POINTS = torch.tensor([[0.0, 3.0], [2.0, 0.0], [1.0, 0.0], [1.0, 8.0]], dtype=torch.float64)


@st.composite
def clouds(draw):
    """Points (N, D) of many kinds: scattered, far off the origin, on a grid, with exact and near duplicates."""
    rng = np.random.RandomState(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(1, 12)), draw(st.sampled_from([1, 2, 3, 9, 27]))
    kind = draw(st.sampled_from(["scattered", "offset", "grid", "line"]))
    x = rng.randn(n, d)
    if kind == "offset":
        x = 10 ** draw(st.floats(-6, 0)) * x + 1
    elif kind == "grid":
        x = np.round(x)
    elif kind == "line":
        x = rng.randn(n, 1) * rng.randn(1, d) + 1
    twins = x[rng.randint(0, n, draw(st.integers(0, 3)))]
    near = draw(st.sampled_from([0.0, 1e-12, 1e-7]))
    return np.concatenate([x, twins + near * rng.randn(*twins.shape)]) * 10 ** draw(st.integers(-3, 3))


def loop_sums(x, counting_itself=True):
    """Eq. 4 (or g' of Eq. 5 to 9) as it is written: two loops, each distance by itself, summed exactly."""
    return np.array(
        [
            math.fsum(math.dist(a, b) for k, b in enumerate(x) if counting_itself or k != j)
            for j, a in enumerate(x.tolist())
        ]
    )


def objective(x, point):
    """Eq. 2: f(point), the sum of distances from a point to all."""
    return math.fsum(math.dist(point, row) for row in x.tolist())


def assert_ranked_as(scores, oracle):
    """No pair of scores stands in the wrong order, save where the oracle itself cannot tell."""
    order = np.argsort(scores, kind="stable")
    assert np.diff(oracle[order]).min(initial=0) >= -1e-13 * oracle.max()


@given(clouds())
def test_pairwise_distances_are_those_of_scipy(x):
    # A product form's own error: relative 1e-6 of the squares is where the library turns to differences.
    np.testing.assert_allclose(pairwise_distances(torch.from_numpy(x)), cdist(x, x), rtol=1e-8, atol=0)


@given(clouds())
def test_pairwise_distances_are_symmetric_with_duplicates_at_exactly_zero(x):
    distances = pairwise_distances(torch.from_numpy(np.concatenate([x, x]))).numpy()
    np.testing.assert_allclose(distances, distances.T, rtol=1e-9, atol=0)
    assert not np.isnan(distances).any()
    assert not distances.diagonal().any()
    assert not distances[: len(x), len(x) :].diagonal().any()


def test_more_filters_than_are_compared_at_once_have_the_distances_of_all():
    x = np.random.default_rng(3).standard_normal((700, 5))
    x[650] = x[3]  # a duplicate among other rows than its twin's
    x[300] = x[640] + 1e-9
    distances = pairwise_distances(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(distances, cdist(x, x), rtol=1e-8, atol=0)
    assert distances[3, 650] == distances[650, 3] == 0
    oracle = cdist(x, x).sum(1)
    sums = distance_sums(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(sums, oracle, rtol=1e-12, atol=0)
    assert sums[3] == sums[650]
    assert_ranked_as(sums, oracle)


@given(clouds())
def test_distance_sums_are_those_of_two_loops(x):
    oracle = loop_sums(x)
    sums = distance_sums(torch.from_numpy(x)).numpy()
    assert sums.dtype == np.float64
    np.testing.assert_allclose(sums, oracle, rtol=1e-9, atol=1e-9 * oracle.max())
    assert_ranked_as(sums, oracle)


@pytest.mark.parametrize("spread", [1e-9, 1e-5, 2e-3, 1e-2])
@pytest.mark.parametrize("gap", [1e-13, 1e-10])
def test_near_duplicates_far_from_the_origin_are_ranked_as_by_differences(spread, gap):
    rng = np.random.RandomState(0)
    x = 1 + spread * rng.randn(32, 27)
    x[16:24] = x[:8] + gap * rng.randn(8, 27)
    x[24:] = x[8:16]
    sums = distance_sums(torch.from_numpy(x)).numpy()
    assert_ranked_as(sums, loop_sums(x))
    assert np.array_equal(sums[24:], sums[8:16])


@given(clouds())
def test_leaving_the_filter_itself_out_changes_nothing(x):
    with_itself, without = loop_sums(x), loop_sums(x, counting_itself=False)
    assert np.array_equal(with_itself, without)
    np.testing.assert_allclose(distance_sums(torch.from_numpy(x)), without, rtol=1e-9, atol=1e-9 * without.max())


@given(clouds(), st.integers(0, 1000))
def test_distance_sums_move_with_the_filters_and_ignore_where_and_how_they_are_turned(x, seed):
    rng = np.random.RandomState(seed)
    order, shift = rng.permutation(len(x)), rng.randn(x.shape[1]) * np.abs(x).max()
    turn, _ = np.linalg.qr(rng.randn(x.shape[1], x.shape[1]))
    sums = distance_sums(torch.from_numpy(x)).numpy()
    close = {"rtol": 1e-7, "atol": 1e-7 * sums.max() + 1e-13 * len(x) * np.abs(x).max()}
    np.testing.assert_allclose(distance_sums(torch.from_numpy(x[order])), sums[order], **close)
    np.testing.assert_allclose(distance_sums(torch.from_numpy(x @ turn + shift)), sums, **close)
    np.testing.assert_allclose(distance_sums(torch.from_numpy(-3 * x)), 3 * sums, **close)


def test_the_toy_filters_of_the_paper():
    np.testing.assert_allclose(distance_sums(TOY), [11.7, 8.7, 14.4], rtol=1e-12)
    assert medoid(TOY) == 1


@given(clouds())
def test_manhattan_sums_are_those_of_scipy(x):
    np.testing.assert_allclose(manhattan_sums(torch.from_numpy(x)), cdist(x, x, "cityblock").sum(1), rtol=1e-12)


def test_cosine_sums_are_those_of_scipy():
    x = np.random.RandomState(0).randn(12, 9)
    np.testing.assert_allclose(cosine_sums(torch.from_numpy(x)), cdist(x, x, "cosine").sum(1), rtol=1e-12)


def test_a_filter_of_zeros_lies_at_cosine_distance_one_from_every_other():
    x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 5.0], [0.0, 0.0], [-1.0, 0.0]])
    # e.g. the second: 1 to each zero filter, 1 to a right angle, 2 to its opposite
    assert cosine_sums(x).tolist() == [4, 5, 4, 4, 5]


@pytest.mark.parametrize("layer", ["conv1", "layer2.1.conv2", "layer3.2.conv1"])
def test_a_real_layers_sums_are_those_of_scipy(resnet20, layer):
    filters = weights_of(resnet20.module, layer)
    flat = filters.flatten(1).double().numpy()
    np.testing.assert_allclose(distance_sums(filters), cdist(flat, flat).sum(1), rtol=1e-12)


@pytest.mark.parametrize("shape", [(0, 3), (0,), (4,), ()])
@pytest.mark.parametrize("function", [pairwise_distances, distance_sums, manhattan_sums, cosine_sums, geometric_median])
def test_what_is_no_stack_of_filters_is_refused(function, shape):
    with pytest.raises(FpgmError, match=r"filters must have shape \(N, ...\)"):
        function(torch.zeros(shape))


def test_equal_filters_tie_at_the_lowest_index():
    assert medoid(torch.ones(5, 3)) == 0
    assert medoid(torch.tensor([[9.0], [1.0], [1.0], [1.0]])) == 1
    assert geometric_median(torch.tensor([[9.0], [1.0], [1.0], [1.0]])).nearest == 1


def triangle(angle):
    """Two sides of length 1 and 2 that meet at the origin, first point, at an angle in degrees."""
    return [[0, 0], [1, 0], [2 * math.cos(math.radians(angle)), 2 * math.sin(math.radians(angle))]]


CLOSED_FORMS = {
    "crossing of a convex quadrilateral's diagonals": (FOUR_POINTS.tolist(), [1, 1.5]),
    "centre of an equilateral triangle": ([[0, 0], [2, 0], [1, 3**0.5]], [1, 1 / 3**0.5]),
    "vertex of a triangle with an angle of 121 degrees": (triangle(121), [0, 0]),
    "vertex of a triangle with an angle of exactly 120 degrees": (triangle(120), [0, 0]),
    "middle of an odd number on a line": ([[0, 0], [1, 1], [2, 2], [7, 7], [90, 90]], [2, 2]),
    "majority of duplicates": ([[5, 5], [5, 5], [5, 5], [0, 1], [9, -4]], [5, 5]),
    "half of the points in one place": ([[5, 5], [5, 5], [0, 1], [9, -4]], [5, 5]),
    "centre point of a cross": ([[0, 0], [1, 0], [-1, 0], [0, 2], [0, -2]], [0, 0]),
    "empty centre of a cross": ([[1, 0], [-1, 0], [0, 2], [0, -2]], [0, 0]),
    "one point": ([[3, 4]], [3, 4]),
    "all the same": ([[3, 4]] * 4, [3, 4]),
    "a vertex of a tetrahedron, doubled": ([[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], [0, 0, 0]),
}


@pytest.mark.parametrize(("points", "median"), CLOSED_FORMS.values(), ids=CLOSED_FORMS)
@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
def test_the_geometric_median_has_its_closed_form(points, median, scale):
    x = scale * torch.tensor(points, dtype=torch.float64)
    found = geometric_median(x)
    np.testing.assert_allclose(found.point, scale * np.array(median), rtol=0, atol=1e-8 * scale)
    np.testing.assert_allclose(found.value, scale * objective(np.array(points, float), median), rtol=1e-9)


def test_an_even_number_on_a_line_has_its_median_between_the_middle_two():
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 6.0], [10.0, 20.0]], dtype=torch.float64)
    found = geometric_median(x)
    assert 1 <= found.point[0] <= 3
    assert found.point[1] == pytest.approx(2 * float(found.point[0]))
    assert found.value == pytest.approx(5**0.5 * (10 + 2), rel=1e-12)


@given(clouds())
def test_no_point_scipy_or_the_data_offer_beats_the_geometric_median(x):
    found = geometric_median(torch.from_numpy(x))
    size = np.abs(x - x.mean(0)).max() or 1.0
    scaled = (x - x.mean(0)) / size  # as scipy's absolute tolerances want it

    def smooth(point):
        difference = point - scaled
        distance = np.sqrt((difference**2).sum(1) + 1e-24)
        return distance.sum(), (difference / distance[:, None]).sum(0)

    best = minimize(smooth, np.median(scaled, axis=0), jac=True, method="L-BFGS-B", options={"ftol": 1e-15}).x
    rivals = [objective(x, row) for row in (*x, x.mean(0), best * size + x.mean(0))]
    rounding = 1e-12 * np.abs(x).max()
    assert objective(x, found.point.numpy()) <= min(rivals) * (1 + 1e-9) + rounding
    assert found.value == pytest.approx(objective(x, found.point.numpy()), rel=1e-9, abs=rounding)
    np.testing.assert_allclose(found.distances, np.linalg.norm(x - found.point.numpy(), axis=1), rtol=1e-12)


@pytest.mark.parametrize("gap", [1e-13, 1e-9, 1e-6])
@pytest.mark.parametrize("seed", range(8))
def test_a_cluster_of_near_duplicates_does_not_stop_the_search_early(gap, seed):
    # As many dead filters, all but 0 and all but equal, as live ones: the median lies among the dead.
    rng = np.random.RandomState(seed)
    live, dead = rng.randn(5, 9), gap * rng.randn(6, 9)
    found = geometric_median(torch.from_numpy(np.concatenate([live, dead])))
    assert np.linalg.norm(found.point) <= 10 * gap
    pair = geometric_median(torch.from_numpy(np.concatenate([live[:1], dead[:2]])))
    assert pair.value == pytest.approx(np.linalg.norm(live[0]), rel=1e-9, abs=10 * gap)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("n", "d"), [(8, 2), (16, 27), (32, 9), (10, 200)])
def test_the_first_order_condition_holds_to_nine_digits(seed, n, d):
    x = np.random.RandomState(seed).randn(n, d)
    point = geometric_median(torch.from_numpy(x)).point.numpy()
    distance = np.linalg.norm(x - point, axis=1)
    away = distance > 0
    pull = np.linalg.norm(((x - point)[away] / distance[away, None]).sum(0))
    assert pull <= (1 if (~away).any() else 1e-9 * n)


def test_near_a_data_point_that_is_almost_optimal_the_median_is_still_found():
    # At 119.9 degrees the Fermat point leaves the vertex by a hair: seen from it all sides meet at 120 degrees.
    x = np.array(triangle(119.9))
    point = geometric_median(torch.from_numpy(x)).point.numpy()
    unit = (x - point) / np.linalg.norm(x - point, axis=1)[:, None]
    assert 0 < np.linalg.norm(point) < 0.01
    np.testing.assert_allclose([unit[0] @ unit[1], unit[1] @ unit[2], unit[2] @ unit[0]], -0.5, atol=1e-9)


def test_the_four_point_counterexample_nearest_the_median_is_not_the_medoid():
    found = geometric_median(FOUR_POINTS)
    np.testing.assert_allclose(found.point, [1, 1.5], atol=1e-9)
    assert (found.nearest, medoid(FOUR_POINTS)) == (2, 0)
    np.testing.assert_allclose(found.distances[[2, 0]], [1.5, 13**0.5 / 2], rtol=1e-9)
    np.testing.assert_allclose(found.distances[[2, 0]], [1.500, 1.803], atol=5e-4)
    np.testing.assert_allclose(distance_sums(FOUR_POINTS)[[0, 2]], [11.867, 12.162], atol=5e-4)


def test_medoid_and_nearest_to_the_median_differ_about_one_time_in_twenty():
    rng = np.random.RandomState(0)
    sets = [torch.from_numpy(rng.randn(8, 2)) for _ in range(100)]
    differing = sum(geometric_median(x).nearest != medoid(x) for x in sets)
    assert 0.01 <= differing / len(sets) <= 0.12


@given(clouds())
def test_the_medoids_sum_is_at_most_twice_the_minimum(x):
    points = torch.from_numpy(x)
    assert float(distance_sums(points).min()) <= 2 * geometric_median(points).value * (1 + 1e-9)


@given(clouds(), st.integers(0, 1000))
def test_a_weiszfeld_step_never_climbs(x, seed):
    start = x[0] if seed % 2 else x.mean(0) + np.random.RandomState(seed).randn(x.shape[1]) * np.abs(x).max()
    step = weiszfeld_step(torch.from_numpy(x), torch.from_numpy(start)).numpy()
    assert objective(x, step) <= objective(x, start) * (1 + 1e-9) + 1e-12 * np.abs(x).max()


def test_a_weiszfeld_step_is_the_mean_weighted_by_inverse_distance():
    x = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    step = weiszfeld_step(x, torch.tensor([1.0, 0.0], dtype=torch.float64))
    weights = np.array([1, 1 / 3, 10**-0.5])
    np.testing.assert_allclose(step, weights @ x.numpy() / weights.sum(), rtol=1e-12)


def test_a_step_leaves_a_data_point_only_where_that_helps():
    x = torch.tensor(triangle(90), dtype=torch.float64)
    left = weiszfeld_step(x, x[0]).numpy()
    # Vardi and Zhang: the pull is sqrt(2), the point counts 1, so the share 1 / sqrt(2) of it stays.
    target = np.array([1.0, 1.0]) / 1.5
    np.testing.assert_allclose(left, (1 - 0.5**0.5) * target, rtol=1e-9)
    for optimal in (torch.tensor(triangle(130), dtype=torch.float64), torch.ones(3, 2, dtype=torch.float64)):
        assert torch.equal(weiszfeld_step(optimal, optimal[0]), optimal[0])
