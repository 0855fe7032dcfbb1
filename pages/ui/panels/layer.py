"""The chosen layer: its picture, put together from what is known of it, and what a person does there."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from fpgm_core import CRITERIA, FpgmError, Network, Plan
from fpgm_core.criteria import Projection, get_criterion
from fpgm_core.criteria.layouts import compute_layout
from fpgm_core.criteria.projections import UMAP_MINIMUM
from fpgm_core.evaluation import Replaceability
from fpgm_core.graph import Unit, weights_of
from fpgm_core.lesson import Words
from fpgm_core.pruning import RemovalOrder, removal_order_work
from fpgm_core.runtime.progress import Progress, Work
from pages.ui.components.incoming import sent
from pages.ui.components.picture import Cut, Look, Picture, View, packed, picture, read_look
from pages.ui.panels.layer_facts import layer_facts, order_key, order_of, stored_layout, takes_long, tiles_of
from pages.ui.panels.layer_views import (
    Subject,
    cost_view,
    facts_of,
    map_view,
    norms_view,
    numbers,
    radial_view,
    rival_of,
    scores_view,
)
from pages.ui.panels.refit import COST_JOB, refit_cost_job
from pages.ui.panels.replaceability import replaceability_view
from pages.ui.session.jobs import Job, layout_worker, umap_process
from pages.ui.session.kept import kept
from pages.ui.session.session import Session

KEY = "picture"
COST, SUMMARY = "Refit cost", "Replaceability"


def take_look(session: Session) -> bool:
    """Act on the picture's newest message, if it is new; True where it changed the plan, or was refused."""
    look = read_look(sent(KEY, "look"))
    if look is None or look.seq <= session.look_echo:
        return False
    session.look_echo = look.seq
    if look.view != session.state.view and session.jobs.get(COST_JOB) is None:
        session.jobs.cancel(COST_JOB)  # that it was stopped is forgotten: a view looked at anew begins it
    accepted = session.look(layer=look.layer, chosen=look.chosen, view=look.view, mapping=look.mapping, seed=look.seed)
    unit = session.network.unit_of(look.layer, session.state.plan.coupling)
    if not accepted or not look.locks or unit is None:
        return not accepted
    plan = session.state.plan
    for index, lock in look.locks:
        plan = plan.with_lock(unit.name, index, lock)
    session.change(plan=plan)
    return True


def layer_panel(session: Session) -> bool:
    """Draw the layer that is looked at; whether something of it is still being computed."""
    network, state, layer = session.network, session.state, session.layer_in_sight
    words = session.words
    facts = layer_facts(network.fingerprint, layer, network)
    subject = Subject(network, state.plan, layer, network.unit_of(layer, state.plan.coupling), facts, words)
    layout, order = _layout(session, layer, len(facts.norms)), _order(session, subject)
    costs = refit_cost_job(session) if state.view in (COST, SUMMARY) else None
    busy = _busy(costs, words) if state.view in (COST, SUMMARY) else {}
    chosen = state.chosen if layer == state.layer else None
    shown = facts.nearest if chosen is None else chosen
    names = tuple(name for name in CRITERIA if network.has_scores(name))
    jobs, seed = _Jobs(layout, order, costs), state.plan.options.seed
    scored = tuple(network.scores_digest(name) for name in names)  # of images, which other people have others of
    tiles = tiles_of((network.identity, *scored), layer, shown, facts.twin(shown), names, seed, network)
    key = (network.identity, layer, state.seed, words.language, names, scored, *_selection(subject), *jobs.told)
    picture(
        _picture(key, subject, state.seed, jobs),
        _cut(subject, state.plan if order is None else session.plan, busy),
        Look(layer, chosen, state.view, state.mapping, state.seed, session.look_echo),
        tiles=replace(tiles, ranks=[(words.of(get_criterion(name)), rank) for name, rank in tiles.ranks]),
        session=session.token,
        key=KEY,
        words=words.under("picture"),
    )
    if state.view == SUMMARY and costs is not None and costs.result is not None:
        replaceability_view(session, costs.result)
    return any(job is not None and not job.done for job in (layout, order, costs))


@dataclass(frozen=True)
class _Jobs:
    """What a picture may have to wait for; None where it need not."""

    layout: Job[Projection] | None
    order: Job[RemovalOrder] | None
    costs: Job[tuple[Replaceability, ...]] | None

    @property
    def told(self) -> tuple[Hashable, ...]:
        """How far they are, as far as a picture differs by it."""
        return tuple(job and (job.done, job.error, job.place) for job in (self.layout, self.order, self.costs))


def _selection(subject: Subject) -> tuple[Hashable, ...]:
    """What a layer's order of removal depends on."""
    plan, unit = subject.plan, subject.unit
    locks = (plan.locked_in.get(unit.name, ()), plan.locked_out.get(unit.name, ())) if unit else ()
    return (plan.criterion, plan.options, plan.coupling, *locks)


