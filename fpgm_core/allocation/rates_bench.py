"""Ours against the best known tools: one checkpoint, the same images, at the same MACs, on the same rungs.

What is compared is which filters of which layers were chosen: every plan is recovered by our methods. Of every rival
the cheap rung is measured; the dearer one of those that were best on it. The best rival is chosen on choose, as ours
is, and the verdict is measured on sealed. With a search ours is not one plan but the best of many on choose, as the
rivals are, on each rung by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fpgm_core.allocation.goals import Goal
from fpgm_core.allocation.rates_table import Row, Verdict, ranked, verdicts_of
from fpgm_core.allocation.rivals import OURS, RIVALS, CannotCut, Cutter, Rival, solved
from fpgm_core.allocation.search import SearchConfig, search_work
from fpgm_core.allocation.suggestion import Prepared, SuggestConfig, prepared_work
from fpgm_core.data import ImageSet
from fpgm_core.evaluation import Measurement, kept_measure_work
from fpgm_core.pruning import Network, PrunedNetwork
from fpgm_core.runtime.progress import Progress, Work, behind, run, within

CUTS = (0.3, 0.5, 0.7)
RUNGS = ("recalibrated", "repaired")
SURVIVORS = 4


@dataclass(frozen=True, eq=False)
class Match:
    """One contender at one cut on one rung: what it really cut, and what was measured on choose; None where it cannot.

    `sealed` is measured of ours and of the best rival.
    """

    contender: str
    cut: float
    rung: str
    reached: float | None
    measurement: Measurement | None
    sealed: Measurement | None = None


@dataclass(frozen=True, eq=False)
class RatesBench:
    """All matches of one network under one coupling; `selection` says how ours was chosen."""

    model: str
    coupling: str
    selection: str
    matches: tuple[Match, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every match by counts."""
        ours = {(one.cut, one.rung): one for one in self.matches if one.contender == OURS}
        return tuple(self._row(one, ours.get((one.cut, one.rung))) for one in self.matches)

    def _row(self, one: Match, ours: Match | None) -> Row:
        selection = self.selection if one.contender == OURS else ""
        reached = None if one.reached is None else round(one.reached, 4)
        choose = _counts(one.measurement, ours.measurement if ours else None)
        sealed = _counts(one.sealed, ours.sealed if ours else None)
        return Row(self.model, self.coupling, one.cut, one.rung, one.contender, selection, reached, *choose, *sealed)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Ours against the best of all rivals, for every cut and rung: on sealed, where that was measured."""
        return verdicts_of(self.rows)


def _counts(found: Measurement | None, ours: Measurement | None) -> tuple[int | None, int | None, int | None]:
    """Right answers, of how many images, and how many of these ours has too."""
    if found is None:
        return None, None, None
    return found.num_correct, found.num_images, None if ours is None else int((found.right & ours.right).sum())


def rates_bench_work(
    network: Network,
    images: ImageSet,
    training: ImageSet,
    *,
    sealed: ImageSet | None = None,
    coupling: str = "coupled",
    criterion: str = "fpgm",
    cuts: Sequence[float] = CUTS,
    rungs: Sequence[str] = RUNGS,
    rivals: Sequence[Rival] = RIVALS,
    survivors: int = SURVIVORS,
    config: SuggestConfig = SuggestConfig(),
    search: SearchConfig | None = None,
) -> Work[RatesBench]:
    """Measure our plan and the rivals' at each cut, rung after rung; each Progress has what is there so far.

    `images` are of the choose half. On every rung after the first only ours and the `survivors` best rivals of the rung
    before are measured. With `search` ours is searched from the solved plan, on every rung anew. Where there are
    `sealed` images, ours and the best rival are measured on them too. What was measured before is read from
    `FPGM_HOME`: a bench that stopped goes on. Raises FpgmError where a rival's package is not there.
    """
    for cut in cuts:
        Goal({"macs": cut})  # what cannot be asked is refused at once
    like = network.plan(criterion=criterion, coupling=coupling)
    prepared = yield from within(prepared_work(network, training, like=like, config=config), 0, 0.1)
    cutters = dict[str, Cutter]()
    for rival in [solved(config), *rivals]:
        if not rival.models or network.name in rival.models:
            yield Progress(0.1, what=f"beginning {rival.name}")
            cutters[rival.name] = rival.begin(prepared, training)
    selection = [criterion, config.loss, *([] if search is None else [f"{search.trials} plans searched"])]
    bench = RatesBench(network.name, coupling, ", ".join(selection), ())
    measured = _Measured(images, training, sealed, config)
    for place, cut in enumerate(cuts):
        done = 0.1 + 0.9 * place / len(cuts)
        pruned = dict[str, PrunedNetwork | None]()
        for name, cutter in cutters.items():
            yield Progress(done, what=f"{name} at {cut:.0%}", partial=bench)
            pruned[name] = _cut(cutter, cut)
        left = list(pruned)
        for rung in rungs:
            if search is not None and pruned[OURS] is not None:
                progress = Progress(done, what=f"searching at {cut:.0%}, {rung}", partial=bench)
                work = measured.search(prepared, cut, replace(search, method=rung))
                pruned[OURS] = yield from behind(work, progress)
            here = dict[str, Match]()
            for name in left:
                yield Progress(done, what=f"{name} at {cut:.0%}, {rung}", partial=bench)
                here[name] = measured.match(name, pruned[name], cut, rung)
            best = [one.contender for one in ranked(replace(bench, matches=tuple(here.values())).rows)]
            here = measured.with_finals(here, pruned, best[:1])
            bench = replace(bench, matches=(*bench.matches, *here.values()))
            left = [OURS, *best[:survivors]]
    return bench


def _cut(cutter: Cutter, cut: float) -> PrunedNetwork | None:
    try:
        return cutter(cut)
    except CannotCut:
        return None


@dataclass(frozen=True)
class _Measured:
    """How matches are measured."""

    images: ImageSet
    training: ImageSet
    sealed: ImageSet | None
    config: SuggestConfig

    def match(self, name: str, pruned: PrunedNetwork | None, cut: float, rung: str) -> Match:
        if pruned is None:
            return Match(name, cut, rung, None, None)
        return Match(name, cut, rung, Goal({"macs": cut}).reached(pruned)["macs"], self._on(pruned, self.images, rung))

    def search(self, prepared: Prepared, cut: float, search: SearchConfig) -> Work[PrunedNetwork]:
        goal = Goal({"macs": cut})
        found = yield from search_work(prepared, goal, self.images, self.training, search=search, config=self.config)
        return found.best.pruned

    def with_finals(
        self, here: Mapping[str, Match], pruned: Mapping[str, PrunedNetwork | None], best: Sequence[str]
    ) -> dict[str, Match]:
        """The matches at one cut on one rung, with ours and the best rival, if any, measured on sealed."""
        found = dict(here)
        if self.sealed is not None and best:
            for name in (OURS, *best):
                network = pruned[name]
                if network is not None:
                    found[name] = replace(found[name], sealed=self._on(network, self.sealed, found[name].rung))
        return found

    def _on(self, pruned: PrunedNetwork, images: ImageSet, rung: str) -> Measurement:
        return run(
            kept_measure_work(pruned, images, method=rung, training=self.training, config=self.config.evaluation)
        )
