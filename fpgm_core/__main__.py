"""The command line: what the pages do, headless. `python -m fpgm_core --help`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from fpgm_core.data import SPLITS, sample_images
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import DEVICES, PRECISIONS, Figure, Latency, Settings, latency_steps, measure
from fpgm_core.filters import (
    CRITERIA,
    Layer,
    Options,
    check_rate,
    geometric_median,
    medoid,
    norm_diagnostics,
    overlap,
    select,
    weights_of,
)
from fpgm_core.models import LoadedModel, list_models
from fpgm_core.pruning import COUPLINGS, Cost, Plan, Proof, Prunable, randomised, verify_steps


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _rate(text: str) -> float:
    try:
        return check_rate(float(text))
    except ValueError as error:
        message = str(error) if isinstance(error, FpgmError) else f"rate {text!r} is not a number from 0 to 1"
        raise argparse.ArgumentTypeError(message) from error


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = _Parser(prog="python -m fpgm_core", description="Filter pruning, measured.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        return added

    command("models", "list the networks")
    layers = command("layers", "list a network's convolutions: shapes, costs, norms, medoids")
    evaluate = command("evaluate", "measure a plan: accuracy, MACs, parameters")
    verify = command("verify", "prove that masked and compact network compute the same, at the cost that is counted")
    latency = command("latency", "time the dense and the compact network side by side")
    export = command("export", "write a plan and its compact network in forms that other tools read")
    for added in (layers, evaluate, verify, latency, export):
        added.add_argument("model", help="a name that `models` lists")
        added.add_argument("--weights", help="a checkpoint file, a torchvision weights name, or random")
    layers.add_argument("--rate", type=_rate, help="also show what this fraction prunes, by norm and by FPGM")
    for added in (evaluate, verify, latency, export):
        _add_plan(added)
    for added in (evaluate, export):
        added.add_argument("--no-recalibrate", action="store_true", help="keep the dense network's norm statistics")
    verify.add_argument("--randomise", action="store_true", help="draw norms and biases first: a sharper test")
    verify.add_argument("--images", type=int, help="real images to compare on (default 64)")
    latency.add_argument("--batch", type=int, action="append", help="images at once; may be repeated (default 1, 64)")
    latency.add_argument("--runs", type=int, default=15, help="timed passes, of which the median counts (default 15)")
    latency.add_argument("--device", choices=DEVICES, default="auto")
    export.add_argument("--out", type=Path, required=True, help="the folder to write into")
    evaluate.add_argument("--split", choices=SPLITS, default="choose", help="test images to read (default choose)")
    evaluate.add_argument("--images", type=int, help="only the first N of the split")
    evaluate.add_argument("--device", choices=DEVICES, default="auto")
    evaluate.add_argument("--precision", choices=PRECISIONS, default="auto")
    evaluate.add_argument("--data", type=Path, help="a folder with your own copy of the data set")
    return parser


def _add_plan(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what to prune."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--rate", type=_rate, help="prune this fraction of every unit")
    what.add_argument("--plan", type=Path, help="a plan's JSON file, which also says criterion and coupling")
    parser.add_argument("--criterion", help=f"one of {', '.join(CRITERIA)} (default fpgm)")
    parser.add_argument("--coupling", help=f"one of {', '.join(COUPLINGS)} (default independent)")
    parser.add_argument("--seed", type=int, help="seed of the random criterion (default 0)")
    parser.add_argument("--mix-share", type=float, help="part of the rate fpgm_mix prunes by norm (default 0.25)")
    parser.add_argument("--round-to", type=int, help="round the filters kept up to a multiple, 8 say (default 1)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 2 for input that cannot be right."""
    chosen = build_parser().parse_args(arguments)
    try:
        return _COMMANDS[chosen.command](chosen)
    except FpgmError as error:
        line = " ".join(str(error).split())
        print(f"fpgm_core: {line}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stdout = None  # or the interpreter complains when it flushes
        return 0


def _print(chosen: argparse.Namespace, result: dict[str, Any], text: str) -> None:
    print(json.dumps(result) if chosen.json else text)


def _about(loaded: LoadedModel) -> dict[str, Any]:
    return {
        "model": loaded.info.name,
        "weights": loaded.weights,
        "trained": loaded.trained,
        "fingerprint": loaded.fingerprint,
        "notice": loaded.notice,
    }


def _models(chosen: argparse.Namespace) -> int:
    rows: list[dict[str, Any]] = []
    for info in list_models():
        record = info.record
        rows.append(
            {
                "name": info.name,
                "title": info.title,
                "family": info.family,
                "summary": info.summary,
                "dataset": info.dataset,
                "input_shape": list(info.input_shape),
                "bundled": record is not None,
                "accuracy": {split: part["accuracy"] for split, part in record["accuracy"].items()} if record else None,
                "recipe": record["recipe"] if record else None,
                "sha256": record["sha256"] if record else None,
            }
        )
    lines = []
    for row in rows:
        trained = f"bundled, {row['accuracy']['all']:.2%} on all 10,000" if row["accuracy"] else "no bundled weights"
        lines.append(f"{row['name']:22} {row['dataset']:11} {trained:32} {row['summary']}")
    _print(chosen, {"models": rows}, "\n".join(lines))
    return 0


def _layers(chosen: argparse.Namespace) -> int:
    prunable = Prunable.load(chosen.model, chosen.weights)
    if prunable.loaded.notice:
        print(f"note: {prunable.loaded.notice}", file=sys.stderr)
    rows = [_layer_row(prunable, layer, chosen.rate) for layer in prunable.layers]
    result = {**_about(prunable.loaded), "rate": chosen.rate, "layers": rows}
    heading = (
        f"{'layer':28} {'filters':>7} {'MACs':>13} {'share':>6} {'spread':>6} {'floor':>6} {'rho':>6} {'medoid':>6}"
    )
    lines = [heading + (f" {'overlap':>7}" if chosen.rate is not None else "")]
    for row in rows:
        line = (
            f"{row['name']:28} {row['filters']:7} {row['macs']:13,} {row['share']:6.1%} "
            f"{row['l2_std'] / row['l2_mean'] if row['l2_mean'] else 0:6.2f} "
            f"{row['l2_min'] / row['l2_mean'] if row['l2_mean'] else 0:6.2f} "
            f"{_maybe(row['spearman_l2_fpgm'], '6.3f', 6)} {row['medoid']:6}"
        )
        lines.append(line + (f" {_maybe(row['overlap'], '7.0%', 7)}" if chosen.rate is not None else ""))
    _print(chosen, result, "\n".join(lines))
    return 0


def _maybe(value: float | None, form: str, width: int) -> str:
    return format(value, form) if value is not None else "-".rjust(width)


def _layer_row(prunable: Prunable, layer: Layer, rate: float | None) -> dict[str, Any]:
    filters = weights_of(prunable.module, layer.name)
    norms = norm_diagnostics(filters)
    row: dict[str, Any] = {
        "name": layer.name,
        "filters": layer.filters,
        "shape": list(layer.shape),
        "groups": layer.groups,
        "macs": layer.macs,
        "share": layer.share,
        "l2_min": norms.l2_min,
        "l2_max": norms.l2_max,
        "l2_mean": norms.l2_mean,
        "l2_std": norms.l2_std,
        "spearman_l2_fpgm": norms.spearman,
        "medoid": medoid(filters),
        "nearest_to_median": geometric_median(filters).nearest,
    }
    if rate is not None:
        by_norm, by_distance = (select(CRITERIA[name], {layer.name: filters}, rate) for name in ("l2_norm", "fpgm"))
        row["pruned_l2"] = [int(i) for i in (~by_norm).nonzero()[0]]
        row["pruned_fpgm"] = [int(i) for i in (~by_distance).nonzero()[0]]
        row["overlap"] = overlap(by_norm, by_distance)
    return row


def _evaluate(chosen: argparse.Namespace) -> int:
    prunable = Prunable.load(chosen.model, chosen.weights)
    plan = _plan(chosen, prunable)
    settings = Settings(
        chosen.split, chosen.images, not chosen.no_recalibrate, chosen.device, chosen.precision, chosen.data
    )
    figure = _run(prunable, plan, settings)
    result = _result(prunable, plan, settings, figure)
    _print(chosen, result, _report(result))
    return 0


def _report(result: dict[str, Any]) -> str:
    """The result of `evaluate` for people."""

    def cut(name: str) -> str:
        left, dense = result[name], result[f"dense_{name}"]
        return f"{left:,} of {dense:,}  ({1 - left / dense:.1%} cut)"

    rung = f"recalibrated on {result['recalibration_images']:,}" if result["recalibrated"] else "as is"
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


def _plan(chosen: argparse.Namespace, prunable: Prunable) -> Plan:
    given = {name: getattr(chosen, name) for name in ("criterion", "coupling", "seed", "mix_share", "round_to")}
    if chosen.plan is not None:
        extra = [name for name, value in given.items() if value is not None]
        if extra:
            raise FpgmError(f"the plan says its own {extra[0]}; leave --{extra[0].replace('_', '-')} out")
        try:
            plan = Plan.from_json(chosen.plan.read_bytes())
        except OSError as error:
            raise FpgmError(f"cannot read the plan {chosen.plan}: {error.strerror}; check the path") from error
        prunable.check(plan)
        return plan
    options = {name: given[name] for name in ("seed", "mix_share", "round_to") if given[name] is not None}
    names = {name: given[name] for name in ("criterion", "coupling") if given[name] is not None}
    return prunable.plan(chosen.rate, options=Options(**options), **names)


def _run(prunable: Prunable, plan: Plan, settings: Settings) -> Figure:
    """Measure, with a line of progress on a terminal's stderr."""
    live = sys.stderr.isatty()
    last: Figure | None = None
    for figure in measure(prunable, plan, settings, first_figure=False):
        last = figure or last
        if live and figure is not None:
            print(f"\r{figure.images:,} of {figure.total:,} images", end="", file=sys.stderr, flush=True)
    if live:
        print("\r\033[K", end="", file=sys.stderr)
    assert last is not None
    return last


def _result(prunable: Prunable, plan: Plan, settings: Settings, figure: Figure) -> dict[str, Any]:
    cost: Cost = prunable.cost(plan)
    return {
        **_about(prunable.loaded),
        "criterion": plan.criterion,
        "coupling": plan.coupling,
        "options": plan.to_dict()["options"],
        "recalibrated": figure.recalibration_images > 0,
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
        "dense_macs": prunable.dense_cost.macs,
        "params": cost.params,
        "dense_params": prunable.dense_cost.params,
        "device": figure.device,
        "precision": figure.precision,
        "seconds": figure.seconds,
    }


def _opened(chosen: argparse.Namespace) -> tuple[Prunable, Plan]:
    prunable = Prunable.load(chosen.model, chosen.weights)
    if prunable.loaded.notice:
        print(f"note: {prunable.loaded.notice}", file=sys.stderr)
    return prunable, _plan(chosen, prunable)


def _progress(doing: str, share: float) -> None:
    """A line of progress on a terminal's stderr."""
    if sys.stderr.isatty():
        print(f"\r\033[K{doing} {share:.0%}", end="" if doing else "\r\033[K", file=sys.stderr, flush=True)


def _verify(chosen: argparse.Namespace) -> int:
    prunable, plan = _opened(chosen)
    info = prunable.loaded.info
    module = randomised(prunable.module, info.input_shape) if chosen.randomise else None
    images = sample_images(info.dataset, info.input_shape, 64 if chosen.images is None else chosen.images)
    for step in verify_steps(prunable, prunable.keep_masks(plan), images, module):
        if isinstance(step, float):
            _progress("comparing", step)
    assert isinstance(step, Proof)
    _progress("", 1)
    result = {
        **_about(prunable.loaded),
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
    _print(chosen, result, text)
    return 0 if step.holds else 1


def _latency(chosen: argparse.Namespace) -> int:
    prunable, plan = _opened(chosen)
    results = []
    for batch in chosen.batch or [1, 64]:
        for step in latency_steps(prunable, plan, batch, chosen.runs, chosen.device):
            if isinstance(step, float):
                _progress(f"timing batches of {batch}", step)
        assert isinstance(step, Latency)
        results.append(step)
    _progress("", 1)
    cost = prunable.cost(plan)
    result = {
        **_about(prunable.loaded),
        "criterion": plan.criterion,
        "coupling": plan.coupling,
        "macs": cost.macs,
        "dense_macs": prunable.dense_cost.macs,
        "latency": [{**asdict(one), "speed_up": one.speed_up} for one in results],
    }
    text = "\n".join(
        f"batch {one.batch:4}: dense {one.dense_ms:9.2f} ms, compact {one.compact_ms:9.2f} ms, "
        f"{one.speed_up:.2f} times as fast; peak memory {one.dense_peak_bytes / 2**20:.1f} and "
        f"{one.compact_peak_bytes / 2**20:.1f} MiB ({one.device}, {one.threads} threads, median of {one.runs})"
        for one in results
    )
    _print(chosen, result, f"{text}\nMACs are {prunable.dense_cost.macs / cost.macs:.2f} times fewer")
    return 0


def _export(chosen: argparse.Namespace) -> int:
    from fpgm_core.export import Bundle, export_steps, write_bundle  # onnx and the like: only who exports waits

    prunable, plan = _opened(chosen)
    for step in export_steps(prunable, plan, not chosen.no_recalibrate):
        if not isinstance(step, Bundle):
            _progress(step.doing, step.share)
    assert isinstance(step, Bundle)
    _progress("", 1)
    write_bundle(step, chosen.out)
    lines = [f"{len(step.files)} files in {chosen.out}:"]
    for entry in step.manifest["artefacts"]:
        lines += [f"  {file['file']:22} {file['bytes']:>12,} bytes  {entry['title']}" for file in entry["files"]]
    lines += [f"  left out: {left['name']}: {left['reason']}" for left in step.manifest["skipped"]]
    _print(chosen, {"out": str(chosen.out), **step.manifest}, "\n".join(lines))
    return 0


_COMMANDS = {
    "models": _models,
    "layers": _layers,
    "evaluate": _evaluate,
    "verify": _verify,
    "latency": _latency,
    "export": _export,
}


if __name__ == "__main__":
    sys.exit(main())
