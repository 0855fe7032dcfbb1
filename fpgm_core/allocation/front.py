"""The front: a dozen goals at once, each plan measured; what allocators come to beside each other at equal cost."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fpgm_core.allocation.goals import Goal
from fpgm_core.allocation.suggestion import Prepared, SuggestConfig, Suggestion, suggestion_of
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import History, measure_work
from fpgm_core.runtime.progress import Progress, Work, behind

STUDY = "front"  # what the studies of the points in a history begin with
CUTS = tuple(round(0.1 + 0.7 * step / 11, 3) for step in range(12))


@dataclass(frozen=True)
class FrontPoint:
    """One plan of the front: who allocated, what was asked, and the suggestion with its measurement."""

    allocator: str
    seed: int
    cut: float
    suggestion: Suggestion

    def to_dict(self) -> dict[str, Any]:
        """As plain data, the plan's rates among it."""
        measured = self.suggestion.measurement
        assert measured is not None
        cost, dense = self.suggestion.pruned.cost, self.suggestion.pruned.network.dense_cost
        return {
            "allocator": self.allocator, "seed": self.seed, "cut": self.cut, "rung": measured.method,
            "accuracy": measured.accuracy.value, "accuracy_low": measured.accuracy.low,
            "accuracy_high": measured.accuracy.high, "change": measured.change.value,
            "change_low": measured.change.low, "change_high": measured.change.high, "images": measured.num_images,
            "macs": cost.macs, "dense_macs": dense.macs, "params": cost.params, "dense_params": dense.params,
            "predicted": self.suggestion.predicted, "rates": dict(self.suggestion.plan.rates),
        }  # fmt: skip


@dataclass(frozen=True)
class Front:
    """The points measured so far, allocators in turn, cuts ascending; `total` were asked for.

    `impossible` holds allocator and cut of goals that cannot be met.
    """

    points: tuple[FrontPoint, ...]
    impossible: tuple[tuple[str, float], ...]
    total: int

    def as_csv(self) -> str:
        """The points as CSV, without their rates."""
        rows = [{name: value for name, value in one.to_dict().items() if name != "rates"} for one in self.points]
        text = io.StringIO()
        if rows:
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        return text.getvalue()


def front_work(
    prepared: Prepared,
    choose: ImageSet,
    training: ImageSet,
    *,
    cuts: Sequence[float] = CUTS,
    cost: str = "macs",
    allocators: Sequence[str] = ("solved",),
    seeds: int = 1,
    method: str = "recalibrated",
    config: SuggestConfig = SuggestConfig(),
    history: History | None = None,
) -> Work[Front]:
    """Allocate and measure for every cut, by each of the allocators, `random` with so many `seeds`.

    Each Progress has the front so far; stop iterating to stop. With a `history` every point is kept there, its study
    "front ALLOCATOR CUT", and what is there already is not measured again. Raises FpgmError as `measure_work` does; a
    cut that cannot be met is named in the front.
    """
    wanted = [
        (name, seed, cut)
        for name in allocators
        for seed in range(seeds if name == "random" else 1)
        for cut in sorted(set(cuts))
    ]
    points, impossible = list[FrontPoint](), list[tuple[str, float]]()
    for done, (name, seed, cut) in enumerate(wanted):
        so_far = Front(tuple(points), tuple(impossible), len(wanted))
        progress = Progress(done, len(wanted), f"{name}, {cut:.0%} cut", partial=so_far)
        yield progress
        try:
            suggestion = suggestion_of(prepared, Goal({cost: cut}), replace(config, allocator=name, seed=seed))
        except FpgmError:
            impossible.append((name, cut))
            continue
        known = history.find(suggestion.plan, method, choose) if history is not None else None
        if known is not None:
            measured = known.measurement
        else:
            work = measure_work(
                suggestion.pruned, choose, method=method, training=training, config=config.evaluation, preview=False,
                remember_late=False,
            )  # fmt: skip
            measured = yield from behind(work, progress)
        if history is not None:
            history.add(suggestion.pruned, choose, measured, study=f"{STUDY} {name} {cut:g}")
        points.append(FrontPoint(name, seed, cut, replace(suggestion, measurement=measured)))
    return Front(tuple(points), tuple(impossible), len(wanted))
