"""Commands that measure a plan: accuracy, equality, sensitivity."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fpgm_core.cli.arguments import (
    Command,
    about,
    add_choices,
    add_model,
    add_place,
    add_plan,
    add_rung,
    add_together,
    config_of,
    network_of,
    opened,
    plan_of,
    points_of,
    pruned_of,
    rate_of,
    rung_of,
    scored,
    show,
)
from fpgm_core.cli.images import add_data, images_of, measured_on, samples_of, training_of
from fpgm_core.cli.progress import finish
from fpgm_core.cli.timing import add_aligned, aligned_told
from fpgm_core.data import SPLITS
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import (
    RATES,
    SWEEP_IMAGES,
    History,
    Measurement,
    Sweep,
    measure_work,
    sweep_work,
)
from fpgm_core.pruning import Network, Plan, PrunedNetwork, randomised, verify_work
from fpgm_core.recovery import get_recovery_method
from fpgm_core.runtime.distributed import world
from fpgm_core.runtime.storage import write_atomic

_SWEEP_COUPLING = "inner"  # where no unit's rate touches another's


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_plan(parser)
    add_rung(parser)
    parser.add_argument("--split", choices=SPLITS, default="choose", help="test images to read (default choose)")
    parser.add_argument("--images", type=int, help="only the first N of the split")
    add_place(parser)
    add_data(parser)


def _evaluate(chosen: argparse.Namespace) -> int:
    network = network_of(chosen)
    plan = plan_of(chosen, network)
    if not network.trained:
        raise FpgmError(f"cannot evaluate: {network.notice}")
    images = measured_on(chosen, network, chosen.split)
    pruned = scored(chosen, network, plan.criterion).prune(plan)
    method, training = rung_of(chosen, network), training_of(chosen, network)
    work = measure_work(pruned, images, method=method, training=training, config=config_of(chosen), preview=False)
    measurement = finish(work)
    if measurement.short_of_memory:
        print(f"note: batches of {measurement.batch}: the device's memory holds no more", file=sys.stderr)
    if measurement.notice:
        print(f"note: {measurement.notice}", file=sys.stderr)
    for device in measurement.lost_devices:
        print(f"note: the {device} device failed: measured on {measurement.device}", file=sys.stderr)
    if world().is_main:
        History().add(pruned, images, measurement)
    result = _result(pruned, chosen.split, measurement)
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
            *_top5_line(result),
            f"MACs       {cut('macs')}",
            f"parameters {cut('params')}",
            f"measured on {result['device']} in {result['precision']}, {result['seconds']:.1f} s",
        )
    )


def _top5_line(result: dict[str, Any]) -> list[str]:
    top5, dense = result["top5"], result["dense_top5"]
    if top5 is None:
        return []
    return [f"top-5      {top5['value']:.2%}  [{top5['low']:.2%}, {top5['high']:.2%}]  dense {dense['value']:.2%}"]


def _result(pruned: PrunedNetwork, split: str, measurement: Measurement) -> dict[str, Any]:
    network, plan, cost = pruned.network, pruned.plan, pruned.cost
    return {
        **about(network),
        "criterion": plan.criterion,
        "coupling": plan.coupling,
        "options": plan.to_dict()["options"],
        "rung": measurement.method,
        "recalibrated": measurement.method == "recalibrated",
        "recalibration_images": measurement.recovery_images,
        "split": split,
        "images": measurement.num_images,
        "correct": measurement.num_correct,
        "accuracy": measurement.accuracy.value,
        "accuracy_low": measurement.accuracy.low,
        "accuracy_high": measurement.accuracy.high,
        "dense_accuracy": measurement.dense_accuracy.value,
        "top5": None if measurement.top5 is None else asdict(measurement.top5),
        "dense_top5": None if measurement.dense_top5 is None else asdict(measurement.dense_top5),
        "change": measurement.change.value,
        "change_low": measurement.change.low,
        "change_high": measurement.change.high,
        "macs": cost.macs,
        "dense_macs": network.dense_cost.macs,
        "params": cost.params,
        "dense_params": network.dense_cost.params,
        "device": measurement.device,
        "precision": measurement.precision,
        "batch": measurement.batch,
        "seconds": measurement.seconds,
    }


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_plan(parser)
    add_aligned(parser)
    parser.add_argument("--randomise", action="store_true", help="draw norms and biases first: a sharper test")
    parser.add_argument("--images", type=int, help="real images to compare on (default 64)")
    add_data(parser)


def _verify(chosen: argparse.Namespace) -> int:
    network = opened(chosen)
    pruned = pruned_of(chosen, network)
    if chosen.randomise:
        pruned = randomised(pruned)
    images = samples_of(chosen, network, 64 if chosen.images is None else chosen.images)
    proof = finish(verify_work(pruned, images, aligned=chosen.aligned), "comparing")
    result = {
        **about(network),
        "criterion": pruned.plan.criterion,
        "coupling": pruned.plan.coupling,
        "randomised": chosen.randomise,
        "aligned": chosen.aligned,
        **asdict(proof),
        "holds": proof.holds,
        "tells": proof.tells,
    }
    show(chosen, result, "\n".join([proof.report(), *([aligned_told(pruned)] if chosen.aligned else [])]))
    return 0 if proof.holds else 1


def _sensitivity_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_choices(parser, _SWEEP_COUPLING)
    parser.add_argument("--rate", type=rate_of, action="append", help="may be repeated (default 0.1 to 0.9)")
    parser.add_argument("--images", type=int, help="of the choose half (default 2000, or all where there are fewer)")
    parser.add_argument(
        "--within",
        type=points_of,
        metavar="POINTS",
        help="make a plan of every unit's highest rate up to which it loses no more, alone",
    )
    add_together(parser)
    parser.add_argument("--out", type=Path, help="with --within: the file to write that plan to")
    add_rung(parser)
    add_place(parser)
    add_data(parser)


def _sensitivity(chosen: argparse.Namespace) -> int:
    if chosen.out and chosen.within is None:
        raise FpgmError("--out is for the plan that --within makes; say how many points a unit may lose")
    rates = chosen.rate or RATES
    chosen.plan, chosen.rate, chosen.coupling = None, 0.0, chosen.coupling or _SWEEP_COUPLING
    network = network_of(chosen)
    like, method = plan_of(chosen, network), rung_of(chosen, network)
    training = training_of(chosen, network)
    images = (
        images_of(chosen, network, "choose", SWEEP_IMAGES)
        if chosen.images is None
        else measured_on(chosen, network, "choose")
    )
    network = scored(chosen, network, like.criterion)
    start = time.perf_counter()
    work = sweep_work(
        network, images, plan=like, method=method, training=training, rates=rates, config=config_of(chosen),
        together=chosen.together,
    )  # fmt: skip
    sweep = finish(work, "sweeping")
    points = [
        {
            "unit": point.unit, "rate": point.rate, "macs": point.macs, "correct": point.num_correct,
            "dense_correct": point.num_dense_correct, "both": point.num_both_correct, "images": point.num_images,
            "change": point.change.value, "change_low": point.change.low, "change_high": point.change.high,
        }
        for point in sweep.points
    ]  # fmt: skip
    result = {
        **about(network),
        "criterion": like.criterion,
        "coupling": like.coupling,
        "options": like.to_dict()["options"],
        "rung": method,
        "recalibrated": method == "recalibrated",
        "split": "choose",
        "dense_macs": network.dense_cost.macs,
        "points": points,
        "seconds": time.perf_counter() - start,
    }
    text = _table(sweep, sorted(set(rates)))
    if chosen.within is not None:
        more, line = _within(chosen, network, like, sweep)
        result |= more
        text += line
    show(chosen, result, text)
    return 0


def _within(chosen: argparse.Namespace, network: Network, like: Plan, sweep: Sweep) -> tuple[dict[str, Any], str]:
    """The plan of every unit's highest rate within the loss that was asked for, as JSON and as text; written too."""
    plan = like.with_rates(sweep.rates_within(chosen.within))
    macs = network.cost(plan).macs
    rates = ", ".join(f"{unit} {rate:.0%}" for unit, rate in plan.rates.items()) or "none"
    if chosen.out:
        write_atomic(chosen.out, plan.to_json(indent=2).encode())
    text = (
        f"\nrates up to which a unit alone loses at most {chosen.within * 100:g} points: {rates}\n"
        f"together they cut {1 - macs / network.dense_cost.macs:.1%} of the MACs and may lose more: evaluate them"
    )
    return {"within": chosen.within, "plan": plan.to_dict(), "macs": macs}, text


def _table(sweep: Sweep, rates: Sequence[float]) -> str:
    """A row a unit, a column a rate: the change of accuracy in points."""
    width = max(len(point.unit) for point in sweep.points)
    points = {(point.unit, point.rate): point for point in sweep.points}
    rows = [f"{'':{width}}" + "".join(f"{rate:8.0%}" for rate in rates)]
    for unit in dict.fromkeys(point.unit for point in sweep.points):
        rows.append(f"{unit:{width}}" + "".join(f"{points[unit, rate].change.value * 100:8.1f}" for rate in rates))
    images = sweep.points[0].num_images
    return "\n".join([*rows, f"change of accuracy in points, each unit pruned alone, on {images:,} images of choose"])


EVALUATE = Command("evaluate", "measure a plan: accuracy, MACs, parameters", _evaluate_arguments, _evaluate)
VERIFY = Command(
    "verify",
    "prove that masked and compact network compute the same, at the cost that is counted",
    _verify_arguments,
    _verify,
)
SENSITIVITY = Command(
    "sensitivity",
    "measure what each unit costs when it alone is pruned, rate by rate; resumes where it stopped",
    _sensitivity_arguments,
    _sensitivity,
)
