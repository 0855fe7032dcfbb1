"""Every network the explorer can open, one frozen record each, and the one way to load one."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from fpgm_core.errors import FpgmError
from fpgm_core.models import timm_models, torchvision_models
from fpgm_core.models.checkpoints import best_match, fingerprint, load_state, read_state_dicts
from fpgm_core.models.cifar_mobilenet import CifarMobileNetV2
from fpgm_core.models.cifar_resnet import CifarResNet
from fpgm_core.models.cifar_vgg import CifarVgg16
from fpgm_core.models.info import ModelInfo, Published
from fpgm_core.runtime.storage import home

RANDOM_SEED = 0
LIBRARIES: Mapping[str, ModuleType] = MappingProxyType({"torchvision": torchvision_models, "timm": timm_models})
_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar")


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network with weights, in eval mode, float32, on the CPU; shared, so never changed in place.

    `weights` says where they come from; `trained` is False for seeded random ones. `class_names`, `normalization` and
    `transforms` are the library's that published the weights, see `Published`; None where unknown. `note` is what must
    be known of how a checkpoint was read, or "".
    """

    info: ModelInfo
    module: nn.Module
    fingerprint: str
    weights: str
    trained: bool
    class_names: tuple[str, ...] | None = None
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    transforms: Any = None
    note: str = ""

    @property
    def notice(self) -> str | None:
        """What the user must know about the weights, or None."""
        if self.trained:
            return self.note or None
        return (
            f"{self.info.name} has no trained weights here: seeded random ones stand in, so costs are exact but "
            f"no accuracy can be measured; {_how_to_get_weights(self.info)}"
        )


def _cifar(name: str, title: str, family: str, summary: str, build: Callable[..., nn.Module]) -> ModelInfo:
    return ModelInfo(name, title, family, summary, "cifar10", (3, 32, 32), 10, build)


def _cifar_resnet(depth: int) -> ModelInfo:
    blocks = (depth - 2) // 6
    summary = f"three stages of {blocks} blocks, 16, 32 and 64 filters, option A shortcuts"
    return _cifar(f"resnet{depth}", f"ResNet-{depth}", "resnet", summary, partial(CifarResNet, blocks))


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


def list_models(pattern: str | None = None) -> tuple[ModelInfo, ...]:
    """Every record: the CIFAR networks first, then torchvision's in its own order.

    With a `pattern`, the shell's, those whose name it matches; one that begins with "timm/" is of timm's networks, and
    raises FpgmError where timm is not installed.
    """
    if pattern is None:
        return (*cifar_models(), *torchvision_models.infos())
    if pattern.startswith("timm/"):
        return tuple(timm_models.info(name) for name in fnmatch.filter(timm_models.names(), pattern[5:]))
    among = torchvision_models.infos() if pattern.startswith("torchvision/") else list_models()
    return tuple(info for info in among if fnmatch.fnmatchcase(info.name, pattern.removeprefix("torchvision/")))


def model_names() -> tuple[str, ...]:
    """The names of all networks, without importing a library: these, torchvision's, and timm's where it is installed.

    In the order of `list_models`; timm's, as "timm/NAME", without tags.
    """
    timm = [f"timm/{name}" for name in timm_models.names()] if timm_models.is_installed() else []
    return (*(info.name for info in cifar_models()), *torchvision_models.names(), *timm)


def get_model_info(name: str) -> ModelInfo:
    """The record called `name`: a plain name, "torchvision/NAME" or "timm/NAME".

    Raises FpgmError, with the nearest names, where there is none.
    """
    library, _, inner = name.rpartition("/")
    if library == "timm" and timm_models.knows(inner):
        return timm_models.info(inner)
    for info in () if library else cifar_models():
        if info.name == inner:
            return info
    for info in torchvision_models.infos() if library in ("", "torchvision") else ():
        if info.name == inner:
            return info
    raise FpgmError(f"unknown model {name!r}; {_nearest(library, inner)}")


def _nearest(library: str, inner: str) -> str:
    names = [name for name in model_names() if library != "timm" or name.startswith("timm/")]
    near = difflib.get_close_matches(f"timm/{inner}" if library == "timm" else inner, names, n=3)
    if f"timm/{inner}" in names:
        near = [f"timm/{inner}"]
    listing = "`python -m fpgm_core models`" if library != "timm" else "`python -m fpgm_core models 'timm/*'`"
    return f"did you mean {' or '.join(near)}?" if near else f"{listing} lists them"


def _own_checkpoint(info: ModelInfo) -> Path | None:
    places = [home() / "weights" / f"{info.name}{suffix}" for suffix in _SUFFIXES]
    return next((path for path in places if path.is_file()), None)


def _how_to_get_weights(info: ModelInfo) -> str:
    place = f"place yours at FPGM_HOME/weights/{info.name}.safetensors"
    if info.library:
        return f"pass weights DEFAULT to download {info.library}'s, or {place}"
    return f"pass a checkpoint file as weights, or {place}"


