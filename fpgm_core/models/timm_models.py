"""timm's classification networks, through timm's own registry; the package is optional."""

from __future__ import annotations

import importlib.util
import re
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from fpgm_core.errors import FpgmError
from fpgm_core.models.info import ModelInfo, Published
from fpgm_core.models.library_names import kept_names
from fpgm_core.runtime.extras import require
from fpgm_core.runtime.storage import home
from fpgm_core.runtime.torchvision_import import import_torchvision

_FILES = ("model.safetensors", "pytorch_model.bin")  # what timm looks for on the hub, in its order


def is_installed() -> bool:
    """Whether timm is here to be imported."""
    return importlib.util.find_spec("timm") is not None


@cache
def _timm() -> Any:
    """timm itself. Raises FpgmError, naming the extra, where it is not installed."""
    import_torchvision()  # timm imports it without further ado
    return require("timm", extra="timm")


@cache
def names() -> tuple[str, ...]:
    """The names of all of timm's architectures, without tags. Raises FpgmError where timm is not installed."""
    return kept_names("timm", lambda: _timm().list_models()) if is_installed() else tuple(_timm().list_models())


def knows(name: str) -> bool:
    """Whether timm has an architecture of that name, and weights of that tag where "name.tag" names one."""
    architecture, _, tag = name.partition(".")
    return bool(_timm().is_model(architecture)) and (not tag or tag in tags(architecture))


def tags(architecture: str) -> tuple[str, ...]:
    """The tags of an architecture's published weights, the default one first."""
    listed = _timm().list_pretrained(f"{architecture}.*")
    found = [name.partition(".")[2] for name in listed if name.partition(".")[0] == architecture]
    default = _config(architecture).tag
    return tuple(sorted(found, key=lambda tag: tag != default))


@cache
def info(name: str) -> ModelInfo:
    """The record of "timm/name", or of "timm/name.tag"."""
    config, architecture = _config(name), name.partition(".")[0]
    family = re.match(r"[a-z]+", architecture)
    return ModelInfo(
        name=f"timm/{name}",
        title=name,
        family=f"timm/{family.group() if family else architecture}",
        summary=f"timm network, {_trained_on(config)}",
        dataset=_dataset(config),
        input_shape=tuple(config.input_size),
        num_classes=config.num_classes,
        build=partial(build, architecture, num_classes=config.num_classes),
        library="timm",
    )


def _config(name: str) -> Any:
    """timm's PretrainedCfg of a name with or without a tag; its plain defaults where nothing is published."""
    pretrained = importlib.import_module("timm.models").PretrainedCfg
    return _timm().get_pretrained_cfg(name) or pretrained(architecture=name)


def _dataset(config: Any) -> str:
    return "imagenet1k" if config.num_classes == 1000 else ""


def _trained_on(config: Any) -> str:
    return f"{config.num_classes:,} classes" if config.num_classes != 1000 else "ImageNet-1k"


def build(architecture: str, *, num_classes: int) -> nn.Module:
    """A network with random weights."""
    module: nn.Module = _timm().create_model(architecture, num_classes=num_classes)
    return module


def _cached_file(config: Any) -> Path | None:
    """The file of published weights where it already lies in timm's caches: the hub's, or torch's."""
    if config.hf_hub_id:
        look = importlib.import_module("huggingface_hub").try_to_load_from_cache
        for file in _hub_files(config):
            if isinstance(found := look(config.hf_hub_id, file), str):
                return Path(found)
    if config.url:
        path = Path(torch.hub.get_dir()) / "checkpoints" / config.url.rsplit("/", 1)[-1]
        return path if path.exists() else None
    return None


def _hub_files(config: Any) -> tuple[str, ...]:
    return (config.hf_hub_filename,) if config.hf_hub_filename else _FILES


