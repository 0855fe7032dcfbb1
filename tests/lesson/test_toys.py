"""The toys against hand formulas, double loops and scipy."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import norm, spearmanr

from fpgm_core.criteria import geometric_median, medoid
from fpgm_core.lesson import PLANES, plane_facts, toys
from fpgm_core.lesson.controls import DIMENSIONS
from fpgm_core.lesson.toys import (
    FOUR_POINTS,
    agreement,
    agreements,
    bell_curve,
    cloud,
    sum_of_distances,
    toy_norms,
    weiszfeld_path,
)

coordinates = st.floats(-4, 4).map(lambda x: round(x, 2))
planes = st.lists(st.tuples(coordinates, coordinates), min_size=4, max_size=12).map(tuple)


def f(points, place):
    """The sum of distances, one by one."""
    return sum(math.hypot(x - place[0], y - place[1]) for x, y in points)


def test_the_filter_nearest_the_median_is_not_always_the_medoid():
    points = toys.as_filters(FOUR_POINTS)
    median = geometric_median(points)
    assert median.point.tolist() == pytest.approx([1, 1.5])
    assert FOUR_POINTS[median.nearest] == (1, 0)
    assert sorted(median.distances.tolist())[:2] == pytest.approx([1.5, math.hypot(1, 1.5)])
    assert sorted(median.distances.tolist())[1] == pytest.approx(1.803, abs=5e-4)
    assert FOUR_POINTS[medoid(points)] == (0, 3)
    sums = {point: f(FOUR_POINTS, point) for point in FOUR_POINTS}
    assert sums[0, 3] == pytest.approx(math.sqrt(13) + math.sqrt(10) + math.sqrt(26))
    assert sums[0, 3] == pytest.approx(11.867, abs=5e-4)
    assert sums[1, 0] == pytest.approx(1 + 8 + math.sqrt(10))
    assert sums[1, 0] == pytest.approx(12.162, abs=5e-4)
    assert sums[0, 3] <= 2 * f(FOUR_POINTS, (1, 1.5))


def test_the_four_points_as_a_plane():
    facts = plane_facts(FOUR_POINTS, 1)
    assert (facts.medoid, facts.nearest) == (0, 2)
    assert facts.median == pytest.approx((1, 1.5))
    assert facts.mean == pytest.approx((1, 2.75))
    assert facts.sums == pytest.approx([f(FOUR_POINTS, point) for point in FOUR_POINTS])
    assert (facts.by_norm, facts.by_distance, facts.shared) == ((2,), (0,), 0)
    assert facts.cut == 1.5


def test_random_sets_differ_about_one_time_in_twenty():
    sets = np.random.RandomState(0).standard_normal((400, 8, 2))
    middles = sets.mean(1)
    for _ in range(3000):  # Weiszfeld's iteration on all sets together: no data point is ever met exactly
        weights = 1 / np.linalg.norm(sets - middles[:, None], axis=2).clip(1e-12)
        middles = (weights[:, :, None] * sets).sum(1) / weights.sum(1)[:, None]
    nearest = np.linalg.norm(sets - middles[:, None], axis=2).argmin(1)
    best = np.array([cdist(points, points).sum(1).argmin() for points in sets])
    differing = toys.count_differing_sets(400)
    assert differing == (nearest != best).sum()
    assert 1 / 40 < differing / 400 < 1 / 12


@pytest.mark.parametrize(("name", "shared"), [("apart", 0), ("around", 3), ("groups", 2)])
def test_planes_are_what_they_are_called(name, shared):
    facts = plane_facts(PLANES[name])
    assert facts.shared == shared
    away = math.hypot(*facts.median)
    if name == "apart":
        assert away > 1.5
    elif name == "around":
        assert away < 0.5
    else:  # the most central ones lie between the groups, and have no near neighbour
        lonely = [sorted(math.dist(point, other) for other in PLANES[name])[1] for point in PLANES[name]]
        first, second, _ = facts.by_distance
        assert min(lonely[first], lonely[second]) > max(lonely[:6])


def test_every_plane_is_tested():
    assert set(PLANES) == {"apart", "around", "groups"}


@given(planes)
def test_facts_of_any_plane(points):
    facts = plane_facts(points)
    norms, sums = [math.hypot(*point) for point in points], [f(points, point) for point in points]
    assert facts.norms == pytest.approx(norms)
    assert facts.sums == pytest.approx(sums)
    assert facts.mean == pytest.approx(np.mean(points, 0), abs=1e-12)
    for dropped, scores in ((facts.by_norm, facts.norms), (facts.by_distance, facts.sums)):
        assert list(dropped) == sorted(range(len(points)), key=lambda index: (scores[index], index))[:3]
    assert max(facts.norms[index] for index in facts.by_norm) <= facts.cut
    assert all(facts.norms[index] >= facts.cut for index in range(len(points)) if index not in facts.by_norm)
    assert sums[facts.medoid] == pytest.approx(min(sums))
    assert f(points, facts.median) <= min(sums) + 1e-9
    assert sums[facts.medoid] <= 2 * f(points, facts.median) + 1e-9
    reach = [math.dist(facts.median, point) for point in points]
    assert reach[facts.nearest] == pytest.approx(min(reach), abs=1e-9)


@given(st.floats(0.01, 0.4), st.floats(0, 1.5), st.floats(0.02, 0.98))
def test_a_bell_by_hand(deviation, smallest, rate):
    toy = toy_norms(deviation, smallest, rate=rate)
    z = norm.ppf((np.arange(64) + 0.5) / 64)
    norms = smallest + deviation * (z - z[0])
    assert toy.norms == pytest.approx(norms)
    assert toy.pruned == math.floor(64 * rate + 1e-9)
    assert toy.ratio == pytest.approx(np.mean(norms[: toy.pruned]) / np.mean(norms[toy.pruned :]))
    mean = smallest - deviation * z[0]  # the quantiles lie evenly about 0
    assert toy.spread == pytest.approx(deviation * math.sqrt((z * z).mean()) / mean)
    assert toy.floor == pytest.approx(smallest / mean, abs=1e-12)
    assert toy.cut == pytest.approx((norms[toy.pruned - 1] + norms[toy.pruned]) / 2)


def test_a_bell_of_which_nothing_goes():
    toy = toy_norms(0.1, 0.5, rate=0.0)
    assert (toy.pruned, toy.cut, toy.ratio) == (0, 0, 0)


def test_the_ideal_meets_both_requirements_better_than_the_layer_that_fails():
    ideal, fails = toy_norms(toys.IDEAL_DEVIATION, toys.IDEAL_SMALLEST, rate=0.4), toy_norms(0.05, 0.6, rate=0.4)
    assert ideal.floor == 0
    assert ideal.spread > 5 * fails.spread
    assert ideal.ratio < 0.5 < 0.85 < fails.ratio


def test_the_curve_has_its_peak_at_the_mean_norm():
    norms, density = bell_curve(0.2, 0.3)
    assert density.max() == 1
    assert norms[density.argmax()] == pytest.approx(toy_norms(0.2, 0.3, rate=0.4).norms.mean())
    assert density == pytest.approx(np.exp(-(((norms - norms[60]) / 0.2) ** 2) / 2))


@given(planes, st.tuples(coordinates, coordinates))
def test_weiszfelds_path_never_goes_uphill(points, start):
    path = weiszfeld_path(points, start, steps=25)
    assert path.shape == (26, 2)
    assert tuple(path[0]) == start
    values = [f(points, place) for place in path]
    assert all(after <= before + 1e-9 for before, after in pairwise(values))


@pytest.mark.parametrize("points", [*PLANES.values(), FOUR_POINTS, toys.with_outlier(5), toys.with_outlier(8)])
def test_weiszfelds_path_approaches_the_median(points):
    median = geometric_median(toys.as_filters(points))
    start = tuple(np.mean(points, 0))
    away = [math.dist(place, median.point.tolist()) for place in weiszfeld_path(points, start, steps=400)[[0, 20, 400]]]
    assert away[2] < away[1] < away[0]
    assert away[2] < 0.01
    assert f(points, weiszfeld_path(points, start, steps=400)[-1]) == pytest.approx(median.value, rel=1e-4)


def test_a_path_of_no_steps_and_one_that_begins_on_a_filter():
    assert weiszfeld_path(PLANES["apart"], (1.0, 2.0), steps=0).tolist() == [[1, 2]]
    first = PLANES["apart"][0]
    assert f(PLANES["apart"], weiszfeld_path(PLANES["apart"], first, steps=1)[-1]) < f(PLANES["apart"], first)


@given(planes)
def test_height_against_a_double_loop(points):
    x, y = np.linspace(-2, 3, 4), np.linspace(-1, 1, 3)
    sums = sum_of_distances(points, x=x, y=y)
    assert sums.shape == (3, 4)
    for row, b in enumerate(y):
        for column, a in enumerate(x):
            assert sums[row, column] == pytest.approx(f(points, (a, b)))


def test_the_outlier_alone_moves():
    near, far = toys.with_outlier(1), toys.with_outlier(7)
    assert near[:-1] == far[:-1] == toys.CROWD
    assert (near[-1], far[-1]) == ((1, 0.2), (7, 0.2))


@pytest.mark.parametrize(("dimension", "centre"), [(2, 0.0), (9, 1.5), (64, 4.0)])
def test_a_cloud_has_radius_one_about_its_centre(dimension, centre):
    drawn = cloud(dimension, centre, seed=3, filters=20_000)
    assert drawn.shape == (20_000, dimension)
    middle = np.zeros(dimension)
    middle[0] = centre
    assert drawn.mean(0) == pytest.approx(middle, abs=0.02)
    assert ((drawn - middle) ** 2).sum(1).mean() == pytest.approx(1, abs=0.02)
    assert not np.array_equal(cloud(9, 1, seed=0), cloud(9, 1, seed=1))


def test_agreement_by_scipy():
    expected = agreement(9, 1.5, seeds=4)
    rhos = []
    for seed in range(4):
        drawn = cloud(9, 1.5, seed=seed)
        rhos.append(spearmanr(np.linalg.norm(drawn, axis=1), cdist(drawn, drawn).sum(1)).statistic)
    assert (expected.mean, expected.low, expected.high) == pytest.approx((np.mean(rhos), min(rhos), max(rhos)))
    assert expected.seeds == 4


def test_agreement_rises_with_dimension_and_falls_with_the_centre():
    centres = (0.0, 0.5, 1.5, 4.0)
    known = agreements(DIMENSIONS, centres)
    assert set(known) == {(dimension, centre) for dimension in DIMENSIONS for centre in centres}
    assert known[9, 1.5] == agreement(9, 1.5)
    means = [known[dimension, 1.5].mean for dimension in DIMENSIONS]
    assert spearmanr(DIMENSIONS, means).statistic > 0.8
    assert means[-1] > means[0] + 0.1
    for dimension in DIMENSIONS:
        fall = [known[dimension, centre].mean for centre in centres]
        assert all(after < before - 0.05 for before, after in pairwise(fall))
        assert fall[0] > 0.95
    assert all(pair.low <= pair.mean <= pair.high for pair in known.values())
