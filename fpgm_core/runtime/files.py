"""The one gate for files from outside: what a file is, and how large, is looked at before any of it is read."""

from __future__ import annotations

import math
import os
import stat
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from fpgm_core.errors import FpgmError
from fpgm_core.runtime.limits import configured_bytes

_FILE_BYTES = 8 << 30
_NO_NPZ = (
    OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, RuntimeError, NotImplementedError, RecursionError,
    zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0, (3, 0): npy.read_array_header_2_0}
_KINDS = {
    stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
}  # fmt: skip


def most_bytes() -> int:
    """The largest file from outside that is read: `FPGM_FILE_BYTES`, default 8 GiB.

    Raises FpgmError where the variable is no number of bytes.
    """
    return configured_bytes("FPGM_FILE_BYTES", _FILE_BYTES)


def check_file(path: Path, limit: int | None = None, what: str = "") -> Path:
    """`path`, where it is a regular file, links followed, of at most `limit` bytes (default `most_bytes`).

    `what` is what messages call it: "the plan ". Raises FpgmError for anything else; nothing is opened: a pipe would
    wait for a writer, a device has no end.
    """
    limit = most_bytes() if limit is None else limit
    try:
        about = os.stat(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no file has such a name"
        raise FpgmError(f"cannot read {what}{path}: {reason}; check the path") from error
    if not stat.S_ISREG(about.st_mode):
        kind = next((name for is_kind, name in _KINDS.items() if is_kind(about.st_mode)), "no regular file")
        raise FpgmError(f"cannot read {what}{path}: it is {kind}; give a file")
    if about.st_size > limit:
        raise FpgmError(
            f"{what}{path} has {about.st_size:,} bytes, and at most {limit:,} are read; give a smaller file, or set "
            "FPGM_FILE_BYTES"
        )
    return path


def read_file(path: Path, limit: int | None = None, what: str = "") -> bytes:
    """All of a file that `check_file` lets pass. Raises FpgmError as it does, and for a file that cannot be read."""
    check_file(path, limit, what)
    try:
        return path.read_bytes()
    except OSError as error:
        raise FpgmError(f"cannot read {what}{path}: {error.strerror}; check its permissions") from error
    except MemoryError as error:
        raise FpgmError(f"there is no memory for {path}; give a smaller file, or a machine with more") from error


@contextmanager
def open_npz(path: Path, limit: int | None = None) -> Iterator[np.lib.npyio.NpzFile]:
    """The arrays of an .npz by name, none of them pickled. Every array's header is checked before any array is read:
    together they take at most `limit` bytes (default `most_bytes`), and none claims more than is there.

    Raises FpgmError for other files.
    """
    limit = most_bytes() if limit is None else limit
    check_file(path, limit)
    try:
        _check_headers(path, limit)
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except FpgmError:
        raise
    except _NO_NPZ as error:
        raise FpgmError(f"{path} cannot be read as an .npz ({error}); save it again, by numpy.savez") from error
    except MemoryError as error:
        raise FpgmError(f"there is no memory for the arrays of {path}; give fewer") from error


def _check_headers(path: Path, limit: int) -> None:
    with zipfile.ZipFile(path) as archive:
        left = limit
        for info in archive.infolist():
            if info.flag_bits & 1:
                raise FpgmError(f"{path} is encrypted; save it again, by numpy.savez")
            left -= info.file_size
            if left < 0:
                raise FpgmError(f"the arrays of {path} take more than the {limit:,} bytes that are read; give fewer")
            with archive.open(info) as member:
                _check_array(path, info, member)


def _check_array(path: Path, info: zipfile.ZipInfo, member: IO[bytes]) -> None:
    version = npy.read_magic(member)
    if version not in _HEADERS:
        raise ValueError(f"{info.filename} is of another format")
    shape, _, dtype = _HEADERS[version](member)
    if dtype.hasobject:
        raise FpgmError(f"{path} holds pickled objects in {info.filename}, which are never read; save plain arrays")
    if math.prod(shape) * dtype.itemsize != info.file_size - member.tell():
        raise FpgmError(f"{path} is damaged: {info.filename} claims another size than it has; save it again")