@kept
def _picture(key: Hashable, _subject: Subject, _seed: int, _jobs: _Jobs) -> Picture:
    """The layer's picture, all of it that its rate does not change."""
    network, plan, unit, facts = _subject.network, _subject.plan, _subject.unit, _subject.facts
    words, orders = _subject.words, []
    for criterion in (plan.criterion, rival_of(plan)):
        other = replace(plan, criterion=criterion)
        if criterion == plan.criterion and _jobs.order:
            order = _jobs.order.result
        else:
            order = order_of(network, other, unit) if unit else None
        orders.append((words.of(get_criterion(criterion)), order.flips if order else None))
    views = {
        "Map": map_view(
            _subject,
            seed=_seed,
            failed=_jobs.layout.error if _jobs.layout else None,
            place=_jobs.layout.place if _jobs.layout else 0,
        ),
        "Scores": scores_view(_subject),
        "Radial": radial_view(_subject),
        "Norms": norms_view(_subject),
        COST: cost_view(_subject, _jobs.costs.result) if _jobs.costs and _jobs.costs.result is not None else View(),
        SUMMARY: View(),
    }
    return Picture(
        layer=_subject.layer,
        layers=[layer.name for layer in network.layers],
        unit=unit.name if unit else "",
        own=orders[0],
        rival=orders[1],
        locked_in=plan.locked_in.get(unit.name, ()) if unit else (),
        locked_out=plan.locked_out.get(unit.name, ()) if unit else (),
        medoid=facts.medoid,
        nearest=facts.nearest,
        to_median=numbers(facts.to_median),
        near=packed(facts.near),
        gaps=numbers(facts.gaps),
        columns={
            words("picture.norm_of"): numbers(facts.norms),
            words("picture.sum"): numbers(facts.sums),
            words("picture.to_median"): numbers(facts.to_median),
        },
        views=views,
    )


def _cut(subject: Subject, plan: Plan, busy: Mapping[str, str]) -> Cut:
    """What `plan` prunes of the layer: the one on screen, or that under the hand where the browser has no order."""
    network, unit = subject.network, subject.unit
    if unit is None:
        return Cut(0.0, (), (), facts_of(subject), busy)
    own, rival = (_pruned(network, each, unit) for each in (plan, replace(plan, criterion=rival_of(plan))))
    return Cut(plan.rate(unit.name), own, rival, facts_of(subject), busy)


def _pruned(network: Network, plan: Plan, unit: Unit) -> list[int]:
    try:
        return np.flatnonzero(~network.keep_mask(plan, unit)).tolist()
    except FpgmError:  # the rival's own rounding may leave the plan's locks no room
        return []


def _busy(costs: Job[tuple[Replaceability, ...]] | None, words: Words) -> dict[str, str]:
    """What the views that need refit costs wait for."""
    if costs is None:
        said = words("picture.cost_stopped")
    elif costs.error:
        said = words.phrase(costs.error)
    elif costs.done:
        return {}
    else:
        said = words("picture.cost_coming", share=f"{costs.share:.0%}")
    return dict.fromkeys((COST, SUMMARY), said)


def _order(session: Session, subject: Subject) -> Job[RemovalOrder] | None:
    """The order that is being computed, where it takes long."""
    network, plan, unit = subject.network, subject.plan, subject.unit
    if unit is None or not takes_long(network, plan, unit):
        return None
    key = ("order", *order_key(network, plan, unit))
    work = partial(removal_order_work, network, plan, unit)
    return session.jobs.get("order", key) or session.jobs.start(
        "order", work, key=key, title=subject.words("work.order", layer=subject.layer), page="Explore"
    )


def _layout(session: Session, layer: str, filters: int) -> Job[Projection] | None:
    """The UMAP that is being computed, where it is looked at and not known yet."""
    network, state = session.network, session.state
    if state.view != "Map" or filters < UMAP_MINIMUM:
        return None
    known = stored_layout(network.fingerprint, layer, state.seed, network)
    if known is not None:
        return None
    key = ("layout", network.fingerprint, layer, state.seed)
    seed = state.seed
    job = session.jobs.get("layout", key) or session.jobs.start(
        "layout", lambda: _layout_work(network, layer, seed), key=key, worker=layout_worker()
    )
    if job.result is not None:
        stored_layout.clear(network.fingerprint, layer, seed)
        return None
    return job


def _layout_work(network: Network, layer: str, seed: int) -> Work[Projection]:
    yield Progress(0.0, what="computing UMAP")  # one step: nothing can be told on the way
    return compute_layout(
        network.fingerprint, layer, weights_of(network.module, layer), seed, reduction=umap_process().reduce
    )
