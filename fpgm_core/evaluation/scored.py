"""A metric of one's own: whatever a function says of every image, of the pruned network and of the dense one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation.intervals import Interval, bootstrap_mean
from fpgm_core.inference import usual_batch
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.runtime.device import choose_device, to_device
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import Progress, Work, timed

Score = Callable[[nn.Module, Any], Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoredMeasurement:
    """What a metric says of a pruned network so far, image by image, beside the dense one on the same images.

    `scores` and `dense_scores` are float64 (num_images,); `state` is "measuring" or "exact". Intervals are the
    bootstrap's, 95%, on the same images for both networks. `method`, `recovery_images` and `notice` say what the
    network stands on, as in Measurement.
    """

    state: str
    scores: np.ndarray = field(repr=False)
    dense_scores: np.ndarray = field(repr=False)
    device: str
    seconds: float
    method: str = "as_is"
    recovery_images: int = 0
    notice: str | None = None

    @property
    def num_images(self) -> int:
        """How many images were scored."""
        return len(self.scores)

    @cached_property
    def score(self) -> Interval:
        """The mean score, with the bootstrap's 95% interval."""
        return bootstrap_mean(self.scores)

    @cached_property
    def dense_score(self) -> Interval:
        """The dense network's mean score on the same images."""
        return bootstrap_mean(self.dense_scores)

    @cached_property
    def change(self) -> Interval:
        """The mean score minus the dense network's, paired image by image."""
        return bootstrap_mean(self.scores - self.dense_scores)

    def against(self, other: ScoredMeasurement) -> Interval:
        """This mean score minus another's on the same images, paired. Raises FpgmError where they differ in number."""
        if self.num_images != other.num_images:
            raise FpgmError(f"{self.num_images} and {other.num_images} images cannot be paired; score the same images")
        return bootstrap_mean(self.scores - other.scores)


def scored_work(
    pruned: PrunedNetwork, images: ImageSet | Iterable[Any], score: Score, *, device: str = "auto"
) -> Work[ScoredMeasurement]:
    """Score a pruned network as it is, and the dense one, batch by batch, in float32.

        def dice(model, batch):
            x, masks = batch
            return 1 - overlap_loss(model(x)["out"], masks, reduction="none").mean((1, 2))

        evaluate(pruned, loader, score=dice)

    `images` are an ImageSet, whose batches are (images (B, C, H, W) normalised, labels (B,)), or anything that yields
    batches, a DataLoader say; their tensors are moved to `device`. `score` gets a network in eval mode and a batch, and
    returns a number an image; where the network is part of another, a detector's backbone, it gets the whole. A
    Progress has the ScoredMeasurement so far as its `partial`.

    Raises FpgmError for a network without trained weights, no images, and scores that are not finite, one an image.
    """
    if not pruned.network.trained:
        raise FpgmError(f"cannot evaluate: {pruned.network.notice}")
    place = choose_device(device)
    return timed(_scored_work(pruned, images, score, place))


def _scored_work(
    pruned: PrunedNetwork, images: ImageSet | Iterable[Any], score: Score, device: torch.device
) -> Work[ScoredMeasurement]:
    start = time.perf_counter()
    networks = [to_device(part.whole(), device).eval() for part in (pruned, pruned.network.prune(0.0))]
    batches, total = _batches(images, device), _number(images, device)
    found: list[tuple[np.ndarray, np.ndarray]] = []

    def reached(state: str) -> ScoredMeasurement:
        scores, dense_scores = (np.concatenate(part) for part in zip(*found, strict=True))
        return ScoredMeasurement(
            state=state,
            scores=scores,
            dense_scores=dense_scores,
            device=device.type,
            seconds=time.perf_counter() - start,
            method=pruned.method,
            recovery_images=pruned.recovered_on,
            notice=pruned.notice,
        )

    for number, batch in enumerate(batches, 1):
        with FORWARD_LOCK, torch.inference_mode():
            scores, dense_scores = (_one_an_image(score(network, batch)) for network in networks)
        if len(scores) != len(dense_scores):
            raise FpgmError(f"score gave {len(scores)} and {len(dense_scores)} numbers for a batch; give one an image")
        found.append((scores, dense_scores))
        yield Progress(number, total or number + 1, f"batch {number:,}", partial=reached("measuring"))
    if not found:
        raise FpgmError("there are no images to score; give an ImageSet, or a DataLoader that is not used up")
    return reached("exact")


def _batches(images: ImageSet | Iterable[Any], device: torch.device) -> Iterator[Any]:
    if not isinstance(images, ImageSet):
        return (_moved(batch, device) for batch in images)
    size = usual_batch((device.type, torch.float32), images)
    return (_moved(batch, device) for batch in images.batches(size))


def _number(images: ImageSet | Iterable[Any], device: torch.device) -> int | None:
    """How many batches there will be; None where nobody knows."""
    if isinstance(images, ImageSet):
        return -(-len(images) // usual_batch((device.type, torch.float32), images))
    try:
        return len(images)  # type: ignore[arg-type]
    except TypeError:
        return None


def _moved(value: Any, device: torch.device) -> Any:
    """A batch with its tensors on the device, however they are nested."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(part, device) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [_moved(part, device) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _one_an_image(scores: Any) -> np.ndarray:
    """What a metric returned, as float64 (B,). Raises FpgmError for anything but finite numbers in a row."""
    values = scores.detach().cpu().double().numpy() if isinstance(scores, Tensor) else np.asarray(scores, np.float64)
    if values.ndim != 1 or not len(values):
        raise FpgmError(f"score gave {values.shape} for a batch; return a number an image, of shape (B,)")
    if not np.isfinite(values).all():
        raise FpgmError("score gave a number that is not finite; leave such images out, or give them a value")
    return values
