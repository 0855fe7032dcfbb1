"""The command that writes the lesson, with a network's own figures, as a worksheet and its answers."""

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
    parser.add_argument("--out", type=Path, required=True, help="the worksheet; its answers go to <name>-answers.html")
    add_data(parser)


def _lesson(chosen: argparse.Namespace) -> int:
    from fpgm_core.lesson import document_work  # brings plotly: only those who draw wait for it

    network = network_of(chosen)
    measured = has_images(chosen, network) and network.trained
    images = images_of(chosen, network, "choose") if measured else None
    training = training_of(chosen, network) if measured else None
    work = document_work(network, chosen.language, images=images, training=training)
    document = finish(work, "the lesson")
    files = {chosen.out: document.worksheet, chosen.out.with_stem(f"{chosen.out.stem}-answers"): document.key}
    if world().is_main:
        for path, text in files.items():
            write_atomic(path, text.encode())
    written = [{"path": str(path), "bytes": len(text.encode())} for path, text in files.items()]
    names = " and ".join(str(path) for path in files)
    show(chosen, {**about(network), "language": chosen.language, "files": written}, f"{network.title}: {names}")
    return 0


LESSON = Command(
    "lesson",
    "write the lesson with this network's figures: a worksheet and its answers, as HTML files",
    _lesson_arguments,
    _lesson,
)