def _downloaded_file(config: Any) -> Path | None:
    """The file of published weights, fetched from the hub into its cache; None where the hub has none.

    timm itself asks for the next name where nobody answers for the first, and waits through all retries again.
    """
    hub = importlib.import_module("huggingface_hub")
    errors = importlib.import_module("huggingface_hub.errors")
    for file in _hub_files(config) if config.hf_hub_id else ():
        try:
            return Path(hub.hf_hub_download(config.hf_hub_id, file))
        except errors.LocalEntryNotFoundError:  # offline
            raise
        except errors.EntryNotFoundError:
            continue
    return None


def at_hand(info: ModelInfo) -> str | None:
    """The tag of this network's default weights where they already lie in a cache, else None."""
    config = _config(info.name.removeprefix("timm/"))
    return config.tag or "DEFAULT" if _cached_file(config) is not None else None


def published(info: ModelInfo, weights: str) -> Published:
    """The network with timm's weights: "DEFAULT" (those of the tag in its name, else its default), or a tag.

    From the hub's or torch's cache, else downloaded. Raises FpgmError for unknown weights, and where they can neither
    be found nor downloaded: the message names the file and the place to put it.
    """
    config = _named(info, weights)
    cached = _cached_file(config)
    called = f"timm {config.architecture}.{config.tag}" if config.tag else f"timm {config.architecture}"
    try:
        file = cached or _downloaded_file(config)
        # What timm has a loader of its own for is an .npz; the hub has such networks in torch's formats.
        overlay = {"file": str(file), "custom_load": file.suffix == ".npz"} if file else None
        module = _timm().create_model(
            config.architecture, pretrained=True, pretrained_cfg=config, pretrained_cfg_overlay=overlay
        )
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:  # offline, damaged, no weights
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FpgmError(f"cannot load {called} ({reason}); {_where_to_get(info, config, cached)}") from error
    return _described(info, config, called, module)


def _named(info: ModelInfo, weights: str) -> Any:
    name = info.name.removeprefix("timm/")
    architecture = name.partition(".")[0]
    known = tags(architecture)
    if not known:
        raise FpgmError(f"timm publishes no weights of {info.name}; give a checkpoint file as weights")
    if weights != "DEFAULT" and weights not in known:
        raise FpgmError(f"{info.name} has no weights {weights!r}; timm offers DEFAULT, {', '.join(known)}")
    return _config(name if weights == "DEFAULT" else f"{architecture}.{weights}")


def _where_to_get(info: ModelInfo, config: Any, cached: Path | None) -> str:
    if cached is not None:
        return f"remove {cached} to have it downloaded again"
    url = config.url
    if config.hf_hub_id:
        url = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/{config.hf_hub_filename or _FILES[0]}"
    place = home() / "weights" / f"{info.name}{Path(url).suffix}"
    return f"download {url} and give that file as weights, or place it at {place}"


def recipe(info: ModelInfo, file: Path) -> Published:
    """What timm would do for a checkpoint of this network: evaluate it by the network's own data config."""
    return _described(info, _config(info.name.removeprefix("timm/")), f"file {file.name}", None)


def _described(info: ModelInfo, config: Any, called: str, module: nn.Module | None) -> Published:
    transforms = importlib.import_module("timm.data").resolve_data_config(pretrained_cfg=config.to_dict())
    return Published(
        weights=called,
        module=module,
        input_shape=tuple(transforms["input_size"]),
        num_classes=config.num_classes,
        class_names=_class_names(config),
        transforms=transforms,
        normalization=(tuple(map(float, transforms["mean"])), tuple(map(float, transforms["std"]))),
        dataset=_dataset(config),
        build=partial(info.build, num_classes=config.num_classes),
    )


def _class_names(config: Any) -> tuple[str, ...] | None:
    """What the outputs are: as its config says, else ImageNet's subset of as many classes; None where unknown."""
    if config.label_names:
        return tuple(config.label_names)
    data = importlib.import_module("timm.data")
    subset = data.infer_imagenet_subset(config.to_dict())
    if subset is None:
        return None
    descriptions: list[str] = data.ImageNetInfo(subset).label_descriptions()
    return tuple(descriptions) if len(descriptions) == config.num_classes else None
