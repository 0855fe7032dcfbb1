"""What the picture of a layer draws: places, distances, scores and kernels are those of the library."""

import base64

import numpy as np
import pytest

from fpgm_core import Network
from fpgm_core.criteria.layouts import known_layout
from fpgm_core.graph import weights_of
from pages.ui.components.picture import NO_NUMBER
from pages.ui.panels.layer_facts import exact_projection, layer_facts, tile, tiles_of
from pages.ui.panels.layer_views import Subject, map_view, norms_view, radial_view, scores_view
from pages.ui.panels.live_bars import short_names
from pages.ui.session.language import words_of


def subject(network, layer, coupling="independent", **fields):
    plan = network.plan(0.4, coupling=coupling, **fields)
    facts = layer_facts(network.fingerprint, layer, network)
    return Subject(network, plan, layer, network.unit_of(layer, coupling), facts, words_of("en"))


@pytest.fixture(scope="module")
def mobile():
    return Network.load("mobilenetv2_cifar")


def test_umap_s_star_is_approximate_and_tied_to_the_three_nearest_and_pca_s_is_exact(resnet20):
    layer = "layer1.2.conv1"
    umap, pca = map_view(subject(resnet20, layer), seed=0).panels
    known = known_layout(resnet20.fingerprint, layer, weights_of(resnet20.module, layer))
    assert set(umap.ties) == set(np.argsort(known.distances)[:3])
    assert umap.median == pytest.approx(tuple(known.median))
    assert "approximate" in umap.note
    exact = exact_projection(resnet20.fingerprint, layer, "pca", resnet20)
    assert pca.square
    assert pca.median == pytest.approx(tuple(exact.median))


def test_radii_are_true_distances_to_the_median(resnet20):
    at = subject(resnet20, "layer2.0.conv1")
    (panel,) = radial_view(at).panels
    assert np.hypot(panel.x, panel.y) == pytest.approx(at.facts.to_median, rel=1e-4)
    assert max(panel.rings) == pytest.approx(at.facts.to_median.max(), rel=1e-5)
    assert panel.square


@pytest.mark.parametrize("criterion", ["fpgm", "l2_norm", "bn_scale"])
def test_a_unit_that_is_scored_jointly_shows_the_scores_that_really_cut(mobile, criterion):
    at = subject(mobile, "layer3.0.depthwise", "inner", criterion=criterion)
    view = scores_view(at)
    (panel,) = view.panels
    pruned = ~mobile.keep_mask(at.plan, at.unit)
    scores = np.array(panel.x if criterion == "l2_norm" else panel.y)
    assert scores[pruned].max() <= scores[~pruned].min(), "one line divides what is pruned from what is kept"
    assert panel.cuts == ({"x": "own", "y": "rival"} if criterion == "l2_norm" else {"x": "rival", "y": "own"})
    assert "layer3.0.expand, layer3.0.depthwise vote" in view.caption


def test_norms_are_sorted_and_the_layer_stands_out(resnet20):
    at = subject(resnet20, "layer2.0.conv1")
    own, beside = norms_view(at).panels
    assert np.array(own.y)[np.argsort(own.x)].tolist() == sorted(own.y)
    assert beside.others[beside.here][2] == "layer2.0.conv1"
    assert beside.others[beside.here][0] == pytest.approx(at.facts.norms.min() / at.facts.norms.mean())


def test_neighbours_are_true_ones(resnet20):
    facts = layer_facts(resnet20.fingerprint, "layer1.0.conv1", resnet20)
    filters = weights_of(resnet20.module, "layer1.0.conv1").flatten(1).numpy()
    distances = np.linalg.norm(filters[:, None] - filters[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert facts.near[:, 0].tolist() == distances.argmin(1).tolist()
    assert facts.gaps == pytest.approx(distances.min(1), rel=1e-5)
    assert all(facts.twin(i) == facts.near[i, 0] for i in range(len(filters)))


def test_tiles_keep_every_weight_apart_on_one_scale(resnet20):
    weights = weights_of(resnet20.module, "layer1.0.conv1").numpy()
    sheet = tile(weights[0])
    assert sheet.shape == (15, 15)
    assert np.array_equal(sheet[4:7, 4:7], weights[0][5])
    assert np.isnan(sheet[3]).all()
    assert tile(weights[0][:, :1, :1]).shape == (4, 4), "single numbers need no lines between them"
    tiles = tiles_of((resnet20.identity,), "layer1.0.conv1", 3, 7, ("l2_norm",), 0, resnet20)
    assert (tiles.shown, tiles.columns, tiles.limit) == (3, 15, pytest.approx(np.abs(weights).max()))
    numbers = np.frombuffer(base64.b64decode(tiles.sheets[0]), np.int8).reshape(15, 15)
    expected = tile(weights[3])
    assert (numbers[np.isnan(expected)] == NO_NUMBER).all()
    assert numbers[~np.isnan(expected)] / 127 * tiles.limit == pytest.approx(
        expected[~np.isnan(expected)], abs=tiles.limit / 200
    )
    assert len(tiles.sheets) == 3


def test_names_are_told_apart_by_what_differs():
    names = tuple(f"encoder.layers.encoder_layer_{i}.mlp.0" for i in range(12))
    assert list(short_names(names).values()) == [f"encoder_layer_{i}" for i in range(12)]
    assert short_names(("layer3.2.conv1", "layer1.0.conv2", "conv1"))["layer3.2.conv1"] == "3.2.c1"
    assert short_names(("features.0",)) == {"features.0": "f0"}
