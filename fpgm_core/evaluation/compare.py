"""Two networks on the very same images: what was forgotten, class by class and image by image.

Equal accuracy hides damage to single classes (Hooker et al., What Do Compressed Deep Neural Networks Forget?, 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from fpgm_core.data import Batch, ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation.accuracy import EvaluationConfig
from fpgm_core.evaluation.intervals import Interval, change_between
from fpgm_core.inference import compact_on, on_device, usual_batch
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.runtime.cores import each, split
from fpgm_core.runtime.device import choose_device
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import Progress, Work, within


def predictions_work(
    pruned: PrunedNetwork, images: ImageSet, config: EvaluationConfig = EvaluationConfig()
) -> Work[np.ndarray]:
    """The class that a pruned network names for each image, int (images,), in float32.

    Raises FpgmError for a network without trained weights, and one that does not answer with one tensor of logits.
    """
    if not pruned.network.trained:
        raise FpgmError(f"cannot compare answers: {pruned.network.notice}")
    if pruned.network.num_classes is None:
        raise FpgmError(f"{pruned.network.name} does not answer with one tensor of logits; wrap it in one that does")
    device = choose_device(config.device)
    module, resident = compact_on(pruned, device), on_device(images, device)

    def answer(piece: tuple[int, int]) -> torch.Tensor:
        with torch.inference_mode():
            return module(Batch(resident, *piece, device=device).normalised()).argmax(1)

    batch, found = usual_batch((device.type, torch.float32), images), list[torch.Tensor]()
    stride = 8 * batch
    for begin in range(0, len(images), stride):
        end = min(begin + stride, len(images))
        with FORWARD_LOCK:
            found += each(answer, split(begin, end, batch, device), device)
        yield Progress(end, len(images), "naming classes")
    return torch.cat(found).cpu().numpy()


@dataclass(frozen=True)
class ClassChange:
    """What happened to one class: its images, right answers before and after, the paired change and its interval.

    `p` is the exact McNemar test's, adjusted over all classes (Holm, 1979): under 0.05 this class truly changed, though
    ten were looked at.
    """

    name: str
    num_images: int
    num_before: int
    num_after: int
    change: Interval
    p: float

    @property
    def changed(self) -> bool:
        """Whether the change holds at 5% over all classes together."""
        return self.p < 0.05


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two networks' answers to the same images: classes named `before` and `after`, int (images,), and the `labels`."""

    before: np.ndarray
    after: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    @property
    def change(self) -> Interval:
        """Accuracy after minus before, with the paired 95% interval."""
        return change_between(self.after == self.labels, self.before == self.labels)

    @property
    def lost(self) -> np.ndarray:
        """The images that were right and are wrong now: their numbers, ascending."""
        return np.flatnonzero((self.before == self.labels) & (self.after != self.labels))

    @property
    def won(self) -> np.ndarray:
        """The images that were wrong and are right now: their numbers, ascending."""
        return np.flatnonzero((self.before != self.labels) & (self.after == self.labels))

    @cached_property
    def by_class(self) -> tuple[ClassChange, ...]:
        """Every class that has images, in their order."""
        there = [number for number in range(len(self.class_names)) if (self.labels == number).any()]
        rights = [
            (self.before[self.labels == number] == number, self.after[self.labels == number] == number)
            for number in there
        ]
        adjusted = holm([mcnemar(before, after) for before, after in rights])
        return tuple(
            ClassChange(
                self.class_names[number], len(before), int(before.sum()), int(after.sum()),
                change_between(after, before), p,
            )
            for number, (before, after), p in zip(there, rights, adjusted, strict=True)
        )  # fmt: skip

    def confusion(self, after: bool = True) -> np.ndarray:
        """How often images of class i (rows) were named class j (columns), int (classes, classes)."""
        count = len(self.class_names)
        table = np.zeros((count, count), dtype=int)
        np.add.at(table, (self.labels, self.after if after else self.before), 1)
        return table


def compare_work(
    networks: Sequence[PrunedNetwork], images: ImageSet, config: EvaluationConfig = EvaluationConfig()
) -> Work[tuple[Comparison, ...]]:
    """Every network after the first against the first, on the same images.

    The networks are as they are: recover them before. Raises FpgmError for fewer than two, and as `predictions_work`.
    """
    if len(networks) < 2:
        raise FpgmError("a comparison needs at least two networks; the dense one, network.prune(0), may be one")
    found = []
    for place, pruned in enumerate(networks):
        work = predictions_work(pruned, images, config)
        found.append((yield from within(work, place / len(networks), (place + 1) / len(networks))))
    labels, names = images.labels.cpu().numpy(), images.class_names
    return tuple(Comparison(found[0], after, labels, names) for after in found[1:])


def filters_that_differ(first: PrunedNetwork, second: PrunedNetwork) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By layer, the filters that only the first keeps and those that only the second keeps; layers alike left out.

    Raises FpgmError for networks of other weights.
    """
    if first.plan.fingerprint != second.plan.fingerprint:
        raise FpgmError("the two plans are for other networks; compare plans of one network")
    found = {}
    for layer in dict.fromkeys([*first.keep_masks, *second.keep_masks]):
        masks = [one.keep_masks.get(layer) for one in (first, second)]
        size = next(len(mask) for mask in masks if mask is not None)
        one, other = (np.ones(size, dtype=bool) if mask is None else mask for mask in masks)
        if (one != other).any():
            found[layer] = np.flatnonzero(one & ~other), np.flatnonzero(other & ~one)
    return found


def mcnemar(before: np.ndarray, after: np.ndarray) -> float:
    """The exact two-sided McNemar test of a change between right answers, bool (images,) each: its p."""
    return mcnemar_of_counts(int((before & ~after).sum()), int((after & ~before).sum()))


def mcnemar_of_counts(worse: int, better: int) -> float:
    """`mcnemar`, from how many images only the one classifies rightly, and only the other."""
    from scipy.stats import binomtest

    return float(binomtest(worse, worse + better, 0.5).pvalue) if worse + better else 1.0


def holm(ps: Sequence[float]) -> tuple[float, ...]:
    """p values adjusted for how many there are: the smallest times n, the next times n - 1, ascending, at most 1."""
    order = np.argsort(ps, kind="stable")
    scaled = np.array(ps, dtype=float)[order] * np.arange(len(ps), 0, -1)
    adjusted = np.empty(len(ps))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return tuple(map(float, adjusted))
