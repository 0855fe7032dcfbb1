"""Trees with one folder a class, as torchvision's ImageFolder reads them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fpgm_core.data.classes import are_wnids, imagenet_wnids, plain
from fpgm_core.data.sources import ImageSource
from fpgm_core.errors import FpgmError

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's IMG_EXTENSIONS
# What is decoded, whatever a name says: of an EPS called .png Pillow would have Ghostscript run the program in it.
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
CLASSES_FILE = "classes.txt"  # in a tree's root: a class's folder a line, in the order of the network's outputs
_MOST_CLASSES = 1 << 16


def open_folder(
    folder: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    known_classes: Sequence[str] | None = None,
    name: str | None = None,
) -> ImageSource:
    """The images of a tree with one folder a class; nothing is decoded yet.

    Which folder is which class: `class_names`, in the order of the network's outputs, say it, by the folders' names
    but for case, spaces, hyphens and underscores; else a file `classes.txt` in the tree, one name a line; else
    `known_classes`, the network's own, where every folder is one of them; else, where every folder is called by an
    ImageNet wnid (n01440764), ImageNet-1k's order; else the folders' names in the order of their characters, as in
    torchvision, so that a network trained on the same tree agrees.

    Raises FpgmError where there is no such tree, for a folder that is none of the `class_names`, and for no images.
    """
    root = Path(folder).expanduser()
    found = class_folders(root)
    if not found:
        raise FpgmError(f"{root} has no folder with images in it; give a folder that holds one folder a class")
    order = tuple(class_names) if class_names is not None else _listed_classes(root)
    if order is None and known_classes and set(map(plain, found)) <= set(map(plain, known_classes)):
        order = tuple(known_classes)
    names, notes = (order, ()) if order is not None else _own_order(found)
    numbers = _numbers(found, names, root)
    files = [
        (path, number)
        for class_folder, number in zip(found, numbers, strict=True)
        for path in _files(root / class_folder)
    ]
    relative = [path.relative_to(root).as_posix() for path, _ in files]
    return ImageSource(
        name=name or root.resolve().name,
        size=len(files),
        read=lambda index: (_opened(files[index][0]), files[index][1]),
        labels=np.array([number for _, number in files], np.int64),
        class_names=names,
        called=relative.__getitem__,
        identity={"folder": _digest(files, relative)},
        notes=notes,
    )


def class_folders(root: Path) -> list[str]:
    """The folders in a tree that hold images, at any depth, in the order of their names; empty where there are none."""
    try:
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise FpgmError(f"cannot read {root}: {error.strerror}; give a folder that holds one folder a class") from error
    if len(names) > _MOST_CLASSES:
        raise FpgmError(f"{root} holds {len(names):,} folders; give one folder a class")
    return [name for name in names if next(iter(_files(root / name, first=True)), None) is not None]


def _files(folder: Path, first: bool = False) -> list[Path]:
    """The images in a folder and those below it, in the order of their names; with `first` at most one."""
    files = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                files.append(Path(parent, name))
                if first:
                    return files
    return files


def _opened(path: Path) -> Image.Image:
    with Image.open(path, formats=_FORMATS) as picture:
        picture.load()
        return picture


def _digest(files: Sequence[tuple[Path, int]], relative: Sequence[str]) -> str:
    """Tells a tree from what it was before: names, classes, sizes and times of all files."""
    sha = hashlib.sha256()
    for (path, number), name in zip(files, relative, strict=True):
        about = path.stat()
        sha.update(f"{name}\0{number}\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    return sha.hexdigest()


def _listed_classes(root: Path) -> tuple[str, ...] | None:
    try:
        lines = (root / CLASSES_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise FpgmError(f"cannot read {root / CLASSES_FILE} ({error}); write one class name a line") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if len({plain(name) for name in names}) < len(names) or not names:
        raise FpgmError(f"{root / CLASSES_FILE} names no class, or one twice; write one class name a line")
    return names


def _own_order(folders: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes that folders are by themselves, and what must be said of that."""
    if are_wnids(folders):
        return imagenet_wnids(), ()
    if all(name.isdigit() for name in folders) and sorted(folders, key=int) != list(folders):
        note = (
            f"the folders are classes in the order of their characters ({', '.join(folders[:3])} ...), as in "
            f"torchvision's ImageFolder, not of their numbers; a file {CLASSES_FILE} in the folder can say otherwise"
        )
        return tuple(folders), (note,)
    return tuple(folders), ()


def _numbers(folders: Sequence[str], names: Sequence[str], root: Path) -> list[int]:
    """The class of every folder."""
    known = {plain(name): number for number, name in reversed(list(enumerate(names)))}  # of equal names the first
    unknown = [folder for folder in folders if plain(folder) not in known]
    if unknown:
        raise FpgmError(
            f"{root} has a folder {unknown[0]!r}, which is none of the {len(names):,} classes ({', '.join(names[:3])} "
            f"...); rename it, or say which folder is which class in {root / CLASSES_FILE}, a name a line"
        )
    return [known[plain(folder)] for folder in folders]
