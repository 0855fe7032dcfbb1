"""Commands that look: which networks there are, what their layers are like."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from fpgm_core.cli.arguments import Command, about, add_model, network_of, rate_of, show
from fpgm_core.criteria import CRITERIA, geometric_median, medoid, overlap, select
from fpgm_core.graph import Layer, weights_of
from fpgm_core.models import list_models
from fpgm_core.pruning import Network


def _models(chosen: argparse.Namespace) -> int:
    rows: list[dict[str, Any]] = []
    for info in list_models(chosen.pattern):
        record = info.record
        rows.append(
            {
                "name": info.name,
                "title": info.title,
                "library": info.library or None,
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
        lines.append(f"{row['name']:28} {row['dataset']:11} {trained:32} {row['summary']}")
    if chosen.pattern is None:
        lines.append("timm's: `models 'timm/*'` lists them, `models 'timm/resnet*'` some")
    show(chosen, {"models": rows}, "\n".join(lines or [f"no network is called like {chosen.pattern}"]))
    return 0


def _models_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", help="only names like this: '*resnet*', 'timm/*resnet*'")


def _layers_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--rate", type=rate_of, help="also show what this fraction prunes, by norm and by FPGM")


def _layers(chosen: argparse.Namespace) -> int:
    network = network_of(chosen)
    if network.notice:
        print(f"note: {network.notice}", file=sys.stderr)
    rows = [_layer_row(network, layer, chosen.rate) for layer in network.layers]
    result = {**about(network), "rate": chosen.rate, "layers": rows}
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
    show(chosen, result, "\n".join(lines))
    return 0


def _maybe(value: float | None, form: str, width: int) -> str:
    return format(value, form) if value is not None else "-".rjust(width)


def _layer_row(network: Network, layer: Layer, rate: float | None) -> dict[str, Any]:
    filters = weights_of(network.module, layer.name)
    norms = network.norm_diagnostics(layer.name)
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
        by_norm, by_distance = (
            select(CRITERIA[name], {layer.name: filters}, rate=rate) for name in ("l2_norm", "fpgm")
        )
        row["pruned_l2"] = [int(i) for i in (~by_norm).nonzero()[0]]
        row["pruned_fpgm"] = [int(i) for i in (~by_distance).nonzero()[0]]
        row["overlap"] = overlap(by_norm, by_distance)
    return row


MODELS = Command("models", "list the networks", _models_arguments, _models)
LAYERS = Command("layers", "list a network's convolutions: shapes, costs, norms, medoids", _layers_arguments, _layers)
