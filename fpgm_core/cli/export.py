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
    finish,
    opened,
    pruned_of,
    recovered,
    rung_of,
    show,
)
from fpgm_core.data import DATA, HALVES, ImageSet, load_images, sample_images
from fpgm_core.export import Bundle, ExportConfig, export_work, write_bundle
from fpgm_core.pruning import Network, PrunedNetwork
from fpgm_core.runtime.distributed import world

NUM_SAMPLES = 64  # images that the forms are compared on


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_plan(parser)
    add_rung(parser)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write into")


def test_images(network: Network, root: Path | None = None) -> dict[str, ImageSet]:
    """Both halves of the test images by name, the same that every measurement reads; none where there are none here."""
    if network.dataset not in DATA:
        return {}
    return {half: load_images(network.dataset, half, root) for half in HALVES}


def exported(pruned: PrunedNetwork, folder: Path) -> Bundle:
    """A pruned network written into a folder, with progress; under torchrun by the first process alone."""
    network = pruned.network
    samples = sample_images(network.dataset, network.input_shape, NUM_SAMPLES)
    bundle = finish(export_work(pruned, images=test_images(network), config=ExportConfig(samples=samples)))
    if world().is_main:
        write_bundle(bundle, folder)
    return bundle


def _export(chosen: argparse.Namespace) -> int:
    pruned, rung = pruned_of(chosen, opened(chosen)), rung_of(chosen)
    if pruned.network.trained and pruned.network.dataset in DATA or rung in ("merged",):
        pass
    bundle = exported(pruned, chosen.out)
    lines = [f"{len(bundle.files)} files in {chosen.out}:"]
    for entry in bundle.manifest["artefacts"]:
        lines += [f"  {file['file']:22} {file['bytes']:>12,} bytes  {entry['title']}" for file in entry["files"]]
    lines += [f"  left out: {left['name']}: {left['reason']}" for left in bundle.manifest["skipped"]]
    show(chosen, {"out": str(chosen.out), **bundle.manifest}, "\n".join(lines))
    return 0


EXPORT = Command(
    "export", "write a plan and its compact network in forms that other tools read", _export_arguments, _export
)
