"""Opening networks and images that people bring: the work behind the Open dialog, done in the background."""

from __future__ import annotations

import ipaddress
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from fpgm_core import FpgmError, ImageSet, Network
from fpgm_core.criteria import ready_umap
from fpgm_core.data import ImageSplits, Preprocessing, open_images
from fpgm_core.models import weight_bytes
from fpgm_core.runtime.cache import limit_of
from fpgm_core.runtime.progress import Progress, Work, within
from fpgm_core.runtime.torchvision_import import import_torchvision
from pages.ui.session.jobs import umap_process
from pages.ui.session.networks import load_network
from pages.ui.session.opened import add_images, keep_checkpoint, live_names, opened_network

CHECKPOINTS = ("safetensors", "pt", "pth", "ckpt", "bin")
IMAGES = ("npz", "zip")
ROOTS_VARIABLE, PUBLIC_VARIABLE = "FPGM_DATA_ROOTS", "FPGM_PUBLIC"
_SPLITS = ("choose", "sealed", "train")
MOST_TRAINING = 5000  # training images that a page reads: as many as are bundled


@dataclass(frozen=True)
class OpenedImages:
    """Images that were opened for a network: the data set's name, and what must be known of them."""

    name: str
    notes: tuple[str, ...]


def network_work(
    model: str, weights: str | Path | None, input_shape: tuple[int, int, int] | None = None
) -> Work[Network]:
    """Open a network by its name; weights and `input_shape` as in `Network.load`.

    What is not the default is kept for links and plans. Raises FpgmError for a checkpoint that does not fit, and says
    what would.
    """
    yield Progress(0.05, what=f"opening {model}")
    check_room(model)
    network = Network.load(model, weights, input_shape=input_shape)
    yield from _ready_work(network)
    if weights is not None or input_shape is not None:
        keep_checkpoint(network)
    return network


def open_work(model: str, fingerprint: str | None) -> Work[Network]:
    """Open the network that a plan or a link is for: of those weights where they are kept here, else the best at hand.

    Raises FpgmError for one that is unknown, and for one of more weights than there is room for.
    """
    yield Progress(0.05, what=f"opening {model}")
    check_room(model)
    network = load_network(model, fingerprint)
    yield from _ready_work(network)
    return network


def check_room(model: str) -> None:
    """Raise FpgmError where a network has more weights than this server holds, before they are made."""
    if model in live_names():
        return
    size, limit = weight_bytes(model), limit_of()
    if size > limit:
        raise FpgmError(
            f"{model} has {size / 2**30:.1f} GiB of weights and there is room for {limit / 2**30:.1f} here; "
            "whoever starts this server gives more by FPGM_CACHE_BYTES"
        )


def _ready_work(network: Network) -> Work[None]:
    """Compute what the page shows of a network first: a large one takes seconds, which the page itself would wait."""
    yield Progress(0.5, what="following its channels")
    network.dense_cost  # noqa: B018
    for done, layer in enumerate(network.layers):
        yield Progress(0.7 + 0.3 * done / len(network.layers), what="scoring its filters")
        network.norm_diagnostics(layer.name)


def checkpoint_work(
    model: str, file_name: str, content: bytes, input_shape: tuple[int, int, int] | None = None
) -> Work[Network]:
    """Open a network with somebody's checkpoint, see `network_work`."""
    with _as_file(file_name, content) as path:
        return (yield from network_work(model, path, input_shape))


def ready_work() -> Work[None]:
    """Have what opening a network asks for ready while one is chosen: torchvision, and UMAP where it is installed."""
    yield Progress(0.0, what="reading torchvision")
    import_torchvision("torchvision.models")
    yield Progress(0.2, what="compiling UMAP")
    ready_umap(umap_process().reduce)


def kept_work(model: str, fingerprint: str) -> Work[Network]:
    """Open again weights that are kept here. Raises FpgmError where they are not any more."""
    yield Progress(0.05, what=f"opening {model}")
    network = opened_network(model, fingerprint)
    if network is None:
        raise FpgmError("these weights are not kept here any more; open their file again")
    yield from _ready_work(network)
    return network


