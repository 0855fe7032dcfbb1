"""Decoding: the pictures of a source as rows of uint8 pixels, a core a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from fpgm_core.data.pixel_memory import KeptPixels, empty_pixels, most_on_disk
from fpgm_core.data.preprocessing import Preprocessing
from fpgm_core.errors import FpgmError
from fpgm_core.runtime.cores import each, workers
from fpgm_core.runtime.progress import Progress, Work

if TYPE_CHECKING:
    from fpgm_core.data.sources import ImageSource

_CPU = torch.device("cpu")
_AT_ONCE = 8  # pictures a core decodes between two looks
_FORMAT = 2
_Picture = tuple[np.ndarray, int]  # uint8 (H, W, C), and the label


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pixels uint8 (N, H, W, C) and labels int64 (N,) of what decodes; the names of what does not, and why the first.

    `asked` pictures were tried: fewer than the source has where there is no room for more.
    """

    pixels: Tensor
    labels: np.ndarray
    asked: int
    unread: tuple[str, ...] = ()
    problem: str = ""


def decode_work(source: ImageSource, preprocessing: Preprocessing) -> Work[Decoded]:
    """All pictures of a source, prepared; read from disk where an earlier call kept them.

    Raises FpgmError for pictures of different sizes, and where there is no room for them.
    """
    at_hand = _at_hand(source, preprocessing)
    if at_hand is not None:
        return at_hand
    kept = _kept(source, preprocessing)
    found = kept.read() if kept is not None else None
    if found is not None:
        return Decoded(found.pixels, np.asarray(found.labels, np.int64), found.asked, found.unread)
    yield Progress(0, what="reading images")
    rows = _Rows(source, preprocessing, kept)
    try:
        for done in rows.fill():
            yield Progress(done, len(rows.source), f"reading images: {done:,} of {len(rows.source):,}")
        return rows.decoded()
    finally:
        if kept is not None:
            kept.close()


def _at_hand(source: ImageSource, preprocessing: Preprocessing) -> Decoded | None:
    """The pixels of a source of arrays, where there is nothing to do to them."""
    if source.pixels is None or source.labels is None:
        return None
    _, height, width, channels = source.pixels.shape
    if channels != preprocessing.channels or not preprocessing.leaves(height, width):
        return None
    labels = source.labels[source.indices]
    if source.which is None:
        return Decoded(torch.from_numpy(np.ascontiguousarray(source.pixels)), labels, len(source))
    pixels = empty_pixels((len(source), height, width, channels))
    np.take(source.pixels, source.which, axis=0, out=pixels.numpy(), mode="clip")
    return Decoded(pixels, labels, len(source))


def _kept(source: ImageSource, preprocessing: Preprocessing) -> KeptPixels | None:
    """Where the pictures are kept, or will be; None for those that nothing identifies."""
    if source.identity is None:
        return None
    return KeptPixels(
        {
            "format": _FORMAT,
            "pillow": PIL.__version__,
            "source": dict(source.identity),
            "which": source.indices.tolist(),
            "preprocessing": preprocessing.about,
        }
    )


