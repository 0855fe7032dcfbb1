"""The command that measures the project's own speed."""

from __future__ import annotations

import argparse
import platform
from dataclasses import asdict
from typing import Any

import torch

from fpgm_core.cli.arguments import Command, show
from fpgm_core.cli.progress import finish
from fpgm_core.errors import FpgmError
from fpgm_core.runtime.device import DEVICES
from fpgm_core.runtime.progress import Progress, Work


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--only", action="append", help="one bench, by name; may be repeated")
    parser.add_argument("--images", type=int, default=10_000, help="test images; fewer for a quick look")


def _run(chosen: argparse.Namespace) -> int:
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


BENCH = Command("bench", "measure this machine's speed, each figure beside its baseline", _arguments, _run)
