"""Commands that repair, and that measure what is replaceable: calibrate, repair, replaceability, damage."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from fpgm_core.allocation.ranking import SHORT, ranking_work
from fpgm_core.calibration import CalibrationConfig, Moments, calibrate_work
from fpgm_core.cli.arguments import (
    Command,
    about,
    add_choices,
    add_model,
    add_place,
    add_plan,
    network_of,
    opened,
    plan_of,
    pruned_of,
    rate_of,
    scored,
    show,
)
from fpgm_core.cli.images import NUM_TRAINING, add_data, images_of, training_of
from fpgm_core.cli.progress import finish
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import (
    QUESTIONS,
    EvaluationConfig,
    Finding,
    Interval,
    Question,
    Replaceability,
    answers_told,
    replaceability,
    verdict_counts,
)
from fpgm_core.graph import COUPLINGS
from fpgm_core.pruning import Network
from fpgm_core.recovery import REPAIR, SURFACE_RATES, RecoveryContext, damage_work, get_recovery_method
from fpgm_core.runtime.device import choose_device


def _add_calibration(parser: argparse.ArgumentParser, default: CalibrationConfig) -> None:
    parser.add_argument(
        "--images", type=int, default=default.num_images, help=f"training images to read (default {default.num_images})"
    )
    parser.add_argument(
        "--positions",
        type=int,
        default=default.positions,
        help=f"places in each layer's output to look at, an image (default {default.positions})",
    )
    add_data(parser)
    add_place(parser, precision=False)


def _calibration(chosen: argparse.Namespace) -> CalibrationConfig:
    return CalibrationConfig(num_images=chosen.images, positions=chosen.positions)


def _training(chosen: argparse.Namespace, network: Network) -> ImageSet:
    """Training images: as many as are to be read, and some to be watched."""
    return training_of(chosen, network, max(NUM_TRAINING, chosen.images))


def _moments(chosen: argparse.Namespace, network: Network) -> Moments:
    training, device = _training(chosen, network), choose_device(chosen.device)
    return finish(calibrate_work(network, training, config=_calibration(chosen), device=device), "calibrating")


def _calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    _add_calibration(parser, CalibrationConfig())


def _calibrate(chosen: argparse.Namespace) -> int:
    network, start = network_of(chosen), time.perf_counter()
    moments = _moments(chosen, network)
    layers = [
        {"name": name, "columns": one.columns, "groups": len(one.mean), "samples": one.samples,
         "singular": one.singular}
        for name, one in moments.layers.items()
    ]  # fmt: skip
    result = {
        **about(network),
        "positions": moments.config.positions,
        "seed": moments.config.seed,
        "images": moments.num_images,
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
    show(chosen, result, "\n".join([*lines, f"{moments.num_images:,} images, {result['seconds']:.1f} s"]))
    return 0


def _repair_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_plan(parser)
    _add_calibration(parser, REPAIR)


def _repair(chosen: argparse.Namespace) -> int:
    network = opened(chosen)
    training = _training(chosen, network)
    pruned = pruned_of(chosen, network)
    if pruned.prunes_nothing:
        raise FpgmError("nothing to repair: this plan prunes nothing; raise a rate")
    start = time.perf_counter()
    context = RecoveryContext(choose_device(chosen.device))
    work = get_recovery_method("repaired").work(pruned, training, context, config=_calibration(chosen))
    repaired = finish(work, "repairing")
    seconds = time.perf_counter() - start
    if repaired.notice:
        print(f"note: {repaired.notice}", file=sys.stderr)
    step = repaired.recovery[-1]
    watched, right = step.details["watched"], step.details["right"]
    other = next(name for name in right if name != "repaired")
    title = get_recovery_method(other).title.lower()
    result = {
        **about(network),
        "criterion": pruned.plan.criterion,
        "coupling": pruned.plan.coupling,
        "rung": step.method,
        "images": step.num_images,
        "watched": watched,
        "right": right,
        "replaced": sorted(repaired.tensors),
        "macs": pruned.cost.macs,
        "dense_macs": network.dense_cost.macs,
        "seconds": seconds,
    }
    text = (
        f"{len(repaired.tensors)} tensors replaced, from {step.num_images:,} images, in {seconds:.1f} s; of "
        f"{watched:,} held-out training images {title} is {step.details['says']} "
        f"{right[other] / watched:.1%}, repaired {right['repaired'] / watched:.1%}: {step.method}"
    )
    show(chosen, result, text)
    return 0


def _replaceability_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--coupling", choices=list(COUPLINGS), default="inner", help="which layers (default inner)")
    _add_calibration(parser, CalibrationConfig())


def _replaceability(chosen: argparse.Namespace) -> int:
    network = network_of(chosen)
    found = replaceability(network, _moments(chosen, network), chosen.coupling)
    result = {
        **about(network),
        "coupling": chosen.coupling,
        "questions": [_asked(question, found) for question in QUESTIONS.values()],
        "layers": [_row(one) for one in found],
    }
    *told, parted = answers_told(found)
    lines = [
        line
        for question, said in zip(QUESTIONS.values(), told, strict=True)
        for line in [said, *_answers(question, found), ""]
    ]
    lines += [
        f"{parted}.",
        "Share made good = 1 - refit cost / loss without a refit. Spearman's rank correlations with Bonett and",
        "Wright's 95% intervals; verdicts come from intervals that Holm's method widens over the layers.",
    ]
    show(chosen, result, "\n".join(lines))
    return 0


def _asked(question: Question, found: Sequence[Replaceability]) -> dict[str, Any]:
    counts = verdict_counts(found, question.name)
    return {"name": question.name, "asks": question.asks, "correlates": question.pair, "verdicts": counts}


def _answers(question: Question, found: Sequence[Replaceability]) -> list[str]:
    """A question's answer in every layer, under a heading."""
    with_norm = any(question.name in one.by_norm for one in found)
    beside = f"  {'by norm':22}" if with_norm else ""
    lines = [f"{'layer':28} {question.pair:31}{beside}".rstrip()]
    for one in found:
        finding = one.by_distance[question.name]
        beside = f"  {_rho(one.by_norm[question.name].interval):22}" if with_norm else ""
        lines.append(f"{one.layer:28} {_rho(finding.interval):31}{beside}  {finding.told}")
    return lines


