"""The command that puts pruning beside quantising, and both together beside either."""

from __future__ import annotations

import argparse
from typing import Any

from fpgm_core.cli.arguments import (
    Command,
    about,
    add_model,
    add_plan,
    add_rung,
    network_of,
    pruned_of,
    recovered,
    rung_of,
    show,
)
from fpgm_core.cli.images import add_data, calibrating_of, halves_of
from fpgm_core.cli.progress import finish
from fpgm_core.cli.timing import BATCHES, add_aligned, add_timing, aligned_told, runtimes_of, timing_of
from fpgm_core.export import CALIBRATION, FORMS, TIMING, change_told, most_measured, quantising_work
from fpgm_core.timing import Target, speed_told


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_plan(parser)
    add_rung(parser)
    add_timing(parser, TIMING)
    add_aligned(parser)
    parser.add_argument("--batch", type=int, action="append", help="images at once; may be repeated (default 1, 64)")
    parser.add_argument("--threads", type=int, help="of the processor (default all that torch takes)")
    add_data(parser)


def _quantise(chosen: argparse.Namespace) -> int:
    network = network_of(chosen)
    targets = [
        Target(name, batch, chosen.threads)
        for name in runtimes_of(chosen, ("onnxruntime",))
        for batch in chosen.batch or BATCHES
    ]
    most = most_measured(network)
    training, method = calibrating_of(chosen, network, CALIBRATION), rung_of(chosen, network)
    pruned = pruned_of(chosen, network)
    if training is not None:  # else it is refused, with the reason
        pruned = recovered(chosen, pruned, method)
    halves = {} if training is None else halves_of(chosen, network, most)
    images = {half: one.at_most(most) for half, one in halves.items()}
    work = quantising_work(
        pruned, training, images=images, targets=targets, timing=timing_of(chosen), aligned=chosen.aligned
    )
    found = finish(work)
    result = {
        **about(network), "criterion": pruned.plan.criterion, "coupling": pruned.plan.coupling, "rung": method,
        "macs": pruned.cost.macs, "dense_macs": network.dense_cost.macs, "aligned": chosen.aligned,
        "compact_macs": pruned.compact_cost(aligned=chosen.aligned).macs, **found.to_dict(),
    }  # fmt: skip
    show(chosen, result, "\n".join([_text(result), *([aligned_told(pruned)] if chosen.aligned else [])]))
    return 0


def _text(result: dict[str, Any]) -> str:
    """A line for every form and for every pair; a difference only where an interval allows one."""
    lines = [f"{1 - result['macs'] / result['dense_macs']:.1%} of the MACs pruned, {result['rung']}"]
    for row in result["forms"]:
        accuracies = ", ".join(
            f"{split} {one['value']:.2%} [{one['low']:.2%}, {one['high']:.2%}]"
            for split, one in row["accuracy"].items()
        )
        times = ", ".join(f"{one['value']:.3g} ms for {one['batch']}" for one in row["ms"])
        lines.append(f"  {row['title']:20} {row['bytes'] / 1024:8,.0f} KiB  {accuracies}; {times}")
    for row in result["pairs"]:
        changes = ", ".join(f"{split} {change_told(one)}" for split, one in row["change"].items())
        speeds = "; ".join(f"{one['batch']} at once: {speed_told(one)}" for one in row["speed"])
        lines.append(f"  {FORMS[row['form']]} against {FORMS[row['against']]}: {row['bytes_share']:.0%} of its bytes")
        lines.append(f"    points {changes}")
        lines.append(f"    {speeds}")
    lines += [
        f"timed in {one['runtime']} {one['version']}, {one['threads']} threads, batch {one['batch']}, {one['runs']} "
        f"rounds in turns{', on a busy machine' if one['busy'] else ''}"
        for one in result["timed"]
    ]
    lines.append("choose has chosen the plan, where one was chosen on it; sealed has chosen nothing")
    return "\n".join(lines)


QUANTISE = Command(
    "quantise",
    "pruning against quantising against both: accuracy, size and milliseconds of four ONNX files",
    _arguments,
    _quantise,
)
