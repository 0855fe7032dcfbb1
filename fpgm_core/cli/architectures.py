"""The command that tries the library on networks people use."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from fpgm_core.cli.arguments import Command, finish, show


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--table", type=Path, default=Path("docs/architectures.csv"), help="where rows are kept")
    parser.add_argument("--only", action="append", help="one network, such as timm/resnet50d; may be repeated")
    parser.add_argument("--again", action="store_true", help="try what the table has already once more")
    parser.add_argument("--seconds", type=float, default=900.0, help="what one network may take")


def _run(chosen: argparse.Namespace) -> int:
    from fpgm_core.architectures import subject, subjects, summary, table_work  # brings torchvision

    networks = [subject(title) for title in chosen.only] if chosen.only else subjects()
    rows = finish(table_work(networks, chosen.table, seconds=chosen.seconds, again=chosen.again))
    lines = [f"{row.network:40} {'holds' if row.holds else row.problem or 'does not hold'}" for row in rows]
    text = "\n".join([*lines, summary(rows)])
    show(chosen, {"table": str(chosen.table), "summary": summary(rows), "rows": [asdict(row) for row in rows]}, text)
    return 0 if all(row.holds for row in rows) else 1


ARCHITECTURES = Command(
    "architectures", "try the library on many networks, beside Torch-Pruning; keeps a table", _arguments, _run
)
