"""CIFAR-10 and CIFAR-100 as their author publishes them: the Python version, read without running it, or the binary.

Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import importlib
import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fpgm_core.errors import FpgmError
from fpgm_core.runtime.torchvision_import import import_torchvision

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
# All that the files' pickles name: an array of bytes. Nothing else is looked up, so nothing else can be called.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"), ("numpy", "ndarray"),
    ("numpy", "dtype"), ("_codecs", "encode"),
}  # fmt: skip
_MOST_BYTES = 1 << 28  # of one file; the largest has 154 million


@dataclass(frozen=True)
class CifarFiles:
    """One of the two data sets: its folders, and the files of each part with how many images each holds."""

    name: str
    title: str
    archive: str
    folder: str
    binary_folder: str
    files: Mapping[str, Sequence[str]]
    binary_files: Mapping[str, Sequence[str]]
    images_a_file: Mapping[str, int]
    labels: str
    names_file: tuple[str, str]
    label_bytes: int
    num_classes: int

    def folder_in(self, root: Path) -> Path | None:
        """Where its files lie under `root`, or in it; None where they do not."""
        for folder in (root / self.folder, root / self.binary_folder, root):
            if any((folder / file).is_file() for part in (self.files, self.binary_files) for file in part["test"]):
                return folder
        return None

    def read(self, root: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 (N, 32, 32, 3) and labels int64 (N,) of "train" or "test", in the official order.

        Raises FpgmError where files are missing or are not what they should be; nothing is unpickled freely.
        """
        folder = self.folder_in(root)
        if folder is None:
            raise self._missing(root, "nothing of it is there")
        binary = all((folder / file).is_file() for file in self.binary_files[part])
        read: Callable[[Path, int], tuple[np.ndarray, np.ndarray]] = self._binary if binary else self._python
        files = self.binary_files[part] if binary else self.files[part]
        try:
            pairs = [read(folder / file, self.images_a_file[part]) for file in files]
        except OSError as error:
            raise self._missing(root, f"{error.filename}: {error.strerror}") from error
        except _Damaged as error:
            raise self._missing(root, str(error)) from error
        rows = np.concatenate([pixels for pixels, _ in pairs])
        labels = np.concatenate([labels for _, labels in pairs])
        return np.ascontiguousarray(rows.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)), labels.astype(np.int64)

    def class_names(self, root: Path) -> tuple[str, ...] | None:
        """The classes' names, where the files' own list of them is there."""
        folder = self.folder_in(root)
        file, key = self.names_file
        if folder is None or not (folder / file).is_file():
            return None
        try:
            names = _unpickled(folder / file).get(key)
        except _Damaged as error:
            raise self._missing(root, str(error)) from error
        if not isinstance(names, list) or len(names) != self.num_classes or not all(isinstance(n, str) for n in names):
            raise self._missing(root, f"{file} does not name {self.num_classes} classes")
        return tuple(names)

    def download(self, root: Path) -> None:
        """Fetch and unpack it into `root`, by torchvision. Raises FpgmError where that fails."""
        datasets = import_torchvision("torchvision.datasets")
        try:
            getattr(datasets, self.title.replace("-", ""))(str(root), download=True)
        except (RuntimeError, OSError) as error:
            raise self._missing(root, f"it cannot be fetched: {error}") from error

    def _missing(self, root: Path, why: str) -> FpgmError:
        return FpgmError(
            f"no complete {self.title} under {root} ({why}); unpack {self.archive} there, so that "
            f"{root / self.folder} exists, or allow the download"
        )

    def _python(self, path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
        batch = _unpickled(path)
        return self._checked(path, batch.get("data"), batch.get(self.labels), count)

    def _binary(self, path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
        size = self.label_bytes + _PIXELS
        if path.stat().st_size != count * size:
            raise _Damaged(f"{path.name} has {path.stat().st_size:,} bytes, not {count * size:,}")
        rows = np.fromfile(path, np.uint8).reshape(count, size)
        return self._checked(path, rows[:, self.label_bytes :], rows[:, self.label_bytes - 1].tolist(), count)

    def _checked(self, path: Path, rows: Any, labels: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
        fine = isinstance(rows, np.ndarray) and rows.dtype == np.uint8 and rows.shape == (count, _PIXELS)
        if fine and isinstance(labels, list) and len(labels) == count:
            numbers = np.array(labels)
            if numbers.dtype.kind == "i" and 0 <= numbers.min() <= numbers.max() < self.num_classes:
                return rows, numbers
        raise _Damaged(f"{path.name} is not a part of it")


class _Reader(pickle.Unpickler):
    """An unpickler that knows arrays, and nothing that could be called to do harm."""

    def find_class(self, module: str, name: str) -> Any:
        """What the pickle names, where it is allowed."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return getattr(importlib.import_module(module.replace("numpy.core", "numpy._core")), name)


class _Damaged(Exception):
    """A file is not what it should be, and why."""


def _unpickled(path: Path) -> dict[str, Any]:
    """A file's dictionary. Raises _Damaged for anything else, and for a pickle that names more than arrays."""
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise _Damaged(f"{path.name} has {size:,} bytes")
    content = path.read_bytes()
    try:
        found = _Reader(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises whatever it likes
        raise _Damaged(f"{path.name} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise _Damaged(f"{path.name} is damaged: no dictionary")
    return found


CIFAR10 = CifarFiles(
    name="cifar10",
    title="CIFAR-10",
    archive="cifar-10-python.tar.gz",
    folder="cifar-10-batches-py",
    binary_folder="cifar-10-batches-bin",
    files={"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]},
    binary_files={"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]},
    images_a_file={"train": 10_000, "test": 10_000},
    labels="labels",
    names_file=("batches.meta", "label_names"),
    label_bytes=1,
    num_classes=10,
)
CIFAR100 = CifarFiles(
    name="cifar100",
    title="CIFAR-100",
    archive="cifar-100-python.tar.gz",
    folder="cifar-100-python",
    binary_folder="cifar-100-binary",
    files={"train": ["train"], "test": ["test"]},
    binary_files={"train": ["train.bin"], "test": ["test.bin"]},
    images_a_file={"train": 50_000, "test": 10_000},
    labels="fine_labels",
    names_file=("meta", "fine_label_names"),
    label_bytes=2,  # coarse, fine
    num_classes=100,
)
