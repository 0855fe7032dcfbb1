"""UMAP layouts: bundled ones are read, others are kept by weights, layer and seed, and damaged ones computed anew."""

import numpy as np
import pytest
import torch

from fpgm_core.criteria.layouts import compute_layout, known_layout
from fpgm_core.criteria.projections import UMAP_SEED
from fpgm_core.runtime.storage import Kept, ResultStore

PRINT = "f" * 64


@pytest.fixture(scope="module")
def filters():
    return torch.randn(16, 3, 3, 3, generator=torch.Generator().manual_seed(0))


def keep(places, fingerprint=PRINT, layer="conv1", seed=7):
    identity = {"format": 1, "fingerprint": fingerprint, "layer": layer, "seed": seed}
    store = ResultStore("layouts")
    store.write(identity, Kept({}, {"places": torch.as_tensor(places)}))
    return store.path(identity)


def places():
    return np.arange(34, dtype=np.float32).reshape(17, 2)


def test_bundled_layouts_still_load(resnet20):
    layer = "layer3.0.conv1"
    weights = resnet20.module.get_submodule(layer).weight
    found = known_layout(resnet20.fingerprint, layer, weights)
    assert found.points.shape == (64, 2)
    assert known_layout(resnet20.fingerprint, layer, weights, UMAP_SEED + 1) is None
    assert known_layout(resnet20.fingerprint, layer, weights[:60]) is None


def test_a_kept_layout_is_read_for_its_own_layer_seed_and_weights(filters):
    keep(places())
    found = known_layout(PRINT, "conv1", filters, 7)
    assert np.array_equal(found.points, places()[:-1])
    assert np.array_equal(found.median, places()[-1])
    for other in [("e" * 64, "conv1", 7), (PRINT, "conv2", 7), (PRINT, "conv1", 8)]:
        assert known_layout(other[0], other[1], filters, other[2]) is None


def test_a_computed_layout_is_kept(filters):
    computed = compute_layout(PRINT, "conv1", filters, 3)
    found = known_layout(PRINT, "conv1", filters, 3)
    np.testing.assert_allclose(found.points, computed.points, rtol=1e-6)


def test_a_damaged_layout_is_none(filters):
    path = keep(places())
    content = path.read_bytes()
    for at in range(0, len(content), 9):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert known_layout(PRINT, "conv1", filters, 7) is None
        assert path.with_name(f"{path.name}.damaged").exists()


@pytest.mark.parametrize(
    "wrong", [np.full((17, 2), np.nan, np.float32), np.zeros((17, 3), np.float32), np.zeros((17, 2)), np.float32(0)]
)
def test_places_that_cannot_be_are_set_aside(filters, wrong):
    path = keep(wrong)
    assert known_layout(PRINT, "conv1", filters, 7) is None
    assert not path.exists()
