"""The views of a layer: where its filters lie in each, exact or projected, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fpgm_core import Network, Plan
from fpgm_core.criteria import Projection, get_criterion
from fpgm_core.criteria.projections import UMAP_MINIMUM
from fpgm_core.evaluation import Interval, Replaceability
from fpgm_core.graph import Unit
from fpgm_core.lesson import Words
from pages.ui.components.picture import Panel, View
from pages.ui.panels.layer_facts import LayerFacts, exact_projection, stored_layout
from pages.ui.session.networks import diagnostics

NORM, DISTANCE = "l2_norm", "fpgm"


@dataclass(frozen=True)
class Subject:
    """The layer that is looked at, under a plan; `unit` is what moves it, None where nothing does."""

    network: Network
    plan: Plan
    layer: str
    unit: Unit | None
    facts: LayerFacts
    words: Words

    @property
    def scored(self) -> Unit:
        """What is scored: the unit, or the layer alone where no unit has it."""
        return self.unit or Unit(self.layer, (self.layer,), len(self.facts.norms))


def rival_of(plan: Plan) -> str:
    """The criterion that a plan's is compared with: the norm, or FPGM where the plan's is the norm itself."""
    return DISTANCE if plan.criterion == NORM else NORM


def numbers(values: np.ndarray) -> list[float]:
    """Numbers as they are sent: five digits are finer than any screen."""
    return [float(f"{value:.6g}") for value in values]


def map_view(subject: Subject, *, seed: int, failed: str | None = None, place: int = 0) -> View:
    """UMAP with the geometric median, and PCA beside it; PCA alone where there is no UMAP yet, or never.

    `failed` says why there is none; `place` is its place in the queue, 0 where it is being computed.
    """
    network, layer, words = subject.network, subject.layer, subject.words
    exact = exact_projection(network.fingerprint, layer, "pca", network)
    beside = replace(_map_panel(exact), x_title="", note=words("picture.pca_note"), square=True)
    if len(subject.facts.norms) < UMAP_MINIMUM:
        return View([beside], words("picture.umap_few", n=UMAP_MINIMUM))
    layout = stored_layout(network.fingerprint, layer, seed, network)
    if layout is None:
        said = words("picture.umap_waiting", place=place) if place else words("picture.umap_coming")
        said = said if failed is None else words("picture.umap_failed", reason=failed)
        return View([beside], said)
    first = replace(_map_panel(layout), note=words("picture.umap_note"))
    return View([first, beside], _faithfulness(words, UMAP=layout, PCA=exact))


def _map_panel(projection: Projection) -> Panel:
    x, y = projection.points.T
    ties = () if projection.exact_median else np.argsort(projection.distances, kind="stable")[:3]
    median = (float(projection.median[0]), float(projection.median[1]))
    return Panel(numbers(x), numbers(y), median=median, ties=[int(index) for index in ties])


def _faithfulness(words: Words, **projections: Projection) -> str:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    (first, told), *_ = projections.items()
    trust = told.faithfulness
    return words(
        "picture.map_caption",
        mapping=first,
        trust=number(trust.trustworthiness),
        distances=number(trust.distances),
        median=number(trust.to_median),
    )


def scores_view(subject: Subject) -> View:
    """The norm against what the plan's criterion scores by, of the unit as it is really scored."""
    network, plan, words, scored = subject.network, subject.plan, subject.words, subject.scored
    own = get_criterion(plan.criterion)
    vertical = DISTANCE if plan.criterion == NORM or len(own.stages) > 1 else plan.criterion
    titles = {NORM: words("picture.norm_of"), DISTANCE: words("picture.sum_of")}
    found = []
    for name in (NORM, vertical):
        title = titles.get(name) or words("picture.score_of", criterion=words.of(get_criterion(name)))
        if len(scored.members) > 1:
            title = words("picture.jointly", score=title, n=len(scored.members))
        found.append((numbers(network.scores(scored, name, plan.options)), title))
    (x, x_title), (y, y_title) = found
    cuts = {"x": "own", "y": "rival"} if plan.criterion == NORM else {"x": "rival", "y": "own"}
    caption = words("picture.scores_caption")
    if len(scored.members) > 1:
        caption = f"{words('picture.jointly_caption', members=', '.join(scored.members))} · {caption}"
    return View([Panel(x, y, x_title, y_title, cuts=cuts)], caption)


