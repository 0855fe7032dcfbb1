"""The command that writes a plan and its compact network for other tools."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from fpgm_core.cli.arguments import (
    Command,
    add_model,
    add_plan,
    add_rung,
    opened,
    pruned_of,
    recovered,
    rung_of,
    show,
)
from fpgm_core.cli.images import add_data, calibrating_of, halves_of, has_images, samples_of
from fpgm_core.cli.progress import finish
from fpgm_core.cli.timing import add_aligned, add_timing, aligned_told, runtimes_of, timing_of
from fpgm_core.data import ImageSet
from fpgm_core.export import (
    ARTEFACTS,
    CALIBRATION,
    TIMING,
    Bundle,
    ExportConfig,
    export_work,
    most_measured,
    write_bundle,
)
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.runtime.distributed import world

NUM_SAMPLES = 64  # images that the forms are compared on


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_plan(parser)
    add_rung(parser)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write into")
    add_artefacts(parser)
    add_data(parser)


def add_artefacts(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what an export holds."""
    parser.add_argument("--only", action="append", choices=list(ARTEFACTS), help="export this alone; may be repeated")
    add_aligned(parser)
    add_timing(parser, TIMING)


def exported(
    chosen: argparse.Namespace, pruned: PrunedNetwork, *, splits: Mapping[str, ImageSet], folder: Path
) -> Bundle:
    """A pruned network written into a folder, measured on test images by split; with progress.

    Under torchrun all processes may call it: the first alone writes.
    """
    network = pruned.network
    splits = {half: images.at_most(most_measured(network)) for half, images in splits.items()}
    config = ExportConfig(
        artefacts=tuple(ARTEFACTS[name] for name in chosen.only or ARTEFACTS),
        runtimes=runtimes_of(chosen, ("all",)),
        timing=timing_of(chosen),
        samples=samples_of(chosen, network, NUM_SAMPLES),
        training=calibrating_of(chosen, network, CALIBRATION),
        aligned=chosen.aligned,
    )
    bundle = finish(export_work(pruned, images=splits, config=config))
    if world().is_main:
        write_bundle(bundle, folder)
    return bundle


def _export(chosen: argparse.Namespace) -> int:
    network = opened(chosen)
    method = rung_of(chosen, network)
    pruned = pruned_of(chosen, network)
    has_any = has_images(chosen, network)
    if method != "recalibrated" or (network.trained and has_any):  # else there is nothing to recalibrate on
        pruned = recovered(chosen, pruned, method)
    splits = halves_of(chosen, network, most_measured(network)) if has_any else {}
    bundle = exported(chosen, pruned, splits=splits, folder=chosen.out)
    lines = [f"{len(bundle.files)} files in {chosen.out}:"]
    for entry in bundle.manifest["artefacts"]:
        lines += [f"  {file['file']:22} {file['bytes']:>12,} bytes  {entry['title']}" for file in entry["files"]]
    lines += [f"  left out: {left['name']}: {left['reason']}" for left in bundle.manifest["skipped"]]
    lines += [aligned_told(pruned)] if chosen.aligned else []
    show(chosen, {"out": str(chosen.out), **bundle.manifest}, "\n".join(lines))
    return 0


EXPORT = Command(
    "export", "write a plan and its compact network in forms that other tools read", _export_arguments, _export
)