def load_model(name: str, weights: str | Path | None = None) -> LoadedModel:
    """Load a network by its name, see `get_model_info`.

    `weights` is None (the best at hand without a network connection: bundled, a file in `FPGM_HOME/weights`,
    a checkpoint that torchvision or timm already downloaded, else seeded random ones), "random", a checkpoint
    file, or the name of weights that the network's library publishes ("DEFAULT", "IMAGENET1K_V2"; of timm's, a tag
    as "a1_in1k"). A checkpoint whose classifier has another number of classes makes the network one of as many.

    Raises FpgmError for an unknown model and for weights that cannot be had or do not fit.
    """
    info = get_model_info(name)
    if weights is None:
        return _best_at_hand(info)
    if str(weights) == "random":
        return _random(info)
    if _is_file(weights):
        return _from_file(info, Path(weights))
    if info.library:
        return _published(info, str(weights))
    raise FpgmError(f"no checkpoint at {weights}; {_how_to_get_weights(info)}")


def published_weights(name: str) -> tuple[str, ...]:
    """What `load_model` takes as weights of a network that its library publishes: "DEFAULT" first; () of others."""
    info = get_model_info(name)
    tags = LIBRARIES[info.library].tags(info.name.rpartition("/")[2]) if info.library else ()
    return ("DEFAULT", *tags) if tags else ()


def _is_file(weights: str | Path) -> bool:
    return isinstance(weights, Path) or Path(weights).suffix in _SUFFIXES or Path(weights).exists()


def _best_at_hand(info: ModelInfo) -> LoadedModel:
    if info.record is not None:
        file = resources.files("fpgm_core.models") / "weights" / info.record["file"]
        with resources.as_file(file) as path:
            return replace(_from_file(info, path, info.record["sha256"]), weights="bundled")
    own = _own_checkpoint(info)
    if own is not None:
        return _from_file(info, own)
    at_hand = LIBRARIES[info.library].at_hand(info) if info.library else None
    return _random(info) if at_hand is None else _published(info, at_hand)


def _published(info: ModelInfo, weights: str) -> LoadedModel:
    published = LIBRARIES[info.library].published(info, weights)
    return _loaded(_of(info, published), published.module, published.weights, published)


def _of(info: ModelInfo, published: Published) -> ModelInfo:
    return replace(
        info,
        input_shape=published.input_shape,
        num_classes=published.num_classes,
        dataset=published.dataset,
        build=published.build,
    )


def _from_file(info: ModelInfo, path: Path, sha256: str | None = None) -> LoadedModel:
    recipe: Published | None = LIBRARIES[info.library].recipe(info, path) if info.library else None
    info = _of(info, recipe) if recipe else info
    states = {place: _needed(state, info) for place, state in read_state_dicts(path, sha256).items()}
    module = info.build()
    own = module.state_dict()
    place, match = best_match(
        states, own, path.name, num_classes=info.num_classes, elsewhere=lambda: _that_fits(info, states)
    )
    if match.num_classes is not None:
        info = replace(
            info,
            num_classes=match.num_classes,
            dataset="",
            summary=f"{info.summary}; {match.num_classes} classes",
            build=partial(info.build, num_classes=match.num_classes),
        )
        module = info.build()
    load_state(module, states[place], path.name, match)
    inside = ", ".join(part for part in (place, match.part) if part)
    loaded = _loaded(info, module, f"file {path.name}{f' ({inside})' if inside else ''}", recipe)
    class_names = loaded.class_names if match.num_classes is None else None
    return replace(loaded, class_names=class_names, note=f"{path.name}: {match.note}" if match.note else "")


def _that_fits(info: ModelInfo, states: Mapping[str, Mapping[str, Tensor]]) -> str | None:
    """The name of another network of the same family, here or torchvision's, that a checkpoint fits; or None."""
    for other in list_models():
        if other.name != info.name and other.family == info.family:
            with torch.device("meta"):
                own = other.build().state_dict()
            with suppress(FpgmError):
                best_match(states, own, "", num_classes=other.num_classes)
                return other.name
    return None


def _needed(state: Mapping[str, Tensor], info: ModelInfo) -> dict[str, Tensor]:
    """A state dict without the parts that exist for training alone."""
    return {name: value for name, value in state.items() if not set(name.split(".")) & set(info.training_only)}


def _random(info: ModelInfo) -> LoadedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        return _loaded(info, info.build(), "random", None)


def _loaded(info: ModelInfo, module: nn.Module, weights: str, published: Published | None) -> LoadedModel:
    module.eval().requires_grad_(False)
    return LoadedModel(
        info,
        module,
        fingerprint(module.state_dict()),
        weights,
        trained=weights != "random",
        class_names=published.class_names if published else None,
        normalization=published.normalization if published else None,
        transforms=published.transforms if published else None,
    )
