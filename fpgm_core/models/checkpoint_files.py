"""The bytes of a checkpoint as Python values, without running anything that a file asks for."""

from __future__ import annotations

import io
import re
import threading
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors

from fpgm_core.errors import FpgmError

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_allowing = threading.Lock()  # what torch allows is one list for the whole process


def parse(path: Path, content: bytes) -> Any:
    """What a checkpoint's bytes hold: a dict of tensors of a .safetensors file, else what torch.save was given.

    PyTorch files are read with `weights_only=True`. What training scripts commonly keep beside weights and what is
    nothing but data (argparse.Namespace, paths, NumPy's numbers) comes back as a `Beside`.

    Raises FpgmError for everything else, saying what the file is.
    """
    if path.suffix == ".safetensors":
        return _safetensors(path, content)
    try:
        with _data_allowed(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the restricted unpickler raise nearly anything
        code = _asked_for(content, error)
        what = f"beside weights it holds {code}, which only its own code can read" if code else _what_it_is(content)
        reason = f" ({what})" if what else ""
        raise FpgmError(
            f"{path} cannot be read as plain weights; save only the state dict, best as safetensors{reason}"
        ) from error


def _safetensors(path: Path, content: bytes) -> dict[str, torch.Tensor]:
    try:
        return load_safetensors(content)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:  # KeyError: a type that torch lacks
        what = "it is cut short" if _begins_as_safetensors(content) else _what_it_is(content) or str(error)
        raise FpgmError(f"{path} is not a safetensors file: {what}; save it again") from error


def _what_it_is(content: bytes) -> str | None:
    """What bytes that are no checkpoint look like, and what to do about it; None where they look like one."""
    start = content[:200].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: fetch the file itself by git lfs pull"
    if start.startswith((b"<!doctype", b"<html")):
        return "it is a web page: download the file itself"
    if _begins_as_safetensors(content):
        return "it is a safetensors file: rename it to end in .safetensors"
    return _kind_of_zip(content) if content.startswith(b"PK") else None


def _begins_as_safetensors(content: bytes) -> bool:
    """Whether bytes begin with the length of a header, and the header's brace."""
    return content[8:9] == b"{" and int.from_bytes(content[:8], "little") < len(content)


def _kind_of_zip(content: bytes) -> str | None:
    try:
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError):
        return "it is cut short or damaged: download or copy it again"
    inner = [name.partition("/")[2] for name in names]
    if "archive_format" in inner or any(name.endswith("exported_program.json") for name in names):
        return "it is a torch.export program: load it in Python, and give it to Network.from_module"
    if "constants.pkl" in inner:
        return "it is a TorchScript program: save the state_dict() of its module"
    return "it is a PyTorch file: name it .pt" if "data.pkl" in inner else "it is a zip of other files"


def _asked_for(content: bytes, error: Exception) -> str | None:
    """The classes and functions that a file asks for and that are not plain data."""
    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(content)))
    except Exception:  # no zip: of the old format torch names the first
        names = _GLOBAL.findall(str(error))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more if names else None


class Beside:
    """What stands for an object beside the weights that is nothing but data: it has none of it."""

    def __new__(cls, *args: Any) -> Beside:
        """Take whatever the file would make it of."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Nothing is taken over."""


_INERT = (
    "argparse.Namespace",
    *(f"numpy.{name}" for name in ("dtype", "ndarray")),
    *(f"numpy.{core}.multiarray.{name}" for core in ("_core", "core") for name in ("scalar", "_reconstruct")),
    *(f"pathlib{part}.{kind}Path" for part in ("", "._local") for kind in ("", "Posix", "Windows", "PurePosix")),
)
_DICTS = tuple(f"{package}.utilities.data.AttributeDict" for package in ("lightning_fabric", "lightning.fabric"))


@contextmanager
def _data_allowed() -> Iterator[None]:
    """Let files mention what is data: stand-ins of no behaviour take its place, whatever the file says of it."""
    stand_ins: list[Any] = [(Beside, name) for name in _INERT] + [(OrderedDict, name) for name in _DICTS]
    with _allowing, torch.serialization.safe_globals(stand_ins):
        yield
