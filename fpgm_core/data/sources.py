"""Labelled images that are not read yet: where every format begins, and the one way from there to an ImageSet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fpgm_core.data.decoding import Decoded, decode_work
from fpgm_core.data.images import HALVES_SEED, ImageSet, stratified_halves
from fpgm_core.data.preprocessing import Preprocessing
from fpgm_core.errors import FpgmError
from fpgm_core.runtime.progress import Progress, Work, timed

_NAMED = 5  # of the images that do not decode


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Images that can be listed now and read later: split and shortened first, only what is left is decoded.

    `read(index)` gives one of all `size` images, a PIL picture or an array, with its label; `labels` (N,) are known
    before that, or None where only reading tells them. `called(index)` is what messages call an image. `identity`, as
    JSON has it, is all that its pictures depend on: with one they are kept on disk once decoded. `which` are the
    images that belong to this source, in their order. `pixels`, uint8 (N, H, W, C), where all are arrays at hand.
    `parallel` says whether threads may `read` at once.
    """

    name: str
    size: int
    read: Callable[[int], tuple[Any, int]]
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None
    called: Callable[[int], str] = str
    identity: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    which: np.ndarray | None = None
    pixels: np.ndarray | None = None
    parallel: bool = True

    def __len__(self) -> int:
        return self.size if self.which is None else len(self.which)

    @property
    def indices(self) -> np.ndarray:
        """Which of all images these are, int64 (N,), in order."""
        return np.arange(self.size) if self.which is None else self.which

    def take(self, places: np.ndarray, name: str) -> ImageSource:
        """The images at these places among its own, as a source called `name`."""
        return replace(self, name=name, which=self.indices[places])

    def with_classes(self, class_names: Sequence[str]) -> ImageSource:
        """The same images, their labels numbered as `class_names` are, which have all of its own among them."""
        assert self.class_names is not None
        numbers = np.array([class_names.index(name) for name in self.class_names], np.int64)

        def read(index: int) -> tuple[Any, int]:
            image, label = self.read(index)
            return image, int(numbers[label])

        identity = None if self.identity is None else {**self.identity, "classes": list(class_names)}
        labels = None if self.labels is None else numbers[self.labels]
        return replace(self, read=read, labels=labels, class_names=tuple(class_names), identity=identity)

    def first(self, count: int) -> ImageSource:
        """The first `count` images. Raises FpgmError where there are fewer, or `count` is under 1."""
        if not 1 <= count <= len(self):
            raise FpgmError(f"{count} images asked of {self.name}, which has {len(self)}; ask for 1 to {len(self)}")
        return self.take(np.arange(count), self.name)

    def at_most(self, count: int | None) -> ImageSource:
        """The first `count` images, or all where there are fewer or `count` is None."""
        return self if count is None or count >= len(self) else self.first(count)

    def sample(self, count: int, seed: int = HALVES_SEED) -> ImageSource:
        """At most `count` images in their order: of more, a seeded choice with the classes in like shares."""
        if count >= len(self):
            return self
        chosen = np.arange(count)
        if self.labels is not None:
            chosen = np.sort(stratified_order(self._known_labels(), seed)[:count])
        return self.take(chosen, self.name)

    def halves(self, seed: int = HALVES_SEED) -> tuple[ImageSource, ImageSource]:
        """Two disjoint halves, as `ImageSet.halves` makes them. Raises FpgmError for fewer than two images."""
        if len(self) < 2:
            raise FpgmError(f"{self.name} has {len(self)} image; two halves need at least 2")
        first, second = stratified_halves(self._known_labels(), seed)
        return self.take(first, f"{self.name} choose"), self.take(second, f"{self.name} sealed")

    def shuffled(self, name: str, seed: int = HALVES_SEED) -> ImageSource:
        """The same images in a seeded order in which the first n have classes in like shares, as far as may be."""
        return self.take(stratified_order(self._known_labels(), seed), name)

    def _known_labels(self) -> np.ndarray:
        if self.labels is None:
            raise FpgmError(f"the labels of {self.name} are only known once all images are read; read it as one set")
        return self.labels[self.indices]

    def load_work(self, preprocessing: Preprocessing) -> Work[ImageSet]:
        """Decode the images, as many at once as there are cores; Progress has the time left, once there is a pace.

        What does not decode is left out and named in the set's `unread`. Raises FpgmError where nothing decodes, where
        images differ in size, and where there is no room for them.
        """
        if not isinstance(preprocessing, Preprocessing):
            raise FpgmError(
                f"nobody said how the pictures of {self.name} are prepared; give a Preprocessing(resize=256, "
                "crop=(224, 224), mean=..., std=...)"
            )
        decoded = yield from timed(decode_work(self, preprocessing))
        if not len(decoded.pixels):
            raise FpgmError(f"none of the {len(self):,} images of {self.name} decodes; the first: {decoded.problem}")
        yield Progress(1, what="images read")
        return ImageSet(
            name=self.name,
            pixels=decoded.pixels,
            labels=torch.from_numpy(decoded.labels),
            mean=preprocessing.mean,
            std=preprocessing.std,
            class_names=self._names(decoded),
            notes=(*self.notes, *_notes(self, decoded)),
            unread=decoded.unread,
        )

    def _names(self, decoded: Decoded) -> tuple[str, ...]:
        lowest, highest = int(decoded.labels.min()), int(decoded.labels.max())
        names = self.class_names or tuple(map(str, range(highest + 1)))
        if lowest < 0 or highest >= len(names):
            raise FpgmError(
                f"{self.name} has labels from {lowest} to {highest}, and {len(names)} class names; labels are whole "
                "numbers from 0, names one a class"
            )
        return names


def _notes(source: ImageSource, decoded: Decoded) -> list[str]:
    notes = []
    if decoded.asked < len(source):
        notes.append(
            f"{decoded.asked:,} of the {len(source):,} images of {source.name} are read: FPGM_IMAGES_BYTES and the "
            "disk have no room for more"
        )
    if decoded.unread:
        named = ", ".join(decoded.unread[:_NAMED])
        more = f" and {len(decoded.unread) - _NAMED:,} more" if len(decoded.unread) > _NAMED else ""
        notes.append(
            f"{len(decoded.unread):,} of {decoded.asked:,} images do not decode and are left out: {named}{more}"
        )
    return notes


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Indices (int64) of all labels (N,) in a seeded order whose every beginning has the classes in like shares."""
    rng = np.random.RandomState(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        # Each class spread evenly over 0..1, from a random beginning.
        place[members] = (np.arange(len(members)) + rng.random_sample()) / len(members)
    return np.argsort(place, kind="stable")


def from_pixels(
    name: str, pixels: np.ndarray, labels: np.ndarray, class_names: Sequence[str] | None = None
) -> ImageSource:
    """A source of arrays at hand: uint8 (N, H, W, C), and labels (N,)."""
    return ImageSource(
        name=name,
        size=len(labels),
        read=lambda index: (pixels[index], int(labels[index])),
        labels=labels.astype(np.int64),
        class_names=None if class_names is None else tuple(class_names),
        called=lambda index: f"image {index}",
        pixels=pixels,
    )
