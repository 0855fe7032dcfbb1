"""What an export is: files by name with a manifest, written into a folder whole or not at all, or as one zip."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpgm_core.errors import FpgmError
from fpgm_core.pruning import Proof

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Bundle:
    """Files by name, the manifest among them, and the proof that they compute what the masked network does."""

    files: Mapping[str, bytes]
    manifest: Mapping[str, Any]
    proof: Proof


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Write every file into a folder: all of them whole, the manifest last, or none.

    Raises FpgmError where the folder cannot be written or the disk is full; what was there stays.
    """
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not folder.is_dir():
            raise FpgmError(f"{folder} is a file; name a folder to export into")
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        for name, content in bundle.files.items():
            (temporary / name).write_bytes(content)
        folder.mkdir(exist_ok=True)
        _move_all(temporary, folder, sorted(bundle.files, key=lambda name: name == MANIFEST))
    except OSError as error:
        reason = error.strerror or error
        raise FpgmError(f"cannot write into {folder}: {reason}; free space or choose another folder") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _move_all(source: Path, target: Path, names: list[str]) -> None:
    """Move files from one folder into another, or none of them: what they replace comes back where one fails."""
    aside = source / "before"
    aside.mkdir()
    moved: list[str] = []
    try:
        for name in names:
            if (target / name).exists():
                os.rename(target / name, aside / name)
            moved.append(name)
            os.replace(source / name, target / name)
    except OSError:
        for name in moved:
            if (aside / name).exists():
                os.rename(aside / name, target / name)
            else:
                (target / name).unlink(missing_ok=True)
        raise


def zip_bundle(bundle: Bundle) -> bytes:
    """The same files as one zip archive, with a fixed date: the same files give the same bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in bundle.files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return content.getvalue()
