"""The command that times a network's layers over their widths, here or on another board."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fpgm_core.cli.arguments import Command, about, add_model, opened, show
from fpgm_core.cli.progress import finish
from fpgm_core.cli.timing import add_target, target_of
from fpgm_core.errors import FpgmError
from fpgm_core.graph import COUPLINGS
from fpgm_core.pruning import Network, Plan
from fpgm_core.runtime.storage import write_atomic
from fpgm_core.timing import Predictor, TimingStudy, ms_told, probe_work, timing_study_work
from fpgm_core.timing.boards import board_files_work, load_board


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--coupling", choices=list(COUPLINGS), default="coupled", help="(default coupled)")
    add_target(parser)
    parser.add_argument("--again", action="store_true", help="time anew what a busy machine had timed")
    elsewhere = parser.add_mutually_exclusive_group()
    elsewhere.add_argument(
        "--export", type=Path, metavar="FOLDER", help="write a folder to run on another board: see its probe.py"
    )
    elsewhere.add_argument("--load", type=Path, metavar="FILE", help="read what probe.py wrote there")
    parser.add_argument("--study", type=int, metavar="N", help="then predict N plans of mixed rates, and time them")


def predictor_of(chosen: argparse.Namespace, network: Network, coupling: str) -> Predictor:
    """What predicts milliseconds on the board of `--on`, or on `add_target`'s target, timed where it is not kept."""
    if chosen.on is not None:
        return load_board(chosen.on, network, network.plan(coupling=coupling))
    return finish(probe_work(network, network.plan(coupling=coupling), target_of(chosen)))


def _probe(chosen: argparse.Namespace) -> int:
    network = opened(chosen)
    like = network.plan(coupling=chosen.coupling)
    if chosen.study is not None and (chosen.export or chosen.load):
        raise FpgmError("--study times plans here; leave --export and --load out")
    if chosen.export:
        return _export(chosen, network, like)
    if chosen.load:
        predictor = load_board(chosen.load, network, like)
        show(chosen, _result(network, predictor, None), _text(predictor, None))
        return 0
    target = target_of(chosen)
    predictor = finish(probe_work(network, like, target, again=chosen.again))
    study = None
    if chosen.study is not None:
        study = finish(timing_study_work(predictor, like, target, count=chosen.study))
    show(chosen, _result(network, predictor, study), _text(predictor, study))
    return 0


def _export(chosen: argparse.Namespace, network: Network, like: Plan) -> int:
    files = finish(board_files_work(network, like, batch=chosen.batch))
    for name, content in files.items():
        write_atomic(chosen.export / name, content)
    size = sum(map(len, files.values()))
    text = (
        f"{len(files)} files in {chosen.export}, {size / 2**20:.1f} MiB. On the board: pip install onnxruntime numpy, "
        f"python probe.py; then here: fpgm probe {network.name} --coupling {like.coupling} --load board.json"
    )
    show(chosen, {**about(network), "out": str(chosen.export), "files": sorted(files), "bytes": size}, text)
    return 0


def _result(network: Network, predictor: Predictor, study: TimingStudy | None) -> dict[str, Any]:
    table = predictor.table
    return {
        **about(network),
        "coupling": predictor.coupling,
        **table.identity,
        "layers": len(table.times),
        "points": sum(len(one.ms) for one in table.times.values()),
        "busy_layers": table.busy,
        "dense_ms": asdict(predictor.dense),
        "error": predictor.error,
        "study": None if study is None else _study(study),
    }


def _study(study: TimingStudy) -> dict[str, Any]:
    return {
        "median_error": study.median_error,
        "covered": study.covered,
        "busy": study.busy,
        "plans": [
            {
                "macs_cut": one.macs_cut, "predicted": asdict(one.predicted), "measured": asdict(one.measured),
                "error": one.error,
            }
            for one in study.plans
        ],
    }  # fmt: skip


def _text(predictor: Predictor, study: TimingStudy | None) -> str:
    table, dense = predictor.table, predictor.dense
    lines = [
        ", ".join(f"{name} {value}" for name, value in table.identity.items()),
        f"{sum(len(one.ms) for one in table.times.values())} widths of {len(table.times)} layers, dense "
        f"{ms_told(dense.value, dense.low, dense.high, unit=' ms')}; predictions fit to {predictor.error:.1%}",
    ]
    if table.busy:
        lines.append(f"{table.busy} layers were timed on a busy machine: --again times them anew")
    if study is not None:
        for one in study.plans:
            lines.append(
                f"{one.macs_cut:5.1%} of the MACs cut: predicted {one.predicted.value:.3f} of the dense time "
                f"[{one.predicted.low:.3f}, {one.predicted.high:.3f}], measured {one.measured.value:.3f}, "
                f"off by {one.error:+.1%}"
            )
        busy = "; the machine was busy" if study.busy else ""
        lines.append(f"median error {study.median_error:.1%}, {study.covered:.0%} within their intervals{busy}")
    return "\n".join(lines)


PROBE = Command(
    "probe",
    "time a network's layers over their widths: what predicts a plan's milliseconds",
    _arguments,
    _probe,
)
