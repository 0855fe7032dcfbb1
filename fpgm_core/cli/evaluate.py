"""Commands that measure a plan: accuracy, equality, speed."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fpgm_core.cli.arguments import (
    Command,
    about,
    add_choices,
    add_model,
    add_plan,
    add_rung,
    opened,
    plan_of,
    progress,
    rate_of,
    rung_of,
    show,
)
from fpgm_core.data import SPLITS, sample_images
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import (
    RATES,
    SWEPT,
    EvaluationConfig,
    Figure,
    Latency,
    Sweep,
    check_loss,
    latency_steps,
    measure,
    sweep_steps,
)
from fpgm_core.graph import Cost
from fpgm_core.pruning import Network, Plan, Proof, randomised, verify_steps
from fpgm_core.recovery import get_recovery_method
from fpgm_core.runtime.device import DEVICES, PRECISIONS
from fpgm_core.runtime.distributed import world
from fpgm_core.runtime.storage import write_atomic

_SWEEP_COUPLING = "inner"  # where no unit's rate touches another's


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_plan(parser)
    add_rung(parser)
    parser.add_argument("--split", choices=SPLITS, default="choose", help="test images to read (default choose)")
    parser.add_argument("--images", type=int, help="only the first N of the split")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    parser.add_argument("--data", type=Path, help="your own copy of the data set: torchvision's folder, or an .npz")


def _evaluate(chosen: argparse.Namespace) -> int:
    network = Network.load(chosen.model, chosen.weights)
    plan = plan_of(chosen, network)
    settings = EvaluationConfig(
        chosen.split, chosen.images, rung_of(chosen), chosen.device, chosen.precision, chosen.data
    )
    figure = _run(network, plan, settings)
    if figure.short_of_memory:
        print(f"note: batches of {figure.batch}: the device's memory holds no more", file=sys.stderr)
    if settings.rung == "repaired" and figure.rung == "recalibrated":
        print("note: repair did worse on held-out training images, so recalibrated is kept", file=sys.stderr)
    for device in figure.lost:
        print(f"note: the {device} device failed: measured on {figure.device}", file=sys.stderr)
    result = _result(network, plan, settings, figure)
    show(chosen, result, _report(result))
    return 0


def _report(result: dict[str, Any]) -> str:
    """The result of `evaluate` for people."""

    def cut(name: str) -> str:
        left, dense = result[name], result[f"dense_{name}"]
        return f"{left:,} of {dense:,}  ({1 - left / dense:.1%} cut)"

    rung = get_recovery_method(result["rung"]).title.lower()
    rung += f" on {result['recalibration_images']:,} images" if result["recalibration_images"] else ""
    return "\n".join(
        (
            f"{result['model']}, {result['criterion']}, {result['coupling']}, {rung}",
            f"accuracy   {result['accuracy']:.2%}  [{result['accuracy_low']:.2%}, {result['accuracy_high']:.2%}]  "
            f"on {result['images']:,} images of {result['split']}",
            f"dense      {result['dense_accuracy']:.2%}   change {result['change'] * 100:+.2f} points "
            f"[{result['change_low'] * 100:+.2f}, {result['change_high'] * 100:+.2f}], paired",
            f"MACs       {cut('macs')}",
            f"parameters {cut('params')}",
            f"measured on {result['device']} in {result['precision']}, {result['seconds']:.1f} s",
        )
    )


def _run(network: Network, plan: Plan, settings: EvaluationConfig) -> Figure:
    """Measure, with a line of progress on a terminal's stderr."""
    live = sys.stderr.isatty() and world().is_main
    last: Figure | None = None
    for step in measure(network, plan, settings, first_figure=False):
        if isinstance(step, Figure):
            last = step
            told = f"{step.images:,} of {step.total:,} images"
        else:
            told = f"repairing {step.share:.0%}" if step else ""
        if live and told:
            print(f"\r\033[K{told}", end="", file=sys.stderr, flush=True)
    if live:
        print("\r\033[K", end="", file=sys.stderr)
    assert last is not None
    return last


