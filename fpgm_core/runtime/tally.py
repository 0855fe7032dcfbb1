"""Counts by name that several processes raise at once: what was counted stays counted."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from fpgm_core.errors import FpgmError
from fpgm_core.runtime.storage import set_aside

_WAIT = 30.0  # seconds for another process
_MOST = 100_000  # names; the oldest go first
_TABLE = "CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, count INTEGER NOT NULL, sum TEXT NOT NULL)"
_DAMAGED = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)  # the first: another table
_log = logging.getLogger(__name__)


class Tally:
    """Counts in a file of SQLite; a file that is damaged is set aside, and a count that is not what was written is 0.

        looked_at = Tally(home() / "sealed.sqlite")
        looked_at.add("plan")       # 1
        looked_at.count("plan")     # 1

    `former` are counts of an earlier version, JSON by name, to begin from.
    """

    def __init__(self, path: Path, *, former: Path | None = None) -> None:
        self.path, self._former = path, former

    def count(self, name: str) -> int:
        """How often `add` was called for a name."""
        if not self.path.exists() and not (self._former and self._former.exists()):
            return 0
        with self._opened() as data:
            return _count(data, name)

    def add(self, name: str) -> int:
        """Count one more; how many there are now. Raises FpgmError where that cannot be written."""
        with self._opened() as data:
            data.execute("BEGIN IMMEDIATE")  # no other process reads the count meanwhile
            count = _count(data, name) + 1
            _write(data, name, count)
            data.execute(
                "DELETE FROM counts WHERE rowid IN (SELECT rowid FROM counts ORDER BY rowid DESC LIMIT -1 OFFSET ?)",
                (_MOST,),
            )
            return count

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                data = self._connected()
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter in what SQLite says of damage
                if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF not in _DAMAGED:
                    raise  # locked, or no place to write
                set_aside(self.path, str(error))
                data = self._connected()
            with closing(data), data:
                yield data
        except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
            raise FpgmError(f"cannot count in {self.path}: {error}; free it, or set FPGM_HOME") from error

    def _connected(self) -> sqlite3.Connection:
        is_new = not self.path.exists()
        data = sqlite3.connect(self.path, timeout=_WAIT)
        try:
            with data:
                data.execute("BEGIN IMMEDIATE")
                data.execute(_TABLE)
                if is_new and data.execute("SELECT count(*) FROM counts").fetchone()[0] == 0:
                    for name, count in self._former_counts().items():
                        _write(data, name, count)
        except BaseException:
            data.close()
            raise
        return data

    def _former_counts(self) -> Mapping[str, int]:
        with suppress(OSError, ValueError, AttributeError, TypeError, RecursionError):
            if self._former is not None:
                found = json.loads(self._former.read_bytes())
                return {str(name): int(count) for name, count in found.items()}
        return {}


def _count(data: sqlite3.Connection, name: str) -> int:
    row = data.execute("SELECT count, sum FROM counts WHERE name = ?", (name,)).fetchone()
    if row is None:
        return 0
    if row[1] != _checksum(name, row[0]):
        _log.warning("a count is damaged, and begins anew")
        return 0
    return int(row[0])


def _write(data: sqlite3.Connection, name: str, count: int) -> None:
    data.execute("INSERT OR REPLACE INTO counts VALUES (?, ?, ?)", (name, count, _checksum(name, count)))


def _checksum(name: str, count: object) -> str:
    return hashlib.sha256(f"{count} {name}".encode()).hexdigest()
