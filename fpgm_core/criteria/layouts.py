"""UMAP layouts kept by fingerprint: bundled ones ship with the package, others lie in `FPGM_HOME`."""

from __future__ import annotations

import argparse
import io
from importlib import resources
from pathlib import Path

import numpy as np
from torch import Tensor

from fpgm_core.criteria.projections import UMAP_MINIMUM, UMAP_SEED, Projection, from_coordinates, umap
from fpgm_core.graph.layers import dense_layers, weights_of
from fpgm_core.models import load_model
from fpgm_core.runtime.storage import home, write_atomic


def _bundled(fingerprint: str) -> Path:
    return Path(str(resources.files("fpgm_core.criteria") / "bundled" / f"{fingerprint}.npz"))


def _own(fingerprint: str, layer: str, seed: int) -> Path:
    return home() / "layouts" / fingerprint / f"{layer}-{seed}.npy"


def known_layout(fingerprint: str, layer: str, filters: Tensor, seed: int = UMAP_SEED) -> Projection | None:
    """The UMAP of a layer if it was computed before, else None. Never imports umap.

    `filters` are the layer's, shape (N, ...), for the distances and the faithfulness.
    """
    places = _read(fingerprint, layer, seed)
    if places is None or places.shape != (len(filters) + 1, 2) or not np.isfinite(places).all():
        return None
    return from_coordinates("umap", filters, places[:-1].astype(np.float64), places[-1].astype(np.float64))


def _read(fingerprint: str, layer: str, seed: int) -> np.ndarray | None:
    if seed == UMAP_SEED and _bundled(fingerprint).exists():
        with np.load(_bundled(fingerprint), allow_pickle=False) as layouts:
            return layouts[layer] if layer in layouts.files else None
    try:
        return np.load(_own(fingerprint, layer, seed), allow_pickle=False)
    except (OSError, ValueError):  # absent, or damaged: it will be computed, and written, again
        return None


def _places(projection: Projection) -> np.ndarray:
    """The filters' places with the median's last, float32 (N + 1, 2)."""
    return np.concatenate([projection.points, projection.median[None]]).astype(np.float32)


def compute_layout(fingerprint: str, layer: str, filters: Tensor, seed: int = UMAP_SEED) -> Projection:
    """The UMAP of a layer, computed now and kept for `known_layout`. Raises FpgmError as `umap` does."""
    projection = umap(filters, seed)
    buffer = io.BytesIO()
    np.save(buffer, _places(projection))
    write_atomic(_own(fingerprint, layer, seed), buffer.getvalue())
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
