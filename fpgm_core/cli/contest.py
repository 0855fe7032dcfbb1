"""The command that compares criteria at equal MACs, on every rung of the ladder."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from typing import Any

from fpgm_core.cli.arguments import (
    Command,
    about,
    add_model,
    add_place,
    config_of,
    network_of,
    rate_of,
    show,
)
from fpgm_core.cli.images import add_data, measured_on, training_of
from fpgm_core.cli.progress import finish
from fpgm_core.data import SPLITS
from fpgm_core.evaluation import Contest, ContestConfig, Entry, Interval, contest_work
from fpgm_core.graph import COUPLINGS
from fpgm_core.recovery import get_recovery_method, refused_rungs

_BASE = "fpgm"  # what the others are compared with


def _arguments(parser: argparse.ArgumentParser) -> None:
    rules = ContestConfig()
    add_model(parser)
    parser.add_argument("--rate", type=rate_of, default=rules.rate, help=f"of every unit (default {rules.rate:g})")
    parser.add_argument(
        "--coupling", choices=list(COUPLINGS), default=rules.coupling, help=f"(default {rules.coupling})"
    )
    parser.add_argument("--seeds", type=int, default=rules.seeds, help=f"of the control (default {rules.seeds})")
    parser.add_argument("--images", type=int, help="only the first N of the split")
    parser.add_argument("--split", choices=SPLITS, default="choose", help="test images to read (default choose)")
    add_place(parser)
    add_data(parser)


def _contest(chosen: argparse.Namespace) -> int:
    network, start = network_of(chosen), time.perf_counter()
    rules = ContestConfig(rate=chosen.rate, coupling=chosen.coupling, seeds=chosen.seeds)
    images = measured_on(chosen, network, chosen.split)
    training = training_of(chosen, network)
    for rung, reason in refused_rungs(network).items():
        print(f"note: {rung} is left out: {reason}", file=sys.stderr)
    contest = finish(contest_work(network, images, training, rules=rules, config=config_of(chosen)))
    result = {
        **about(network),
        "rate": contest.rate,
        "coupling": contest.coupling,
        "split": contest.split,
        "images": contest.images,
        "dense_macs": network.dense_cost.macs,
        "entries": [_entry(contest, entry) for entry in contest.entries],
        "ranking": {rung: _ranking(contest, rung) for rung in contest.rungs},
        "seconds": time.perf_counter() - start,
    }
    show(chosen, result, _table(contest, network.dense_cost.macs))
    return 0


def _entry(contest: Contest, entry: Entry) -> dict[str, Any]:
    rungs = {
        rung: {"correct": entry.correct(rung), "accuracy": asdict(contest.accuracy(entry, rung))}
        for rung in contest.rungs
    }
    facts = {"criterion": entry.criterion, "seed": entry.seed, "macs": entry.macs}
    return {**facts, "given_up": list(entry.given_up), "rungs": rungs}


def _ranking(contest: Contest, rung: str) -> dict[str, Any]:
    ranking = contest.ranking(rung)
    return {
        "criteria": list(ranking.criteria),
        "leaders": list(ranking.leaders),
        "changes": [
            {"first": first, "second": second, **asdict(change), "excludes_zero": change.excludes_zero}
            for (first, second), change in ranking.changes.items()
        ],
        "against_random": {name: _sides(contest.against_random(name, rung)) for name in ranking.criteria},
    }


def _sides(changes: tuple[Interval, ...]) -> dict[str, int]:
    """Over how many seeds the paired interval puts a criterion, and under how many."""
    above, below = sum(one.low > 0 for one in changes), sum(one.high < 0 for one in changes)
    return {"seeds": len(changes), "above": above, "below": below}


def _table(contest: Contest, dense_macs: int) -> str:
    """A block a rung: the criteria in order, and the control."""
    macs = sorted({entry.macs for entry in contest.entries})
    left = " to ".join(f"{count:,}" for count in dict.fromkeys((macs[0], macs[-1])))
    lines = [f"{contest.model}, {contest.coupling}, {contest.rate:.0%} of every unit: {left} of {dense_macs:,} MACs"]
    for rung in contest.rungs:
        lines += [
            "",
            f"{get_recovery_method(rung).title:12} {'accuracy':27} {f'against {_BASE}, points':24} against random",
        ]
        lines += [_row(contest, rung, name) for name in contest.ranking(rung).criteria]
        if contest.random:
            shares = [contest.accuracy(entry, rung).value for entry in contest.random]
            lines.append(f"  {'random':10} {min(shares):7.2%} to {max(shares):.2%}, seeds: {len(shares)}")
    unreached = sum("repaired" in entry.given_up for entry in contest.entries)
    if unreached:
        lines += ["", f"{unreached} repairs did worse on held-out training images, so recalibrated was measured there"]
    said = "changes are paired, and mean something where the interval excludes 0 (*)"
    return "\n".join([*lines, "", f"on {contest.images:,} images of {contest.split}; {said}"])


def _row(contest: Contest, rung: str, name: str) -> str:
    entry = contest.entry(name)
    accuracy, sides = contest.accuracy(entry, rung), _sides(contest.against_random(name, rung))
    share = f"{accuracy.value:7.2%}  [{accuracy.low:.2%}, {accuracy.high:.2%}]"
    change = "" if name == _BASE else _points(contest.change(entry, contest.entry(_BASE), rung))
    beside = f"above {sides['above']}, below {sides['below']} of {sides['seeds']}"
    return f"  {name:10} {share:27} {change:24} {beside}"


def _points(change: Interval) -> str:
    low, value, high = (f"{share * 100:+.2f}" for share in (change.low, change.value, change.high))
    return f"{value} [{low}, {high}]{'*' if change.excludes_zero else ''}"


CONTEST = Command(
    "contest",
    "compare criteria at equal MACs on every rung, beside random ones; kept once measured",
    _arguments,
    _contest,
)
