"""Local search on measured accuracy: what the predicted losses leave open, the choose half decides.

A move takes more filters, or fewer, from one unit or from one stage, holds those, and puts the others right for the
goal at the least predicted loss; where every such move is known, from two at once. The plan is measured, recovered, on
a few images of the choose half; where it is not behind there, on more; and it is kept where it is ahead. Processes that
share a study search together.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from fpgm_core.allocation.goals import COSTS, Goal
from fpgm_core.allocation.losses import Losses
from fpgm_core.allocation.solver import Problem, put_right
from fpgm_core.allocation.suggestion import Prepared, SuggestConfig, Suggestion, suggestion_as, suggestion_of
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import History, Interval, Measurement, kept_measure_work
from fpgm_core.pruning import Plan, PrunedNetwork, stage_of
from fpgm_core.runtime.progress import Progress, Work, behind, run
from fpgm_core.runtime.shared import SharedStudy

SECONDS = 180.0
_COARSE, _FINE = (-0.25, -0.1, 0.1, 0.25), (-0.04, 0.04)  # shares of a unit's filters: fine once coarse is exhausted
_PAIRS = 200  # moves of two at once drawn until one is new

_Shift = tuple[frozenset[str], float]  # units, and the share of each one's filters that is pruned more


@dataclass(frozen=True)
class SearchConfig:
    """How to search: for `seconds`, or until `trials` plans are measured; networks stand on the rung `method`.

    `sample` images of the choose half sort out, `more` decide; `seed` draws the moves.
    """

    seconds: float = SECONDS
    trials: int | None = None
    method: str = "recalibrated"
    sample: int = 500
    more: int = 2000
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Found:
    """What a search came to: the best suggestion and the one it began with, measured; how many plans it measured."""

    best: Suggestion
    start: Suggestion
    num_measured: int

    @property
    def gain(self) -> Interval:
        """The best's accuracy minus the start's, on the images that chose it: optimistic; the sealed half tells."""
        assert self.best.measurement is not None
        assert self.start.measurement is not None
        return self.best.measurement.against(self.start.measurement)


def search_work(
    prepared: Prepared,
    goal: Goal,
    choose: ImageSet,
    training: ImageSet,
    *,
    search: SearchConfig = SearchConfig(),
    config: SuggestConfig = SuggestConfig(),
    history: History | None = None,
    together: str | None = None,
) -> Work[Found]:
    """Search from the solved plan; once that is measured each Progress has the Found so far: stop at any time, keep it.

    With a `history`, whatever is measured on all its images is kept there. With `together`, the URL of a data base, or
    "" for one in `FPGM_HOME`, processes that search the same, with seeds of their own, measure no plan twice and go on
    from the best of all, see `SharedStudy`. Raises FpgmError without predicted losses.
    """
    if prepared.losses is None:
        raise FpgmError("a search needs predicted losses; prepare it with an allocator that reads some")
    session = _Search(prepared, prepared.losses, goal, choose, training, search, config, history)
    return session.work(together)


class _Search:
    """One search under way."""

    def __init__(
        self,
        prepared: Prepared,
        losses: Losses,
        goal: Goal,
        choose: ImageSet,
        training: ImageSet,
        search: SearchConfig,
        config: SuggestConfig,
        history: History | None,
    ) -> None:
        self._prepared, self._losses, self._goal, self._training = prepared, losses, goal, training
        self._network = prepared.choices.network
        self._images = choose.first(min(search.more, len(choose)))
        self._sample = choose.first(min(search.sample, len(self._images)))
        self._search, self._config, self._history = search, config, history
        self._random = np.random.RandomState(search.seed)
        self._costs = tuple(COSTS[name].of(prepared.choices) for name in goal.cuts)
        self._seen: set[str] = set()
        self._recovered: tuple[str, PrunedNetwork] | None = None  # the last one, with its plan's key
        self._measured = 0
        self._study = self._name()

    def _name(self) -> str:
        """What those who search together have in common."""
        choices = self._prepared.choices
        common = [
            choices.network.identity, choices.like.to_json(), choices.network.scores_digest(choices.like.criterion),
            sorted(self._goal.cuts.items()), self._images.digest, self._training.digest, self._search.method,
            self._losses.name,
        ]  # fmt: skip
        return f"search {hashlib.sha256(json.dumps(common).encode()).hexdigest()[:24]}"

    def work(self, together: str | None) -> Work[Found]:
        """The whole search."""
        begun = time.monotonic()
        study = None if together is None else SharedStudy(self._study, together or None)
        start = suggestion_of(self._prepared, self._goal, self._config)
        first = yield from self._measure(start.pruned, self._images, Progress(0.0, what="measuring the first plan"))
        start = best = replace(start, measurement=first)
        while (share := self._share(time.monotonic() - begun)) < 1:
            so_far = Found(best, start, self._measured)
            progress = Progress(share, what=f"{self._measured} plans measured", partial=so_far)
            yield progress
            if study is not None:
                best = self._best_of_all(best, study.results())
            pruned = self._new(best)
            if pruned is None:
                break
            plan = pruned.plan.to_json()
            if study is None:
                best = self._better(best, plan, (yield from self._judged(best, plan, progress)))
            else:
                self._seen.add(pruned.plan.key)
                study.offer([plan])  # what another left undone may be taken before it
                study.take(partial(self._judged_at_once, best))
        return Found(best if study is None else self._best_of_all(best, study.results()), start, self._measured)

    def _share(self, seconds: float) -> float:
        by_time = seconds / self._search.seconds
        return by_time if self._search.trials is None else self._measured / self._search.trials

    def _measure(self, pruned: PrunedNetwork, images: ImageSet, progress: Progress) -> Work[Measurement]:
        key, last = pruned.plan.key, self._recovered

        def keep(recovered: PrunedNetwork) -> None:
            self._recovered = key, recovered

        work = kept_measure_work(
            pruned, images, method=self._search.method, training=self._training, config=self._config.evaluation,
            recovered=last[1] if last is not None and last[0] == key else None, keep=keep,
        )  # fmt: skip
        measured = yield from behind(work, progress)
        self._seen.add(key)
        if len(images) == len(self._images):
            self._measured += 1
            if self._history is not None:
                self._history.add(pruned, images, measured, study=self._study)
        return measured

    def _judged_at_once(self, best: Suggestion, plan: str) -> dict[str, Any]:
        return run(self._judged(best, plan, Progress(0.0)))

    def _judged(self, best: Suggestion, plan: str, progress: Progress) -> Work[dict[str, Any]]:
        """What was counted of a plan, JSON; nothing where it is behind the best on few images."""
        assert best.measurement is not None
        pruned, few = self._network.prune(Plan.from_json(plan)), len(self._sample)
        if few < len(self._images):
            sample = yield from self._measure(pruned, self._sample, progress)
            if sample.num_correct < best.measurement.right[:few].sum():
                self._measured += 1
                return {}
        measured = yield from self._measure(pruned, self._images, progress)
        assert measured.answers is not None
        return {
            "num_correct": measured.num_correct,
            "num_both_correct": measured.num_both_correct,
            "answers": measured.answers.hex(),
        }

    def _best_of_all(self, best: Suggestion, results: Mapping[str, Mapping[str, Any]]) -> Suggestion:
        """The best that anybody who searches together has measured."""
        self._seen |= {Plan.from_json(plan).key for plan in results}
        for plan, counted in results.items():
            best = self._better(best, plan, counted)
        return best

    def _better(self, best: Suggestion, plan: str, counted: Mapping[str, Any]) -> Suggestion:
        """A plan, JSON, with what was counted of it where that is ahead of the best; else the best."""
        assert best.measurement is not None
        if counted.get("num_correct", 0) <= best.measurement.num_correct:
            return best
        measured = replace(
            best.measurement,
            num_correct=counted["num_correct"],
            num_both_correct=counted["num_both_correct"],
            answers=bytes.fromhex(counted["answers"]),
        )
        pruned = self._network.prune(Plan.from_json(plan))
        suggestion = suggestion_as(self._prepared, self._goal, self._config, pruned)
        return replace(suggestion, measurement=measured)

    def _new(self, best: Suggestion) -> PrunedNetwork | None:
        """A plan one move from the best that meets the goal and is not known yet; None where none is found."""
        counts = {name: int((~mask).sum()) for name, mask in best.pruned.keep_masks.items()}
        for shifts in self._moves():
            try:
                pruned = self._moved(counts, shifts)
            except FpgmError:  # nothing that the others can do meets the goal
                continue
            if pruned.plan.key in self._seen or not self._goal.met(pruned):
                continue
            return pruned
        return None

    def _moves(self) -> Iterator[tuple[_Shift, ...]]:
        names = [one.unit.name for one in self._prepared.choices.units]
        stages = list(dict.fromkeys(map(stage_of, names)))
        groups = [frozenset([name]) for name in names]
        groups += [frozenset(name for name in names if stage_of(name) == stage) for stage in stages]
        coarse, fine = ([(group, share) for group in groups for share in shares] for shares in (_COARSE, _FINE))
        for moves in (coarse, fine):
            for place in self._random.permutation(len(moves)):
                yield (moves[place],)
        for _ in range(_PAIRS if len(coarse) > 1 else 0):
            first, second = self._random.choice(len(coarse), 2, replace=False)
            yield coarse[first], coarse[second]

    def _moved(self, counts: dict[str, int], shifts: Sequence[_Shift]) -> PrunedNetwork:
        """The units of each group with so much more of their filters pruned, and the others put right for the goal."""
        choices, start = self._prepared.choices, self._prepared.choices.nearest(counts)
        low, high = choices.least, choices.most
        for (place, one), (group, share) in product(enumerate(choices.units), shifts):
            if one.unit.name in group:
                step = np.sign(share) * max(1, round(abs(share) * one.unit.size))
                low[place] = high[place] = np.abs(one.counts - (one.counts[start[place]] + step)).argmin()
        held = choices.between(low, high)
        rows = tuple(row[a : b + 1] for row, a, b in zip(self._losses.by_unit, low, high, strict=True))
        problem = Problem(Losses(self._losses.name, held, rows), self._costs, self._goal.limits(choices))
        return self._network.prune(held.plan(put_right(problem, np.clip(start, low, high) - low)))