def radial_view(subject: Subject) -> View:
    """The median in the middle, every filter at its true distance."""
    network = subject.network
    projection = exact_projection(network.fingerprint, subject.layer, "radial", network)
    rings = numbers(np.quantile(projection.distances, (0.25, 0.5, 0.75, 1.0)))
    panel = replace(_map_panel(projection), square=True, rings=rings)
    return View([panel], subject.words("picture.radial_caption"))


def norms_view(subject: Subject) -> View:
    """The layer's norms, smallest first, and the two requirements of a norm criterion, layer beside layer."""
    words, norms = subject.words, subject.facts.norms
    rank = np.empty(len(norms))
    rank[np.argsort(norms, kind="stable")] = np.arange(1, len(norms) + 1)
    own = Panel(
        numbers(rank), numbers(norms), words("picture.place_in_order"), words("picture.norm_of"),
        marks=[(0.0, ""), (float(norms.mean()), words("picture.mean"))],
        cuts={"x": "own" if subject.plan.criterion == NORM else "rival"},
    )  # fmt: skip
    figures = diagnostics(subject.network.identity, subject.network)
    others = [(figure.floor, figure.spread, name) for name, figure in figures.items()]
    beside = Panel(
        x_title=words("picture.floor"), y_title=words("picture.spread"), others=others,
        here=list(figures).index(subject.layer), note=words("picture.layers_note"),
    )  # fmt: skip
    return View([own, beside], words("picture.norms_caption"))


def cost_view(subject: Subject, layers: Sequence[Replaceability]) -> View:
    """Every filter's g against its refit cost, and against the share of its loss that the refit makes good."""
    words = subject.words
    costs = next((costs for costs in layers if costs.layer == subject.layer), None)
    if costs is None:
        return View(caption=words("picture.cost_none"))
    x, log = numbers(costs.distance_sums), bool((costs.costs > 0).all())
    panels = [
        Panel(x, numbers(costs.costs), words("picture.sum_of"), words("picture.cost"), log=log),
        Panel(x, numbers(np.nan_to_num(costs.made_good)), words("picture.sum_of"), words("picture.made_good")),
    ]
    told = {
        f"{short}_{name}": correlation(answers[question].interval)
        for short, question in (("cost", "cheap"), ("good", "replaceable"))
        for name, answers in (("g", costs.by_distance), ("norm", costs.by_norm))
    }
    return View(panels, words("picture.cost_caption", **told))


def correlation(interval: Interval | None) -> str:
    """A rank correlation with its interval; a dash where there is none."""
    return "–" if interval is None else interval.told()


def facts_of(subject: Subject) -> str:
    """What is true of the layer in one line: size, cost, agreement, requirements, company."""
    network, plan, words = subject.network, subject.plan, subject.words
    layer = next(layer for layer in network.layers if layer.name == subject.layer)
    norms = diagnostics(network.identity, network)[subject.layer]
    shared = network.overlap(plan, subject.unit) if subject.unit else None
    said = words(
        "picture.facts",
        n=layer.filters,
        shape=" × ".join(map(str, layer.shape[1:])),
        share=f"{layer.share:.1%}",
        rho="–" if norms.spearman is None else f"{norms.spearman:.3f}",
        shared="–" if shared is None else f"{shared:.0%}",
        spread=f"{norms.spread:.2f}",
        floor=f"{norms.floor:.2f}",
    )
    return " · ".join(filter(None, (said, _company(subject))))


def _company(subject: Subject) -> str:
    """What the layer moves with, or why it stays whole; empty where it moves alone."""
    words, coupling = subject.words, subject.plan.coupling
    if subject.unit is None:
        reason = subject.network.refusals(coupling).get(subject.layer)
        return words("picture.stays_whole", reason=words.phrase(reason) if reason else words("picture.not_followed"))
    others = [member for member in subject.unit.members if member != subject.layer]
    if not others:
        return ""
    named = ", ".join(others[:3])
    if len(others) > 3:
        named = words("picture.and_more", others=named, n=len(others) - 3)
    return words("picture.moves_with", others=named)
