"""UMAP layouts kept by fingerprint: bundled ones ship with the package, others lie in `FPGM_HOME`."""

from __future__ import annotations

import argparse
import io
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fpgm_core.criteria.projections import UMAP_MINIMUM, UMAP_SEED, Projection, Reduction, from_coordinates, umap
from fpgm_core.criteria.umap_reduction import reduce
from fpgm_core.graph.layers import dense_layers, weights_of
from fpgm_core.models import load_model
from fpgm_core.runtime.storage import Kept, ResultStore, write_atomic

_FORMAT = 1
_STORE = ResultStore("layouts")


def _bundled(fingerprint: str) -> Path:
    return Path(str(resources.files("fpgm_core.criteria") / "bundled" / f"{fingerprint}.npz"))


def _identity(fingerprint: str, layer: str, seed: int) -> dict[str, Any]:
    """What a layout depends on: the layer's weights, which the fingerprint covers, and the seed; no other layer."""
    return {"format": _FORMAT, "fingerprint": fingerprint, "layer": layer, "seed": seed}


def known_layout(fingerprint: str, layer: str, filters: Tensor, seed: int = UMAP_SEED) -> Projection | None:
    """The UMAP of a layer if it was computed before, else None. Never imports umap.

    `filters` are the layer's, shape (N, ...), for the distances and the faithfulness.
    """

    if seed == UMAP_SEED and (bundled := _bundled(fingerprint)).exists():
        with np.load(bundled, allow_pickle=False) as layouts:
            places = layouts[layer] if layer in layouts.files else None
    else:
        identity = _identity(fingerprint, layer, seed)
        places = _STORE.read(identity, lambda kept: _checked(kept.arrays["places"].numpy()))
    if places is None or places.shape != (len(filters) + 1, 2):
        return None
    return from_coordinates("umap", filters, places[:-1].astype(np.float64), places[-1].astype(np.float64))


def _checked(places: np.ndarray) -> np.ndarray:
    if places.dtype != np.float32 or places.ndim != 2 or places.shape[1] != 2 or not np.isfinite(places).all():
        raise ValueError("no places")
    return places


def _places(projection: Projection) -> np.ndarray:
    """The filters' places with the median's last, float32 (N + 1, 2)."""
    return np.concatenate([projection.points, projection.median[None]]).astype(np.float32)


def compute_layout(
    fingerprint: str, layer: str, filters: Tensor, seed: int = UMAP_SEED, *, reduction: Reduction = reduce
) -> Projection:
    """The UMAP of a layer, computed now and kept for `known_layout`. Raises FpgmError as `umap` does."""
    projection = umap(filters, seed, reduction=reduction)
    _STORE.write(_identity(fingerprint, layer, seed), Kept({}, {"places": torch.from_numpy(_places(projection))}))
    return projection


def bundle_layouts(model: str, folder: Path) -> Path:
    """Compute the UMAP of every layer of a bundled model and write them as one file into `folder`."""
    loaded = load_model(model)
    layers = dense_layers(loaded.module, loaded.info.input_shape)
    layouts = {
        layer.name: _places(umap(weights_of(loaded.module, layer.name)))
        for layer in layers
        if layer.filters >= UMAP_MINIMUM
    }
    path = folder / f"{loaded.fingerprint}.npz"
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **layouts)  # type: ignore[arg-type]
    write_atomic(path, buffer.getvalue())
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=bundle_layouts.__doc__)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    bundle_layouts(arguments.model, arguments.folder)
