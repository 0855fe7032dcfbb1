"""What was opened here beyond the registry: networks with weights of their own, and images of one's own.

One store for the process, so that a link opens for whoever has it. Checkpoints are kept on disk by the fingerprint of
their weights, which every plan and link carries; images stay in memory and end with the tab that opened them.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fpgm_core import FpgmError, ImageSet, Network
from fpgm_core.data import DATA, DataInfo, register_data, unregister_data
from fpgm_core.runtime.cache import Shared, size_of
from fpgm_core.runtime.limits import configured_bytes
from fpgm_core.runtime.storage import home, set_aside, write_atomic
from pages.ui.components.telling import told

OWN = "own-"  # what the names of data sets opened here begin with
_FOLDER = "opened"
_KEPT_BYTES = 4 << 30
MOST_DATASETS = 16  # of all tabs together; the oldest goes first

_live: dict[tuple[str, str], Network] = {}
_datasets: OrderedDict[str, tuple[str, ...]] = OrderedDict()  # registered here, oldest first: names and notes
_lock = threading.Lock()
# All networks that are open here: those of the registry by name, those with weights of their own by these as well.
NETWORKS = Shared[Network]("networks", sizeof=lambda network: size_of(network.module))


def add_live(network: Network) -> None:
    """Have a network of this process open under its name, as long as the process runs."""
    _live[network.name, network.fingerprint] = network


def live_network(model: str) -> Network | None:
    """The newest live network of that name; None where there is none."""
    return next((live for (name, _), live in reversed(list(_live.items())) if name == model), None)


def live_names() -> tuple[str, ...]:
    """The names of the live networks, the newest first."""
    return tuple(dict.fromkeys(name for name, _ in reversed(list(_live))))


def remember(network: Network) -> None:
    """Have a network of these weights at hand for a while."""
    NETWORKS.put((network.name, network.fingerprint), network)


def opened_network(model: str, fingerprint: str) -> Network | None:
    """The network of that name and those weights: live, in memory, or kept on disk; None where there is none.

    Kept weights that do not hold are set aside: whoever needs them is told that they are not here.
    """
    known = _live.get((model, fingerprint)) or NETWORKS.get((model, fingerprint))
    if known is not None:
        return known
    kept = _kept_checkpoint(_place(fingerprint))
    if kept is None or kept.model != model:
        return None
    try:
        network = Network.load(model, kept.path, input_shape=kept.input_shape)
    except FpgmError as error:
        set_aside(kept.path, told(error))
        return None
    if network.fingerprint != fingerprint:  # which is the checksum of the weights
        set_aside(kept.path, "not the weights that it is named by")
        return None
    network.weights = kept.weights  # where they came from, not where they are kept
    kept.path.touch()
    remember(network)
    return network


def is_kept(fingerprint: str) -> bool:
    """Whether weights are kept on disk. Raises FpgmError for what names none."""
    return kept_place(fingerprint) is not None


def kept_place(fingerprint: str) -> Path | None:
    """The file that weights are kept in; None where they are not. Raises FpgmError for what names none."""
    place = _place(fingerprint)
    return place if place.exists() else None


def forget_networks() -> None:
    """Let the networks go that were opened here; those kept on disk open again when they are asked for."""
    NETWORKS.clear()


def keep_checkpoint(network: Network) -> None:
    """Keep a network's weights on disk, so that plans and links that were made for them open again.

    Raises FpgmError where the disk does not take them.
    """
    path, shape = _place(network.fingerprint), "x".join(map(str, network.input_shape))
    known = _kept_checkpoint(path)
    if known is not None and (known.model, known.input_shape) == (network.name, tuple(network.input_shape)):
        path.touch()
        return
    tensors = {name: tensor.contiguous() for name, tensor in network.module.state_dict().items()}
    about = {"model": network.name, "weights": network.weights, "input_shape": shape}
    write_atomic(path, save(tensors, metadata=about))
    _make_room(path)


@dataclass(frozen=True)
class KeptCheckpoint:
    """Weights that are kept on disk: of which network, where they came from, and what it reads.

    `input_shape` is (channels, height, width), None in files of a time when it was not kept.
    """

    path: Path
    model: str
    weights: str
    input_shape: tuple[int, int, int] | None

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the weights."""
        return self.path.stem


def recent_checkpoints(most: int = 12) -> tuple[KeptCheckpoint, ...]:
    """The weights that are kept here, those opened last first."""
    files = sorted((home() / _FOLDER).glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
    return tuple(kept for kept in map(_kept_checkpoint, files[:most]) if kept is not None)


def _kept_checkpoint(path: Path) -> KeptCheckpoint | None:
    """What a file of kept weights holds; None where there is none, or none that can be read."""
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
        channels, height, width = map(int, about["input_shape"].split("x")) if "input_shape" in about else (0, 0, 0)
    except (OSError, SafetensorError, ValueError):
        return None
    if "model" not in about:
        return None
    shape = (channels, height, width) if channels else None
    return KeptCheckpoint(path, about["model"], about.get("weights", path.name), shape)


def _place(fingerprint: str) -> Path:
    if not fingerprint.isalnum():
        raise FpgmError("the plan names no weights; make it anew from the network it is for")
    return home() / _FOLDER / f"{fingerprint}.safetensors"


def _make_room(newest: Path) -> None:
    """Delete the files that nobody opened for longest, until the others fit."""
    files = sorted(newest.parent.glob("*.safetensors*"), key=lambda path: path.stat().st_mtime)
    total, limit = sum(path.stat().st_size for path in files), configured_bytes("FPGM_OPENED_BYTES", _KEPT_BYTES)
    for path in files:
        if total <= limit or path == newest:
            continue
        total -= path.stat().st_size
        path.unlink(missing_ok=True)


def add_images(title: str, splits: Mapping[str, ImageSet], notes: tuple[str, ...] = ()) -> str:
    """Register images by split ("choose", "sealed", "train") as a data set; returns its name, hard to guess.

    `notes` are what whoever looks at them must know.
    """
    name = f"{OWN}{secrets.token_hex(8)}"

    def load(split: str, root: Path | None, download: bool) -> ImageSet:
        if split not in splits:
            raise FpgmError(f"unknown split {split!r}; choose one of {', '.join(splits)}")
        return splits[split]

    with _lock:
        register_data(DataInfo(name, title, load))
        _datasets[name] = notes
        while len(_datasets) > MOST_DATASETS:
            unregister_data(_datasets.popitem(last=False)[0])
    return name


def notes_of(name: str) -> tuple[str, ...]:
    """What must be known of a data set that was opened here; nothing of others."""
    return _datasets.get(name, ())


def forget_images(name: str) -> None:
    """Let images go; those who still look at them are told."""
    with _lock:
        if _datasets.pop(name, None) is not None:
            unregister_data(name)


def check_images(name: str) -> None:
    """Raise FpgmError where a data set of one's own is not here, or not any more."""
    if name not in DATA:
        raise FpgmError("these images are no longer open on this server; open them again")
