"""Commands that repair, and that measure what is replaceable: calibrate, repair, replaceability, damage."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from fpgm_core.calibration import Calibration, Moments, calibrate_steps
from fpgm_core.cli.arguments import (
    Command,
    about,
    add_choices,
    add_model,
    add_plan,
    opened,
    plan_of,
    progress,
    rate_of,
    show,
)
from fpgm_core.data import ImageSet, load_images
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import Interval, Replaceability, Study, replaceability, study_steps
from fpgm_core.graph import COUPLINGS
from fpgm_core.pruning import Network
from fpgm_core.recovery import REPAIR, SURFACE_RATES, DamageSurface, Mended, damage_steps, repair_steps
from fpgm_core.runtime.device import DEVICES, choose_device


def _add_calibration(parser: argparse.ArgumentParser, default: Calibration) -> None:
    for field, text in (
        ("images", "training images to read"),
        ("positions", "places in each layer's output to look at, an image"),
    ):
        value = getattr(default, field)
        parser.add_argument(f"--{field}", type=int, default=value, help=f"{text} (default {value})")
    parser.add_argument("--data", type=Path, help="your own copy of the data set: torchvision's folder, or an .npz")
    parser.add_argument("--device", choices=DEVICES, default="auto")


def _calibration(chosen: argparse.Namespace) -> Calibration:
    return Calibration(**{f.name: getattr(chosen, f.name) for f in fields(Calibration) if f.name != "seed"})


def _training(chosen: argparse.Namespace, network: Network) -> ImageSet:
    if not network.trained:
        raise FpgmError(f"nothing to learn from random weights: {network.notice}")
    return load_images(network.dataset, "train", chosen.data)


def _moments(chosen: argparse.Namespace, network: Network) -> Moments:
    return _last(
        "calibrating",
        calibrate_steps(network, _calibration(chosen), _training(chosen, network), choose_device(chosen.device)),
    )


def _last(doing: str, steps: Iterator[Any]) -> Any:
    """The last thing that a generator yields; the shares before it are shown as progress."""
    last: Any = None
    for last in steps:
        if isinstance(last, float):
            progress(doing, last)
    progress("", 1)
    return last


def _calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    _add_calibration(parser, Calibration())


def _calibrate(chosen: argparse.Namespace) -> int:
    network, start = Network.load(chosen.model, chosen.weights), time.perf_counter()
    moments = _moments(chosen, network)
    layers = [
        {"name": name, "columns": one.columns, "groups": len(one.mean), "samples": one.samples,
         "singular": one.singular}
        for name, one in moments.layers.items()
    ]  # fmt: skip
    result = {
        **about(network),
        **asdict(moments.calibration),
        "images": moments.images,
        "source": moments.source,
        "layers": layers,
        "skipped": dict(moments.skipped),
        "seconds": time.perf_counter() - start,
    }
    lines = [f"{'reads pruned channels':28} {'columns':>8} {'samples':>9}"]
    lines += [
        f"{one['name']:28} {one['columns']:8,} {one['samples']:9,}{'  singular' if one['singular'] else ''}"
        for one in layers
    ]
    lines += [f"left out: {reason}" for reason in moments.skipped.values()]
    show(chosen, result, "\n".join([*lines, f"{moments.images:,} images, {result['seconds']:.1f} s"]))
    return 0


def _repair_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_plan(parser)
    _add_calibration(parser, REPAIR)


def _repair(chosen: argparse.Namespace) -> int:
    network, plan = opened(chosen)
    training, device = _training(chosen, network), choose_device(chosen.device)
    if network.prune(plan).prunes_nothing:
        raise FpgmError("nothing to repair: this plan prunes nothing; raise a rate")
    start = time.perf_counter()
    mended: Mended = _last(
        "repairing", repair_steps(network, network.keep_masks(plan), _calibration(chosen), training, device)
    )
    seconds = time.perf_counter() - start
    if mended.notice:
        print(f"note: {mended.notice}", file=sys.stderr)
    cost, right = network.cost(plan), dict(mended.right or {})
    result = {
        **about(network),
        "criterion": plan.criterion,
        "coupling": plan.coupling,
        "rung": mended.rung,
        "images": mended.images,
        "watched": mended.watched,
        "right": right,
        "replaced": sorted(mended.tensors),
        "macs": cost.macs,
        "dense_macs": network.dense_cost.macs,
        "seconds": seconds,
    }
    shares = {rung: f"{count / mended.watched:.1%}" for rung, count in right.items()}
    text = (
        f"{len(mended.tensors)} tensors replaced, from {mended.images:,} images, in {seconds:.1f} s; of "
        f"{mended.watched:,} held-out training images {shares['recalibrated']} right recalibrated, "
        f"{shares['repaired']} repaired: {mended.rung}"
    )
    show(chosen, result, text)
    return 0


def _replaceability_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--coupling", choices=list(COUPLINGS), default="inner", help="which layers (default inner)")
    _add_calibration(parser, Calibration())


def _replaceability(chosen: argparse.Namespace) -> int:
    network = Network.load(chosen.model, chosen.weights)
    found = replaceability(network, _moments(chosen, network), chosen.coupling)
    result = {**about(network), "coupling": chosen.coupling, "layers": [_row(one) for one in found]}
    lines = [f"{'layer':28} {'filters':>7}  {'g and refit cost':22} {'norm and refit cost':22}"]
    for one in found:
        lines.append(
            f"{one.layer:28} {len(one.costs):7}  {_rho(one.by_distance):22} {_rho(one.by_norm):22} {one.verdict}"
        )
    lines.append("Spearman's rank correlations; intervals are Bonett and Wright's, 95%")
    show(chosen, result, "\n".join(lines))
    return 0


def _rho(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def _row(one: Replaceability) -> dict[str, Any]:
    return {
        "name": one.layer,
        "filters": len(one.costs),
        "by_distance": asdict(one.by_distance) if one.by_distance else None,
        "by_norm": asdict(one.by_norm) if one.by_norm else None,
        "verdict": one.verdict,
        "distance_sums": one.distance_sums.tolist(),
        "norms": one.norms.tolist(),
        "costs": one.costs.tolist(),
    }


def _damage_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_choices(parser, "inner")
    parser.add_argument("--rate", type=rate_of, action="append", help="may be repeated (default 0.1 to 0.9)")
    parser.add_argument("--study", type=int, metavar="N", help="measure N plans at mixed rates beside the prediction")
    _add_calibration(parser, Calibration())


def _damage(chosen: argparse.Namespace) -> int:
    rates = chosen.rate or SURFACE_RATES
    chosen.plan, chosen.rate, chosen.coupling = None, 0.0, chosen.coupling or "inner"
    network = Network.load(chosen.model, chosen.weights)
    if chosen.study is not None:
        return _study(chosen, network)
    like = plan_of(chosen, network)
    found: DamageSurface = _last("predicting", damage_steps(network, _moments(chosen, network), like, rates))
    result = {
        **about(network),
        "criterion": like.criterion,
        "coupling": like.coupling,
        "rates": list(found.rates),
        "units": [{"name": unit, "loss": row.tolist()} for unit, row in zip(found.units, found.loss, strict=True)],
        "skipped": dict(found.skipped),
    }
    lines = [f"{'':28}" + "".join(f"{rate:7.0%}" for rate in found.rates)]
    lines += [
        f"{unit:28}" + "".join(f"{loss:7.1%}" for loss in row)
        for unit, row in zip(found.units, found.loss, strict=True)
    ]
    lines.append("share of its consumers' variance that is lost after the best refit, each unit pruned alone")
    show(chosen, result, "\n".join(lines))
    return 0


def _study(chosen: argparse.Namespace, network: Network) -> int:
    if chosen.study < 5:
        raise FpgmError(f"{chosen.study} plans tell nothing; study at least 5")
    study = Study((), chosen.study)
    for study in study_steps(network, chosen.study):
        progress("measuring plans", len(study.plans) / study.total)
    progress("", 1)
    agreement = study.agreement
    result = {
        **about(network),
        "plans": [{**asdict(one), "rates": dict(one.rates)} for one in study.plans],
        "spearman": asdict(agreement) if agreement else None,
    }
    lines = [f"{one.predicted:8.3f} {one.correct / one.images:8.2%}" for one in study.plans]
    said = "predicted loss and measured, repaired accuracy on choose; Spearman's correlation of loss with loss"
    show(chosen, result, "\n".join([*lines, f"{said} {_rho(agreement)}"]))
    return 0


CALIBRATE = Command(
    "calibrate", "read training images once: second moments of what every layer reads", _calibrate_arguments, _calibrate
)
REPAIR_COMMAND = Command(
    "repair", "repair a pruned network in closed form, watched on held-out training images", _repair_arguments, _repair
)
REPLACEABILITY = Command(
    "replaceability",
    "test the paper's premise: are the filters nearest the others the cheapest to replace?",
    _replaceability_arguments,
    _replaceability,
)
DAMAGE = Command(
    "damage",
    "predict what every unit loses at every rate once repaired; with --study, check it against measured plans",
    _damage_arguments,
    _damage,
)
