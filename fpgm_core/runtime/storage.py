"""The one writable place, the one way to write into it, and the one way to keep a result there.

A kept file is of a kind, and of an identity: all that its result depends on. Its first line says what it is, with the
SHA-256 and the length of all that follows; its second is JSON, the identity and the result's plain values; its arrays
follow as safetensors. Whatever does not hold is set aside and made anew: what is read is right, or it is nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import platformdirs
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from fpgm_core.errors import FpgmError
from fpgm_core.runtime.limits import configured_bytes

T = TypeVar("T")

# The folders whose files are results: they can be made anew, and the oldest go where all take too much. Checkpoints,
# weights and what training wrote lie elsewhere and are never removed.
KINDS = ("contests", "layouts", "losses", "measurements", "moments", "names", "sensitivity", "timings")
_HOME_BYTES = 4 << 30
_SUFFIX, SET_ASIDE = ".kept", ".damaged"
_FIRST_LINE = re.compile(rb"fpgm-result 1 ([0-9a-f]{64}) ([0-9]{1,15})\n")
_LONGEST_FIRST_LINE = 128
_LONGEST_WRITE = 3600.0  # seconds; what is unfinished after them is given up
_log = logging.getLogger(__name__)


def home() -> Path:
    """The folder for kept results, weights and checkpoints: `FPGM_HOME`, else the user's data folder."""
    return Path(os.environ.get("FPGM_HOME") or platformdirs.user_data_dir("fpgm-explorer", appauthor=False))


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path` whole or not at all; what stood there stays until the last moment.

    Raises FpgmError where the folder cannot be written or the disk is full.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.chmod(temporary, 0o644)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        reason = error.strerror or error
        raise FpgmError(f"cannot write {path}: {reason}; free space or set FPGM_HOME to a writable folder") from error


class _Damaged(Exception):
    """A kept file does not hold, and why."""


_NOT_AS_WRITTEN = (
    _Damaged, ArithmeticError, AttributeError, LookupError, RuntimeError, SafetensorError, TypeError, ValueError
)  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """What a kept file holds: plain values, as JSON has them, and arrays by name, on the CPU."""

    values: Any
    arrays: Mapping[str, Tensor] = field(default_factory=dict)


class ResultStore:
    """Results of one kind (one of `KINDS`), in the folder of that name in `home()`.

        store = ResultStore("layouts")
        identity = {"format": 1, "fingerprint": network.fingerprint, "layer": "conv1", "seed": 0}
        store.write(identity, Kept({"seconds": 3.2}, {"places": places}))
        places = store.read(identity, lambda kept: kept.arrays["places"].numpy())

    All kinds together take at most `FPGM_HOME_BYTES` (default 4 GiB, or `limit`): the files that were used longest ago
    go first.
    """

    def __init__(self, kind: str, *, limit: int | None = None) -> None:
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}")
        self.kind = kind
        self._limit = limit

    @property
    def limit(self) -> int:
        """The bytes that results of all kinds may take. Raises FpgmError where `FPGM_HOME_BYTES` is no number."""
        return configured_bytes("FPGM_HOME_BYTES", _HOME_BYTES) if self._limit is None else self._limit

    def path(self, identity: Mapping[str, Any]) -> Path:
        """Where the result of an identity lies, or would."""
        return home() / self.kind / f"{hashlib.sha256(_canonical(identity).encode()).hexdigest()[:32]}{_SUFFIX}"

    def read(self, identity: Mapping[str, Any], parse: Callable[[Kept], T]) -> T | None:
        """What `parse` makes of the result kept of an identity; None where there is none.

        `parse` checks what it reads, and raises one of the usual errors (KeyError, TypeError, ValueError ...) where it
        cannot be: such a file, and any other that does not hold, is set aside.
        """
        path = self.path(identity)
        try:
            found = parse(_read(path, _canonical(identity), self.limit))
        except FileNotFoundError:
            return None
        except (OSError, MemoryError) as error:  # not damaged: it may be read another time
            _log.info("cannot read %s/%s now: %s", self.kind, path.name, error)
            return None
        except _NOT_AS_WRITTEN as error:
            set_aside(path, str(error) if isinstance(error, _Damaged) else type(error).__name__)
            return None
        with suppress(OSError):
            os.utime(path)  # used now: others go first
        return found

    def write(self, identity: Mapping[str, Any], kept: Kept) -> bool:
        """Keep a result, in place of an earlier one; whether there is room for it under the limit.

        Raises FpgmError where it cannot be written.
        """
        path, content = self.path(identity), _packed(_canonical(identity), kept)
        if len(content) > self.limit:
            return False
        write_atomic(path, content)
        _make_room(self.limit, keep=path)
        return True


def set_aside(path: Path, reason: str) -> None:
    """Move a kept file that does not hold out of the way, and say so in the log, once: it is not there any more."""
    with suppress(OSError):
        os.replace(path, f"{path}{SET_ASIDE}")
        _log.warning("%s/%s is damaged (%s): set aside, and made anew", path.parent.name, path.name, reason)


def _canonical(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, sort_keys=True, allow_nan=False)


def _packed(identity: str, kept: Kept) -> bytes:
    """A whole file. Arrays are tensors, or numpy arrays."""
    values = json.dumps({"identity": json.loads(identity), "values": kept.values}, allow_nan=False).encode()
    tensors = {
        name: (torch.from_numpy(array) if isinstance(array, np.ndarray) else array).contiguous()
        for name, array in kept.arrays.items()
    }
    body = values + b"\n" + (save_safetensors(tensors) if tensors else b"")
    return f"fpgm-result 1 {hashlib.sha256(body).hexdigest()} {len(body)}\n".encode() + body


def _read(path: Path, identity: str, limit: int) -> Kept:
    """What a file holds. Its claims are checked first: nothing is read of a file that is not what it says it is."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
        raise _Damaged("no regular file")
    with path.open("rb") as file:
        body = _checked_body(file, limit)
    line, _, arrays = body.partition(b"\n")
    about = json.loads(line)
    if _canonical(about["identity"]) != identity:
        raise _Damaged("it is of something else")
    return Kept(about["values"], load_safetensors(arrays) if arrays else {})


def _checked_body(file: BufferedReader, limit: int) -> bytes:
    first = _FIRST_LINE.fullmatch(file.readline(_LONGEST_FIRST_LINE))
    if first is None:
        raise _Damaged("no first line of a kept result")
    begin, size = file.tell(), os.fstat(file.fileno()).st_size
    if size - begin != int(first[2]) or size > limit:
        raise _Damaged("not of the length that it says")
    if hashlib.file_digest(file, "sha256").hexdigest() != first[1].decode():  # piece by piece: no memory for a lie
        raise _Damaged("its checksum does not hold")
    file.seek(begin)
    return file.read(int(first[2]))


def _files() -> Iterator[tuple[bool, float, int, Path]]:
    """Every file among the results: whether it is one, the time of its last use, the bytes that it takes, its place.

    None are those that were set aside, and what a process that was killed left of a write; not what one writes now.
    """
    for kind in KINDS:
        for folder, _, names in os.walk(home() / kind):
            for name in names:
                path, unfinished = Path(folder, name), name.startswith(".")
                with suppress(OSError):  # another process may remove it meanwhile
                    about = path.lstat()
                    if not unfinished or abs(time.time() - about.st_mtime) > _LONGEST_WRITE:
                        is_result = not unfinished and not name.endswith(SET_ASIDE)
                        yield is_result, about.st_mtime, max(about.st_size, about.st_blocks * 512), path


def _make_room(limit: int, keep: Path) -> None:
    """Remove files until all together are within the limit: no results first, then the longest unused."""
    files = sorted(_files())
    total = sum(size for _, _, size, _ in files)
    for _, _, size, path in files:
        if total <= limit:
            return
        if path != keep:
            with suppress(OSError):
                path.unlink()
                total -= size
