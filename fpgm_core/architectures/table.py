"""The table of all that were tried: written network by network, so that it can be gone on with."""

from __future__ import annotations

import contextlib
import csv
import io
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fpgm_core.architectures.subjects import Subject
from fpgm_core.architectures.trial import EQUAL, Trial, try_out
from fpgm_core.errors import FpgmError
from fpgm_core.runtime.progress import Progress, Work
from fpgm_core.runtime.storage import write_atomic

SECONDS = 900.0  # for one network


def table_work(
    chosen: Sequence[Subject],
    path: Path,
    *,
    seconds: float = SECONDS,
    again: bool = False,
    function: Callable[[Subject], Trial] = try_out,
) -> Work[list[Trial]]:
    """Try networks one after another, in another process, and keep what was found in the CSV file `path`.

    The same table for people is kept beside it, as Markdown. What the file has already is not tried again unless
    `again` says so. One network may take so many `seconds`; one that takes longer, or ends the process, is told as
    such. `function` is what tries one: a function of a module, which another process can import.

    Raises FpgmError where the file is no such table, or cannot be written.
    """
    rows, worker = {row.network: row for row in read_table(path)}, _Worker(function)
    try:
        for number, subject in enumerate(chosen):
            yield Progress(number, len(chosen), subject.title)
            if again or subject.title not in rows:
                rows[subject.title] = worker.trial(subject, seconds)
                _write(path, list(rows.values()))
    finally:
        worker.close()
    return [rows[subject.title] for subject in chosen]


def read_table(path: Path) -> list[Trial]:
    """The rows of a table; none where there is no file. Raises FpgmError where it is something else."""
    if not path.exists():
        return []
    kinds = {field.name: str(field.type) for field in fields(Trial)}
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    if any(set(row) != set(kinds) for row in rows):
        raise FpgmError(f"{path} is no table of this command; name another file")
    return [Trial(**{name: _as(kinds[name], text) for name, text in row.items()}) for row in rows]


def _as(kind: str, text: str) -> Any:
    if kind == "str":
        return text
    return None if text == "" else int(text) if kind == "int" else float(text)


class _Worker:
    """A process that tries one subject after another; begun anew where one of them is its end."""

    def __init__(self, function: Callable[[Subject], Trial]) -> None:
        self._function, self._spawning = function, multiprocessing.get_context("spawn")
        self._process: Any = None

    def trial(self, subject: Subject, seconds: float) -> Trial:
        """What is found of a subject."""
        if self._process is None:
            self._own, theirs = self._spawning.Pipe()
            self._process = self._spawning.Process(target=_serve, args=(theirs, self._function), daemon=True)
            self._process.start()
            theirs.close()
            self._own.recv()  # it is up: what it imports takes nobody's time
        try:
            self._own.send(subject)
            if self._own.poll(seconds):
                found: Trial = self._own.recv()
                return found
            problem = f"it takes longer than {seconds:.0f} s"
        except (EOFError, BrokenPipeError):
            problem = "its process died"
        self.close()
        return Trial(subject.title, subject.family, problem=problem)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(connection: Connection, function: Callable[[Subject], Trial]) -> None:
    with contextlib.suppress(EOFError, BrokenPipeError):  # nobody asks any more
        connection.send(None)
        while True:
            subject = connection.recv()
            try:
                found = function(subject)
            except Exception as error:  # of any kind: the table goes on
                found = Trial(subject.title, subject.family, problem=f"{type(error).__name__}: {error}"[:200])
            connection.send(found)


def _write(path: Path, rows: Sequence[Trial]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Trial)], lineterminator="\n")
    writer.writeheader()
    for row in sorted(rows, key=lambda row: row.network):
        writer.writerow({name: "" if value is None else value for name, value in asdict(row).items()})
    write_atomic(path, text.getvalue().encode())
    write_atomic(path.with_suffix(".md"), as_markdown(sorted(rows, key=lambda row: row.network)).encode())


def summary(rows: Sequence[Trial]) -> str:
    """What the table comes to, in a sentence or two."""
    prunable = sorted(row.prunable for row in rows if row.prunable is not None)
    middle = f"{prunable[len(prunable) // 2]:.1%}" if prunable else "-"
    whole = sum(share > 0.99 for share in prunable)
    peer = sum(row.peer == EQUAL for row in rows)
    return (
        f"{sum(row.holds for row in rows)} of {len(rows)} networks are opened, counted as PyTorch counts, pruned 30% "
        f"under every coupling that has units, masked = compact, and answer alike from ONNX. Layers that get smaller "
        f"hold {middle} of the multiply-adds in the middle network, more than 99% in {whole}. Torch-Pruning makes a "
        f"network that computes what it should of {peer}."
    )


def as_markdown(rows: Sequence[Trial]) -> str:
    """The table for people."""
    head = ("network", "GMACs", "prunable", "independent", "inner", "coupled", "ONNX", "Torch-Pruning")
    lines = ["# Networks people use, tried one by one", "", summary(rows), "", _ABOUT, ""]
    lines += [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cells(row: Trial) -> list[str]:
    if row.problem:
        return [row.network, *[""] * 5, row.problem, _beside(row.peer_cut, row.peer)]
    counted = "" if row.macs == row.counted_macs else f" (PyTorch: {row.counted_macs / 1e9:.3f})"
    return [
        row.network,
        f"{row.macs / 1e9:.3f}{counted}",
        "" if row.prunable is None else f"{row.prunable:.1%}",
        *(_beside(getattr(row, f"cut_{name}"), getattr(row, name)) for name in ("independent", "inner", "coupled")),
        row.onnx,
        _beside(row.peer_cut, row.peer),
    ]


def _beside(cut: float | None, outcome: str) -> str:
    """The share cut, alone where all is right."""
    if cut is None:
        return outcome
    return f"{cut:.1%}" if outcome == EQUAL else f"{cut:.1%}, {outcome}"


_ABOUT = """Made by `fpgm architectures`, with random weights and randomised norms. GMACs are those of one image of the
network's own size; *prunable* is the share of them in layers that get smaller where 30% of every unit is pruned; a
column says what share is cut so, alone where masked and compact networks answer alike (on 8 random images of the
smallest size that the network takes) and cost what was counted, and what is wrong elsewhere. Torch-Pruning 1.6.1
prunes 30% of every group, hidden Linear layers too, which this library keeps; its network is compared with the dense
one whose removed filters and norms are set to zero, layer and group norms running over what is left."""
