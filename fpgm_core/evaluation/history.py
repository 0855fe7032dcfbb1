"""The history: every measured plan, kept in one SQLite data base that several processes write at once.

    history = History()
    history.add(pruned, images, measurement)
    best = max(history.entries(model="resnet20"), key=lambda entry: entry.accuracy.value)

It lies in `FPGM_HOME`, in write-ahead mode: what was added is there after a reload, and after kill -9. A file that is
damaged, or of another version, is set aside beside it; an entry that is not what was written, by its SHA-256, in a
table beside the others. `notice` says so.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation.intervals import Interval, change_of_counts, wilson
from fpgm_core.evaluation.measurement import Measurement
from fpgm_core.pruning import Plan, PrunedNetwork
from fpgm_core.runtime.storage import home

_VERSION = 3
_SAID = ("name", "pinned")  # what people say of an entry: they may say something else
_DERIVED = ("id", "sum", "study", *_SAID)  # all that the checksum is not over: it may change
_TOP5 = ("num_correct_top5", "num_dense_correct_top5")  # since version 3
_DAMAGED = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)  # the first: other tables
_WAIT = 30.0  # seconds for another process's write
_MOST = 10_000  # entries of one data base
_LONGEST_NAME = 200
_TABLES = """
CREATE TABLE measured (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, model TEXT NOT NULL, fingerprint TEXT NOT NULL,
    plan_key TEXT NOT NULL, plan TEXT NOT NULL, method TEXT NOT NULL, images TEXT NOT NULL, digest TEXT NOT NULL,
    num_images INTEGER NOT NULL, num_correct INTEGER NOT NULL, num_dense_correct INTEGER NOT NULL,
    num_both_correct INTEGER NOT NULL, macs INTEGER NOT NULL, dense_macs INTEGER NOT NULL, params INTEGER NOT NULL,
    dense_params INTEGER NOT NULL, answers BLOB, study TEXT NOT NULL, name TEXT NOT NULL, pinned INTEGER NOT NULL,
    sum TEXT NOT NULL, num_correct_top5 INTEGER, num_dense_correct_top5 INTEGER,
    UNIQUE (fingerprint, plan_key, method, digest)
);
CREATE INDEX measured_by_model ON measured (model, at);
CREATE TABLE damaged AS SELECT * FROM measured WHERE 0;
"""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HistoryEntry:
    """One measured plan: when, by which recovery method, on which images, what came of it, and what it costs.

    `at` is in seconds since 1970; `images` the set's name; counts as in Measurement, those of the top 5 None where they
    were not measured. `answers` says which images were
    classified rightly, as there, or None. `study` names the search it was part of, "" for none.
    """

    id: int
    at: float
    plan: Plan
    method: str
    images: str
    digest: str
    num_images: int
    num_correct: int
    num_dense_correct: int
    num_both_correct: int
    macs: int
    dense_macs: int
    params: int
    dense_params: int
    answers: bytes | None
    study: str
    name: str
    pinned: bool
    num_correct_top5: int | None = None
    num_dense_correct_top5: int | None = None

    @property
    def accuracy(self) -> Interval:
        """The accuracy with Wilson's 95% interval, fractions in 0..1."""
        return wilson(self.num_correct, self.num_images)

    @property
    def change(self) -> Interval:
        """Accuracy minus the dense network's on the same images, with the paired 95% interval."""
        return change_of_counts(self.num_correct, self.num_dense_correct, self.num_both_correct, self.num_images)

    @property
    def measurement(self) -> Measurement:
        """What was measured, without where and how fast: those are not kept."""
        return Measurement(
            state="exact", num_correct=self.num_correct, num_dense_correct=self.num_dense_correct,
            num_both_correct=self.num_both_correct, num_images=self.num_images, num_total=self.num_images,
            device="", precision="", seconds=0.0, batch=0, method=self.method, answers=self.answers,
            num_correct_top5=self.num_correct_top5, num_dense_correct_top5=self.num_dense_correct_top5,
        )  # fmt: skip

    @property
    def right(self) -> np.ndarray | None:
        """Which images were classified rightly, bool (num_images,); None where that was not kept."""
        if self.answers is None:
            return None
        return np.unpackbits(np.frombuffer(self.answers, np.uint8), count=self.num_images).astype(bool)

    def to_dict(self) -> dict[str, Any]:
        """All but the answers, as plain data."""
        top5 = self.measurement.top5
        return {
            "id": self.id, "at": self.at, "name": self.name, "pinned": self.pinned, "study": self.study,
            "model": self.plan.model, "criterion": self.plan.criterion, "coupling": self.plan.coupling,
            "rung": self.method, "images": self.images, "num_images": self.num_images,
            "accuracy": self.accuracy.value, "accuracy_low": self.accuracy.low, "accuracy_high": self.accuracy.high,
            "change": self.change.value, "change_low": self.change.low, "change_high": self.change.high,
            "top5": top5 and top5.value, "top5_low": top5 and top5.low, "top5_high": top5 and top5.high,
            "macs": self.macs, "dense_macs": self.dense_macs, "params": self.params,
            "dense_params": self.dense_params, "plan": self.plan.to_dict(),
        }  # fmt: skip


