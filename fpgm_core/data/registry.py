"""The data sets the explorer can measure on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.nn.functional import interpolate

from fpgm_core.data.cifar10 import MEAN, STD, is_copy, load_cifar10
from fpgm_core.data.images import ImageSet
from fpgm_core.data.preprocessing import Preprocessing
from fpgm_core.errors import FpgmError
from fpgm_core.runtime.registry import Registry

HALVES = ("choose", "sealed")
SPLITS = (*HALVES, "all")


def _never_a_copy(path: Path) -> bool:
    """Of a data set without official splits no folder or file is a copy."""
    return False


@dataclass(frozen=True)
class DataInfo:
    """One data set: its name, its title, and `load(split, root, download)`, which brings a split of it.

    `is_copy` says whether a folder or file is the user's own copy of it, whose splits are the official ones;
    `preprocessing` is what networks trained on it want done to other pictures, None where nobody said.
    """

    name: str
    title: str
    load: Callable[[str, Path | None, bool], ImageSet]
    is_copy: Callable[[Path], bool] = _never_a_copy
    preprocessing: Preprocessing | None = None

    @property
    def takes_copy(self) -> bool:
        """Whether a user's own copy of it can be read."""
        return self.is_copy is not _never_a_copy


_CIFAR10 = DataInfo(
    "cifar10", "CIFAR-10", load_cifar10, is_copy, Preprocessing(resize=32, crop=(32, 32), mean=MEAN, std=STD)
)
DATA = Registry[DataInfo]("data set", [_CIFAR10])
"""Every data set by name: a live view, in which registered ones come last."""


def register_data(info: DataInfo) -> DataInfo:
    """Add a data set of one's own, for networks whose `dataset` is its name; returns it.

    Registering another one under the same name replaces it. Raises FpgmError for a name that one of the library's own
    data sets has.
    """
    return DATA.add(info)


def unregister_data(name: str) -> None:
    """Take out a data set that `register_data` added. Raises FpgmError for any other name."""
    DATA.remove(name)


def get_data(dataset: str) -> DataInfo:
    """The record of a data set. Raises FpgmError where it has no images here."""
    if dataset not in DATA:
        raise FpgmError(
            f"no images of {dataset or 'what this network was trained on'} here, so accuracy cannot be measured; give "
            "images of your own (--data, ImageSet.from_folder); only those of "
            f"{', '.join(info.title for info in DATA.values())} come with the project"
        )
    return DATA[dataset]


def load_images(dataset: str, split: str, root: Path | None = None, download: bool = False) -> ImageSet:
    """The images of one split ("choose", "sealed", "all" or "train") of a data set.

    Raises FpgmError where the data set has no images here.
    """
    return get_data(dataset).load(split, root, download)


def sample_images(dataset: str, input_shape: tuple[int, int, int], count: int) -> Tensor:
    """Real images for a network of `input_shape`, normalised float32 (count, C, H, W), to compare networks on.

    The first of the data set's choose half, again and again where it has fewer; where there are none here, CIFAR-10's
    resized, and grey or with channels repeated where the network reads other channels. Their labels mean nothing then,
    and no accuracy is measured on them. Raises FpgmError where fewer than one is asked for.
    """
    if count < 1:
        raise FpgmError(f"{count} images asked for; ask for 1 or more")
    choose = load_images(dataset if dataset in DATA else "cifar10", "choose")
    images = choose.normalised(0, min(count, len(choose)))
    images = images.repeat(-(-count // len(images)), 1, 1, 1)[:count]
    channels, *size = input_shape
    if images.shape[1] != channels:
        images = images.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    if tuple(images.shape[2:]) == tuple(size):
        return images
    return interpolate(images, size=size, mode="bilinear", antialias=True)
