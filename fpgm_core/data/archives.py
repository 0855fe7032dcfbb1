"""Labelled images as arrays in one .npz."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fpgm_core.data.sources import ImageSource, from_pixels
from fpgm_core.errors import FpgmError
from fpgm_core.runtime.files import open_npz

_NAMES = {  # what the arrays of one part are called, by those who write such files
    "test": (
        ("test_images", "test_labels"), ("x_test", "y_test"), ("images", "labels"), ("pixels", "labels"),
        ("data", "labels"), ("x", "y"),
    ),
    "train": (("train_images", "train_labels"), ("x_train", "y_train")),
}  # fmt: skip
_HOLDS = (
    "images and labels, or train_images, train_labels, test_images and test_labels (uint8 (N, H, W, C), whole numbers "
    "(N,)), and class_names where they have names"
)


def open_archive(path: str | Path, part: str = "test") -> ImageSource | None:
    """The images of one part ("test" or "train") of an .npz; None where it has no such part.

    Raises FpgmError for other files. Nothing is unpickled.
    """
    path = Path(path).expanduser()
    with open_npz(path) as archive:
        pair = next((pair for pair in _NAMES[part] if set(pair) <= set(archive.files)), None)
        if pair is None:
            if part == "train":
                return None
            raise FpgmError(
                f"{path} has {', '.join(archive.files[:6]) or 'no array'}; an .npz of images holds {_HOLDS}"
            )
        pixels, labels = archive[pair[0]], archive[pair[1]]
        names = archive["class_names"] if "class_names" in archive.files else None
    return _checked(path, pixels, labels.squeeze() if labels.ndim > 1 else labels, names)


def _checked(path: Path, pixels: np.ndarray, labels: np.ndarray, names: Any) -> ImageSource:
    if pixels.ndim == 3:
        pixels = pixels[:, :, :, None]
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or pixels.shape[3] not in (1, 3) or not len(pixels):
        raise FpgmError(f"{path} has images {pixels.dtype} {pixels.shape}; an .npz holds {_HOLDS}")
    if labels.shape != pixels.shape[:1] or labels.dtype.kind not in "iu":
        raise FpgmError(f"{path} has labels {labels.dtype} {labels.shape} of {len(pixels):,} images; it holds {_HOLDS}")
    class_names = None if names is None else tuple(map(str, np.asarray(names).tolist()))
    return from_pixels(path.stem, pixels, labels, class_names)
