"""torchvision's classification networks, through torchvision's own registry."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO
from urllib.error import URLError

import torch
from torch import nn

from fpgm_core.errors import FpgmError
from fpgm_core.runtime.storage import Kept, ResultStore
from fpgm_core.runtime.torchvision_import import import_torchvision


def _models() -> Any:
    return import_torchvision("torchvision.models")


@cache
def names() -> tuple[str, ...]:
    """The names of every classification network, in torchvision's order.

    Kept on disk by torchvision's version: it takes more than a second to import, only to fill a menu.
    """
    store, identity = ResultStore("torchvision"), {"version": version("torchvision")}
    known = store.read(identity, _names_in)
    if known is not None:
        return known
    models = _models()
    found = tuple(models.list_models(module=models))
    with contextlib.suppress(FpgmError):  # what cannot be kept is looked up again
        store.write(identity, Kept(list(found)))
    return found


def _names_in(kept: Kept) -> tuple[str, ...]:
    if not isinstance(kept.values, list) or not all(isinstance(name, str) for name in kept.values) or not kept.values:
        raise ValueError("no names")
    return tuple(kept.values)


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


def is_downloaded(name: str) -> bool:
    """Whether torchvision's default checkpoint of this network already lies in its cache."""
    weights = _models().get_model_weights(name)
    return _checkpoint(weights.DEFAULT).exists()


def build(name: str, weights: str | None) -> nn.Module:
    """Build a network, with torchvision's weights of that name or with random ones for None.

    Raises FpgmError for unknown weights, and where they can neither be found nor downloaded: the
    message names the file and the place to put it.
    """
    models = _models()
    chosen = None if weights is None else _weights(name, weights)
    # Auxiliary heads exist only for training, and their slow initialisation serves nobody here.
    extra = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") and not chosen else {}
    try:
        with _plain_weights_only(), contextlib.redirect_stdout(_WithoutAnnouncement(sys.stderr)):
            return models.get_model(name, weights=chosen, **extra)
    except (URLError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        if chosen is None:
            raise
        path = _checkpoint(chosen)
        raise FpgmError(
            f"cannot load {chosen} of {name} ({error}); download {chosen.url} and place it at {path}"
        ) from error


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
