"""The one writable place, and the one way to write into it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs

from fpgm_core.errors import FpgmError


def home() -> Path:
    """The folder for caches, layouts and checkpoints: `FPGM_HOME`, else the user's data folder."""
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
