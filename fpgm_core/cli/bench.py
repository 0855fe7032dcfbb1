"""The command that measures the project beside others: its speed, and the rates that it chooses."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fpgm_core.allocation import LOSSES, SearchConfig, SuggestConfig
from fpgm_core.allocation.rates_bench import (
    CUTS,
    RUNGS,
    SURVIVORS,
    RatesBench,
    rates_bench_work,
)
from fpgm_core.allocation.rates_table import Row, adjusted, as_csv, as_markdown, from_csv, joined, summary, verdicts_of
from fpgm_core.allocation.rivals import RIVALS, Rival
from fpgm_core.cli.arguments import Command, show
from fpgm_core.cli.progress import finish
from fpgm_core.data import load_images
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import EvaluationConfig
from fpgm_core.graph import COUPLINGS
from fpgm_core.pruning import Network
from fpgm_core.recovery import ladder
from fpgm_core.runtime.device import DEVICES
from fpgm_core.runtime.progress import Progress, Work
from fpgm_core.runtime.storage import write_atomic


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=("speed", "rates"), default="speed", help="(default speed)")
    parser.add_argument("models", nargs="*", default=["resnet20"], help="rates: the networks (default resnet20)")
    parser.add_argument(
        "--coupling", action="append", choices=list(COUPLINGS), help="rates: may be repeated (default coupled)"
    )
    parser.add_argument("--criterion", default="fpgm", help="rates: ours (default fpgm)")
    parser.add_argument(
        "--loss", choices=list(LOSSES), default="blend", help="rates: predicted by ours (default blend)"
    )
    parser.add_argument(
        "--search", type=int, metavar="PLANS", help="rates: ours is the best of so many on choose (default the solved)"
    )
    parser.add_argument("--cut", type=float, action="append", help="rates: of the MACs (default 0.3, 0.5, 0.7)")
    parser.add_argument("--rung", action="append", choices=ladder(), help="rates: (default recalibrated, repaired)")
    parser.add_argument("--rival", action="append", help="rates: one rival, by name; may be repeated (default all)")
    parser.add_argument(
        "--survivors", type=int, default=SURVIVORS, metavar="N",
        help=f"rates: how many rivals go on from one rung to the next, the best on it (default {SURVIVORS})",
    )  # fmt: skip
    parser.add_argument("--sealed", action="store_true", help="rates: measure verdicts on the sealed half")
    parser.add_argument(
        "--out",
        type=Path,
        help="rates: join what was measured to the table there, .md, with every match beside it, .csv",
    )
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--only", action="append", help="one bench, by name; may be repeated")
    parser.add_argument(
        "--images", type=int, default=10_000, help="test images, of choose for rates; fewer for a quick look"
    )


def _run(chosen: argparse.Namespace) -> int:
    return _rates(chosen) if chosen.what == "rates" else _speed(chosen)


def _rates(chosen: argparse.Namespace) -> int:
    known = {rival.name: rival for rival in RIVALS}
    if unknown := [name for name in chosen.rival or () if name not in known]:
        raise FpgmError(f"unknown rival {unknown[0]!r}; choose one of {', '.join(known)}")
    benches = [
        finish(_bench_of(chosen, Network.load(model), coupling, [known[name] for name in chosen.rival or known]))
        for model in chosen.models
        for coupling in chosen.coupling or ("coupled",)
    ]
    rows = [row for bench in benches for row in bench.rows]
    verdicts = adjusted(verdicts_of(rows))
    if chosen.out:
        _join(chosen.out, rows)
    matches = [
        {"model": bench.model, "coupling": bench.coupling, "contender": one.contender, "cut": one.cut,
         "rung": one.rung, "reached": one.reached,
         "accuracy": None if one.measurement is None else asdict(one.measurement.accuracy)}
        for bench in benches
        for one in bench.matches
    ]  # fmt: skip
    result = {"matches": matches, "verdicts": [asdict(one) for one in verdicts], "summary": summary(verdicts)}
    lines = [_told(one) for one in matches]
    lines += [
        f"{one.model}, {one.coupling}, {one.cut:.0%}, {one.rung}: ours - {one.rival} (the best rival) "
        f"{one.change.told(100)} points, p {one.p:.2g} (McNemar, Holm over these)"
        for one in verdicts
    ]
    show(chosen, result, "\n".join([*lines, summary(verdicts)]))
    return 0


def _join(out: Path, rows: Sequence[Row]) -> None:
    """Join what was measured to the table there."""
    table = out.with_suffix(".csv")
    known = joined(from_csv(table.read_text()) if table.exists() else (), rows)
    write_atomic(table, as_csv(known).encode())
    write_atomic(out.with_suffix(".md"), as_markdown(known).encode())


def _bench_of(chosen: argparse.Namespace, network: Network, coupling: str, rivals: list[Rival]) -> Work[RatesBench]:
    images = load_images(network.dataset, "choose")
    images = images.first(min(chosen.images, len(images)))
    search = None if chosen.search is None else SearchConfig(trials=chosen.search, more=len(images))
    return rates_bench_work(
        network,
        images,
        load_images(network.dataset, "train"),
        sealed=load_images(network.dataset, "sealed") if chosen.sealed else None,
        coupling=coupling,
        criterion=chosen.criterion,
        cuts=chosen.cut or CUTS,
        rungs=chosen.rung or RUNGS,
        rivals=rivals,
        survivors=chosen.survivors,
        config=SuggestConfig(loss=chosen.loss, evaluation=EvaluationConfig(chosen.device)),
        search=search,
    )


def _told(one: dict[str, Any]) -> str:
    accuracy = one["accuracy"]
    measured = "cannot cut as much" if accuracy is None else f"{accuracy['value']:7.2%}"
    return f"{one['model']:18} {one['coupling']:12} {one['contender']:20} {one['cut']:4.0%} {one['rung']:14} {measured}"


def _speed(chosen: argparse.Namespace) -> int:
    from fpgm_core.bench import BENCHES, Bench, Result, run_benches  # brings torchvision and scipy

    names = chosen.only or list(BENCHES)
    if unknown := [name for name in names if name not in BENCHES]:
        raise FpgmError(f"unknown bench {unknown[0]!r}; choose one of {', '.join(BENCHES)}")
    if not 250 <= chosen.images <= 10_000:
        raise FpgmError(f"{chosen.images} images say nothing about speed; give 250 to 10000")
    bench = Bench.create(chosen.device, chosen.images)
    results: list[Result] = []

    def work() -> Work[None]:
        for done, name in enumerate(names):
            yield Progress(done, len(names), name)
            results.extend(run_benches(bench, [name]))

    finish(work())
    machine = {"device": bench.device.type, "threads": torch.get_num_threads(), "torch": torch.__version__}
    if bench.device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(bench.device)
    machine["processor"] = platform.processor() or platform.machine()
    rows = [{**asdict(result), "ratio": result.ratio} for result in results]
    show(chosen, {"machine": machine, "results": rows}, _text(machine, rows))
    return 0


def _text(machine: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    lines = [", ".join(f"{name} {value}" for name, value in machine.items())]
    for row in rows:
        lines.append(f"{row['name']:16} {row['seconds']:8.3f} s  {row['what']}")
        lines.append(f"{'':16} {row['baseline_seconds']:8.3f} s  {row['baseline']}: {row['ratio']:.2f} times as long")
        if row["notes"]:
            lines.append(f"{'':28} {', '.join(f'{name} {value:.4g}' for name, value in row['notes'].items())}")
    return "\n".join(lines)


BENCH = Command(
    "bench",
    "speed: each figure beside its baseline; rates: ours against other tools' at equal MACs",
    _arguments,
    _run,
)