def images_work(
    network: Network, file_name: str, content: bytes, preprocessing: Preprocessing | None
) -> Work[OpenedImages]:
    """Read somebody's images, an .npz or a zip of folders, for a network, and register them as a data set."""
    yield Progress(0.02, what=f"unpacking {_plain(file_name)}")
    with _as_file(file_name, content) as path:
        return (yield from within(folder_work(network, path, path.stem, preprocessing), 0.1))


def folder_work(network: Network, path: Path, title: str, preprocessing: Preprocessing | None) -> Work[OpenedImages]:
    """Read images for a network, whatever `open_images` takes, and register them as a data set."""
    splits = open_images(path, known_classes=network.class_names)
    return (yield from splits_work(network, splits, title, preprocessing))


def splits_work(
    network: Network, splits: ImageSplits, title: str, preprocessing: Preprocessing | None
) -> Work[OpenedImages]:
    """Decode images by split, check them against the network, and register them as a data set."""
    prepared = preprocessing or network.preprocessing
    if prepared is None:
        raise FpgmError(
            f"nobody said how pictures are prepared for {network.name}; give a preprocessing, "
            f"Preprocessing.usual({tuple(network.input_shape)}) say"
        )
    sets: dict[str, ImageSet] = {}
    for index, name in enumerate(_SPLITS):
        source = splits.split(name).at_most(MOST_TRAINING if name == "train" else None)
        part = within(source.load_work(prepared), index / len(_SPLITS), (index + 1) / len(_SPLITS), f"reading {name}")
        sets[name] = yield from part
    return register_images(network, sets, title, notice=splits.notice)


def register_images(
    network: Network, sets: Mapping[str, ImageSet], title: str, notice: str | None = None
) -> OpenedImages:
    """Register images by split for a network. Raises FpgmError where they cannot be the network's."""
    misfits = [network.check_images(images) for images in sets.values()]
    notes = [note for images in sets.values() for note in images.notes]
    told = tuple(dict.fromkeys(note for note in (notice, *misfits, *notes) if note))
    return OpenedImages(add_images(title, sets, told), told)


def data_roots() -> tuple[Path, ...]:
    """The folders of this machine that the page may read images from.

    Those that whoever starts the server lists in `FPGM_DATA_ROOTS`; without it the user's own, where the page is served
    to this machine alone, and none where others may visit it.
    """
    listed = os.environ.get(ROOTS_VARIABLE)
    if listed is not None:
        return tuple(Path(part).expanduser().resolve() for part in listed.split(os.pathsep) if part)
    return (Path.home().resolve(),) if is_private() else ()


def is_public() -> bool:
    """Whether whoever started the server said by `FPGM_PUBLIC` that strangers visit it, by a proxy say."""
    return os.environ.get(PUBLIC_VARIABLE, "") not in ("", "0")


def is_private() -> bool:
    """Whether the page is served to this machine alone: not public, and at an address that others do not reach."""
    if is_public():
        return False
    address = str(st.get_option("server.address") or "")
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def below_roots(text: str) -> Path:
    """A path that a visitor typed, where it lies below one of the roots. Raises the same FpgmError for all others."""
    try:
        path = Path(text).expanduser().resolve()
        if any(path.is_relative_to(root) for root in data_roots()) and path.exists():
            return path
    except (OSError, RuntimeError, ValueError):  # no such user, a loop of links, a name that none can have
        pass
    raise FpgmError("there is nothing of that name below the folders that this page may read")


@contextmanager
def _as_file(name: str, content: bytes) -> Iterator[Path]:
    """A file of that content, in a folder of its own that goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="fpgm-") as folder:
        path = Path(folder) / _plain(name)
        path.write_bytes(content)
        yield path


def _plain(name: str) -> str:
    """A file's name with nothing in it that a file system or a page would take for more than a name."""
    return re.sub(r"[^\w.\- ]", "_", Path(name).name)[-80:].lstrip(".") or "file"
