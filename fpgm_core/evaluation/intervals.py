"""Confidence intervals for accuracies and for changes measured on the same images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fpgm_core.errors import FpgmError

Z95 = 1.959963984540054
_DRAWN_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Interval:
    """A measured value with its 95% confidence limits."""

    value: float
    low: float
    high: float

    def told(self, scale: float = 1.0) -> str:
        """The value with its limits, times `scale`, the lower end first whatever its sign: "+0.42 [−0.31, +1.15]"."""
        value, (low, high) = scale * self.value, sorted((scale * self.low, scale * self.high))
        return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]".replace("-", "−")

    @property
    def percent(self) -> str:
        """A fraction with its limits: "91.55% [91.0%, 92.1%]"."""
        return f"{self.value:.2%} [{self.low:.1%}, {self.high:.1%}]"

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of 0."""
        return self.low > 0 or self.high < 0


def wilson(correct: int, images: int) -> Interval:
    """Wilson's score interval (1927) for an accuracy of `correct` out of `images`, fractions in 0..1.

    For the first n images of a split it covers the whole split's accuracy too, a little generously:
    the split is part of what the images were drawn from.
    """
    p, z2 = correct / images, Z95 * Z95
    centre = (p + z2 / (2 * images)) / (1 + z2 / images)
    half = Z95 / (1 + z2 / images) * math.sqrt(p * (1 - p) / images + z2 / (4 * images * images))
    return Interval(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))


def paired_change(both: int, only_new: int, only_old: int, neither: int) -> Interval:
    """The change of accuracy, new minus old, on the same images, with Newcombe's interval for paired proportions.

    The arguments count images that both networks classify rightly, only the new one, only the old one,
    and neither. Method 10 of Newcombe, Statistics in Medicine 17 (1998): Wilson's limits of the two
    accuracies, combined with their correlation.
    """
    n = both + only_new + only_old + neither
    new, old = wilson(both + only_new, n), wilson(both + only_old, n)
    phi = _correlation(both, only_new, only_old, neither, n)
    change = new.value - old.value

    def reach(first: float, second: float) -> float:
        return math.sqrt(max(0.0, first * first - 2 * phi * first * second + second * second))

    low = change - reach(new.value - new.low, old.high - old.value)
    high = change + reach(new.high - new.value, old.value - old.low)
    return Interval(change, max(-1.0, low), min(1.0, high))


def change_of_counts(correct: int, dense_correct: int, both_correct: int, images: int) -> Interval:
    """`paired_change` from how many of the `images` each of two networks classifies rightly, and both do."""
    only_new, only_old = correct - both_correct, dense_correct - both_correct
    return paired_change(both_correct, only_new, only_old, images - both_correct - only_new - only_old)


def change_between(new: np.ndarray, old: np.ndarray) -> Interval:
    """The change of accuracy from `old` to `new`, which images each classifies rightly, bool (images,); paired.

    Raises FpgmError where the numbers of images differ.
    """
    if len(new) != len(old):
        raise FpgmError(f"{len(new)} and {len(old)} images cannot be paired; measure both on the same images")
    both, only_new, only_old = (int(np.count_nonzero(which)) for which in (new & old, new & ~old, old & ~new))
    return paired_change(both, only_new, only_old, len(new) - both - only_new - only_old)


def bootstrap_mean(values: np.ndarray, *, draws: int = 2000, seed: int = 0) -> Interval:
    """The mean of `values` (N,) with the percentile bootstrap's 95% interval (Efron, 1979), from a seed.

    Differences of two scores of the same images give the paired interval. The images are what is drawn again: which
    ones depends on N and the seed alone, so that equal values have equal intervals.
    """
    rng, count = np.random.RandomState(seed), len(values)
    step = max(1, _DRAWN_AT_ONCE // count)
    means = np.concatenate(
        [values[rng.randint(0, count, (min(step, draws - begin), count))].mean(1) for begin in range(0, draws, step)]
    )
    mean, (low, high) = float(values.mean()), np.percentile(means, [2.5, 97.5])
    return Interval(mean, min(mean, float(low)), max(mean, float(high)))


def _correlation(both: int, only_new: int, only_old: int, neither: int, n: int) -> float:
    margins = (both + only_new) * (only_old + neither) * (both + only_old) * (only_new + neither)
    if margins == 0:
        return 0.0
    product: float = both * neither - only_new * only_old
    if product > 0:
        product = max(product - n / 2, 0)
    return product / math.sqrt(margins)
