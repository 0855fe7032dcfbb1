"""The command that writes a plan and its compact network for other tools."""

from __future__ import annotations

import argparse
from pathlib import Path

from fpgm_core.cli.arguments import Command, add_model, add_plan, add_rung, opened, progress, rung_of, show
from fpgm_core.runtime.distributed import world


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_plan(parser)
    add_rung(parser)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write into")


def _export(chosen: argparse.Namespace) -> int:
    from fpgm_core.export import Bundle, export_steps, write_bundle  # onnx and the like: only who exports waits

    network, plan = opened(chosen)
    for step in export_steps(network, plan, rung_of(chosen)):
        if not isinstance(step, Bundle):
            progress(step.doing, step.share)
    assert isinstance(step, Bundle)
    progress("", 1)
    if world().is_main:
        write_bundle(step, chosen.out)
    lines = [f"{len(step.files)} files in {chosen.out}:"]
    for entry in step.manifest["artefacts"]:
        lines += [f"  {file['file']:22} {file['bytes']:>12,} bytes  {entry['title']}" for file in entry["files"]]
    lines += [f"  left out: {left['name']}: {left['reason']}" for left in step.manifest["skipped"]]
    show(chosen, {"out": str(chosen.out), **step.manifest}, "\n".join(lines))
    return 0


EXPORT = Command(
    "export", "write a plan and its compact network in forms that other tools read", _export_arguments, _export
)