class _Rows:
    """The rows so far; the first picture says how large all are."""

    def __init__(self, source: ImageSource, preprocessing: Preprocessing, kept: KeptPixels | None) -> None:
        self.source, self._preprocessing, self._kept = source, preprocessing, kept
        self._pixels: Tensor | None = None
        self._labels: list[int] = []
        self._unread: list[str] = []
        self._problem = ""

    def fill(self) -> Iterator[int]:
        """Decode everything; yields how many pictures were tried."""
        self._begin()
        step = _AT_ONCE * workers(_CPU)
        for begin in range(0, len(self.source), step):
            indices = self.source.indices[begin : begin + step].tolist()
            for index, picture in zip(indices, self._read_all(indices), strict=True):
                self._take_in(index, picture)
            yield begin + len(indices)

    def _begin(self) -> None:
        """Room for all, or for as many as the limit allows, by the first picture that can be read."""
        pictures = (self._prepared(self._read(index)) for index in self.source.indices.tolist())
        first = next((picture[0] for picture in pictures if not isinstance(picture, Exception)), None)
        if first is None:
            return
        fit = most_on_disk() // first.nbytes
        if fit < 1:
            raise FpgmError("there is no room for a single image; set FPGM_IMAGES_BYTES to more")
        self.source = self.source.sample(fit)
        shape = (len(self.source), *first.shape)
        self._pixels = empty_pixels(shape) if self._kept is None else self._kept.room(shape)

    def _read_all(self, indices: list[int]) -> list[_Picture | Exception]:
        """The pictures at `indices`, prepared, on all cores; read one after another where the source wants that."""
        if not self.source.parallel:
            return each(self._prepared, [self._read(index) for index in indices], _CPU)
        return each(lambda index: self._prepared(self._read(index)), indices, _CPU)

    def _read(self, index: int) -> tuple[Any, int] | Exception:
        """An image and its label, or why there is none: decoders raise whatever they like on damaged files."""
        try:
            return self.source.read(index)
        except FpgmError:
            raise
        except Exception as error:
            return error

    def _prepared(self, read: tuple[Any, int] | Exception) -> _Picture | Exception:
        """What was read, as the network wants it: lazily decoded pictures raise only here."""
        if isinstance(read, Exception):
            return read
        picture = as_picture(read[0])
        try:
            return self._preprocessing.apply(picture), read[1]
        except Exception as error:
            return error

    def _take_in(self, index: int, picture: _Picture | Exception) -> None:
        if isinstance(picture, Exception):
            self._problem = self._problem or f"{self.source.called(index)}: {picture}"
            self._unread.append(self.source.called(index))
            return
        pixels, label = picture
        assert self._pixels is not None
        if pixels.shape != tuple(self._pixels.shape[1:]):
            raise FpgmError(
                f"{self.source.called(index)} is {pixels.shape[1]} x {pixels.shape[0]}, and others are "
                f"{self._pixels.shape[2]} x {self._pixels.shape[1]}; give a preprocessing with resize and crop"
            )
        self._pixels[len(self._labels)] = torch.from_numpy(np.array(pixels))
        self._labels.append(label)

    def decoded(self) -> Decoded:
        """What was read; kept for the next time."""
        labels, unread, asked = np.asarray(self._labels, np.int64), tuple(self._unread), len(self.source)
        if self._pixels is None:
            return Decoded(torch.empty(0, 0, 0, 0, dtype=torch.uint8), labels, asked, unread, self._problem)
        pixels = self._pixels[: len(labels)]
        if self._kept is not None:
            pixels = self._kept.finish(pixels, labels=self._labels, unread=unread, asked=asked)
        return Decoded(pixels, labels, asked, unread, self._problem)


def as_picture(image: Any) -> Image.Image:
    """A data set's image as a PIL picture: from a picture, or an array or tensor (H, W, C) or (C, H, W).

    Floats are rounded to 255ths. Raises FpgmError for other things, and for floats beyond 0..1.
    """
    if isinstance(image, Image.Image):
        return image
    array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or not {array.shape[0], array.shape[2]} & {1, 3}:
        raise FpgmError(f"an image is {array.dtype} {array.shape}; give PIL pictures, (H, W, C) or (C, H, W)")
    if array.shape[2] not in (1, 3) or (isinstance(image, Tensor) and array.shape[0] in (1, 3)):
        array = array.transpose(1, 2, 0)
    if array.dtype.kind == "f":
        if not (array.min() >= -1e-6 and array.max() <= 1 + 1e-6):
            raise FpgmError(
                f"an image has values from {array.min():.3g} to {array.max():.3g}; leave Normalize out of the data "
                "set's transforms, and say mean and std in the preprocessing"
            )
        array = np.rint(array * 255).clip(0, 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise FpgmError(f"an image is {array.dtype}; give uint8, or floats in 0..1")
    return Image.fromarray(np.ascontiguousarray(array[:, :, 0] if array.shape[2] == 1 else array))
