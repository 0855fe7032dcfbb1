"""One way to open images, whatever they are: what is chosen on, what is sealed, and what is trained on."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fpgm_core.data.archives import open_archive
from fpgm_core.data.cifar_files import CIFAR10, CIFAR100, CifarFiles
from fpgm_core.data.datasets import open_hugging_face
from fpgm_core.data.folders import class_folders, open_folder
from fpgm_core.data.images import HALVES_SEED, stratified_halves
from fpgm_core.data.sources import ImageSource, from_pixels
from fpgm_core.data.zips import unpack_images
from fpgm_core.errors import FpgmError
from fpgm_core.runtime.storage import home

_TEST_FOLDERS, _TRAIN_FOLDERS = ("val", "valid", "validation", "test"), ("train", "training")
_HUGGING_FACE = "hf:"
KINDS = "a folder of class folders, a zip of one, an .npz, cifar10, cifar100, or hf:NAME"


@dataclass(frozen=True, eq=False)
class ImageSplits:
    """Disjoint sources of images: `choose` to select on, `sealed` to report on, `train` to learn from.

    `notice` is what must be said of how they came apart, or None.
    """

    choose: ImageSource
    sealed: ImageSource
    train: ImageSource
    notice: str | None = None

    def split(self, name: str) -> ImageSource:
        """The source called "choose", "sealed", "all" (both) or "train". Raises FpgmError for other names."""
        both = np.concatenate([self.choose.indices, self.sealed.indices])
        whole = replace(self.choose, name=self.choose.name.removesuffix(" choose"), which=both)
        splits = {"choose": self.choose, "sealed": self.sealed, "all": whole, "train": self.train}
        if name not in splits:
            raise FpgmError(f"unknown split {name!r}; choose one of {', '.join(splits)}")
        return splits[name]


def open_images(
    data: str | Path,
    training: str | Path | None = None,
    *,
    known_classes: Sequence[str] | None = None,
    seed: int = HALVES_SEED,
    download: bool = False,
) -> ImageSplits:
    """Images of one's own by what they are called on the command line; nothing is decoded yet.

    `data` is a folder of class folders, or one with `val` (or `test`) and `train` beside each other, or a zip of either
    (unpacked for as long as its images may be read); an .npz; CIFAR's
    folder, or "cifar10" or "cifar100" for the one in `FPGM_HOME/data`; or "hf:NAME" for a Hugging Face data set. Its
    test images are split into choose and sealed, by class and `seed`. `training` is the same kind of thing for training
    images; without it they are those that come with the data, and where there are none half of choose. `known_classes`,
    the network's own names, say which folder is which class where they name all.

    Raises FpgmError where there is nothing of that kind.
    """
    test, train = _opened(data, known_classes, download)
    if training is not None:
        own, beside = _opened(training, known_classes, download)
        train = beside or own
    if train is not None:
        test, train = _of_the_same_classes(test, train)
    return split_source(test, train, seed=seed)


def split_source(test: ImageSource, train: ImageSource | None = None, *, seed: int = HALVES_SEED) -> ImageSplits:
    """`test` split into choose and sealed, by class and `seed`; without `train`, half of choose is trained on.

    Raises FpgmError for fewer images than that takes.
    """
    choose, sealed = test.halves(seed)
    if train is not None:
        return ImageSplits(choose, sealed, train.shuffled(f"{test.name} train", seed))
    if len(choose) < 2:
        raise FpgmError(
            f"{test.name} has {len(test)} images; to choose, to report and to train on they must be 3 or more"
        )
    assert choose.labels is not None
    first, second = stratified_halves(choose.labels[choose.indices], seed)
    kept, learnt = choose.take(first, choose.name), choose.take(second, f"{test.name} train")
    notice = (
        f"no training images beside {test.name}: {len(learnt):,} of its {len(test):,} images are trained on, "
        f"{len(kept):,} chosen on, {len(sealed):,} sealed"
    )
    return ImageSplits(kept, sealed, learnt, notice)


def _opened(
    data: str | Path, known_classes: Sequence[str] | None, download: bool
) -> tuple[ImageSource, ImageSource | None]:
    """Test images, and training images where there are some beside them."""
    text = str(data)
    if text.startswith(_HUGGING_FACE):
        return open_hugging_face(text.removeprefix(_HUGGING_FACE))
    for files in (CIFAR10, CIFAR100):
        if text == files.name:
            return _cifar(files, home() / "data", download)
    path = Path(data).expanduser()
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError):  # no path at all: too long, or with a null byte
        is_file = is_folder = False
    if is_file:
        return _of_zip(path, known_classes) if path.suffix.lower() == ".zip" else _of_archive(path)
    if not is_folder:
        raise FpgmError(f"no images at {data}; give {KINDS}")
    for files in (CIFAR10, CIFAR100):
        if files.folder_in(path) is not None:
            return _cifar(files, path, download=False)
    return _of_folder(path, known_classes)


def _cifar(files: CifarFiles, root: Path, download: bool) -> tuple[ImageSource, ImageSource | None]:
    if download and files.folder_in(root) is None:
        files.download(root)
    names = files.class_names(root)
    test, train = (
        from_pixels(f"{files.name}{end}", *files.read(root, part), names)
        for part, end in (("test", ""), ("train", " train"))
    )
    return test, train


def _of_archive(path: Path) -> tuple[ImageSource, ImageSource | None]:
    if path.suffix != ".npz":
        raise FpgmError(f"{path} is a file of no kind that holds images; give {KINDS}")
    test = open_archive(path)
    assert test is not None
    return test, open_archive(path, "train")


def _of_zip(path: Path, known_classes: Sequence[str] | None) -> tuple[ImageSource, ImageSource | None]:
    unpacked = _Unpacked()
    test, train = _of_folder(unpack_images(path, unpacked.folder / path.stem), known_classes)
    return unpacked.holding(test), None if train is None else unpacked.holding(train)


class _Unpacked:
    """A folder that goes with the last of the sources that read from it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fpgm-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def holding(self, source: ImageSource) -> ImageSource:
        """The same source, which keeps the folder."""

        def read(index: int) -> tuple[Any, int]:
            assert self.folder
            return source.read(index)

        return replace(source, read=read)


