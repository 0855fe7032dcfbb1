"""What a contest of criteria found: which images each got right on each rung, and what may be said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from fpgm_core.errors import FpgmError
from fpgm_core.evaluation.intervals import Interval, change_between, wilson

RANDOM = "random"


@dataclass(frozen=True, eq=False)
class Entry:
    """One criterion's plan, measured on every rung; `seed` is the random control's, None for the others.

    `macs` are those that the plan leaves, as counted. `hits` says by rung which images were classified rightly, bool
    (images,). `given_up` names the rungs at which a repair did worse than recalibration on held-out training images,
    so that the recalibrated network was measured in its place.
    """

    criterion: str
    seed: int | None
    macs: int
    hits: Mapping[str, np.ndarray]
    given_up: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        views = {rung: found.view() for rung, found in self.hits.items()}
        for view in views.values():
            view.setflags(write=False)
        object.__setattr__(self, "hits", MappingProxyType(views))

    def correct(self, rung: str) -> int:
        """How many images were classified rightly. Raises FpgmError for a rung that was not measured."""
        return int(np.count_nonzero(self.right(rung)))

    def right(self, rung: str) -> np.ndarray:
        """Which images were, bool (images,). Raises FpgmError for a rung that was not measured."""
        if rung not in self.hits:
            raise FpgmError(f"rung {rung!r} was not measured; choose one of {', '.join(self.hits)}")
        return self.hits[rung]


@dataclass(frozen=True)
class Ranking:
    """The criteria on one rung, most right answers first; equals stand in the order they were entered in.

    `accuracies` are in that order, with Wilson's intervals. `changes` maps (first, second) to the accuracy of the
    first minus the second's, paired, for every two. Each interval is of 95% by itself: the more pairs are looked at,
    the more of them exclude 0 by chance.
    """

    rung: str
    criteria: tuple[str, ...]
    accuracies: tuple[Interval, ...]
    changes: Mapping[tuple[str, str], Interval]

    def parted(self, first: str, second: str) -> bool:
        """Whether the paired interval of two criteria excludes 0: only then is one of them better.

        Raises FpgmError for a criterion that is not ranked.
        """
        if (first, second) not in self.changes:
            raise FpgmError(f"{first} and {second} are not two of {', '.join(self.criteria)}")
        return self.changes[first, second].excludes_zero

    @property
    def neighbours(self) -> tuple[Interval, ...]:
        """Each criterion's accuracy minus the next one's, paired: one fewer than there are criteria."""
        return tuple(self.changes[pair] for pair in zip(self.criteria, self.criteria[1:], strict=False))

    @property
    def leaders(self) -> tuple[str, ...]:
        """The first, and those whose paired interval against it includes 0: any of these may be the best."""
        first, *others = self.criteria
        return (first, *(name for name in others if not self.changes[first, name].excludes_zero))


@dataclass(frozen=True, eq=False)
class Contest:
    """Criteria at equal MACs on the same first `images` of a split, each on each rung; `rate` is every unit's.

    The entries of `random` are one a seed, the others one a criterion.
    """

    model: str
    fingerprint: str
    rate: float
    coupling: str
    split: str
    images: int
    entries: tuple[Entry, ...]

    @property
    def rungs(self) -> tuple[str, ...]:
        """The rungs that were measured, in the ladder's order as it was asked for."""
        return tuple(self.entries[0].hits) if self.entries else ()

    @property
    def criteria(self) -> tuple[str, ...]:
        """The criteria that were entered, without the random control."""
        return tuple(entry.criterion for entry in self.entries if entry.criterion != RANDOM)

    @property
    def random(self) -> tuple[Entry, ...]:
        """The random control's entries, one a seed."""
        return tuple(entry for entry in self.entries if entry.criterion == RANDOM)

    def entry(self, criterion: str, seed: int | None = None) -> Entry:
        """A criterion's entry. Raises FpgmError where it was not entered."""
        for entry in self.entries:
            if (entry.criterion, entry.seed) == (criterion, seed):
                return entry
        who = criterion if seed is None else f"{criterion} with seed {seed}"
        raise FpgmError(
            f"{who} is not in this contest of {', '.join(self.criteria)} and {len(self.random)} random draws"
        )

    def accuracy(self, entry: Entry, rung: str) -> Interval:
        """An entry's accuracy on a rung with Wilson's 95% interval, fractions in 0..1."""
        return wilson(entry.correct(rung), self.images)

    def change(self, first: Entry, second: Entry, rung: str) -> Interval:
        """The first entry's accuracy minus the second's on a rung, paired, with Newcombe's 95% interval."""
        return change_between(first.right(rung), second.right(rung))

    def ranking(self, rung: str) -> Ranking:
        """The criteria by right answers on a rung, with what may be said of every two; the control is not ranked."""
        entries = [entry for entry in self.entries if entry.criterion != RANDOM]
        entries.sort(key=lambda entry: -entry.correct(rung))
        changes = {
            (first.criterion, second.criterion): self.change(first, second, rung)
            for first in entries
            for second in entries
            if first is not second
        }
        accuracies = tuple(self.accuracy(entry, rung) for entry in entries)
        return Ranking(rung, tuple(entry.criterion for entry in entries), accuracies, MappingProxyType(changes))

    def against_random(self, criterion: str, rung: str) -> tuple[Interval, ...]:
        """A criterion's accuracy minus the random control's, paired: an interval for each of its seeds."""
        entry = self.entry(criterion)
        return tuple(self.change(entry, control, rung) for control in self.random)