def _rho(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def _row(one: Replaceability) -> dict[str, Any]:
    return {
        "name": one.layer,
        "filters": len(one.costs),
        "by_distance": {name: _finding(finding) for name, finding in one.by_distance.items()},
        "by_norm": {name: _finding(finding) for name, finding in one.by_norm.items()},
        "distance_sums": one.distance_sums.tolist(),
        "norms": one.norms.tolist(),
        "losses": one.losses.tolist(),
        "costs": one.costs.tolist(),
        "made_good": [None if math.isnan(share) else share for share in one.made_good.tolist()],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    """An answer: the 95% interval, the one that Holm's method widens, and the verdict that follows from it."""
    return {
        "interval": asdict(finding.interval) if finding.interval else None,
        "widened": asdict(finding.widened) if finding.widened else None,
        "verdict": finding.verdict,
        "told": finding.told,
    }


def _damage_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_choices(parser, "inner")
    parser.add_argument("--rate", type=rate_of, action="append", help="may be repeated (default 0.1 to 0.9)")
    parser.add_argument(
        "--study", type=int, metavar="N", help="measure N random plans at each of three levels of equal MACs"
    )
    parser.add_argument("--tuned", type=int, metavar="EPOCHS", help="with --study: then fine-tune each so long")
    parser.add_argument("--studied", type=int, default=2000, help="with --study: images of choose (default 2000)")
    _add_calibration(parser, CalibrationConfig())


def _damage(chosen: argparse.Namespace) -> int:
    rates = chosen.rate or SURFACE_RATES
    chosen.plan, chosen.rate, chosen.coupling = None, 0.0, chosen.coupling or "inner"
    network = network_of(chosen)
    if chosen.study is not None:
        return _study(chosen, network)
    like = plan_of(chosen, network)
    moments = _moments(chosen, network)
    work = damage_work(scored(chosen, network, like.criterion), moments, plan=like, rates=rates)
    surface = finish(work, "predicting")
    rows = list(zip(surface.units, surface.loss, strict=True))
    result = {
        **about(network),
        "criterion": like.criterion,
        "coupling": like.coupling,
        "rates": list(surface.rates),
        "units": [{"name": unit, "loss": row.tolist()} for unit, row in rows],
        "skipped": dict(surface.skipped),
    }
    lines = [f"{'':28}" + "".join(f"{rate:7.0%}" for rate in surface.rates)]
    lines += [f"{unit:28}" + "".join(f"{loss:7.1%}" for loss in row) for unit, row in rows]
    lines.append("share of its consumers' variance that is lost after the best refit, each unit pruned alone")
    show(chosen, result, "\n".join(lines))
    return 0


def _study(chosen: argparse.Namespace, network: Network) -> int:
    training = training_of(chosen, network)
    images = images_of(chosen, network, "choose").first(chosen.studied)
    like, recipe = plan_of(chosen, network), None if chosen.tuned is None else replace(SHORT, epochs=chosen.tuned)
    work = ranking_work(
        scored(chosen, network, like.criterion),
        images,
        training,
        like=like,
        num_plans=chosen.study,
        losses=("damage", "blend"),
        recipe=recipe,
        config=EvaluationConfig(chosen.device),
    )
    study = finish(work, "measuring plans")
    agreements = {
        f"{level:g}": {name: study.agreement(name, level) for name in study.predictors} for level in study.levels
    }
    result = {
        **about(network),
        "criterion": like.criterion,
        "coupling": like.coupling,
        "images": study.num_images,
        "training_images": study.num_training,
        "target": study.target,
        "recipe": None if recipe is None else asdict(recipe),
        "trusted": study.trusted,
        "behind": list(study.behind),
        "overall": {name: asdict(rho) for name in study.predictors if (rho := study.overall(name))},
        "plans": [
            {"level": one.level, "rates": dict(one.plan.rates), "figures": dict(one.figures)} for one in study.plans
        ],
        "spearman": {
            level: {name: asdict(rho) if rho else None for name, rho in found.items()}
            for level, found in agreements.items()
        },
    }
    lines = [f"{'':14}" + "".join(f"{level:>24.0%}" for level in study.levels) + f"{'mean':>24}"]
    for name in study.predictors:
        found = [*(agreements[f"{level:g}"][name] for level in study.levels), study.overall(name)]
        lines.append(f"{name:14}" + "".join(f"{_rho(rho):>24}" for rho in found))
    lines.append(
        f"Spearman's correlation with {study.target} accuracy among {chosen.study} random plans that cut as many MACs; "
        "bootstrap intervals, 95%"
    )
    if study.trusted is not None:
        behind = ", ".join(study.behind) or "none"
        lines.append(f"To choose by: {study.trusted}, which ranks best; behind it by an interval below 0: {behind}")
    show(chosen, result, "\n".join(lines))
    return 0


CALIBRATE = Command(
    "calibrate", "read training images once: second moments of what every layer reads", _calibrate_arguments, _calibrate
)
REPAIR_COMMAND = Command(
    "repair", "repair a pruned network in closed form, watched on held-out training images", _repair_arguments, _repair
)
REPLACEABILITY = Command(
    "replaceability",
    "test the paper's premise: are the filters nearest the others cheap to lose, and are they replaceable?",
    _replaceability_arguments,
    _replaceability,
)
DAMAGE = Command(
    "damage",
    "predict what every unit loses at every rate once repaired; with --study, check it against measured plans",
    _damage_arguments,
    _damage,
)