def _result(network: Network, plan: Plan, settings: EvaluationConfig, figure: Figure) -> dict[str, Any]:
    cost: Cost = network.cost(plan)
    return {
        **about(network),
        "criterion": plan.criterion,
        "coupling": plan.coupling,
        "options": plan.to_dict()["options"],
        "rung": figure.rung,
        "recalibrated": figure.rung == "recalibrated",
        "recalibration_images": figure.recalibration_images,
        "split": settings.split,
        "images": figure.images,
        "correct": figure.correct,
        "accuracy": figure.accuracy.value,
        "accuracy_low": figure.accuracy.low,
        "accuracy_high": figure.accuracy.high,
        "dense_accuracy": figure.dense_accuracy.value,
        "change": figure.change.value,
        "change_low": figure.change.low,
        "change_high": figure.change.high,
        "macs": cost.macs,
        "dense_macs": network.dense_cost.macs,
        "params": cost.params,
        "dense_params": network.dense_cost.params,
        "device": figure.device,
        "precision": figure.precision,
        "batch": figure.batch,
        "seconds": figure.seconds,
    }


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_plan(parser)
    parser.add_argument("--randomise", action="store_true", help="draw norms and biases first: a sharper test")
    parser.add_argument("--images", type=int, help="real images to compare on (default 64)")


def _verify(chosen: argparse.Namespace) -> int:
    network, plan = opened(chosen)
    info = network
    module = randomised(network.module, info.input_shape) if chosen.randomise else None
    images = sample_images(info.dataset, info.input_shape, 64 if chosen.images is None else chosen.images)
    for step in verify_steps(network, network.keep_masks(plan), images, module):
        if isinstance(step, float):
            progress("comparing", step)
    assert isinstance(step, Proof)
    progress("", 1)
    result = {
        **about(network),
        "criterion": plan.criterion,
        "coupling": plan.coupling,
        "randomised": chosen.randomise,
        **asdict(step),
        "holds": step.holds,
        "tells": step.tells,
    }
    text = (
        f"{'equal' if step.holds else 'UNEQUAL'}: masked and compact differ by at most {step.max_abs_difference:.3g}, "
        f"where logits reach {step.logit_scale:.3g}, on {step.images} images\n"
        f"pruning itself moved them by {step.masked_dense_difference:.3g}"
        f"{'' if step.tells else ': too little to prove anything; try --randomise'}\n"
        f"MACs {step.macs:,} counted, {step.counted_macs:,} by PyTorch's counter in the compact network\n"
        f"parameters {step.params:,} counted, {step.counted_params:,} in the compact network"
    )
    show(chosen, result, text)
    return 0 if step.holds else 1


def _latency_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_plan(parser)
    parser.add_argument("--batch", type=int, action="append", help="images at once; may be repeated (default 1, 64)")
    parser.add_argument("--runs", type=int, default=15, help="timed passes, of which the median counts (default 15)")
    parser.add_argument("--device", choices=DEVICES, default="auto")


def _latency(chosen: argparse.Namespace) -> int:
    network, plan = opened(chosen)
    results = []
    for batch in chosen.batch or [1, 64]:
        for step in latency_steps(network, plan, batch, chosen.runs, chosen.device):
            if isinstance(step, float):
                progress(f"timing batches of {batch}", step)
        assert isinstance(step, Latency)
        results.append(step)
    progress("", 1)
    cost = network.cost(plan)
    result = {
        **about(network),
        "criterion": plan.criterion,
        "coupling": plan.coupling,
        "macs": cost.macs,
        "dense_macs": network.dense_cost.macs,
        "latency": [{**asdict(one), "speed_up": one.speed_up} for one in results],
    }
    text = "\n".join(
        f"batch {one.batch:4}: dense {one.dense_ms:9.2f} ms, compact {one.compact_ms:9.2f} ms, "
        f"{one.speed_up:.2f} times as fast; peak memory {one.dense_peak_bytes / 2**20:.1f} and "
        f"{one.compact_peak_bytes / 2**20:.1f} MiB ({one.device}, {one.threads} threads, median of {one.runs})"
        for one in results
    )
    show(chosen, result, f"{text}\nMACs are {network.dense_cost.macs / cost.macs:.2f} times fewer")
    return 0


