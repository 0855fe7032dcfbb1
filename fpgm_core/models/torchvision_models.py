"""torchvision's classification networks, through torchvision's own registry."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import sys
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, TextIO
from urllib.error import URLError

import torch
from torch import nn

from fpgm_core.errors import FpgmError
from fpgm_core.models.info import ModelInfo, Published
from fpgm_core.models.library_names import kept_names
from fpgm_core.runtime.torchvision_import import import_torchvision

_WITH_AUXILIARIES = ("googlenet", "inception_v3")


def _models() -> Any:
    return import_torchvision("torchvision.models")


@cache
def names() -> tuple[str, ...]:
    """The names of every classification network, in torchvision's order."""

    def look_up() -> list[str]:
        models = _models()
        return list(models.list_models(module=models))

    return kept_names("torchvision", look_up)


def family(name: str) -> str:
    """The first letters of a network's name: "resnet" of "resnet50", "mobilenet" of "mobilenet_v2"."""
    match = re.match(r"(wide_resnet|[a-z]+)", name)
    return match.group(1) if match else name


def input_shape(name: str) -> tuple[int, int, int]:
    """(channels, height, width) its weights were trained on: 224 x 224, 299 for Inception."""
    side = 299 if name == "inception_v3" else 224
    return (3, side, side)


def _checkpoint(weights: Any) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]


@cache
def infos() -> tuple[ModelInfo, ...]:
    """Every classification network of the installed torchvision (the first call imports it)."""
    return tuple(
        ModelInfo(
            name=name,
            title=name,
            family=family(name),
            summary="torchvision classification network, ImageNet-1k",
            dataset="imagenet1k",
            input_shape=input_shape(name),
            num_classes=1000,
            build=partial(build, name),
            library="torchvision",
            training_only=("aux1", "aux2", "AuxLogits") if name in _WITH_AUXILIARIES else (),
        )
        for name in names()
    )


def at_hand(info: ModelInfo) -> str | None:
    """The name of this network's default weights where they already lie in torchvision's cache, else None."""
    weights = _models().get_model_weights(info.name)
    return "DEFAULT" if _checkpoint(weights.DEFAULT).exists() else None


def tags(name: str) -> tuple[str, ...]:
    """The names of a network's published weights."""
    return tuple(weights.name for weights in _models().get_model_weights(name))


def build(name: str, *, num_classes: int = 1000, **options: Any) -> nn.Module:
    """A network with random weights; `options` are its builder's own."""
    # Auxiliary heads exist only for training, and their slow initialisation serves nobody here.
    extra = {"aux_logits": False, "init_weights": False} if name in _WITH_AUXILIARIES else {}
    module: nn.Module = _models().get_model(name, weights=None, num_classes=num_classes, **extra, **options)
    return module


def published(info: ModelInfo, weights: str) -> Published:
    """The network with torchvision's weights of that name, from its cache or downloaded.

    Raises FpgmError for unknown weights, and where they can neither be found nor downloaded: the
    message names the file and the place to put it.
    """
    chosen = _weights(info.name, weights)
    try:
        with _plain_weights_only(), contextlib.redirect_stdout(_WithoutAnnouncement(sys.stderr)):
            module = _models().get_model(info.name, weights=chosen)
    except (URLError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise FpgmError(
            f"cannot load {chosen} of {info.name} ({error}); download {chosen.url} and place it at "
            f"{_checkpoint(chosen)}, or give the downloaded file as weights"
        ) from error
    return _described(info, chosen, f"torchvision {weights}", module)


def recipe(info: ModelInfo, file: Path) -> Published | None:
    """What comes with the weights that torchvision publishes under a file's name; None for any other file."""
    by_file = {_checkpoint(weights).name: weights for weights in _models().get_model_weights(info.name)}
    chosen = by_file.get(file.name)
    return None if chosen is None else _described(info, chosen, f"file {file.name}", None)


def _described(info: ModelInfo, weights: Any, called: str, module: nn.Module | None) -> Published:
    transforms, class_names = weights.transforms(), tuple(weights.meta["categories"])
    side = int(transforms.crop_size[0])
    # Its builder turns this on for published weights, which were trained on images normalised another way.
    options = {"transform_input": True} if info.name in _WITH_AUXILIARIES else {}
    return Published(
        weights=called,
        module=module,
        input_shape=(3, side, side),
        num_classes=len(class_names),
        class_names=class_names,
        transforms=transforms,
        normalization=(tuple(map(float, transforms.mean)), tuple(map(float, transforms.std))),
        dataset=info.dataset,
        build=partial(info.build, **options),
    )


@contextlib.contextmanager
def _plain_weights_only() -> Iterator[None]:
    """Make torch.hub, which torchvision loads with, refuse anything but plain weights: no file is unpickled."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class _WithoutAnnouncement:
    """A stream that swallows the line with which torch.hub announces a download on stdout.

    stdout belongs to results, and a download that fails must leave one clear line, the error's. Progress,
    on stderr, is not touched.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Pass `text` on, unless it is the announcement."""
        return len(text) if text.startswith("Downloading: ") else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _weights(name: str, weights: str) -> Any:
    available = _models().get_model_weights(name)
    entry = available.__members__.get(weights.removeprefix(f"{available.__name__}."))
    if entry is None:
        raise FpgmError(
            f"{name} has no weights {weights!r}; torchvision offers DEFAULT, {', '.join(w.name for w in available)}"
        )
    return entry
