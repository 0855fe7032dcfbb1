"""What is done to a picture before a network sees it: resized, cropped, and scaled by mean and std."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from PIL import Image

from fpgm_core.errors import FpgmError
from fpgm_core.runtime.torchvision_import import import_torchvision

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos", "box", "hamming")
_MODES = {1: "L", 3: "RGB"}
_LARGEST_SIDE = 1 << 14
_LARGE = 128  # pixels: ImageNet's recipe, which cuts the borders off, is for pictures from here on


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How pictures become a network's input; the values are what torchvision's and timm's transforms have.

    `resize` is the length that the shorter side gets, or (height, width) whatever the shape was, None to leave the
    picture as it is; `crop`, (height, width), is cut from the middle then, None for nothing. `interpolation` is one
    of Pillow's, antialiased. `mean` and `std` are one a channel, for pixels in 0..1: one for grey, three for RGB.
    """

    resize: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        sides = [
            self.resize if isinstance(self.resize, tuple) else (self.resize,) if self.resize is not None else (),
            self.crop or (),
        ]
        for side in (side for both in sides for side in both):
            if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= _LARGEST_SIDE:
                raise FpgmError(f"pictures cannot have a side of {side!r}; give 1 to {_LARGEST_SIDE:,} pixels")
        if self.interpolation not in INTERPOLATIONS:
            raise FpgmError(f"unknown interpolation {self.interpolation!r}; choose one of {', '.join(INTERPOLATIONS)}")
        if len(self.mean) not in _MODES or len(self.std) != len(self.mean):
            raise FpgmError(f"mean {self.mean} and std {self.std} are not one a channel, for 1 or 3 channels")
        if not all(map(math.isfinite, (*self.mean, *self.std))) or not all(s > 0 for s in self.std):
            raise FpgmError(f"mean {self.mean} and std {self.std} cannot be; give finite numbers, std above 0")

    @classmethod
    def from_torchvision(cls, transforms: Any) -> Preprocessing:
        """What torchvision's `weights.transforms()` do. Raises FpgmError for other transforms than its classifiers'."""
        try:
            (resize,), (crop,) = transforms.resize_size, transforms.crop_size
            return cls(
                resize=int(resize),
                crop=(int(crop), int(crop)),
                interpolation=transforms.interpolation.value,
                mean=tuple(map(float, transforms.mean)),
                std=tuple(map(float, transforms.std)),
            )
        except (AttributeError, TypeError, ValueError) as error:
            raise FpgmError(
                f"{type(transforms).__name__} is not torchvision's transforms of a classifier; give a Preprocessing"
            ) from error

    @classmethod
    def from_timm(cls, config: Mapping[str, Any]) -> Preprocessing:
        """What timm does for evaluation by its data config, a model's `pretrained_cfg` say.

        Raises FpgmError for a config that lacks something, or that asks for a border.
        """
        try:
            _, height, width = config["input_size"]
            mode, share = config.get("crop_mode") or "center", float(config.get("crop_pct") or 0.875)
            scaled = math.floor(height / share), math.floor(width / share)
            return cls(
                resize=_timm_resize(mode, scaled),
                crop=(int(height), int(width)),
                interpolation=_timm_interpolation(config.get("interpolation") or "bicubic"),
                mean=tuple(map(float, config["mean"])),
                std=tuple(map(float, config["std"])),
            )
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            if isinstance(error, FpgmError):
                raise
            raise FpgmError(f"this is not a data config of timm's ({error!r}); give a Preprocessing") from error

    @classmethod
    def of(cls, transforms: Any) -> Preprocessing:
        """What a library publishes beside its weights: torchvision's transforms, timm's data config; or one of these.

        Raises FpgmError for anything else.
        """
        if isinstance(transforms, cls):
            return transforms
        return cls.from_timm(transforms) if isinstance(transforms, Mapping) else cls.from_torchvision(transforms)

    @classmethod
    def of_transforms(cls, transforms: Any) -> Preprocessing | None:
        """As `of`; None for anything else."""
        try:
            return cls.of(transforms)
        except FpgmError:
            return None

    @classmethod
    def for_input(
        cls, input_shape: Sequence[int], mean: Sequence[float], std: Sequence[float], *, share: float = 0.875
    ) -> Preprocessing:
        """The usual recipe for a network that reads (channels, height, width): the middle `share` of each side."""
        _, height, width = input_shape
        resize = round(height / share) if height == width else (height, width)
        return cls(resize=resize, crop=(height, width), mean=tuple(map(float, mean)), std=tuple(map(float, std)))

    @classmethod
    def usual(cls, input_shape: Sequence[int]) -> Preprocessing:
        """What to begin with where nobody said: ImageNet's mean and std, which most networks for pictures want.

        Of small pictures nothing is cut away: networks for those see them whole. Raises FpgmError for a network that
        reads neither grey nor colour.
        """
        channels = input_shape[0]
        if channels not in _MODES:
            raise FpgmError(f"the network reads {channels} channels, and pictures have 1 or 3; give images as arrays")
        mean, std = ((0.5,), (0.5,)) if channels == 1 else (IMAGENET_MEAN, IMAGENET_STD)
        return cls.for_input(input_shape, mean, std, share=1.0 if min(input_shape[1:]) < _LARGE else 0.875)

    def changed(self, text: str) -> Preprocessing:
        """The same but for what a text like "resize=256,crop=224,mean=0.5/0.5/0.5" says.

        Raises FpgmError for anything else.
        """
        changes: dict[str, Any] = {}
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            name = name.strip()
            if name not in {field.name for field in fields(self)}:
                known = ", ".join(field.name for field in fields(self))
                raise FpgmError(f"cannot read {part!r}; preprocessing has {known}, as in resize=256,crop=224")
            try:
                changes[name] = _parsed(name, value.strip())
            except ValueError as error:
                raise FpgmError(f"cannot read {part!r}; write it as in resize=256,crop=224,mean=0.5/0.5/0.5") from error
        return replace(self, **changes)

    @property
    def text(self) -> str:
        """What `changed` reads: "resize=256,crop=224x224,interpolation=bilinear,mean=0.485/0.456/0.406,std=..."."""

        def sides(side: int | tuple[int, int] | None) -> str:
            return "none" if side is None else str(side) if isinstance(side, int) else "x".join(map(str, side))

        mean, std = ("/".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        sizes = f"resize={sides(self.resize)},crop={sides(self.crop)}"
        return f"{sizes},interpolation={self.interpolation},mean={mean},std={std}"

    @property
    def channels(self) -> int:
        """How many channels pictures have then."""
        return len(self.mean)

    @property
    def about(self) -> dict[str, Any]:
        """What it does to pixels, as JSON has it: without mean and std, which are applied later."""
        resize = list(self.resize) if isinstance(self.resize, tuple) else self.resize
        return {
            "resize": resize,
            "crop": list(self.crop) if self.crop else None,
            "interpolation": self.interpolation,
            "channels": self.channels,
        }

    def leaves(self, height: int, width: int) -> bool:
        """Whether pictures of that size come back as they are."""
        resized = self.resize is None or (height, width) == self.resize or min(height, width) == self.resize
        return resized and self.crop in (None, (height, width))

    def apply(self, picture: Image.Image) -> np.ndarray:
        """The picture resized and cropped, uint8 (H, W, C): what torchvision's transforms make of it, bit by bit."""
        if picture.mode != _MODES[self.channels]:
            picture = picture.convert(_MODES[self.channels])
        if not self.leaves(picture.height, picture.width):
            functional = import_torchvision("torchvision.transforms.functional")
            if self.resize is not None:
                mode = functional.InterpolationMode(self.interpolation)
                resize = list(self.resize) if isinstance(self.resize, tuple) else self.resize
                picture = functional.resize(picture, resize, mode, antialias=True)
            if self.crop is not None:
                picture = functional.center_crop(picture, list(self.crop))
        pixels = np.asarray(picture)
        return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _timm_resize(mode: str, scaled: tuple[int, int]) -> int | tuple[int, int]:
    if mode == "center" and scaled[0] == scaled[1]:
        return scaled[0]
    if mode == "squash":
        return scaled
    raise FpgmError(
        f"this config has crop_mode {mode!r} at {scaled[0]} x {scaled[1]}; give a Preprocessing of your own"
    )


def _timm_interpolation(name: str) -> str:
    return "bicubic" if name == "random" else name


def _parsed(name: str, value: str) -> Any:
    if name == "interpolation":
        return value
    numbers = value.split("/") if "/" in value else value.split("x")
    if name in ("mean", "std"):
        return tuple(map(float, numbers))
    if value == "none":
        return None
    sides = tuple(map(int, numbers))
    if len(sides) not in (1, 2):
        raise ValueError(value)
    if name == "crop":
        return sides if len(sides) == 2 else sides * 2
    return sides if len(sides) == 2 else sides[0]


def read_size(text: str) -> tuple[int, int]:
    """Height and width as people write them: "64", or "64x96". Raises FpgmError for anything else."""
    sides = text.strip().lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and 1 <= int(side) <= 8192 for side in sides):
        raise FpgmError(f"{text!r} is no size of images; write 64, or 64x96 for height x width")
    return int(sides[0]), int(sides[-1])


def torchvision_preprocessing(name: str, weights: str = "DEFAULT") -> Preprocessing | None:
    """What goes with torchvision's weights of a network, by their names; None where torchvision has no such network.

    Weights that it does not know, a checkpoint of one's own say, are taken to want what its default ones do.
    """
    models = import_torchvision("torchvision.models")
    try:
        known = models.get_model_weights(name)
    except ValueError:
        return None
    entry = known.__members__.get(weights.rpartition(".")[2], known.DEFAULT)
    return Preprocessing.from_torchvision(entry.transforms())