def _sensitivity_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_choices(parser, _SWEEP_COUPLING)
    parser.add_argument("--rate", type=rate_of, action="append", help="may be repeated (default 0.1 to 0.9)")
    parser.add_argument("--images", type=int, default=SWEPT.images, help="of the choose half (default 2000)")
    parser.add_argument(
        "--within",
        type=_points,
        metavar="POINTS",
        help="make a plan of every unit's highest rate up to which it loses no more, alone",
    )
    parser.add_argument("--out", type=Path, help="with --within: the file to write that plan to")
    add_rung(parser)
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")


def _points(text: str) -> float:
    """An argument in points of accuracy as a fraction."""
    try:
        return check_loss(float(text) / 100)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of points from 0 to 100") from error


def _sensitivity(chosen: argparse.Namespace) -> int:
    if chosen.out and chosen.within is None:
        raise FpgmError("--out is for the plan that --within makes; say how many points a unit may lose")
    rates = chosen.rate or RATES
    chosen.plan, chosen.rate, chosen.coupling = None, 0.0, chosen.coupling or _SWEEP_COUPLING
    network = Network.load(chosen.model, chosen.weights)
    like = plan_of(chosen, network)
    settings = replace(
        SWEPT,
        images=chosen.images,
        rung=rung_of(chosen),
        device=chosen.device,
        precision=chosen.precision,
    )
    start = time.perf_counter()
    for sweep in sweep_steps(network, like, settings, rates):
        progress("sweeping", len(sweep.points) / sweep.total)
    progress("", 1)
    points = [
        {**asdict(p), "change": p.change.value, "change_low": p.change.low, "change_high": p.change.high}
        for p in sweep.points
    ]
    result = {
        **about(network),
        "criterion": like.criterion,
        "coupling": like.coupling,
        "options": like.to_dict()["options"],
        "rung": settings.rung,
        "recalibrated": settings.rung == "recalibrated",
        "split": settings.split,
        "dense_macs": network.dense_cost.macs,
        "points": points,
        "seconds": time.perf_counter() - start,
    }
    text = _table(sweep, sorted(set(rates)))
    if chosen.within is not None:
        plan = like.with_rates(sweep.rates_within(chosen.within))
        macs = network.cost(plan).macs
        result |= {"within": chosen.within, "plan": plan.to_dict(), "macs": macs}
        rates_told = ", ".join(f"{unit} {rate:.0%}" for unit, rate in plan.rates.items()) or "none"
        text += (
            f"\nrates up to which a unit alone loses at most {chosen.within * 100:g} points: {rates_told}\n"
            f"together they cut {1 - macs / network.dense_cost.macs:.1%} of the MACs and may lose more: evaluate them"
        )
        if chosen.out:
            write_atomic(chosen.out, plan.to_json(indent=2).encode())
    show(chosen, result, text)
    return 0


def _table(sweep: Sweep, rates: Sequence[float]) -> str:
    """A row a unit, a column a rate: the change of accuracy in points."""
    width = max(len(point.unit) for point in sweep.points)
    found = {(point.unit, point.rate): point for point in sweep.points}
    rows = [f"{'':{width}}" + "".join(f"{rate:8.0%}" for rate in rates)]
    for unit in dict.fromkeys(point.unit for point in sweep.points):
        rows.append(f"{unit:{width}}" + "".join(f"{found[unit, rate].change.value * 100:8.1f}" for rate in rates))
    images = sweep.points[0].images
    return "\n".join([*rows, f"change of accuracy in points, each unit pruned alone, on {images:,} images of choose"])


EVALUATE = Command("evaluate", "measure a plan: accuracy, MACs, parameters", _evaluate_arguments, _evaluate)
VERIFY = Command(
    "verify",
    "prove that masked and compact network compute the same, at the cost that is counted",
    _verify_arguments,
    _verify,
)
LATENCY = Command("latency", "time the dense and the compact network side by side", _latency_arguments, _latency)
SENSITIVITY = Command(
    "sensitivity",
    "measure what each unit costs when it alone is pruned, rate by rate; gone on with where it was left",
    _sensitivity_arguments,
    _sensitivity,
)
