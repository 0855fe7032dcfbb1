"""Commands on what was measured: the history, and plans side by side."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fpgm_core.cli.arguments import (
    Command,
    about,
    add_model,
    add_place,
    add_rung,
    config_of,
    opened,
    recovered,
    rung_of,
    scored,
    show,
)
from fpgm_core.cli.images import add_data, measured_on
from fpgm_core.cli.progress import finish
from fpgm_core.data import SPLITS
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import Comparison, History, HistoryEntry, compare_work, filters_that_differ
from fpgm_core.pruning import Network, Plan, PrunedNetwork
from fpgm_core.runtime.storage import write_atomic

_MOST_PLANS = 4


def _history_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="", help="only this network's")
    parser.add_argument("--search", default="", metavar="TEXT", help="only those with this in their name or plan")
    parser.add_argument("--pinned", action="store_true", help="only those that are pinned")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--pin", type=int, metavar="NUMBER")
    what.add_argument("--unpin", type=int, metavar="NUMBER")
    what.add_argument("--delete", type=int, metavar="NUMBER")
    what.add_argument("--name", nargs=2, metavar=("NUMBER", "NAME"), help="call it so")
    what.add_argument("--plan", type=int, metavar="NUMBER", help="write its plan to --out")
    parser.add_argument("--out", type=Path, help="a .csv or .json to write the list to, or the plan's file")


def _history(chosen: argparse.Namespace) -> int:
    history = History()
    which: dict[str, Any] = {"model": chosen.model, "search": chosen.search, "pinned": chosen.pinned}
    if chosen.pin is not None:
        history.pin(chosen.pin)
    elif chosen.unpin is not None:
        history.pin(chosen.unpin, False)
    elif chosen.delete is not None:
        history.delete(chosen.delete)
    elif chosen.name is not None:
        if not chosen.name[0].isdigit():
            raise FpgmError(f"{chosen.name[0]!r} is no entry's number; `history` lists them")
        history.rename(int(chosen.name[0]), chosen.name[1])
    elif chosen.plan is not None:
        if chosen.out is None:
            raise FpgmError("say where to write the plan to, with --out")
        write_atomic(chosen.out, history.entry(chosen.plan).plan.to_json(indent=2).encode())
    elif chosen.out is not None:
        if chosen.out.suffix not in (".csv", ".json"):
            raise FpgmError(f"{chosen.out} is neither a .csv nor a .json; name one of the two")
        write = history.as_csv if chosen.out.suffix == ".csv" else history.as_json
        write_atomic(chosen.out, write(**which).encode())
    entries = history.entries(**which)
    lines = [*map(_line, entries)] or ["nothing was measured yet"]
    if history.notice:
        lines.append(f"note: {history.notice}")
    show(chosen, {"entries": [entry.to_dict() for entry in entries], "notice": history.notice}, "\n".join(lines))
    return 0


def _line(entry: HistoryEntry) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.at))
    accuracy = f"{entry.accuracy.value:7.2%} [{entry.accuracy.low:.2%}, {entry.accuracy.high:.2%}]"
    pin = "*" if entry.pinned else " "
    what = f"{entry.plan.model}, {entry.plan.criterion}, {entry.plan.coupling}, {entry.method}"
    cut = 1 - entry.macs / entry.dense_macs
    return f"{pin}{entry.id:5} {when} {accuracy} MACs cut {cut:5.1%}  {what} {entry.name}".rstrip()


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("plans", nargs="+", type=Path, help="plans' JSON files; one alone is compared with dense")
    add_rung(parser)
    parser.add_argument("--split", choices=SPLITS, default="choose", help="test images to read (default choose)")
    parser.add_argument("--images", type=int, help="only the first N of the split")
    add_place(parser, precision=False)
    add_data(parser)


def _compare(chosen: argparse.Namespace) -> int:
    if len(chosen.plans) > _MOST_PLANS:
        raise FpgmError(f"{len(chosen.plans)} plans cannot be seen side by side; give at most {_MOST_PLANS}")
    network = opened(chosen)
    if not network.trained:
        raise FpgmError(f"cannot compare answers: {network.notice}")
    images = measured_on(chosen, network, chosen.split)
    names = [path.stem for path in chosen.plans]
    networks = [recovered(chosen, _pruned(chosen, network, path), rung_of(chosen, network)) for path in chosen.plans]
    if len(networks) == 1:
        names, networks = ["dense", *names], [network.prune(0.0), *networks]
    chosen.precision = "float32"
    found = finish(compare_work(networks, images, config_of(chosen)), "comparing")
    pairs = list(zip(names[1:], networks[1:], found, strict=True))
    rows = [_row(name, networks[0], pruned, one) for name, pruned, one in pairs]
    result = {**about(network), "split": chosen.split, "images": len(images), "first": names[0], "compared": rows}
    show(
        chosen,
        result,
        "\n".join(_told(names[0], name, one, row) for (name, _, one), row in zip(pairs, rows, strict=True)),
    )
    return 0


def _pruned(chosen: argparse.Namespace, network: Network, path: Path) -> PrunedNetwork:
    try:
        plan = Plan.from_json(path.read_bytes())
    except OSError as error:
        raise FpgmError(f"cannot read the plan {path}: {error.strerror}; check the path") from error
    network.check(plan)
    return scored(chosen, network, plan.criterion).prune(plan)


def _row(name: str, first: PrunedNetwork, pruned: PrunedNetwork, found: Comparison) -> dict[str, Any]:
    differ = filters_that_differ(first, pruned)
    return {
        "name": name,
        "rung": pruned.method,
        "change": asdict(found.change),
        "macs": [first.cost.macs, pruned.cost.macs],
        "params": [first.cost.params, pruned.cost.params],
        "rates": [dict(first.plan.rates), dict(pruned.plan.rates)],
        "classes": [{**asdict(one), "changed": one.changed} for one in found.by_class],
        "lost": found.lost.tolist(),
        "won": found.won.tolist(),
        "confusion": found.confusion().tolist(),
        "confusion_before": found.confusion(after=False).tolist(),
        "filters": {layer: {"only_first": a.tolist(), "only_this": b.tolist()} for layer, (a, b) in differ.items()},
    }


def _told(first: str, name: str, found: Comparison, row: dict[str, Any]) -> str:
    lines = [
        f"{name} ({row['rung']}) against {first}: {found.change.told(100)} points, MACs {row['macs'][1]:,} of "
        f"{row['macs'][0]:,}; {len(found.lost)} images lost, {len(found.won)} won"
    ]
    for one in found.by_class:
        mark = "changed" if one.changed else ""
        lines.append(f"  {one.name:12} {one.change.told(100)}  p {one.p:.3f} {mark}".rstrip())
    lines.append("  by class, paired 95% intervals; p is McNemar's exact, adjusted over the classes (Holm)")
    return "\n".join(lines)


HISTORY = Command("history", "list, search, name, pin and export what was measured", _history_arguments, _history)
COMPARE = Command(
    "compare",
    "compare plans on the same images: by class, what was forgotten; one plan is compared with dense",
    _compare_arguments,
    _compare,
)
