"""The table of `fpgm bench rates`: right answers of every contender, so that tables made apart can be joined.

A verdict follows from counts: how many images ours classifies rightly, the best rival, and both.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

from fpgm_core.allocation.rivals import OURS, RIVALS
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import Interval
from fpgm_core.evaluation.compare import holm, mcnemar_of_counts
from fpgm_core.evaluation.intervals import change_of_counts

_HEAD = """# Which filters of which layers: ours against the best tools

Made by `fpgm bench rates --sealed --out docs/rates`, which joins what it measures to what is there; every match is in
`rates.csv`. One checkpoint, the same images, at least the MACs that were asked for, every plan recovered by our
methods. Of every rival the first rung is measured on choose, of the best of them the next; the best rival on choose is
then measured on sealed beside ours. Ours is what was solved for, or with `--search` the best on choose of as many plans
as stand there, on each rung anew. Intervals are paired (Newcombe, 95%), p is McNemar's, adjusted over all lines (Holm).
"""


@dataclass(frozen=True)
class Row:
    """One contender at one cut on one rung, by right answers; None where nothing was measured.

    `selection` is of ours: its criterion, the loss that it was solved by, and how many plans were searched from there.
    `choose_both` and `sealed_both` count the images that ours classifies rightly too.
    """

    model: str
    coupling: str
    cut: float
    rung: str
    contender: str
    selection: str
    reached: float | None
    choose_right: int | None = None
    choose_images: int | None = None
    choose_both: int | None = None
    sealed_right: int | None = None
    sealed_images: int | None = None
    sealed_both: int | None = None

    @property
    def place(self) -> tuple[str, str, float, str]:
        """Network, coupling, cut and rung: within these contenders are compared."""
        return self.model, self.coupling, self.cut, self.rung

    @property
    def on_choose(self) -> tuple[object, ...]:
        """What ours must have in common for two tables of a place to be of one contest."""
        return self.selection, self.reached, self.choose_right, self.choose_images


_COUNTS = [field.name for field in fields(Row) if field.name.startswith(("choose", "sealed"))]


@dataclass(frozen=True)
class Verdict:
    """Ours minus the best of `num_rivals` at one cut on one rung, on the same images; `p` is McNemar's.

    `selection` is how ours was chosen, see `Row`. `ours` and `theirs` are right answers in all `num_images`.
    """

    model: str
    coupling: str
    cut: float
    rung: str
    selection: str
    rival: str
    num_rivals: int
    ours: int
    theirs: int
    num_images: int
    change: Interval
    p: float


def ranked(rows: Sequence[Row]) -> list[Row]:
    """The rivals at one place that could cut, most right answers on choose first."""
    could = [one for one in rows if one.contender != OURS and one.choose_right is not None]
    return sorted(could, key=lambda one: -(one.choose_right or 0))


def verdicts_of(rows: Sequence[Row]) -> tuple[Verdict, ...]:
    """Ours against the best of all rivals at every place: on sealed, where that was measured."""
    found = [
        _verdict([one for one in rows if one.place == place]) for place in dict.fromkeys(one.place for one in rows)
    ]
    return tuple(one for one in found if one is not None)


def _verdict(rows: Sequence[Row]) -> Verdict | None:
    ours, rivals = next((one for one in rows if one.contender == OURS), None), ranked(rows)
    if ours is None or ours.choose_right is None or not rivals:
        return None
    best = rivals[0]
    mine, theirs, both, images = ours.choose_right, best.choose_right, best.choose_both, best.choose_images
    if ours.sealed_right is not None and best.sealed_both is not None:
        mine, theirs, both, images = ours.sealed_right, best.sealed_right, best.sealed_both, best.sealed_images
    assert theirs is not None
    assert both is not None
    assert images is not None
    change, p = change_of_counts(mine, theirs, both, images), mcnemar_of_counts(theirs - both, mine - both)
    return Verdict(*best.place, ours.selection, best.contender, len(rivals), mine, theirs, images, change, p)


def adjusted(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """The same verdicts with p values adjusted over all of them (Holm, 1979)."""
    return tuple(replace(one, p=p) for one, p in zip(verdicts, holm([one.p for one in verdicts]), strict=True))


def joined(before: Sequence[Row], new: Sequence[Row]) -> tuple[Row, ...]:
    """Two tables as one: at a place of both, earlier rivals stay where ours has the same figures, else new ones alone.

    A contender of both has its newest figures, and earlier ones where it was not measured again.
    """
    ours = [{one.place: one.on_choose for one in rows if one.contender == OURS} for rows in (before, new)]
    stays = [one for one in before if one.place not in ours[1] or ours[0].get(one.place) == ours[1][one.place]]
    found = {(one.place, one.contender): one for one in stays}
    for one in new:
        known = {name: value for name, value in asdict(one).items() if value is not None}
        found[one.place, one.contender] = replace(found.get((one.place, one.contender), one), **known)
    places = list(dict.fromkeys(one.place for one in found.values()))
    return tuple(sorted(found.values(), key=lambda one: places.index(one.place)))


def as_csv(rows: Sequence[Row]) -> str:
    """Every match as a line of CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for one in rows:
        writer.writerow({**asdict(one), "reached": None if one.reached is None else f"{one.reached:.4f}"})
    return text.getvalue()


