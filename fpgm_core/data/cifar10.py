"""CIFAR-10: the bundled images, the choose and sealed halves, and the user's own copy.

Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import threading
import weakref
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fpgm_core.data.bundle import unmosaic
from fpgm_core.data.cifar_files import CIFAR10
from fpgm_core.data.images import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.runtime.files import open_npz

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
_ONE_AT_A_TIME = threading.Lock()
_OWN: weakref.WeakValueDictionary[tuple[str, Path], ImageSet] = weakref.WeakValueDictionary()  # while somebody has them
_NUM_TRAINING = 50_000
_ARCHIVE = "train_images, train_labels, test_images, test_labels: uint8, (N, 32, 32, 3) and (N,)"


def _bundled() -> Path:
    # Package data of an ordinary (unzipped) installation, as setuptools and pip lay it out.
    return Path(str(resources.files("fpgm_core.data") / "bundled"))


@cache
def bundled_index() -> dict[str, np.ndarray]:
    """By split the places, int (N,), of its images in CIFAR-10's official order, and the labels of the bundled ones."""
    with np.load(_bundled() / "index.npz") as index:
        return {name: index[name] for name in index.files}


@cache
def _bundled_pixels(name: str) -> np.ndarray:
    with Image.open(_bundled() / f"{name}.webp") as picture:
        return unmosaic(np.asarray(picture.convert("RGB")))


def _image_set(name: str, pixels: np.ndarray, labels: np.ndarray) -> ImageSet:
    return ImageSet(
        name=f"cifar10 {name}",
        pixels=torch.from_numpy(np.ascontiguousarray(pixels)),
        labels=torch.from_numpy(labels.astype(np.int64)),
        mean=MEAN,
        std=STD,
        class_names=CLASSES,
    )


def _own(root: Path, train: bool, download: bool) -> tuple[np.ndarray, np.ndarray]:
    if root.suffix == ".npz":
        return _own_archive(root, "train" if train else "test")
    if download and CIFAR10.folder_in(root) is None:
        CIFAR10.download(root)
    return CIFAR10.read(root, "train" if train else "test")


def is_copy(root: Path) -> bool:
    """Whether a folder or an .npz has the user's own copy of the whole of CIFAR-10, or what looks like one."""
    if root.suffix != ".npz":
        return CIFAR10.folder_in(root) is not None
    try:
        with open_npz(root) as archive:
            return archive["train_labels"].shape == (50_000,) and archive["test_labels"].shape == (10_000,)
    except FpgmError:
        return False


def _own_archive(path: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    size = _NUM_TRAINING if part == "train" else 10_000
    try:
        with open_npz(path) as archive:
            missing = {f"{part}_images", f"{part}_labels"} - set(archive.files)
            if missing:
                raise FpgmError(f"it has no {min(missing)}")
            pixels, labels = archive[f"{part}_images"], archive[f"{part}_labels"]
    except FpgmError as error:
        raise FpgmError(f"{path} is not CIFAR-10 as an .npz ({error}); it holds {_ARCHIVE}") from error
    if pixels.shape != (size, 32, 32, 3) or pixels.dtype != np.uint8 or labels.shape != (size,):
        raise FpgmError(
            f"{path} is not CIFAR-10: its {part} images are {pixels.dtype} {pixels.shape}; it holds {_ARCHIVE}"
        )
    if labels.dtype.kind not in "iu" or int(labels.min()) < 0 or int(labels.max()) > 9:
        raise FpgmError(f"{path} is not CIFAR-10: its {part} labels are not whole numbers from 0 to 9")
    return pixels, labels


def load_cifar10(split: str, root: Path | None = None, download: bool = False) -> ImageSet:
    """The images of one split.

    `split`: "choose" and "sealed" are the fixed stratified halves of the 10,000 test images (500 of
    every class each), in a fixed seeded order; "all" is the whole test set in the official order;
    "train" is 5,000 training images (500 a class) in a seeded order, or with `root` all 50,000.
    `root`: the user's own copy, a folder as torchvision keeps it or an .npz file (train_images, train_labels,
    test_images, test_labels; uint8, in the official order); None takes the bundled images.

    Raises FpgmError for an unknown split and for a copy that is missing or incomplete.
    """
    if split not in ("choose", "sealed", "all", "train"):
        raise FpgmError(f"unknown split {split!r}; choose one of choose, sealed, all, train")
    with _ONE_AT_A_TIME:  # many sessions that open at once would each decode them
        if root is None:
            return _bundled_images(split)
        images = _OWN.get((split, root))
        if images is None:
            images = _OWN[split, root] = _images(split, root, download)
        return images


@cache
def _bundled_images(split: str) -> ImageSet:
    return _images(split, None, False)


def _images(split: str, root: Path | None, download: bool) -> ImageSet:
    if split == "train":
        return _image_set("train", *_training(root, download))
    if root is None:
        pixels, labels = _bundled_pixels("test"), bundled_index()["test_labels"]
    else:
        pixels, labels = _own(root, train=False, download=download)
    order = slice(None) if split == "all" else bundled_index()[split].astype(np.int64)
    return _image_set(split, pixels[order], labels[order])


def _training(root: Path | None, download: bool) -> tuple[np.ndarray, np.ndarray]:
    if root is None:
        return _bundled_pixels("train"), bundled_index()["train_labels"]
    pixels, labels = _own(root, train=True, download=download)
    order = training_order()
    return pixels[order], labels[order]


def training_order() -> np.ndarray:
    """The order, int64 (50000,), in which the user's own training images are taken.

    The bundled ones come first, as they are: calibration on the first n reads the same images either way.
    """
    bundled = bundled_index()["train"].astype(np.int64)
    rest = np.setdiff1d(np.arange(_NUM_TRAINING), bundled)
    return np.concatenate([bundled, np.random.RandomState(0).permutation(rest)])
