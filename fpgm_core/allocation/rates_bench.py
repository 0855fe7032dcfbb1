"""Ours against the best known tools: one checkpoint, the same images, at the same MACs, on the same rungs.

What is compared is which filters of which layers were chosen: every plan is recovered by our methods. Of every rival
the cheap rung is measured; the dearer one of those that were best on it. The best rival is chosen on choose, as ours
is, and the verdict is measured on sealed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fpgm_core.allocation.goals import Goal
from fpgm_core.allocation.rivals import OURS, RIVALS, CannotCut, Cutter, Rival, solved
from fpgm_core.allocation.suggestion import SuggestConfig, prepared_work
from fpgm_core.data import ImageSet
from fpgm_core.evaluation import Interval, Measurement, kept_measure_work
from fpgm_core.evaluation.compare import holm, mcnemar
from fpgm_core.pruning import Network, PrunedNetwork
from fpgm_core.runtime.progress import Progress, Work, run, within

CUTS = (0.3, 0.5, 0.7)
RUNGS = ("recalibrated", "repaired")
SURVIVORS = 4
_HEAD = """# Which filters of which layers: ours against the best tools

Made by `fpgm bench rates --sealed --out docs/rates`; every match is in `rates.csv`. One checkpoint, the same images, at
least the MACs that were asked for, every plan recovered by our methods. Of every rival the first rung is measured on
choose, of the best of them the next; the best rival on choose is then measured on sealed beside ours. Intervals are
paired (Newcombe, 95%), p is McNemar's, adjusted over all lines (Holm).
"""


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


@dataclass(frozen=True)
class Verdict:
    """Ours minus the best rival at one cut on one rung, on the same images; `p` is McNemar's.

    `ours` and `theirs` are right answers in all `num_images`.
    """

    model: str
    coupling: str
    cut: float
    rung: str
    rival: str
    ours: int
    theirs: int
    num_images: int
    change: Interval
    p: float


@dataclass(frozen=True, eq=False)
class RatesBench:
    """All matches of one network under one coupling."""

    model: str
    coupling: str
    matches: tuple[Match, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Ours against the best of all rivals, for every cut and rung: on sealed, where that was measured."""
        found = []
        for cut, rung in dict.fromkeys((one.cut, one.rung) for one in self.matches):
            here = {one.contender: one for one in self.matches if (one.cut, one.rung) == (cut, rung)}
            rival, ours = best_rival(here), here.get(OURS)
            if rival is None or ours is None or ours.measurement is None:
                continue
            best = here[rival]
            pair = (ours.sealed, best.sealed) if ours.sealed and best.sealed else (ours.measurement, best.measurement)
            mine, other = pair
            assert other is not None
            found.append(
                Verdict(
                    self.model, self.coupling, cut, rung, rival, mine.num_correct, other.num_correct,
                    mine.num_images, mine.against(other), mcnemar(other.right, mine.right),
                )
            )  # fmt: skip
        return tuple(found)


def best_rival(matches: Mapping[str, Match]) -> str | None:
    """Of the matches at one cut on one rung the rival with most right answers on choose; None where none could cut."""
    return next(iter(_ranked(matches)), None)


def _ranked(matches: Mapping[str, Match]) -> list[str]:
    """The rivals that could cut, most right answers first."""
    counts = {
        name: one.measurement.num_correct
        for name, one in matches.items()
        if name != OURS and one.measurement is not None
    }
    return sorted(counts, key=lambda name: -counts[name])


def adjusted(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """The same verdicts with p values adjusted over all of them (Holm, 1979)."""
    return tuple(replace(one, p=p) for one, p in zip(verdicts, holm([one.p for one in verdicts]), strict=True))


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
) -> Work[RatesBench]:
    """Measure our plan and the rivals' at each cut, rung after rung; each Progress has what is there so far.

    `images` are of the choose half. On every rung after the first only ours and the `survivors` best rivals of the rung
    before are measured. Where there are `sealed` images, ours and the best rival are measured on them too. What was
    measured before is read from `FPGM_HOME`: a bench that stopped goes on. Raises FpgmError where a rival's package is
    not there.
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
    bench = RatesBench(network.name, coupling, ())
    measured = _Measured(images, training, sealed, config)
    for place, cut in enumerate(cuts):
        done = 0.1 + 0.9 * place / len(cuts)
        pruned = dict[str, PrunedNetwork | None]()
        for name, cutter in cutters.items():
            yield Progress(done, what=f"{name} at {cut:.0%}", partial=bench)
            pruned[name] = _cut(cutter, cut)
        left = list(pruned)
        for rung in rungs:
            here = dict[str, Match]()
            for name in left:
                yield Progress(done, what=f"{name} at {cut:.0%}, {rung}", partial=bench)
                here[name] = measured.match(name, pruned[name], cut, rung)
            here = measured.with_finals(here, pruned)
            bench = replace(bench, matches=(*bench.matches, *here.values()))
            left = [OURS, *_ranked(here)[:survivors]]
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

    def with_finals(self, here: Mapping[str, Match], pruned: Mapping[str, PrunedNetwork | None]) -> dict[str, Match]:
        """The matches at one cut on one rung, with ours and the best rival measured on sealed."""
        rival, found = best_rival(here), dict(here)
        if self.sealed is not None and rival is not None:
            for name in (OURS, rival):
                network = pruned[name]
                if network is not None:
                    found[name] = replace(found[name], sealed=self._on(network, self.sealed, found[name].rung))
        return found

    def _on(self, pruned: PrunedNetwork, images: ImageSet, rung: str) -> Measurement:
        return run(
            kept_measure_work(pruned, images, method=rung, training=self.training, config=self.config.evaluation)
        )


def as_csv(benches: Sequence[RatesBench]) -> str:
    """Every match as a line of CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("model", "coupling", "cut", "rung", "contender", "reached", "choose_right", "choose_images", "sealed_right",
         "sealed_images")
    )  # fmt: skip
    for bench in benches:
        for one in bench.matches:
            counts = [
                (None, None) if found is None else (found.num_correct, found.num_images)
                for found in (one.measurement, one.sealed)
            ]
            reached = None if one.reached is None else f"{one.reached:.4f}"
            writer.writerow(
                (bench.model, bench.coupling, one.cut, one.rung, one.contender, reached, *counts[0], *counts[1])
            )
    return text.getvalue()


def as_markdown(benches: Sequence[RatesBench]) -> str:
    """The verdicts as a table, p values adjusted over all of them, and what they come to in a sentence."""
    verdicts = adjusted([one for bench in benches for one in bench.verdicts])
    titles = {rival.name: rival.title for rival in RIVALS}
    lines = [
        "| network | coupling | MACs cut | rung | ours | best rival | | ours - rival, points | p |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in verdicts:
        ours, theirs = (f"{count / one.num_images:.2%}" for count in (one.ours, one.theirs))
        lines.append(
            f"| {one.model} | {one.coupling} | {one.cut:.0%} | {one.rung} | {ours} | {theirs} | {titles[one.rival]} | "
            f"{one.change.told(100)} | {one.p:.2g} |"
        )
    return "\n".join([_HEAD, summary(verdicts), "", *lines, ""])


def summary(verdicts: Sequence[Verdict]) -> str:
    """In how many places ours is ahead, and in how many behind: by the paired interval and the adjusted p."""
    ahead = sum(one.change.low > 0 and one.p < 0.05 for one in verdicts)
    behind = sum(one.change.high < 0 and one.p < 0.05 for one in verdicts)
    return f"Ours is ahead of the best rival in {ahead} of {len(verdicts)} places, and behind in {behind}."
