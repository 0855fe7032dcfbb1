"""Every network the explorer can open, one frozen record each, and the one way to load one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fpgm_core.errors import FpgmError
from fpgm_core.models import torchvision_models
from fpgm_core.models.checkpoints import fingerprint, load_state, read_checkpoint
from fpgm_core.models.cifar_mobilenet import CifarMobileNetV2
from fpgm_core.models.cifar_resnet import CifarResNet
from fpgm_core.models.cifar_vgg import CifarVgg16
from fpgm_core.runtime.storage import home

RANDOM_SEED = 0


@dataclass(frozen=True)
class ModelInfo:
    """One network: what it is called, what it reads, what it was trained on.

    `input_shape` is (channels, height, width); `dataset` is the key of the data registry whose
    images it classifies.
    """

    name: str
    title: str
    family: str
    summary: str
    dataset: str
    input_shape: tuple[int, int, int]
    num_classes: int
    build: Callable[[], nn.Module]

    @property
    def record(self) -> Mapping[str, Any] | None:
        """The bundled checkpoint's record (file, sha256, accuracy, recipe), or None."""
        return bundled_record(self.name)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network with weights, in eval mode, float32, on the CPU; shared, so never changed in place.

    `weights` says where they come from; `trained` is False for seeded random ones.
    """

    info: ModelInfo
    module: nn.Module
    fingerprint: str
    weights: str
    trained: bool

    @property
    def notice(self) -> str | None:
        """What the user must know about the weights, or None."""
        if self.trained:
            return None
        return (
            f"{self.info.name} has no trained weights here: seeded random ones stand in, so costs are exact but "
            f"no accuracy can be measured; {_how_to_get_weights(self.info)}"
        )


def _cifar(name: str, title: str, family: str, summary: str, build: Callable[[], nn.Module]) -> ModelInfo:
    return ModelInfo(name, title, family, summary, "cifar10", (3, 32, 32), 10, build)


def _cifar_resnet(depth: int) -> ModelInfo:
    blocks = (depth - 2) // 6
    summary = f"three stages of {blocks} blocks, 16, 32 and 64 filters, option A shortcuts"
    return _cifar(f"resnet{depth}", f"ResNet-{depth}", "resnet", summary, lambda: CifarResNet(blocks))


_CIFAR_MODELS = (
    *(_cifar_resnet(depth) for depth in (20, 32, 56, 110)),
    _cifar(
        "mobilenetv2_cifar",
        "MobileNetV2",
        "mobilenet",
        "nine inverted residuals: each depthwise convolution moves with its expansion",
        CifarMobileNetV2,
    ),
    _cifar("vgg16_bn_cifar", "VGG-16", "vgg", "thirteen convolutions in a row, 64 to 512 filters", CifarVgg16),
)


def cifar_models() -> tuple[ModelInfo, ...]:
    """The networks defined here; needs no torchvision."""
    return _CIFAR_MODELS


@cache
def torchvision_infos() -> tuple[ModelInfo, ...]:
    """Every classification network of the installed torchvision (the first call imports it)."""
    return tuple(
        ModelInfo(
            name=name,
            title=name,
            family=torchvision_models.family(name),
            summary="torchvision classification network, ImageNet-1k",
            dataset="imagenet1k",
            input_shape=torchvision_models.input_shape(name),
            num_classes=1000,
            build=lambda name=name: torchvision_models.build(name, None),  # type: ignore[misc]
        )
        for name in torchvision_models.names()
    )


def list_models() -> tuple[ModelInfo, ...]:
    """Every record: the CIFAR networks first, then torchvision's in its own order."""
    return (*cifar_models(), *torchvision_infos())


def get_model_info(name: str) -> ModelInfo:
    """The record called `name`. Raises FpgmError, with the nearest names, where there is none."""
    for info in cifar_models():
        if info.name == name:
            return info
    for info in torchvision_infos():
        if info.name == name:
            return info
    import difflib

    near = difflib.get_close_matches(name, [info.name for info in list_models()], n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`python -m fpgm_core models` lists them"
    raise FpgmError(f"unknown model {name!r}; {hint}")


@cache
def _bundled_records() -> dict[str, dict[str, Any]]:
    folder = resources.files("fpgm_core.models") / "weights"
    records = [json.loads(entry.read_text()) for entry in folder.iterdir() if entry.name.endswith(".json")]
    return {record["model"]: record for record in records}


def bundled_record(name: str) -> Mapping[str, Any] | None:
    """The record (file, SHA-256, accuracy by split, recipe) of a network's bundled checkpoint, None without one."""
    return _bundled_records().get(name)


def _own_checkpoint(info: ModelInfo) -> Path | None:
    for suffix in (".safetensors", ".pt", ".pth"):
        path = home() / "weights" / f"{info.name}{suffix}"
        if path.exists():
            return path
    return None


def _how_to_get_weights(info: ModelInfo) -> str:
    place = f"place yours at {home() / 'weights' / (info.name + '.safetensors')}"
    if info.dataset == "imagenet1k":
        return f"pass weights DEFAULT to download torchvision's, or {place}"
    return f"pass a checkpoint file as weights, or {place}"


def load_model(name: str, weights: str | Path | None = None) -> LoadedModel:
    """Load a network by its registry name.

    `weights` is None (the best at hand without a network connection: bundled, a file in `FPGM_HOME/weights`,
    a torchvision checkpoint already downloaded, else seeded random ones), "random", a checkpoint
    file, or, for torchvision networks, the name of one of its weights ("DEFAULT", "IMAGENET1K_V2").

    Raises FpgmError for an unknown model and for weights that cannot be had or do not fit.
    """
    info = get_model_info(name)
    if weights is None:
        module, source = _best_at_hand(info)
    elif str(weights) == "random":
        module, source = _random(info), "random"
    elif _is_file(weights):
        module, source = _from_file(info, Path(weights)), f"file {Path(weights).name}"
    elif info.dataset == "imagenet1k":
        module, source = torchvision_models.build(name, str(weights)), f"torchvision {weights}"
    else:
        raise FpgmError(f"no checkpoint at {weights}; {_how_to_get_weights(info)}")
    module.eval().requires_grad_(False)
    return LoadedModel(info, module, fingerprint(module.state_dict()), source, trained=source != "random")


def _is_file(weights: str | Path) -> bool:
    return (
        isinstance(weights, Path) or Path(weights).suffix in (".safetensors", ".pt", ".pth") or Path(weights).exists()
    )


def _best_at_hand(info: ModelInfo) -> tuple[nn.Module, str]:
    if info.record is not None:
        file = resources.files("fpgm_core.models") / "weights" / info.record["file"]
        with resources.as_file(file) as path:
            return _from_file(info, path, info.record["sha256"]), "bundled"
    own = _own_checkpoint(info)
    if own is not None:
        return _from_file(info, own), f"file {own.name}"
    if info.dataset == "imagenet1k" and torchvision_models.is_downloaded(info.name):
        return torchvision_models.build(info.name, "DEFAULT"), "torchvision DEFAULT"
    return _random(info), "random"


def _from_file(info: ModelInfo, path: Path, sha256: str | None = None) -> nn.Module:
    state = read_checkpoint(path, sha256)
    module = info.build()
    load_state(module, state, path.name)
    return module


def _random(info: ModelInfo) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        return info.build()
