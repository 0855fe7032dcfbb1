"""Room for pixels: in memory, or in a file that is mapped into it where they are many; and pixels that are kept."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fpgm_core.errors import FpgmError
from fpgm_core.runtime.limits import configured_bytes
from fpgm_core.runtime.storage import SET_ASIDE, home, set_aside

_MEMORY_BYTES, _DISK_BYTES = 1 << 30, 8 << 30  # ImageNet's 50,000 validation images take 7 GiB at 224 x 224
_SUFFIX, _FOLDER = ".pixels", "images"
_LONGEST_WRITE = 3600.0  # seconds; an unfinished file that nobody has written to for longer is given up
_TAIL = 24  # the last bytes of a file: how long the JSON before them is
_LONGEST_ABOUT = 1 << 28
_log = logging.getLogger(__name__)


def most_in_memory() -> int:
    """The bytes of pixels that one set may take in memory: `FPGM_IMAGES_IN_MEMORY`, default 1 GiB.

    Raises FpgmError where the variable is no number of bytes.
    """
    return configured_bytes("FPGM_IMAGES_IN_MEMORY", _MEMORY_BYTES)


def most_on_disk() -> int:
    """The bytes that decoded images may take in `FPGM_HOME`: `FPGM_IMAGES_BYTES`, default 8 GiB, if the disk has them.

    Raises FpgmError where the variable is no number of bytes.
    """
    limit = configured_bytes("FPGM_IMAGES_BYTES", _DISK_BYTES)
    with suppress(OSError):
        folder = home()
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        limit = min(limit, max(most_in_memory(), shutil.disk_usage(folder).free // 2))
    return limit


def empty_pixels(shape: Sequence[int]) -> Tensor:
    """Room for uint8 pixels (N, H, W, C), not yet written: of more than `most_in_memory`, in a file that is mapped.

    The file has no name, so that it goes when the last who holds the tensor lets go of it. Raises FpgmError where
    `FPGM_HOME` has no room.
    """
    if math.prod(shape) <= most_in_memory():
        return torch.empty(tuple(shape), dtype=torch.uint8)
    path = _new_file(math.prod(shape))
    try:
        return torch.from_numpy(np.memmap(path, np.uint8, mode="r+", shape=tuple(shape)))
    finally:
        with suppress(OSError):  # Windows keeps it until it is no longer mapped
            path.unlink()


def _new_file(size: int) -> Path:
    """A file of that size in the images' folder, under a name of its own."""
    folder, path = home() / _FOLDER, None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=".")
        path = Path(name)
        with os.fdopen(handle, "wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # a full disk says so now, not by a signal later
            else:
                file.truncate(size)
        return path
    except OSError as error:
        if path is not None:
            with suppress(OSError):
                path.unlink()
        raise FpgmError(
            f"no room for {size:,} bytes of images in {folder}: {error.strerror or error}; give fewer images, free "
            "space, or set FPGM_HOME to another place"
        ) from error


@dataclass(frozen=True, eq=False)
class Found:
    """What was kept: pixels uint8 (N, H, W, C), mapped; their labels; the names of those that did not decode."""

    pixels: Tensor
    labels: tuple[int, ...]
    unread: tuple[str, ...]
    asked: int


class KeptPixels:
    """The decoded pictures of one identity, in `FPGM_HOME/images`: pixels first, then JSON that says what they are.

    All such files together take at most `most_on_disk`: those used longest ago go first. What does not hold, by the
    SHA-256 of all of it, is set aside.
    """

    def __init__(self, identity: Mapping[str, Any]) -> None:
        self._identity = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self._path = home() / _FOLDER / f"{self._identity[:32]}{_SUFFIX}"
        self._unfinished: Path | None = None

    def read(self) -> Found | None:
        """What is kept; None where there is nothing, or nothing that holds: that is set aside."""
        try:
            about = self._about()
            pixels = _mapped(self._path, tuple(map(int, about["shape"])))
            if about["identity"] != self._identity or _checksum(pixels, about) != about["sha256"]:
                raise ValueError("not what was written")
            labels, unread = tuple(map(int, about["labels"])), tuple(map(str, about["unread"]))
            found = Found(pixels, labels, unread, int(about["asked"]))
            if len(labels) != len(pixels):
                raise ValueError("not of as many labels")
        except FileNotFoundError:
            return None
        except (OSError, MemoryError) as error:  # not damaged: it may be read another time
            _log.info("cannot read %s/%s now: %s", _FOLDER, self._path.name, error)
            return None
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
            set_aside(self._path, type(error).__name__)
            return None
        with suppress(OSError):
            os.utime(self._path)  # used now: others go first
        return found

    def _about(self) -> dict[str, Any]:
        if not stat.S_ISREG(os.stat(self._path).st_mode):  # opening a pipe would wait for a writer
            raise ValueError("no regular file")
        with self._path.open("rb") as file:
            size = max(0, file.seek(0, os.SEEK_END) - _TAIL)
            file.seek(size)
            length = int(file.read(_TAIL))
            if not 0 < length <= min(size, _LONGEST_ABOUT):
                raise ValueError("not of the length that it says")
            file.seek(size - length)
            about: dict[str, Any] = json.loads(file.read(length))
            if math.prod(about["shape"]) != size - length:
                raise ValueError("not of the length that it says")
            return about

    def room(self, shape: Sequence[int]) -> Tensor:
        """Room for pixels (N, H, W, C) that will be kept; in memory alone where they fit there and no file can be."""
        size = math.prod(shape)
        try:
            _make_room(most_on_disk() - size)
            self._unfinished = _new_file(size)
        except FpgmError:
            if size > most_in_memory():
                raise
            return torch.empty(tuple(shape), dtype=torch.uint8)
        return torch.from_numpy(np.memmap(self._unfinished, np.uint8, mode="r+", shape=tuple(shape)))

    def finish(self, pixels: Tensor, *, labels: Sequence[int], unread: Sequence[str], asked: int) -> Tensor:
        """Keep the first rows of the room, now written; returns them."""
        if self._unfinished is None or not len(pixels):
            return pixels
        about = {
            "identity": self._identity,
            "shape": list(pixels.shape),
            "labels": list(labels),
            "unread": list(unread),
            "asked": asked,
        }
        text = json.dumps(about | {"sha256": _checksum(pixels, about)}).encode()
        with suppress(OSError):  # then they are not kept, and are there all the same
            with self._unfinished.open("r+b") as file:
                file.truncate(math.prod(pixels.shape))
                file.seek(0, os.SEEK_END)
                file.write(text + f"{len(text):>{_TAIL}}".encode())
            self._unfinished.chmod(0o644)
            os.replace(self._unfinished, self._path)
            self._unfinished = None
        return pixels

    def close(self) -> None:
        """Leave nothing unfinished behind."""
        if self._unfinished is not None:
            with suppress(OSError):
                self._unfinished.unlink()
            self._unfinished = None


def _mapped(path: Path, shape: Sequence[int]) -> Tensor:
    """The pixels at the beginning of a file: what anybody writes to them stays in memory."""
    return torch.from_numpy(np.memmap(path, np.uint8, mode="c", shape=tuple(shape)))


def _checksum(pixels: Tensor, about: Mapping[str, Any]) -> str:
    """SHA-256 of the pixels, and of all that is said of them but this."""
    digest = hashlib.sha256(pixels.numpy().data)
    said = {name: value for name, value in about.items() if name != "sha256"}
    digest.update(json.dumps(said, sort_keys=True).encode())
    return digest.hexdigest()


def _make_room(limit: int) -> None:
    """Remove kept files until they are within the limit, the longest unused first; and what was never finished."""
    files, total = [], 0
    for path in (home() / _FOLDER).glob("*"):
        with suppress(OSError):
            about = path.stat()
            abandoned = path.name.startswith(".") and abs(time.time() - about.st_mtime) > _LONGEST_WRITE
            is_damaged = path.name.endswith(SET_ASIDE)
            if path.name.endswith(_SUFFIX) or is_damaged or abandoned:
                files.append((not (is_damaged or abandoned), about.st_mtime, about.st_size, path))
                total += about.st_size
    for _, _, size, path in sorted(files):
        if total <= limit:
            return
        with suppress(OSError):
            path.unlink()
            total -= size