def _of_folder(path: Path, known_classes: Sequence[str] | None) -> tuple[ImageSource, ImageSource | None]:
    parts = {name.casefold(): path / name for name in class_folders(path)}
    test = next((parts[name] for name in _TEST_FOLDERS if name in parts), None)
    train = next((parts[name] for name in _TRAIN_FOLDERS if name in parts), None)
    if test is None or not class_folders(test):
        if train is not None and len(parts) == 1 and class_folders(train):
            return open_folder(train, known_classes=known_classes, name=path.name), None
        return open_folder(path, known_classes=known_classes), None
    name = path.resolve().name
    opened = open_folder(test, known_classes=known_classes, name=name)
    if train is None:
        return opened, None
    return opened, open_folder(train, known_classes=known_classes, name=f"{name} train")


def _of_the_same_classes(test: ImageSource, train: ImageSource) -> tuple[ImageSource, ImageSource]:
    """Both with their classes numbered alike: one of them may lack some that the other has."""
    if test.class_names is None or train.class_names is None or test.class_names == train.class_names:
        return test, train
    if set(test.class_names) <= set(train.class_names):
        return test.with_classes(train.class_names), train
    if set(train.class_names) <= set(test.class_names):
        return test, train.with_classes(test.class_names)
    raise FpgmError(
        f"{train.name} and {test.name} hold other classes ({_difference(train, test)}); give both the same folders"
    )


def _difference(one: ImageSource, other: ImageSource) -> str:
    first, second = set(one.class_names or ()), set(other.class_names or ())
    apart = sorted(first ^ second)[:3]
    return f"{len(first)} and {len(second)}; {', '.join(apart)}" if apart else "in another order"
