"""The command that times a network's layers over their widths, here or on another board."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from fpgm_core.cli.arguments import Command, about, add_model, opened, show
from fpgm_core.cli.progress import finish
from fpgm_core.cli.timing import add_target, target_of
from fpgm_core.graph import COUPLINGS
from fpgm_core.pruning import Network
from fpgm_core.timing import Predictor, TimingStudy, probe_work, timing_study_work


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--coupling", choices=list(COUPLINGS), default="coupled", help="(default coupled)")
    add_target(parser)
    parser.add_argument("--again", action="store_true", help="time anew what a busy machine had timed")
    parser.add_argument("--study", type=int, metavar="N", help="then predict N plans of mixed rates, and time them")


def predictor_of(chosen: argparse.Namespace, network: Network, coupling: str) -> Predictor:
    """What predicts milliseconds on the target of `add_target`'s arguments; what is not kept is timed first."""
    return finish(probe_work(network, network.plan(coupling=coupling), target_of(chosen)))


def _probe(chosen: argparse.Namespace) -> int:
    network = opened(chosen)
    like, target = network.plan(coupling=chosen.coupling), target_of(chosen)
    predictor = finish(probe_work(network, like, target, again=chosen.again))
    study = None
    if chosen.study is not None:
        study = finish(timing_study_work(predictor, like, target, count=chosen.study))
    show(chosen, _result(network, predictor, study), _text(predictor, study))
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
        f"{dense.value:.3g} ms [{dense.low:.3g}, {dense.high:.3g}]; predictions fit to {predictor.error:.1%}",
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
