"""Does the paper's premise hold? Three questions, put to every layer: what a filter costs, and what is made good of it.

A filter that does little is *cheap to lose* whether or not another can do its work. It is *replaceable* where the
others make good much of what it did. The refit cost answers the first, the share made good the second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fpgm_core.calibration import Moments, readings, stand_in
from fpgm_core.criteria import CRITERIA
from fpgm_core.evaluation.intervals import Interval
from fpgm_core.evaluation.rank_correlation import RankCorrelation, holm, rank_correlation
from fpgm_core.graph import weights_of
from fpgm_core.pruning import Network

VERDICTS = ("holds", "undecided", "reversed", "few")


@dataclass(frozen=True)
class Question:
    """What is asked of g, or of the norm, in every layer: a rank correlation, and the sign that the premise wants.

    `asks` is the question in words, `pair` what is correlated; `holds` and `reversed` say what either sign means.
    """

    name: str
    asks: str
    pair: str
    sign: int
    holds: str
    reversed: str

    def verdict(self, interval: Interval | None) -> str:
        """How the premise stands by an interval: one of VERDICTS; "undecided" where it includes 0, "few" without."""
        if interval is None:
            return "few"
        if not interval.excludes_zero:
            return "undecided"
        return "holds" if self.sign * interval.value > 0 else "reversed"

    def told(self, verdict: str) -> str:
        """A verdict in words."""
        undecided, few = "undecided: widened for all layers, the interval includes 0", "too few filters to tell"
        known = {"holds": f"holds: {self.holds}", "reversed": f"reversed: {self.reversed}"}
        return (known | {"undecided": undecided, "few": few})[verdict]


_QUESTIONS = (
    Question(
        "cheap",
        asks="Are the filters nearest the others cheap to lose?",
        pair="g and refit cost",
        sign=1,
        holds="filters nearer the others cost less to lose",
        reversed="filters nearer the others cost more to lose",
    ),
    Question(
        "replaceable",
        asks="Are the filters nearest the others replaceable?",
        pair="g and share made good",
        sign=-1,
        holds="of filters nearer the others more is made good",
        reversed="of filters nearer the others less is made good",
    ),
    Question(
        "beyond_norm",
        asks="Does g tell of cost what the norm does not?",
        pair="g and refit cost, given the norm",
        sign=1,
        holds="of filters with equal norms those nearer the others cost less",
        reversed="of filters with equal norms those nearer the others cost more",
    ),
)
QUESTIONS: Mapping[str, Question] = {question.name: question for question in _QUESTIONS}
_ASKED_OF_NORM = ("cheap", "replaceable")


@dataclass(frozen=True)
class Finding:
    """A question's answer in one layer: the rank correlation with its 95% interval, and the verdict.

    The verdict follows from `widened`, the interval that Holm's method leaves the layer among all that were asked, so
    that all of a question's verdicts are right together 95 times in 100. None where there are too few filters.
    """

    question: Question = field(repr=False)
    interval: Interval | None
    widened: Interval | None

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        return self.question.verdict(self.widened)

    @property
    def told(self) -> str:
        """The verdict in words."""
        return self.question.told(self.verdict)


@dataclass(frozen=True, eq=False)
class Replaceability:
    """One layer: what the criteria say of each of its filters, and what each really costs, float64 (N,) each.

    `distance_sums` are g, `norms` L2; `losses` what each filter's readers lose when it goes and nothing is refitted,
    `costs` the refit costs. `by_distance` answers each of QUESTIONS by g, `by_norm` those that the norm can be asked.
    """

    layer: str
    distance_sums: np.ndarray
    norms: np.ndarray
    losses: np.ndarray
    costs: np.ndarray
    by_distance: Mapping[str, Finding] = field(default_factory=dict)
    by_norm: Mapping[str, Finding] = field(default_factory=dict)

    @property
    def made_good(self) -> np.ndarray:
        """The share of each filter's loss that the refit makes good, (N,), 0 to 1; NaN where nothing is lost."""
        lost = self.losses > 0
        return np.where(lost, np.clip(1 - self.costs / np.where(lost, self.losses, 1), 0, 1), np.nan)

    def correlation(self, question: str, *, by_norm: bool = False) -> RankCorrelation | None:
        """What a question correlates: g, or the norm, with what it is about; None where there are too few filters."""
        by = self.norms if by_norm else self.distance_sums
        about = self.made_good if question == "replaceable" else self.costs
        return rank_correlation(by, about, given=self.norms if question == "beyond_norm" else None)


def replaceability(network: Network, moments: Moments, coupling: str = "inner") -> tuple[Replaceability, ...]:
    """Every layer that a coupling may prune and whose consumers have moments, in forward order."""
    layers = []
    for unit in network.units(coupling):
        for member in unit.members:
            read = readings(network, [member])
            if not read or any(one.layer not in moments.layers for one in read):
                continue
            filters = weights_of(network.module, member)
            sums, norms = (CRITERIA[name].score(filters).cpu().numpy() for name in ("fpgm", "l2_norm"))
            losses, costs = stand_in(network, member, moments=moments, relative=False)
            layers.append(Replaceability(member, sums, norms, losses, costs))
    by_distance = [(name, _findings(layers, question)) for name, question in QUESTIONS.items()]
    by_norm = [(name, _findings(layers, QUESTIONS[name], by_norm=True)) for name in _ASKED_OF_NORM]
    return tuple(
        replace(
            layer,
            by_distance={name: findings[number] for name, findings in by_distance},
            by_norm={name: findings[number] for name, findings in by_norm},
        )
        for number, layer in enumerate(layers)
    )


def _findings(layers: Sequence[Replaceability], question: Question, *, by_norm: bool = False) -> list[Finding]:
    """A question's answer in every layer, judged together."""
    correlations = [layer.correlation(question.name, by_norm=by_norm) for layer in layers]
    return [
        Finding(question, None if found is None else found.interval(), widened)
        for found, widened in zip(correlations, holm(correlations), strict=True)
    ]


def verdict_counts(layers: Sequence[Replaceability], question: str) -> dict[str, int]:
    """In how many layers g's answer to a question has each verdict, in the order of VERDICTS."""
    counts = Counter(layer.by_distance[question].verdict for layer in layers)
    return {verdict: counts[verdict] for verdict in VERDICTS}


def answers_told(layers: Sequence[Replaceability]) -> tuple[str, ...]:
    """Every question with its verdicts over the layers, and in how many of them the first two part."""
    total = f"of {len(layers)} layers"
    told = []
    for question in QUESTIONS.values():
        counts = verdict_counts(layers, question.name).items()
        verdicts = ", ".join(f"{word.replace('few', 'too few filters')} in {n}" for word, n in counts if n)
        told.append(f"{question.asks} {verdicts} {total}")
    parted = sum(layer.by_distance["cheap"].verdict != layer.by_distance["replaceable"].verdict for layer in layers)
    same = "Cheap to lose and replaceable have the same verdict in every layer"
    return (*told, f"Cheap to lose is not replaceable: their verdicts differ in {parted} {total}" if parted else same)
