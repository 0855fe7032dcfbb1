"""The command that writes the lesson, with a network's own figures, as one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from fpgm_core.cli.arguments import Command, about, add_model, network_of, show
from fpgm_core.cli.images import add_data, has_images, images_of, training_of
from fpgm_core.cli.progress import finish
from fpgm_core.runtime.distributed import world
from fpgm_core.runtime.storage import write_atomic


def _lesson_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--language", default="en", help="en or ko (default en)")
    parser.add_argument("--out", type=Path, required=True, help="the HTML file to write")
    add_data(parser)


def _lesson(chosen: argparse.Namespace) -> int:
    from fpgm_core.lesson import document_work  # brings plotly: only those who draw wait for it

    network = network_of(chosen)
    measured = has_images(chosen, network) and network.trained
    images = images_of(chosen, network, "choose") if measured else None
    training = training_of(chosen, network) if measured else None
    work = document_work(network, chosen.language, images=images, training=training)
    content = finish(work, "the lesson").encode()
    if world().is_main:
        write_atomic(chosen.out, content)
    result = {**about(network), "language": chosen.language, "out": str(chosen.out), "bytes": len(content)}
    show(chosen, result, f"the lesson on {network.title}: {chosen.out}, {len(content):,} bytes")
    return 0


LESSON = Command("lesson", "write the lesson with this network's figures as one HTML file", _lesson_arguments, _lesson)
