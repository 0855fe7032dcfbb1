"""Zip files of images: unpacked within limits, whatever they claim to hold."""

from __future__ import annotations

import io
import os
import stat
import time
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path, PurePosixPath

from fpgm_core.data.folders import CLASSES_FILE, SUFFIXES
from fpgm_core.errors import FpgmError

MOST_FILES, MOST_BYTES, MOST_FILE_BYTES = 100_000, 1 << 30, 64 << 20
_MOST_NESTING = 6
_CHUNK = 1 << 20


def unpack_images(
    zipped: bytes | Path, folder: Path, *, most_files: int = MOST_FILES, most_bytes: int = MOST_BYTES
) -> Path:
    """Unpack a zip's images, and its `classes.txt`, into `folder`; returns the folder that holds the class folders.

    `zipped` is the zip's content, or where it lies.

    Names are taken apart first: nothing is written outside `folder`, links, devices and other files are left out. What
    is unpacked is counted as it comes, since a header may lie.

    Raises FpgmError for what is no zip, is encrypted or damaged, holds no image, or is larger than the limits.
    """
    try:
        with zipfile.ZipFile(zipped if isinstance(zipped, Path) else io.BytesIO(zipped)) as archive:
            members = [(info, path) for info in archive.infolist() if (path := _path_of(info)) is not None]
            if len(members) > most_files:
                raise FpgmError(f"the zip holds {len(members):,} images; at most {most_files:,} are read")
            left = most_bytes
            for info, path in members:
                left -= _unpack(archive, info, folder / path, min(left, MOST_FILE_BYTES))
    except FpgmError:
        raise
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError, OSError) as error:
        raise FpgmError("the zip is damaged, or of a kind that is not read; zip the folder again, plainly") from error
    if not any(path.suffix != ".txt" for _, path in members):
        raise FpgmError("the zip holds no images; zip a folder that holds one folder a class")
    return _inner(folder)


def _path_of(info: zipfile.ZipInfo) -> Path | None:
    """Where a member goes, below the folder; None for what is left out."""
    path = PurePosixPath(info.filename.replace("\\", "/"))
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.is_dir() or kind not in (0, stat.S_IFREG) or len(path.parts) > _MOST_NESTING:
        return None
    if path.is_absolute() or any(part in ("..", "") or ":" in part for part in path.parts):
        return None
    if any(part.startswith((".", "__MACOSX")) for part in path.parts):
        return None
    return Path(*path.parts) if path.suffix.lower() in SUFFIXES or path.name == CLASSES_FILE else None


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, most: int) -> int:
    if info.flag_bits & 1:
        raise FpgmError("the zip is encrypted; zip the folder without a password")
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with archive.open(info) as source, target.open("wb") as sink:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > most:
                raise FpgmError("the zip unpacks to more than is read; zip fewer or smaller images")
            sink.write(chunk)
    _keep_time(info, target)
    return written


def _keep_time(info: zipfile.ZipInfo, target: Path) -> None:
    """Give a file the time that the zip says: what was decoded of it before is known by that."""
    with suppress(ValueError, OverflowError, OSError):
        modified = time.mktime((*info.date_time, 0, 0, -1))
        os.utime(target, (modified, modified))


def _inner(folder: Path) -> Path:
    """The folder itself, or the only one in it where that in turn holds folders: zips often begin with one more."""
    while True:
        entries = list(folder.iterdir())
        only = entries[0] if len(entries) == 1 and entries[0].is_dir() else None
        if only is None or not any(child.is_dir() for child in only.iterdir()):
            return folder
        folder = only
