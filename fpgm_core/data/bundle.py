"""Make the bundled CIFAR-10 mosaics from a full copy: how the files in `bundled/` came to be."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from fpgm_core.data.images import HALVES_SEED, stratified_halves

SIDE = 32
COLUMNS = 100
TRAIN_PER_CLASS = 500


def mosaic(images: np.ndarray, columns: int = COLUMNS) -> np.ndarray:
    """Lay images of shape (N, 32, 32, 3) out row by row; N must be a multiple of `columns`."""
    rows = len(images) // columns
    grid = images.reshape(rows, columns, SIDE, SIDE, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * SIDE, columns * SIDE, 3)


def unmosaic(picture: np.ndarray) -> np.ndarray:
    """The inverse of `mosaic`: images of shape (N, 32, 32, 3), uint8."""
    rows, columns = picture.shape[0] // SIDE, picture.shape[1] // SIDE
    grid = picture.reshape(rows, SIDE, columns, SIDE, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(grid).reshape(rows * columns, SIDE, SIDE, 3)


def stratified_sample(labels: np.ndarray, per_class: int, seed: int = HALVES_SEED) -> np.ndarray:
    """Indices of `per_class` members of every class, in a seeded order."""
    rng = np.random.RandomState(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in np.unique(labels)]
    return rng.permutation(np.concatenate(chosen)).astype(np.uint16)


def write_bundle(source: Path, target: Path) -> None:
    """Write the mosaics, labels and split orders that `data.cifar10` reads.

    `source` is an .npz with train_images, train_labels, test_images and test_labels in the
    official order; `target` is the folder to fill.
    """
    full = np.load(source)
    choose, sealed = (half.astype(np.uint16) for half in stratified_halves(full["test_labels"]))
    sample = stratified_sample(full["train_labels"], TRAIN_PER_CLASS)
    pictures = {"test": full["test_images"], "train": full["train_images"][sample]}
    for name, images in pictures.items():
        Image.fromarray(mosaic(images)).save(target / f"{name}.webp", lossless=True, quality=100, method=6)
    np.savez_compressed(
        target / "index.npz",
        test_labels=full["test_labels"],
        train_labels=full["train_labels"][sample],
        choose=choose,
        sealed=sealed,
        train=sample,
    )
    about = {
        "source": "CIFAR-10, https://www.cs.toronto.edu/~kriz/cifar.html",
        "citation": "Alex Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        "content": "all 10,000 test images in the official order; 500 training images of every class",
        "format": "lossless WebP mosaics of 32 x 32 tiles, 100 to a row, read row by row",
        "seed": HALVES_SEED,
    }
    (target / "about.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="an .npz with the full CIFAR-10")
    parser.add_argument("target", type=Path, help="the folder to fill")
    arguments = parser.parse_args()
    write_bundle(arguments.source, arguments.target)
