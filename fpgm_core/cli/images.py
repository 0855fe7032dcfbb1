"""What commands read images from: the data set that comes with the project, or the user's own by `--data`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from torch import Tensor

from fpgm_core.cli.progress import finish
from fpgm_core.data import (
    DATA,
    HALVES,
    ImageSet,
    ImageSplits,
    Preprocessing,
    load_images,
    open_images,
    sample_images,
)
from fpgm_core.errors import FpgmError
from fpgm_core.pruning import Network
from fpgm_core.runtime.distributed import world
from fpgm_core.runtime.storage import home

_NAMED = "cifar10", "cifar100"  # what `--data` may name: they lie in FPGM_HOME/data
NUM_TRAINING = 5000  # training images of one's own that are read where nothing trains: as many as are bundled


def add_data(parser: argparse.ArgumentParser) -> None:
    """The arguments that say where the images are."""
    parser.add_argument(
        "--data",
        help="images of your own: a folder of class folders (or with val and train in it), a zip of one, an .npz, "
        "cifar10, cifar100, or hf:NAME of Hugging Face (default: those that come with the network's data set)",
    )
    parser.add_argument("--train-data", help="the same for training images, where they are not beside --data")
    parser.add_argument(
        "--preprocess",
        metavar="WHAT",
        help="change what is done to pictures: resize=256,crop=224,interpolation=bicubic,mean=0.5/0.5/0.5,std=1/1/1",
    )
    parser.add_argument("--download", action="store_true", help="fetch CIFAR into --data if it is not there")


def has_images(chosen: argparse.Namespace, network: Network) -> bool:
    """Whether there are images for this network; without them everything but accuracy works, which is said."""
    found = chosen.data is not None or network.dataset in DATA
    if not found and network.trained:
        _tell(chosen, f"no images of {network.dataset or network.name} here, so no accuracy; --data gives some")
    return found


def images_of(chosen: argparse.Namespace, network: Network, split: str, most: int | None = None) -> ImageSet:
    """The images of one split ("choose", "sealed", "all" or "train"), at most the first `most`.

    Raises FpgmError where there are none here, and for arguments that cannot be.
    """
    if chosen.download and chosen.data is None:
        raise FpgmError("--download needs --data: the folder to fetch into, or cifar10 or cifar100")
    copy = _copy(chosen, network)
    if chosen.data is None or copy is not None:
        more = {"download": True} if chosen.download else {}
        images = load_images(network.dataset, split, copy, **more)
        return images if most is None or most >= len(images) else images.first(most)
    splits = _opened(chosen, network)
    images = finish(splits.split(split).at_most(most).load_work(_preprocessing(chosen, network)))
    for note in images.notes:
        _tell(chosen, note)
    _check_classes(chosen, network, images)
    return images


def measured_on(chosen: argparse.Namespace, network: Network, split: str) -> ImageSet:
    """The images of one split, the first `--images` of them where that was given. Raises FpgmError for fewer."""
    images = images_of(chosen, network, split, chosen.images)
    return images if chosen.images is None else images.first(chosen.images)


def training_of(chosen: argparse.Namespace, network: Network, most: int | None = NUM_TRAINING) -> ImageSet:
    """Training images to learn from. Raises FpgmError for a network whose weights are random, and without images."""
    if not network.trained:
        raise FpgmError(f"nothing to learn from random weights: {network.notice}")
    return images_of(chosen, network, "train", most if _is_own(chosen, network) else None)


def calibrating_of(chosen: argparse.Namespace, network: Network, most: int) -> ImageSet | None:
    """The first training images that ranges are read off; None where there are none here, or nothing is trained."""
    if not network.trained or not (chosen.data or network.dataset in DATA):
        return None
    try:
        return images_of(chosen, network, "train", most)
    except FpgmError as error:
        _tell(chosen, f"no training images: {error}")
        return None


def halves_of(chosen: argparse.Namespace, network: Network, most: int | None = None) -> dict[str, ImageSet]:
    """The test images, by half; of one's own at most `most` of each."""
    limit = most if _is_own(chosen, network) else None
    return {half: images_of(chosen, network, half, limit) for half in HALVES}


def samples_of(chosen: argparse.Namespace, network: Network, count: int) -> Tensor:
    """Real images for a network, normalised float32 (count, C, H, W), to compare networks on."""
    if not _is_own(chosen, network):
        return sample_images(network.dataset, network.input_shape, count)
    images = images_of(chosen, network, "choose", count)
    return images.normalised(0, len(images))


def _is_own(chosen: argparse.Namespace, network: Network) -> bool:
    """Whether `--data` has other images than the network's data set."""
    return chosen.data is not None and _copy(chosen, network) is None


def _copy(chosen: argparse.Namespace, network: Network) -> Path | None:
    """The user's own copy of the network's data set, where `--data` is one: its splits are the official ones."""
    if chosen.data is None or network.dataset not in DATA or chosen.train_data or chosen.preprocess:
        return None
    if chosen.data in _NAMED and chosen.data != network.dataset:
        return None
    path = home() / "data" if chosen.data in _NAMED else Path(chosen.data).expanduser()
    is_there = DATA[network.dataset].is_copy(path)
    return path if is_there or (chosen.download and (chosen.data in _NAMED or not path.exists())) else None


def _opened(chosen: argparse.Namespace, network: Network) -> ImageSplits:
    """The splits of `--data`, opened once a command."""
    splits: ImageSplits | None = getattr(chosen, "opened", None)
    if splits is None:
        names = network.class_names
        splits = open_images(chosen.data, chosen.train_data, known_classes=names, download=chosen.download)
        chosen.opened = splits
        if splits.notice:
            _tell(chosen, splits.notice)
    return splits


def _preprocessing(chosen: argparse.Namespace, network: Network) -> Preprocessing:
    """What is done to pictures: what the network's weights want, changed as `--preprocess` says."""
    known = network.preprocessing
    if known is None:
        known = Preprocessing.usual(network.input_shape)
        said = {part.partition("=")[0] for part in (chosen.preprocess or "").split(",")}
        if not {"mean", "std"} <= said:
            raise FpgmError(
                f"nobody said how pictures are prepared for {network.name}; if as is usual, say --preprocess "
                f"{known.text}"
            )
    return known.changed(chosen.preprocess) if chosen.preprocess else known


def _check_classes(chosen: argparse.Namespace, network: Network, images: ImageSet) -> None:
    """Tell of classes that may not be the network's. Raises FpgmError for labels and shapes that cannot be."""
    misfit = network.check_images(images)
    if misfit:
        _tell(chosen, misfit)


def _tell(chosen: argparse.Namespace, note: str) -> None:
    """A note on stderr, once a command."""
    told = vars(chosen).setdefault("told", set())
    if note not in told and world().is_main:
        told.add(note)
        print(f"note: {note}", file=sys.stderr)
