"""Which class is which: names compared, ImageNet's order, and what is said where classes and outputs do not match."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib import resources

_WNID = re.compile(r"n\d{8}")


def plain(name: str) -> str:
    """A class's name as it is compared: without regard to case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_\-]+", " ", name.strip().casefold())


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """ImageNet-1k's 1,000 class folders (n01440764 ...), in the order of the outputs of networks trained on it."""
    file = resources.files("fpgm_core.data") / "bundled" / "imagenet_wnids.txt"
    return tuple(file.read_text(encoding="ascii").split())


def are_wnids(names: Sequence[str]) -> bool:
    """Whether all names are ImageNet-1k's."""
    return all(map(_WNID.fullmatch, names)) and set(names) <= set(imagenet_wnids())


def class_misfit(
    classes: Sequence[str], num_outputs: int | None, output_names: Sequence[str] | None = None
) -> str | None:
    """How images' classes and a network's outputs do not match, in words; None where nothing speaks against them.

    `num_outputs` and `output_names` are the network's, None where they are unknown. Class i is always output i.
    """
    if num_outputs is not None and len(classes) != num_outputs:
        return (
            f"the images have {len(classes):,} classes and the network {num_outputs:,} outputs: class i is taken for "
            "output i"
        )
    if output_names is None or are_wnids(classes) or all(name.isdigit() for name in (*classes, *output_names)):
        return None
    pairs = zip(classes, output_names, strict=False)
    other = next(((one, two) for one, two in pairs if plain(one) != plain(two)), None)
    if other is None:
        return None
    return f"the images have a class {other[0]!r} where the network has {other[1]!r}: class i is taken for output i"
