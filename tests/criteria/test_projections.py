"""Pictures of filters: where the median truly lies, and how far each picture can be trusted."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import manifold
from sklearn.decomposition import PCA

from fpgm_core.criteria import (
    exact_projections,
    from_coordinates,
    geometric_median,
    pca,
    radial,
    ready_umap,
    spearman,
    trustworthiness,
    umap,
)
from fpgm_core.errors import FpgmError


def random_filters(n=16, seed=0):
    return torch.randn(n, 3, 3, 3, generator=torch.Generator().manual_seed(seed))


def distances(x):
    return np.linalg.norm(x[:, None] - x[None], axis=2)


def test_pca_is_that_of_sklearn_up_to_the_axes_signs():
    filters = random_filters()
    flat = filters.flatten(1).double().numpy()
    theirs = PCA(2, svd_solver="full").fit_transform(flat)
    ours = pca(filters).points
    np.testing.assert_allclose(ours * np.sign((ours * theirs).sum(0)), theirs, atol=1e-9)


def test_pcas_median_is_the_linear_image_of_the_median():
    filters = random_filters()
    flat, found = filters.flatten(1).double().numpy(), pca(filters)
    # The linear map is recovered from the picture alone: 16 points, their images, and no formula of the library's.
    plane, *_ = np.linalg.lstsq(flat - flat.mean(0), found.points, rcond=None)
    median = geometric_median(filters).point.numpy()
    np.testing.assert_allclose(found.median, (median - flat.mean(0)) @ plane, atol=1e-9)
    assert found.exact_median


def test_pca_does_not_flip_with_the_order_of_the_filters():
    filters, order = random_filters(), torch.randperm(16, generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(pca(filters[order]).points, pca(filters).points[order], atol=1e-9)


def test_filters_on_a_plane_are_shown_without_any_loss():
    plane = np.random.RandomState(0).randn(20, 2)
    turned = torch.from_numpy(plane @ np.linalg.qr(np.random.RandomState(1).randn(9, 2))[0].T)
    found = pca(turned)
    np.testing.assert_allclose(distances(found.points), distances(plane), atol=1e-9)
    faith = found.faithfulness
    assert (faith.trustworthiness, faith.distances, faith.to_median) == pytest.approx((1, 1, 1))


def test_radial_shows_every_filters_true_distance_to_the_median():
    filters = random_filters()
    found, flat = radial(filters), pca(filters)
    true = geometric_median(filters).distances
    np.testing.assert_allclose(np.linalg.norm(found.points, axis=1), true, rtol=1e-12)
    np.testing.assert_allclose(found.distances, true, rtol=1e-12)
    assert found.median.tolist() == [0, 0]
    assert found.exact_median
    assert found.faithfulness.to_median == pytest.approx(1)
    around = flat.points - flat.median
    np.testing.assert_allclose(
        found.points / np.linalg.norm(found.points, axis=1)[:, None],
        around / np.linalg.norm(around, axis=1)[:, None],
        atol=1e-9,
    )


@pytest.mark.parametrize("method", [pca, radial])
@pytest.mark.parametrize("shape", [(1, 1, 3, 3), (2, 3, 3, 3), (4, 1, 1, 1), (6, 1, 1, 1), (5, 2, 1, 1)])
@pytest.mark.parametrize("kind", ["random", "equal", "zero", "half"])
def test_few_flat_or_equal_filters_still_make_a_finite_picture(method, shape, kind):
    random = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    filters = {"random": random, "equal": torch.ones(shape), "zero": torch.zeros(shape), "half": random.half()}[kind]
    found = method(filters)
    assert found.points.shape == (shape[0], 2)
    assert found.median.shape == (2,)
    assert np.isfinite(found.points).all()
    assert np.isfinite(found.median).all()
    assert (found.faithfulness.trustworthiness is None) == (shape[0] < 5)


@given(st.integers(5, 30), st.integers(1, 7), st.integers(0, 1000))
def test_trustworthiness_is_that_of_sklearn(n, neighbours, seed):
    rng = np.random.RandomState(seed)
    x, shown = rng.randn(n, 9), rng.randn(n, 2)
    neighbours = min(neighbours, (n - 1) // 2)
    expected = manifold.trustworthiness(x, shown, n_neighbors=neighbours)
    assert trustworthiness(distances(x), distances(shown), neighbours) == pytest.approx(expected, abs=1e-12)


def test_trustworthiness_uses_fewer_neighbours_where_there_are_few_points():
    x, shown = np.random.RandomState(0).randn(6, 4), np.random.RandomState(1).randn(6, 2)
    assert trustworthiness(distances(x), distances(shown)) == manifold.trustworthiness(x, shown, n_neighbors=2)
    assert trustworthiness(distances(x[:4]), distances(shown[:4])) is None
    assert trustworthiness(distances(x), distances(x)) == 1


def test_faithfulness_is_measured_on_what_is_shown():
    filters = random_filters(12)
    points, place = np.random.RandomState(0).randn(12, 2), np.array([5.0, 5.0])
    found = from_coordinates("umap", filters, points, place)
    flat = filters.flatten(1).double().numpy()
    upper = np.triu_indices(12, 1)
    faith = found.faithfulness
    assert faith.trustworthiness == pytest.approx(manifold.trustworthiness(flat, points, n_neighbors=5))
    assert faith.distances == pytest.approx(spearman(distances(flat)[upper], distances(points)[upper]))
    assert faith.to_median == pytest.approx(spearman(found.distances, np.linalg.norm(points - place, axis=1)))
    assert (found.method, found.exact_median) == ("umap", False)
    assert np.array_equal(found.points, points)
    assert np.array_equal(found.median, place)


class Recording:
    """Stands in for UMAP, whose first fit compiles for many seconds; remembers what it was given."""

    def __call__(self, settings, fitted, placed):
        self.settings, self.fitted, self.placed = settings, fitted, placed
        return np.arange(2 * len(fitted), dtype=np.float32).reshape(-1, 2), np.array([[3.0, 4.0]], dtype=np.float32)


@pytest.fixture
def stand_in():
    return Recording()


@pytest.mark.parametrize("n", [10, 16, 40])
def test_umap_is_fitted_on_the_filters_alone_and_then_places_the_median(n, stand_in):
    filters = random_filters(n)
    found = umap(filters, seed=5, reduction=stand_in)
    assert np.array_equal(stand_in.fitted, filters.flatten(1).double().numpy())
    np.testing.assert_allclose(stand_in.placed, geometric_median(filters).point[None], rtol=1e-12)
    assert stand_in.settings["n_neighbors"] == min(15, n - 1)
    assert stand_in.settings["random_state"] == stand_in.settings["transform_seed"] == 5
    assert stand_in.settings["init"].shape == (n, 2)
    assert found.points.dtype == np.float64
    assert found.median.tolist() == [3, 4]
    assert found.exact_median is False


def test_umap_of_many_filters_is_fitted_on_their_distances(stand_in):
    filters = torch.randn(600, 5, generator=torch.Generator().manual_seed(0))
    umap(filters, reduction=stand_in)
    flat = filters.double().numpy()
    assert stand_in.settings["metric"] == "precomputed"
    np.testing.assert_allclose(stand_in.fitted, distances(flat), atol=1e-12)
    np.testing.assert_allclose(stand_in.placed, geometric_median(filters).distances[None], rtol=1e-12)


def test_umap_of_many_filters_keeps_groups_apart():
    filters = torch.randn(600, 20, generator=torch.Generator().manual_seed(0))
    filters[300:] += 3
    found = umap(filters)
    near = distances(found.points).argsort(1)[:, 1:6]
    assert ((near < 300) == (np.arange(600) < 300)[:, None]).mean() > 0.99
    assert np.isfinite(found.median).all()


@pytest.mark.parametrize("n", [1, 9])
def test_umap_of_too_few_filters_is_refused_with_another_picture_to_look_at(n):
    with pytest.raises(FpgmError, match=f"at least 10 filters and this layer has {n}; look at PCA"):
        umap(random_filters(n))


SINGLE = torch.linspace(-1, 1, 32)[:, None, None, None] ** 3
LINE = SINGLE * torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
DEGENERATE = {
    "single weights": SINGLE,
    "along a line": LINE,
    "along a line, away from 0": LINE + 5,
    "two values": torch.cat([torch.zeros(8, 2, 3, 3), torch.ones(8, 2, 3, 3)]),
    "all but one equal": torch.cat([torch.full((15, 2, 3, 3), 0.3), torch.ones(1, 2, 3, 3)]),
    "huge": random_filters(16) * 1e30,
    "tiny": random_filters(16) * 1e-30,
}


@pytest.mark.parametrize("filters", DEGENERATE.values(), ids=DEGENERATE)
def test_umap_starts_with_an_extent_along_both_axes(filters, stand_in):
    umap(filters, reduction=stand_in)
    start = stand_in.settings["init"]
    assert start.dtype == np.float32
    assert np.isfinite(start).all()
    assert (np.ptp(start, axis=0) > 1e-3).all()
    squares = np.square(stand_in.fitted.astype(np.float32)).sum(1)
    assert np.isfinite(squares).all()
    assert squares.max() > 1e-30


@pytest.mark.parametrize("filters", DEGENERATE.values(), ids=DEGENERATE)
def test_umap_of_filters_that_hardly_differ_is_finite(filters):
    found = umap(filters)
    assert np.isfinite(found.points).all()
    assert np.isfinite(found.median).all()
    assert np.ptp(found.points, axis=0).max() > 0


@pytest.mark.parametrize("value", [0.0, 0.1, -1e20])
def test_umap_of_equal_filters_is_refused_and_pca_shows_one_place(value, stand_in):
    filters = torch.full((16, 4, 3, 3), value)
    with pytest.raises(FpgmError, match="all filters of this layer are equal, so UMAP has nothing"):
        umap(filters, reduction=stand_in)
    for method in (pca, radial):  # not the rounding of their mean, magnified
        assert not method(filters).points.any()
        assert not method(filters).median.any()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_pca_of_filters_along_a_line_has_one_axis(scale):
    line = (
        scale
        * SINGLE.flatten(1).double()
        @ torch.randn(1, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    found = pca(line)
    assert not found.points[:, 1].any()
    np.testing.assert_allclose(np.ptp(found.points[:, 0]), float((line[-1] - line[0]).norm()), rtol=1e-6)
    assert np.isfinite(radial(line).points).all()


@pytest.fixture(scope="module")
def two_umaps():
    """Two real fits: the first one in a process compiles for many seconds."""
    # Two groups far apart, so that the picture has something to get right.
    filters = random_filters(20)
    filters[10:] += 3
    return filters, umap(filters), umap(filters)


def test_umap_is_the_same_for_the_same_seed(two_umaps):
    _, first, second = two_umaps
    assert np.array_equal(first.points, second.points)
    assert np.array_equal(first.median, second.median)


def test_umap_keeps_groups_apart_and_measures_its_own_faithfulness(two_umaps):
    filters, found, _ = two_umaps
    shown = distances(found.points)
    assert shown[:10, :10].max() < shown[:10, 10:].min()
    assert found.faithfulness.distances > 0.5
    assert found.faithfulness.trustworthiness == pytest.approx(
        manifold.trustworthiness(filters.flatten(1).double().numpy(), found.points, n_neighbors=5)
    )
    np.testing.assert_allclose(found.distances, geometric_median(filters).distances, rtol=1e-12)
    assert found.points.shape == (20, 2)
    assert found.exact_median is False


def test_trustworthiness_of_equal_distances_is_that_of_a_stable_order():
    rng = np.random.RandomState(0)
    for _ in range(20):
        x, shown = rng.randint(0, 3, (24, 2)).astype(float), rng.randint(0, 3, (24, 2)).astype(float)
        true, seen, k, n = distances(x), distances(shown), 5, 24
        off = np.eye(n, dtype=bool)
        order, rank = np.where(off, -1.0, true).argsort(1, kind="stable"), np.empty((n, n), int)
        np.put_along_axis(rank, order, np.arange(n)[None], 1)
        near = np.where(off, np.inf, seen).argsort(1, kind="stable")[:, :k]
        excess = np.maximum(np.take_along_axis(rank, near, 1) - k, 0).sum()
        assert trustworthiness(true, seen) == pytest.approx(1 - 2 / (n * k * (2 * n - 3 * k - 1)) * excess, abs=1e-12)


def test_pictures_made_together_are_those_made_alone():
    filters = torch.randn(40, 3, 3, 3, generator=torch.Generator().manual_seed(3))
    for together, alone in zip(exact_projections(filters), (pca(filters), radial(filters)), strict=True):
        assert together.method == alone.method
        assert together.faithfulness == alone.faithfulness
        np.testing.assert_array_equal(together.points, alone.points)
        np.testing.assert_array_equal(together.median, alone.median)


def test_umap_made_ready_is_asked_both_ways():
    asked = []

    def reduction(settings, fitted, placed):
        asked.append(settings["metric"])
        return Recording()(settings, fitted, placed)

    ready_umap(reduction)
    assert asked == ["euclidean", "precomputed"]