def from_csv(text: str) -> tuple[Row, ...]:
    """What `as_csv` wrote. Raises FpgmError for anything else."""
    try:
        return tuple(_row(line) for line in csv.DictReader(io.StringIO(text)))
    except (KeyError, ValueError, TypeError) as error:
        raise FpgmError("this is no table of `fpgm bench rates`; name another file with --out") from error


def _row(line: Mapping[str, str]) -> Row:
    counts = [int(line[name]) if line[name] else None for name in _COUNTS]
    return Row(
        line["model"], line["coupling"], float(line["cut"]), line["rung"], line["contender"], line["selection"],
        float(line["reached"]) if line["reached"] else None, *counts,
    )  # fmt: skip


def as_markdown(rows: Sequence[Row]) -> str:
    """The verdicts as a table, p values adjusted over all of them, and what they come to in a sentence."""
    verdicts = adjusted(verdicts_of(rows))
    titles = {rival.name: rival.title for rival in RIVALS}
    lines = [
        "| network | coupling | MACs cut | rung | ours chosen by | ours | best rival | | ours - rival, points | p |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in verdicts:
        ours, theirs = (f"{count / one.num_images:.2%}" for count in (one.ours, one.theirs))
        lines.append(
            f"| {one.model} | {one.coupling} | {one.cut:.0%} | {one.rung} | {one.selection} | {ours} | {theirs} | "
            f"{titles[one.rival]}, best of {one.num_rivals} | {one.change.told(100)} | {one.p:.2g} |"
        )
    return "\n".join([_HEAD, summary(verdicts), "", *lines, "", _terms(rows, verdicts), ""])


def _terms(rows: Sequence[Row], verdicts: Sequence[Verdict]) -> str:
    """On how many images ours and the rivals were chosen, and the verdicts measured."""
    chosen = sorted({one.choose_images for one in rows if one.choose_images is not None})
    measured = sorted({one.num_images for one in verdicts})
    few, many = (", ".join(f"{count:,}" for count in counts) for counts in (chosen, measured))
    return (
        "Ours chosen by: the criterion, the predicted loss that was solved for, and how many plans a search measured "
        f"from there. Images of choose: {few}; of a verdict: {many}."
    )


def summary(verdicts: Sequence[Verdict]) -> str:
    """In how many places ours is ahead, and in how many behind: by the paired interval and the adjusted p."""
    ahead = sum(one.change.low > 0 and one.p < 0.05 for one in verdicts)
    behind = sum(one.change.high < 0 and one.p < 0.05 for one in verdicts)
    return f"Ours is ahead of the best rival in {ahead} of {len(verdicts)} places, and behind in {behind}."
