"""Commands that choose rates: from a goal to a plan, with the reasons."""

from __future__ import annotations

import argparse
import secrets
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fpgm_core.allocation import (
    ALLOCATORS,
    CUTS,
    LOSSES,
    Found,
    Goal,
    Prepared,
    SearchConfig,
    SuggestConfig,
    Suggestion,
    TimedSuggestion,
    front_work,
    milliseconds,
    prepared_work,
    register_cost,
    search_work,
    suggestion_of,
    timed_suggestion_work,
    within_loss_work,
)
from fpgm_core.allocation.optimism import optimism_work
from fpgm_core.cli.arguments import (
    Command,
    about,
    add_choices,
    add_model,
    add_place,
    add_rung,
    add_together,
    config_of,
    opened,
    plan_of,
    points_of,
    rung_of,
    show,
)
from fpgm_core.cli.images import add_data, images_of, training_of
from fpgm_core.cli.probe import predictor_of
from fpgm_core.cli.progress import finish
from fpgm_core.cli.timing import add_target, target_of
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import History
from fpgm_core.pruning import Network, Plan
from fpgm_core.runtime.progress import Work
from fpgm_core.runtime.storage import write_atomic

COUPLING = "coupled"
CHOOSE_IMAGES = 2000


def add_goal(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what to cut, or what may be lost."""
    parser.add_argument("--macs-cut", type=_cut, metavar="SHARE", help="cut this share of the MACs: 0.5, say")
    parser.add_argument("--params-cut", type=_cut, metavar="SHARE", help="cut this share of the parameters")
    parser.add_argument("--ms-cut", type=_cut, metavar="SHARE", help="cut this share of the milliseconds")
    parser.add_argument(
        "--as-predicted", action="store_true", help="with --ms-cut: time no plan, and trust what is predicted of it"
    )
    add_target(parser)
    parser.add_argument("--on", type=Path, metavar="FILE", help="with --ms-cut: a board's result, see `probe --export`")


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
    parser.add_argument("--search", type=float, metavar="SECONDS", help="then search on measured accuracy so long")
    parser.add_argument("--trials", type=int, metavar="N", help="with --search: end after N plans")
    parser.add_argument("--optimism", type=int, metavar="N", help="with --search: how it flatters, on N random halves")
    add_together(parser)
    parser.add_argument(
        "--front",
        nargs="*",
        type=_cut,
        metavar="SHARE",
        help="measure plans at these cuts of the MACs (default twelve)",
    )
    parser.add_argument("--against", action="append", choices=list(ALLOCATORS), default=[], help="with --front: too")
    parser.add_argument("--csv", type=Path, help="with --front: the file to write the points to")
    add_allocation(parser)
    add_rung(parser)
    parser.add_argument("--images", type=int, default=CHOOSE_IMAGES, help="of choose, to measure on (default 2000)")
    parser.add_argument("--out", type=Path, help="the file to write the plan to")
    add_place(parser)
    add_data(parser)


def _suggest(chosen: argparse.Namespace) -> int:
    network = opened(chosen)
    wanted = (("macs", chosen.macs_cut), ("params", chosen.params_cut), ("ms", chosen.ms_cut))
    cuts = {name: cut for name, cut in wanted if cut is not None}
    _check_asked(chosen, cuts)
    predictor = None
    if chosen.ms_cut is not None:
        predictor = predictor_of(chosen, network, chosen.coupling or COUPLING)
        register_cost(milliseconds(predictor))
    like, training, config = like_of(chosen, network), training_of(chosen, network), config_of_allocation(chosen)
    if chosen.front is not None:
        return _front(chosen, network, like, training, config)
    timed = None
    if chosen.max_loss is not None:
        suggestion = finish(_within(chosen, network, like, training, config))
    else:
        prepared, goal = finish(prepared_work(network, training, like=like, config=config)), Goal(cuts)
        if predictor is not None and chosen.on is None and not chosen.as_predicted:  # another board times nothing here
            timed = finish(timed_suggestion_work(prepared, goal, predictor, target_of(chosen), config=config))
        if chosen.optimism is not None:
            return _optimism(chosen, prepared, goal, training, config)
        if chosen.search is not None:
            suggestion, timed = _searched(chosen, prepared, goal, training, config), None
        else:
            suggestion = suggestion_of(prepared, goal, config) if timed is None else timed.best.suggestion
    if chosen.out:
        write_atomic(chosen.out, suggestion.plan.to_json(indent=2).encode())
    show(chosen, {**_result(suggestion), **_timed(timed)}, "\n".join([report(suggestion), *_timed_told(timed)]))
    return 0


def _check_asked(chosen: argparse.Namespace, cuts: dict[str, float]) -> None:
    """Raise FpgmError where arguments contradict each other."""
    asked = [chosen.front is not None, chosen.max_loss is not None, bool(cuts)]
    if asked.count(True) != 1:
        raise FpgmError("say one thing: what to cut (--macs-cut 0.5), what may be lost (--max-loss 2), or --front")
    if chosen.optimism is not None and chosen.search is None:
        raise FpgmError("--optimism is of a search: what is only predicted reads no test images; give --search")
    if chosen.search is not None and not cuts:
        raise FpgmError("--search looks for plans that cut as much; say how much with --macs-cut")
    if chosen.as_predicted and chosen.ms_cut is None:
        raise FpgmError("--as-predicted is of milliseconds; give --ms-cut")


def _timed(timed: TimedSuggestion | None) -> dict[str, Any]:
    """The plans that were timed, and which of them was taken."""
    if timed is None:
        return {}
    tried = [{"cut": asdict(one.cut), "busy": one.busy, "plan": one.suggestion.plan.to_dict()} for one in timed.tried]
    return {"timed": tried, "taken": timed.tried.index(timed.best)}


def _timed_told(timed: TimedSuggestion | None) -> list[str]:
    if timed is None:
        return []
    cuts = ", then ".join(f"{one.cut.value:.1%} [{one.cut.low:.1%}, {one.cut.high:.1%}]" for one in timed.tried)
    busy = "; the machine was busy" if any(one.busy for one in timed.tried) else ""
    best = timed.best.cut.value
    return [f"timed: {timed.asked:.0%} of the milliseconds asked, cut {cuts}: the plan that cuts {best:.1%}{busy}"]


def _within(
    chosen: argparse.Namespace, network: Network, like: Plan, training: ImageSet, config: SuggestConfig
) -> Work[Suggestion]:
    images = images_of(chosen, network, "choose", chosen.images)
    return within_loss_work(
        network, training, images, chosen.max_loss, method=rung_of(chosen, network), like=like, config=config
    )


def _searched(
    chosen: argparse.Namespace, prepared: Prepared, goal: Goal, training: ImageSet, config: SuggestConfig
) -> Suggestion:
    """The best suggestion that a search finds; interrupted, the best so far."""
    images = images_of(chosen, prepared.choices.network, "choose", chosen.images)
    seed = config.seed if chosen.together is None else secrets.randbits(32)
    search, found = replace(_search_of(chosen, prepared), seed=seed), list[Found]()
    work = search_work(
        prepared, goal, images, training, search=search, config=config, history=History(), together=chosen.together
    )

    def told() -> Work[Found]:
        try:
            while True:
                progress = next(work)
                found[:] = [progress.partial] if progress.partial is not None else []
                yield progress
        except StopIteration as end:
            result: Found = end.value
            return result

    try:
        last = finish(told(), "searching")
    except KeyboardInterrupt:
        if not found:
            raise
        last = found[0]
    gain = f"{last.num_measured} plans measured; ahead of the first on choose by {last.gain.told(100)} points"
    print(f"note: {gain}: measure it on sealed", file=sys.stderr)
    return last.best


def _search_of(chosen: argparse.Namespace, prepared: Prepared) -> SearchConfig:
    method = rung_of(chosen, prepared.choices.network)
    return SearchConfig(seconds=chosen.search, trials=chosen.trials, method=method, more=chosen.images)


def _optimism(
    chosen: argparse.Namespace, prepared: Prepared, goal: Goal, training: ImageSet, config: SuggestConfig
) -> int:
    network, search = prepared.choices.network, _search_of(chosen, prepared)
    images = images_of(chosen, network, "all")
    found = finish(
        optimism_work(prepared, goal, images, training, halves=chosen.optimism, search=search, config=config)
    )
    text = f"better by {found.mean.told(100)} points on the half that chose, over {chosen.optimism} pairs of halves"
    show(chosen, {**about(network), "gaps": list(found.gaps), "mean": asdict(found.mean)}, text)
    return 0


def _front(chosen: argparse.Namespace, network: Network, like: Plan, training: ImageSet, config: SuggestConfig) -> int:
    images = images_of(chosen, network, "choose", chosen.images)
    names = list(dict.fromkeys([chosen.allocator, *chosen.against]))
    needing = next((name for name in names if ALLOCATORS[name].needs_losses), names[0])
    prepared = finish(prepared_work(network, training, like=like, config=replace(config, allocator=needing)))
    work = front_work(
        prepared, images, training, cuts=chosen.front or CUTS, allocators=names, method=rung_of(chosen, network),
        config=config, history=History(),
    )  # fmt: skip
    front = finish(work)
    if chosen.csv:
        write_atomic(chosen.csv, front.as_csv().encode())
    rows = [point.to_dict() for point in front.points]
    lines = [f"{'':12} {'asked':>6} {'cut':>6}  accuracy on choose"]
    for row in rows:
        interval = f"{row['accuracy']:.2%} [{row['accuracy_low']:.2%}, {row['accuracy_high']:.2%}]"
        cut = 1 - row["macs"] / row["dense_macs"]
        lines.append(f"{row['allocator']:12} {row['cut']:6.0%} {cut:6.1%}  {interval} {row['rung']}")
    lines += [f"{name:12} {cut:6.0%}  cannot be met" for name, cut in front.impossible]
    impossible = [{"allocator": name, "cut": cut} for name, cut in front.impossible]
    show(chosen, {**about(network), "points": rows, "impossible": impossible}, "\n".join(lines))
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
