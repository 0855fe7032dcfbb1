"""The rungs below training, and a pruned network brought onto them."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from fpgm_core.calibration import RIDGE
from fpgm_core.calibration.moments import CalibrationConfig, batch_size
from fpgm_core.data import ImageSet, load_images
from fpgm_core.errors import FpgmError
from fpgm_core.graph import overlay
from fpgm_core.pruning import Network, compact_module, masked_module
from fpgm_core.recovery.merging import merged_tensors
from fpgm_core.recovery.recalibration import IMAGES, recalibrate
from fpgm_core.recovery.refit import images_that_fit, refit_steps
from fpgm_core.runtime.cores import each, split
from fpgm_core.runtime.device import to_device
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import finished

WATCHED = 1000
REPAIR = CalibrationConfig(num_images=1200, positions=24)
_REMEMBERED = 8


@dataclass(frozen=True)
class RecoveryMethod:
    """One rung of the recovery ladder: `needs` says what it reads, "nothing" or "training images"."""

    name: str
    title: str
    summary: str
    needs: str


_RECORDS = (
    RecoveryMethod("as_is", "As is", "Filters are gone, everything else is as in the dense network.", "nothing"),
    RecoveryMethod(
        "merged",
        "Merged",
        "Each removed filter is folded, scaled, into the kept one most like it; no images needed.",
        "nothing",
    ),
    RecoveryMethod(
        "recalibrated", "Recalibrated", "Norm statistics are measured anew on training images.", "training images"
    ),
    RecoveryMethod(
        "repaired",
        "Repaired",
        "Layers are refitted by least squares to make from what is left what the dense network made; no gradients.",
        "training images",
    ),
)
RECOVERY_METHODS: Mapping[str, RecoveryMethod] = {record.name: record for record in _RECORDS}


def get_recovery_method(name: str) -> RecoveryMethod:
    """The rung called `name`. Raises FpgmError, listing the names, where there is none."""
    if name not in RECOVERY_METHODS:
        raise FpgmError(f"unknown rung {name!r}; choose one of {', '.join(RECOVERY_METHODS)}")
    return RECOVERY_METHODS[name]


@dataclass(frozen=True, eq=False)
class Mended:
    """A pruned network's replaced tensors, in the dense network's shapes, by name.

    `rung` is what they are: "merged", "repaired", or "recalibrated" where the repaired network did worse on held-out
    training images than the recalibrated one, and was given up. Of `watched` such images `right` were classified
    rightly, by rung. `images` training images were fitted to.
    """

    rung: str
    keep_masks: Mapping[str, np.ndarray]
    tensors: Mapping[str, Tensor]
    images: int = 0
    watched: int = 0
    right: Mapping[str, int] | None = None

    @property
    def notice(self) -> str | None:
        """What must be said of it: that the repair was given up, and why; None where nothing must."""
        if self.rung != "recalibrated" or self.right is None:
            return None
        return (
            f"the repaired network is right about {self.right['repaired']} of {self.watched} held-out training images, "
            f"the recalibrated one about {self.right['recalibrated']}: recalibrated is kept"
        )

    def whole(self, network: Network) -> nn.Module:
        """The network in dense shapes with these tensors; what was removed is still in it where none replaces it."""
        return overlay(network.module, self.tensors)

    def masked(self, network: Network) -> nn.Module:
        """The masked network."""
        return masked_module(self.whole(network), network.flow, self.keep_masks)

    def compact(self, network: Network, aligned: bool = False) -> GraphModule:
        """The compact network, computing what `masked` computes; `aligned` as for `compact_module`."""
        return compact_module(self.whole(network), network.flow, self.keep_masks, aligned)


def merge(network: Network, keep_masks: Mapping[str, np.ndarray]) -> Mended:
    """The data-free rung: see `merged_tensors`."""
    return Mended("merged", keep_masks, merged_tensors(network, keep_masks))


def repair_steps(
    network: Network,
    keep_masks: Mapping[str, np.ndarray],
    calibration: CalibrationConfig = REPAIR,
    images: ImageSet | None = None,
    device: torch.device = torch.device("cpu"),
    ridge: float = RIDGE,
) -> Iterator[float | Mended]:
    """Repair a pruned network in closed form; yields the share that is done, 0..1, and last what came of it.

    `images` are the training images (None: the data set's). The first of them are fitted to, see `refit_steps`; the
    last (1,000, a fifth where there are few) are held out: where the repaired network is right about fewer of
    those than the recalibrated one, that one is what comes back, and says so. The last few results are remembered.
    Stop iterating to cancel.

    Raises FpgmError where there are no images here, or too few, or where the masks leave nothing.
    """
    images = load_images(network.dataset, "train") if images is None else images
    if len(images) < 2:
        raise FpgmError(f"repair needs images to fit to and others to watch, and {images.name} has {len(images)}")
    digest = hashlib.sha256(b"".join(np.packbits(keep_masks[name]).tobytes() for name in sorted(keep_masks)))
    key = (network.fingerprint, digest.hexdigest(), tuple(sorted(keep_masks)), calibration,
           images.pixels.data_ptr(), len(images), images.mean, images.std, str(device), ridge)  # fmt: skip
    found = _recall(key)
    if found is None:
        found = yield from finished(_repaired(network, keep_masks, calibration, images, device, ridge))
        _remember(key, (found, images))
    yield found


def repair(network: Network, keep_masks: Mapping[str, np.ndarray], **more: Any) -> Mended:
    """The repaired network, all at once. See `repair_steps`, whose other arguments are `more`."""
    *_, found = repair_steps(network, keep_masks, **more)
    assert isinstance(found, Mended)
    return found


def _repaired(
    network: Network,
    keep_masks: Mapping[str, np.ndarray],
    calibration: CalibrationConfig,
    images: ImageSet,
    device: torch.device,
    ridge: float,
) -> Iterator[float | Mended]:
    held = min(WATCHED, max(1, len(images) // 5))
    watched = replace(images, pixels=images.pixels[-held:], labels=images.labels[-held:]).to(device)
    rest = images.first(len(images) - held)
    fitted = rest.first(images_that_fit(network, min(calibration.num_images, len(rest)))).to(device)
    tensors = yield from finished(refit_steps(network, keep_masks, fitted, calibration, ridge), 0, 0.7)
    repaired = Mended("repaired", keep_masks, tensors, len(fitted), held)
    right = {"repaired": _right(repaired.compact(network, aligned=True), watched)}
    plain = compact_module(network.module, network.flow, keep_masks, aligned=True)
    training = images.first(min(IMAGES, len(images))).to(device)
    for seen in recalibrate(to_device(plain, device), training):
        yield 0.8 + 0.2 * seen / len(training) if seen < len(training) else 0.99
    right["recalibrated"] = _right(plain, watched)
    if right["repaired"] >= right["recalibrated"]:
        yield replace(repaired, right=right)
        return
    masked = to_device(masked_module(network.module, network.flow, keep_masks), device)
    for _ in recalibrate(masked, training):
        yield 0.99
    norms = {name: tensor.cpu() for name, tensor in masked.named_buffers() if ".running_" in f".{name}"}
    yield Mended("recalibrated", keep_masks, norms, len(training), held, right)


def _right(module: nn.Module, images: ImageSet) -> int:
    """How many of the images a network classifies rightly, in float32."""
    device = images.pixels.device
    network = to_device(module, device)

    def count(piece: tuple[int, int]) -> int:
        with torch.inference_mode():
            answers = network(images.normalised(*piece)).argmax(1)
        return int((answers == images.labels[slice(*piece)]).sum())

    with FORWARD_LOCK:
        return sum(each(count, split(0, len(images), batch_size(images), device), device))


_HELD: OrderedDict[Hashable, tuple[Mended, ImageSet]] = OrderedDict()  # the images, so that their address stays
_HELD_LOCK = threading.Lock()


def _recall(key: Hashable) -> Mended | None:
    with _HELD_LOCK:
        if key in _HELD:
            _HELD.move_to_end(key)
            return _HELD[key][0]
    return None


def _remember(key: Hashable, entry: tuple[Mended, ImageSet]) -> None:
    with _HELD_LOCK:
        _HELD[key] = entry
        while len(_HELD) > _REMEMBERED:
            _HELD.popitem(last=False)


_MENDERS: Mapping[str, Callable[..., Iterator[float | Mended]]] = {
    "merged": lambda network, masks, images, device: iter([merge(network, masks)]),
    "repaired": lambda network, masks, images, device: repair_steps(network, masks, images=images, device=device),
}


def mended_steps(
    network: Network,
    keep_masks: Mapping[str, np.ndarray],
    rung: str,
    images: ImageSet | None = None,
    device: torch.device = torch.device("cpu"),
) -> Iterator[float | Mended]:
    """A pruned network on a rung that replaces more than norm statistics: "merged" or "repaired"; as `repair_steps`."""
    return _MENDERS[get_recovery_method(rung).name](network, keep_masks, images, device)


def mends(rung: str) -> bool:
    """Whether a rung replaces weights."""
    return get_recovery_method(rung).name in _MENDERS
