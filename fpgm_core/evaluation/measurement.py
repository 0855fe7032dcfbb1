"""What was measured of one pruned network: right answers, with intervals and what they are paired with."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fpgm_core.errors import FpgmError
from fpgm_core.evaluation.intervals import Interval, change_between, change_of_counts, wilson


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What has been measured so far of one pruned network, beside the dense one on the same images.

    `state` is "provisional" (recovered on few training images, measured on few images), "measuring" (a running
    measurement) or "exact" (all that was asked for). `num_correct` and `num_dense_correct` count right answers among
    the first `num_images` images; `num_both_correct` those that both give. `num_total` images were asked for;
    `seconds` is the time since the measurement began. At most `batch` images were classified at once:
    `short_of_memory` where the device could not hold more. `lost_devices` failed in this process. `method` is the
    recovery method that the network stands on, `recovery_images` the training images that it read; `notice` is what
    must be said of the recovery. An exact measurement has `answers`: which of the images were classified rightly, as
    bits (`np.packbits`); others have None. `num_correct_top5` and `num_dense_correct_top5` count the images whose class
    is among the five that come first; None with ten classes or fewer.
    """

    state: str
    num_correct: int
    num_dense_correct: int
    num_both_correct: int
    num_images: int
    num_total: int
    device: str
    precision: str
    seconds: float
    batch: int
    short_of_memory: bool = False
    lost_devices: tuple[str, ...] = ()
    method: str = "as_is"
    recovery_images: int = 0
    notice: str | None = None
    num_correct_top5: int | None = None
    num_dense_correct_top5: int | None = None
    answers: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def accuracy(self) -> Interval:
        """The accuracy with Wilson's 95% interval, fractions in 0..1."""
        return wilson(self.num_correct, self.num_images)

    @property
    def dense_accuracy(self) -> Interval:
        """The dense network's accuracy on the same images."""
        return wilson(self.num_dense_correct, self.num_images)

    @property
    def top5(self) -> Interval | None:
        """The top-5 accuracy with Wilson's 95% interval; None with ten classes or fewer."""
        return None if self.num_correct_top5 is None else wilson(self.num_correct_top5, self.num_images)

    @property
    def dense_top5(self) -> Interval | None:
        """The dense network's top-5 accuracy on the same images."""
        return None if self.num_dense_correct_top5 is None else wilson(self.num_dense_correct_top5, self.num_images)

    @property
    def change(self) -> Interval:
        """Accuracy minus the dense network's on the same images, with the paired 95% interval."""
        return change_of_counts(self.num_correct, self.num_dense_correct, self.num_both_correct, self.num_images)

    @property
    def right(self) -> np.ndarray:
        """Which images were classified rightly, bool (num_images,). Raises FpgmError unless exact."""
        if self.answers is None:
            raise FpgmError(f"a {self.state} measurement does not say which images were right; wait for the exact one")
        return np.unpackbits(np.frombuffer(self.answers, np.uint8), count=self.num_images).astype(bool)

    def against(self, other: Measurement) -> Interval:
        """This accuracy minus another measurement's on the same images, with the paired 95% interval.

        Both must be of one image set. Raises FpgmError where either is not exact, or their images differ in number.
        """
        return change_between(self.right, other.right)

    def won_back(self, before: Measurement) -> float | None:
        """The share of what was lost `before`, on the same images, that is no longer lost; None where nothing was."""
        lost = before.dense_accuracy.value - before.accuracy.value
        return (self.accuracy.value - before.accuracy.value) / lost if lost > 0 else None
