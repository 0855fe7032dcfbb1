"""What is known of a network before it is built, and what a library's published weights bring."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from torch import nn


@dataclass(frozen=True)
class ModelInfo:
    """One network: what it is called, what it reads, what it was trained on.

    `input_shape` is (channels, height, width); `dataset` is the key of the data registry whose
    images it classifies, "" where that is unknown. `build()` makes it with random weights; `build(num_classes=N)` with
    a classifier for as many classes. `library` is the package that defines it ("torchvision", "timm"), "" for this
    one; `training_only` names parts of checkpoints that inference has no use for, auxiliary classifiers say.
    """

    name: str
    title: str
    family: str
    summary: str
    dataset: str
    input_shape: tuple[int, int, int]
    num_classes: int
    build: Callable[..., nn.Module]
    library: str = ""
    training_only: tuple[str, ...] = ()

    @property
    def record(self) -> Mapping[str, Any] | None:
        """The bundled checkpoint's record (file, sha256, accuracy, recipe), or None."""
        return bundled_record(self.name)


@dataclass(frozen=True, eq=False)
class Published:
    """What comes with weights that a library publishes, or with its recipe for a network of that name.

    `module` holds them, and is None where only the recipe was asked for. `transforms` is torchvision's
    `weights.transforms()`, or timm's data config; `normalization` the (mean, std) that it has, per channel, for pixels
    in 0..1. `class_names` are in the order of the outputs, None where unknown.
    """

    weights: str
    module: nn.Module | None
    input_shape: tuple[int, int, int]
    num_classes: int
    class_names: tuple[str, ...] | None
    transforms: Any
    normalization: tuple[tuple[float, ...], tuple[float, ...]]
    dataset: str
    build: Callable[..., nn.Module]


@cache
def _bundled_records() -> dict[str, dict[str, Any]]:
    folder = resources.files("fpgm_core.models") / "weights"
    records = [json.loads(entry.read_text()) for entry in folder.iterdir() if entry.name.endswith(".json")]
    return {record["model"]: record for record in records}


def bundled_record(name: str) -> Mapping[str, Any] | None:
    """The record (file, SHA-256, accuracy by split, recipe) of a network's bundled checkpoint, None without one."""
    return _bundled_records().get(name)
