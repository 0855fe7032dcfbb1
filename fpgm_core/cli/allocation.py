"""Commands that choose rates: from a goal to a plan, with the reasons."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fpgm_core.allocation import (
    ALLOCATORS,
    LOSSES,
    Goal,
    SuggestConfig,
    Suggestion,
    suggest_work,
    within_loss_work,
)
from fpgm_core.cli.arguments import (
    Command,
    about,
    add_choices,
    add_data,
    add_model,
    add_place,
    add_rung,
    config_of,
    finish,
    images_of,
    opened,
    plan_of,
    points_of,
    rung_of,
    show,
    training_of,
)
from fpgm_core.pruning import Network, Plan
from fpgm_core.runtime.storage import write_atomic

COUPLING = "coupled"
CHOOSE_IMAGES = 2000


def add_goal(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what to cut, or what may be lost."""
    parser.add_argument("--macs-cut", type=_cut, metavar="SHARE", help="cut this share of the MACs: 0.5, say")
    parser.add_argument("--params-cut", type=_cut, metavar="SHARE", help="cut this share of the parameters")


def _cut(text: str) -> float:
    """An argument as a share to cut."""
    try:
        cut = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1") from error
    if not 0 < cut < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share between 0 and 1; 0.5 cuts half")
    return cut


def add_allocation(parser: argparse.ArgumentParser) -> None:
    """The arguments that say how to allocate."""
    add_choices(parser, COUPLING)
    parser.add_argument("--allocator", choices=list(ALLOCATORS), default="solved", help="(default solved)")
    parser.add_argument("--loss", choices=list(LOSSES), default="blend", help="what is predicted (default blend)")
    parser.add_argument(
        "--fix", action="append", metavar="UNIT", default=[], help="keep this unit whole; may be repeated"
    )


def config_of_allocation(chosen: argparse.Namespace) -> SuggestConfig:
    """How to suggest, as `add_allocation`'s and `add_place`'s arguments say."""
    return SuggestConfig(
        chosen.allocator,
        chosen.loss,
        tuple(chosen.fix),
        chosen.seed if chosen.seed is not None else 0,
        config_of(chosen),
    )


def like_of(chosen: argparse.Namespace, network: Network) -> Plan:
    """The plan that says criterion, coupling and options, as `add_allocation`'s arguments do."""
    chosen.plan, chosen.rate, chosen.coupling = None, 0.0, chosen.coupling or COUPLING
    return plan_of(chosen, network)


def _suggest_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_goal(parser)
    parser.add_argument("--max-loss", type=points_of, metavar="POINTS", help="cut all that loses no more, measured")
    add_allocation(parser)
    add_rung(parser)
    parser.add_argument("--images", type=int, default=CHOOSE_IMAGES, help="with --max-loss: of choose (default 2000)")
    parser.add_argument("--out", type=Path, help="the file to write the plan to")
    add_place(parser)
    add_data(parser)


def _suggest(chosen: argparse.Namespace) -> int:
    network = opened(chosen)
    like, training, config = like_of(chosen, network), training_of(chosen, network), config_of_allocation(chosen)
    cuts = {name: cut for name, cut in (("macs", chosen.macs_cut), ("params", chosen.params_cut)) if cut is not None}
    if chosen.max_loss is None:
        work = suggest_work(network, training, Goal(cuts), like=like, config=config)
    else:
        if cuts:
            print("note: --max-loss cuts as much as it can of the MACs; the cuts are not read", file=sys.stderr)
        images = images_of(chosen, network, "choose").first(chosen.images)
        work = within_loss_work(
            network, training, images, chosen.max_loss, method=rung_of(chosen), like=like, config=config
        )
    suggestion = finish(work)
    if chosen.out:
        write_atomic(chosen.out, suggestion.plan.to_json(indent=2).encode())
    show(chosen, _result(suggestion), report(suggestion))
    return 0


def _result(suggestion: Suggestion) -> dict[str, Any]:
    network = suggestion.pruned.network
    return {
        **about(network),
        **suggestion.to_dict(),
        "macs": suggestion.pruned.cost.macs,
        "dense_macs": network.dense_cost.macs,
        "params": suggestion.pruned.cost.params,
        "dense_params": network.dense_cost.params,
    }


def report(suggestion: Suggestion) -> str:
    """A suggestion for people: every unit with its count and prices, and the sentence."""
    network, plan = suggestion.pruned.network, suggestion.plan
    width = max(len(unit.name) for unit in network.units(plan.coupling))
    lines = [f"{'':{width}} {'pruned':>9} {'loss':>9} {'last':>9} {'next':>9}"]
    priced = {price.unit: price for price in suggestion.prices}
    for unit in network.units(plan.coupling):
        gone = f"{network.count_pruned(plan, unit)}/{unit.size}"
        price = priced.get(unit.name)
        figures = "" if price is None else f" {price.loss:9.4f} {_told(price.last_price)} {_told(price.next_price)}"
        lines.append(f"{unit.name:{width}} {gone:>9}{figures}")
    if priced:
        lines.append("loss: predicted, alone; last and next: predicted loss by a million saved, last and next")
    cuts = ", ".join(f"{cut:.1%} of the {name}" for name, cut in suggestion.reached.items())
    lines.append(f"{suggestion.allocator}, {plan.criterion}, {plan.coupling}: cuts {cuts}. {suggestion.reason}".strip())
    if suggestion.measurement is not None:
        measured = suggestion.measurement
        lines.append(f"{measured.method} it changes accuracy on choose by {measured.change.told(100)} points")
    return "\n".join(lines)


def _told(price: float | None) -> str:
    return f"{'-' if price is None else f'{price:.4f}':>9}"


SUGGEST = Command(
    "suggest",
    "choose rates for a goal: cut half the MACs, say, at the least predicted loss; says why each rate",
    _suggest_arguments,
    _suggest,
)
