"""Data sets as objects: torch's `Dataset`, Hugging Face's `datasets.Dataset`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fpgm_core.data.sources import ImageSource
from fpgm_core.errors import FpgmError
from fpgm_core.runtime.extras import require

_IMAGE_NAMES = ("image", "img", "pixel_values", "picture", "jpg", "png")
_LABEL_NAMES = ("label", "labels", "fine_label", "target", "class", "cls")
_TEST_SPLITS, _TRAIN_SPLIT = ("test", "validation", "valid", "val", "dev"), "train"


def open_dataset(dataset: Any, *, class_names: Sequence[str] | None = None, name: str | None = None) -> ImageSource:
    """The images of a torch `Dataset` or a Hugging Face `datasets.Dataset`; nothing is read yet.

    An item is (image, label), or a mapping with an image and a label. Labels come from the data set's `targets` or
    label column where it has one, else with the images. Raises FpgmError for what has no length or no such items.
    """
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise FpgmError(f"{type(dataset).__name__} has no length or no items by number; give a map-style Dataset")
    if not len(dataset):
        raise FpgmError(f"{type(dataset).__name__} is empty; give a data set with images")
    if hasattr(dataset, "features") and hasattr(dataset, "column_names"):
        return _of_columns(dataset, class_names=class_names, name=name)
    known = class_names if class_names is not None else getattr(dataset, "classes", None)
    return ImageSource(
        name=name or type(dataset).__name__,
        size=len(dataset),
        read=lambda index: _pair(dataset[index]),
        labels=_targets(dataset),
        class_names=None if known is None else tuple(map(str, known)),
        called=lambda index: f"item {index}",
        parallel=False,  # whoever wrote it may not have thought of threads
    )


def _pair(item: Any) -> tuple[Any, int]:
    """The image and the label of an item."""
    if isinstance(item, Mapping):
        image = next((item[name] for name in _IMAGE_NAMES if name in item), None)
        label = next((item[name] for name in _LABEL_NAMES if name in item), None)
    elif isinstance(item, (tuple, list)) and len(item) >= 2:
        image, label = item[:2]
    else:
        image = label = None
    if image is None or label is None or np.ndim(label) != 0:
        raise FpgmError(
            "an item of the data set is not an image with one class; give (image, label) with a whole number"
        )
    if float(label) != int(label):
        raise FpgmError(f"an item of the data set has the label {label}; give a whole number, the class")
    return image, int(label)


def _targets(dataset: Any) -> np.ndarray | None:
    """The labels of all items where the data set keeps them, int64 (N,)."""
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):  # torch.utils.data.Subset
        labels = _targets(dataset.dataset)
        return None if labels is None else labels[np.asarray(dataset.indices)]
    if getattr(dataset, "target_transform", None) is not None:
        return None
    for name in ("targets", "labels", "_labels"):
        found = getattr(dataset, name, None)
        if found is None:
            continue
        labels = np.asarray(found)
        if labels.shape == (len(dataset),) and labels.dtype.kind in "iu":
            return labels.astype(np.int64)
    return None


def _of_columns(dataset: Any, *, class_names: Sequence[str] | None, name: str | None) -> ImageSource:
    """A Hugging Face data set: the column of images, and the column of classes."""
    kinds = {column: type(feature).__name__ for column, feature in dataset.features.items()}
    image = _column([column for column, kind in kinds.items() if kind == "Image"], _IMAGE_NAMES)
    whole = [column for column, feature in dataset.features.items() if "int" in str(getattr(feature, "dtype", ""))]
    label = _column([column for column, kind in kinds.items() if kind == "ClassLabel"], _LABEL_NAMES)
    label = label or _column([column for column in whole if column in _LABEL_NAMES], _LABEL_NAMES)
    if image is None or label is None:
        raise FpgmError(
            f"this data set has the columns {', '.join(dataset.column_names)}; it needs one of images and one of "
            "classes (datasets.Image, datasets.ClassLabel)"
        )
    names = class_names if class_names is not None else getattr(dataset.features[label], "names", None)
    fingerprint = getattr(dataset, "_fingerprint", None)

    def read(index: int) -> tuple[Any, int]:
        item = dataset[index]
        return item[image], int(item[label])

    return ImageSource(
        name=name or str(getattr(getattr(dataset, "info", None), "dataset_name", None) or "data set"),
        size=len(dataset),
        read=read,
        labels=np.asarray(dataset[label][:], np.int64),
        class_names=None if names is None else tuple(names),
        called=lambda index: f"row {index}",
        identity=None if fingerprint is None else {"hugging_face": str(fingerprint), "columns": [image, label]},
    )


def _column(columns: Sequence[str], preferred: Sequence[str]) -> str | None:
    """One of the columns: by the names that are usual, else the first."""
    return next((name for name in preferred if name in columns), columns[0] if columns else None)


def open_hugging_face(which: str) -> tuple[ImageSource, ImageSource | None]:
    """Test images and, where there are any, training images of a Hugging Face data set.

    `which` is "NAME", "NAME:CONFIG" or a folder: one that `save_to_disk` wrote, or one that `load_dataset` reads. Needs
    the extra `hf`. Code that comes with a data set is not run. Raises FpgmError where it cannot be had.
    """
    datasets = require("datasets", extra="hf")
    name, _, config = (which, "", "") if Path(which).expanduser().exists() else which.partition(":")
    try:
        splits = _loaded(datasets, name, config)
    except FpgmError:
        raise
    except Exception as error:  # whatever its many readers raise
        said = str(error).strip().partition("\n")[0]
        raise FpgmError(
            f"cannot open the data set {which} ({said}); give its name, or a folder that holds it"
        ) from error
    test = next((split for split in _TEST_SPLITS if split in splits), None)
    short = Path(name).name
    train = open_dataset(splits[_TRAIN_SPLIT], name=f"{short} train") if _TRAIN_SPLIT in splits else None
    if test is not None:
        return open_dataset(splits[test], name=short), train
    first = next(iter(splits))
    return open_dataset(splits[first], name=short), None if first == _TRAIN_SPLIT else train


def _loaded(datasets: Any, name: str, config: str) -> Mapping[str, Any]:
    folder = Path(name).expanduser()
    if folder.is_dir() and any((folder / file).exists() for file in ("state.json", "dataset_dict.json")):
        found = datasets.load_from_disk(str(folder))
    else:
        found = datasets.load_dataset(name, config or None)
    return found if isinstance(found, Mapping) else {"test": found}
