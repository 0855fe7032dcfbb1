"""The command line: what the pages do, headless. `fpgm --help`, or `python -m fpgm_core --help`."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import NoReturn

from fpgm_core.cli import COMMANDS
from fpgm_core.errors import FpgmError
from fpgm_core.runtime.distributed import joined_world
from fpgm_core.runtime.memory import keep_freed_memory


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _called_as() -> str:
    """The program's name as it was typed: the installed script's, else the module form."""
    return "fpgm" if Path(sys.argv[0]).stem == "fpgm" else "python -m fpgm_core"


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = _Parser(prog=_called_as(), description="Filter pruning, measured.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for command in COMMANDS.values():
        added = commands.add_parser(command.name, help=command.text, description=command.text)
        added.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        command.arguments(added)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 2 for input that cannot be right.

    Without arguments it runs as a program of its own, on those of the command line.
    """
    if arguments is None:
        keep_freed_memory()
    chosen = build_parser().parse_args(arguments)
    try:
        with joined_world() as here, nullcontext() if here.is_main else redirect_stdout(io.StringIO()):
            return COMMANDS[chosen.command].run(chosen)
    except FpgmError as error:
        line = " ".join(str(error).split())
        print(f"fpgm_core: {line}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stdout = None  # or the interpreter complains when it flushes
        return 0


if __name__ == "__main__":
    sys.exit(main())