class History:
    """The measured plans of everybody who shares a home; `path` is another file than that of `FPGM_HOME`.

    At most `limit` are kept: of those that nobody pinned first what studies measured goes, the oldest first, then the
    others; then what is pinned. Every call opens the data base for itself: an object may be shared between threads, or
    made anew anywhere.
    """

    def __init__(self, path: Path | None = None, *, limit: int = _MOST) -> None:
        self.path = path or home() / "history.sqlite"
        self.limit = limit
        self.notice: str | None = None

    @property
    def stamp(self) -> tuple[tuple[int, int], ...]:
        """What differs once anybody has written: for whoever remembers what was read."""
        found = []
        for path in (self.path, self.path.with_name(f"{self.path.name}-wal")):
            with suppress(OSError):
                about = path.stat()
                found.append((about.st_mtime_ns, about.st_size))
        return tuple(found)

    def add(self, pruned: PrunedNetwork, images: ImageSet, measurement: Measurement, *, study: str = "") -> int:
        """Keep what was measured of a pruned network on `images`; its number. The same again replaces what was there.

        Raises FpgmError for a measurement that is not exact, and where nothing can be written.
        """
        if measurement.state != "exact":
            raise FpgmError(f"a {measurement.state} measurement is not kept; wait for the exact one")
        plan, cost, dense = pruned.plan, pruned.cost, pruned.network.dense_cost
        values = {
            "at": time.time(), "model": plan.model, "fingerprint": plan.fingerprint, "plan_key": plan.key,
            "plan": plan.to_json(), "method": measurement.method, "images": images.name, "digest": images.digest,
            "num_images": measurement.num_images, "num_correct": measurement.num_correct,
            "num_dense_correct": measurement.num_dense_correct, "num_both_correct": measurement.num_both_correct,
            "macs": cost.macs, "dense_macs": dense.macs, "params": cost.params, "dense_params": dense.params,
            "answers": measurement.answers, "study": study, "name": "", "pinned": 0,
            **{name: getattr(measurement, name) for name in _TOP5},
        }  # fmt: skip
        values["sum"] = _checksum(values)
        kept = (*_SAID, "fingerprint", "plan_key", "method", "digest")  # what people said of it stays
        changed = ", ".join(f"{name} = excluded.{name}" for name in values if name not in (*kept, "study"))
        changed += ", study = CASE excluded.study WHEN '' THEN measured.study ELSE excluded.study END"
        with self._opened() as data:
            row = data.execute(
                f"INSERT INTO measured ({', '.join(values)}) VALUES ({', '.join('?' * len(values))}) "
                f"ON CONFLICT (fingerprint, plan_key, method, digest) DO UPDATE SET {changed} RETURNING id",
                tuple(values.values()),
            ).fetchone()
            _make_room(data, self.limit, newest=int(row[0]))
        return int(row[0])

    def find(self, plan: Plan, method: str, images: ImageSet) -> HistoryEntry | None:
        """What was measured of a plan on those images, recovered by a method; None where nothing was."""
        with self._opened() as data:
            rows = data.execute(
                "SELECT * FROM measured WHERE fingerprint = ? AND plan_key = ? AND method = ? AND digest = ?",
                (plan.fingerprint, plan.key, method, images.digest),
            )
            return next(iter(self._whole(data, rows)), None)

    def entries(
        self,
        *,
        model: str = "",
        search: str = "",
        study: str = "",
        fingerprint: str = "",
        digest: str = "",
        pinned: bool = False,
        limit: int = _MOST,
    ) -> tuple[HistoryEntry, ...]:
        """What was measured, the latest first: of a model, of a study, pinned, or with `search` in its name or plan.

        `fingerprint` is that of the weights, `digest` that of the images. Plans by a criterion that is not registered
        in this process are left out.
        """
        wanted = (("model = ?", model), ("study = ?", study), ("fingerprint = ?", fingerprint), ("digest = ?", digest),
                  ("(name || ' ' || plan || ' ' || method) LIKE ?", search))  # fmt: skip
        given = [(test, f"%{value}%" if "LIKE" in test else value) for test, value in wanted if value]
        tests = [test for test, _ in given] + (["pinned"] if pinned else [])
        where = f"WHERE {' AND '.join(tests)}" if tests else ""
        with self._opened() as data:
            found = data.execute(
                f"SELECT * FROM measured {where} ORDER BY at DESC, id DESC LIMIT ?", (*(v for _, v in given), limit)
            )
            return self._whole(data, found)

    def entry(self, number: int) -> HistoryEntry:
        """One of them. Raises FpgmError where there is none of that number."""
        with self._opened() as data:
            found = self._whole(data, data.execute("SELECT * FROM measured WHERE id = ?", (number,)))
        if not found:
            raise FpgmError(f"the history has no entry {number}; `history` lists them")
        return found[0]

    def _whole(self, data: sqlite3.Connection, rows: Iterable[sqlite3.Row]) -> tuple[HistoryEntry, ...]:
        """The entries that are what was written, and that this process can read; what is damaged is set aside."""
        found, damaged = list[HistoryEntry](), list[int]()
        for row in tuple(rows):
            try:
                if row["sum"] != _checksum(row):
                    raise ValueError
                entry = _known_entry(row)
            except (TypeError, ValueError, RecursionError):
                damaged.append(row["id"])
                continue
            if entry is not None:
                found.append(entry)
        for number in damaged:
            data.execute("INSERT INTO damaged SELECT * FROM measured WHERE id = ?", (number,))
            data.execute("DELETE FROM measured WHERE id = ?", (number,))
        if damaged:
            self.notice = f"{len(damaged)} of the history's entries were damaged, and are set aside: measure them again"
            _log.warning("%s", self.notice)
        return tuple(found)

    def rename(self, number: int, name: str) -> None:
        """Give one a name. Raises FpgmError where it is not there."""
        short = " ".join(name.split())[:_LONGEST_NAME]
        self._change("UPDATE measured SET name = ? WHERE id = ?", (short, number), number)

    def pin(self, number: int, pinned: bool = True) -> None:
        """Pin one, or take the pin out. Raises FpgmError where it is not there."""
        self._change("UPDATE measured SET pinned = ? WHERE id = ?", (int(pinned), number), number)

    def delete(self, number: int) -> None:
        """Forget one. Raises FpgmError where it is not there."""
        self._change("DELETE FROM measured WHERE id = ?", (number,), number)

    def as_json(self, **which: Any) -> str:
        """Entries as JSON; `which` as for `entries`."""
        return json.dumps([entry.to_dict() for entry in self.entries(**which)], indent=1)

    def as_csv(self, **which: Any) -> str:
        """Entries as CSV, plans as JSON in the last column; `which` as for `entries`."""
        rows = [entry.to_dict() for entry in self.entries(**which)]
        text = io.StringIO()
        if rows:
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, "plan": json.dumps(row["plan"])} for row in rows)
        return text.getvalue()

    def _change(self, statement: str, values: tuple[Any, ...], number: int) -> None:
        with self._opened() as data:
            if data.execute(statement, values).rowcount == 0:
                raise FpgmError(f"the history has no entry {number}; `history` lists them")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are kept at the end, all or none."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            data = self._connected()
        except (OSError, sqlite3.Error) as error:
            raise FpgmError(f"cannot open the history {self.path}: {error}; free it, or set FPGM_HOME") from error
        try:
            with data:
                yield data
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise FpgmError(f"the history {self.path} cannot be read or written: {error}") from error
        finally:
            data.close()

    def _connected(self) -> sqlite3.Connection:
        try:
            return _waited_for(self.path)
        except (_OtherVersion, sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF not in _DAMAGED:
                raise  # locked, or no place to write
            self._set_aside(str(error))
            return _waited_for(self.path)

    def _set_aside(self, reason: str) -> None:
        aside = self.path.with_name(f"{self.path.name}.{time.strftime('%Y%m%d-%H%M%S')}.damaged")
        os.replace(self.path, aside)
        for tail in ("-wal", "-shm"):
            self.path.with_name(self.path.name + tail).unlink(missing_ok=True)
        self.notice = f"the history could not be read and lies beside the new one as {aside.name}"
        _log.warning("%s (%s)", self.notice, reason)


def _make_tables(data: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";"):
        data.execute(statement)
    data.execute(f"PRAGMA user_version = {_VERSION}")


def _adopt(data: sqlite3.Connection) -> None:
    """Take over the tables of version 1, whose entries had no checksum."""
    data.execute("ALTER TABLE measured RENAME TO old_measured")
    data.execute("DROP TABLE IF EXISTS claims")  # who measures what is agreed elsewhere now, see SharedStudy
    data.execute("DROP INDEX measured_by_model")
    _make_tables(data)
    for row in data.execute("SELECT * FROM old_measured").fetchall():
        values = {**dict(zip(row.keys(), row, strict=True)), "sum": _checksum(row)}
        names, places = ", ".join(values), ", ".join("?" * len(values))
        data.execute(f"INSERT INTO measured ({names}) VALUES ({places})", tuple(values.values()))
    data.execute("DROP TABLE old_measured")


def _add_top5(data: sqlite3.Connection) -> None:
    """Take over the tables of version 2, which had no place for the top 5."""
    for table in ("measured", "damaged"):
        for name in _TOP5:
            data.execute(f"ALTER TABLE {table} ADD COLUMN {name} INTEGER")
    data.execute(f"PRAGMA user_version = {_VERSION}")


def _checksum(row: Mapping[str, Any] | sqlite3.Row) -> str:
    """SHA-256 of all that was measured, by the columns' names; where there is no top 5, as before there was any."""
    names = [name for name in row.keys() if name not in _DERIVED]  # noqa: SIM118  a row is no mapping
    values = {name: row[name] for name in names if name not in _TOP5 or row[name] is not None}
    digest = hashlib.sha256(values.pop("answers") or b"")
    digest.update(json.dumps(sorted(values.items())).encode())
    return digest.hexdigest()


def _make_room(data: sqlite3.Connection, limit: int, newest: int) -> None:
    """Delete what is beyond the limit, see History."""
    surplus = data.execute("SELECT count(*) FROM measured").fetchone()[0] - limit
    if surplus > 0:
        data.execute(
            "DELETE FROM measured WHERE id IN (SELECT id FROM measured WHERE id != ? "
            "ORDER BY pinned, study = '', at, id LIMIT ?)",
            (newest, surplus),
        )


_FROM = {0: _make_tables, 1: _adopt, 2: _add_top5}  # what makes the tables of this version, by what is there


class _OtherVersion(Exception):
    """A data base of another version of this program."""


def _waited_for(path: Path) -> sqlite3.Connection:
    """As `_connection`; the switch to write-ahead mode fails at once where another is at it, and is tried again."""
    deadline = time.monotonic() + _WAIT
    while True:
        try:
            return _connection(path)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _connection(path: Path) -> sqlite3.Connection:
    """A connection to the data base, made where it is not there. Raises _OtherVersion, or sqlite3's own errors."""
    data = sqlite3.connect(path, timeout=_WAIT)
    try:
        data.row_factory = sqlite3.Row
        data.execute("PRAGMA journal_mode = WAL")
        version = data.execute("PRAGMA user_version").fetchone()[0]
        if version in _FROM:
            with data:
                data.execute("BEGIN IMMEDIATE")  # of two that find it old, the second finds it made
                if data.execute("PRAGMA user_version").fetchone()[0] == version:
                    _FROM[version](data)
        elif version != _VERSION:
            raise _OtherVersion(f"it is of version {version}, and this program reads {_VERSION}")
        data.execute("SELECT count(*) FROM measured").fetchone()
    except BaseException:
        data.close()
        raise
    return data


def _entry(row: sqlite3.Row) -> HistoryEntry:
    values = {name: row[name] for name in HistoryEntry.__dataclass_fields__ if name not in ("plan", "pinned")}
    return HistoryEntry(**values, plan=Plan.from_json(row["plan"]), pinned=bool(row["pinned"]))


def _known_entry(row: sqlite3.Row) -> HistoryEntry | None:
    """An entry; None for one whose plan this process cannot read."""
    try:
        return _entry(row)
    except FpgmError as error:
        _log.info("entry %s of the history is left out: %s", row["id"], error)
        return None
