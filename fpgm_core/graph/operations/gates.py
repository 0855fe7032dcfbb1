"""Products of streams, and filters that weigh channels one by one and leave with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fpgm_core.graph.flow import ALWAYS, NEVER, Gate

if TYPE_CHECKING:
    from fpgm_core.graph.builder import Builder


def same(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two tensors' channels are written by the same filters."""
    return first.shape == second.shape and bool((first == second).all())


def under_one_another(rows: list[np.ndarray]) -> np.ndarray:
    """Sources of several tensors under one another, (S, C): each channel's writers in any of them."""
    both = np.unique(np.concatenate(rows), axis=0)
    return both[(both != NEVER).any(1)] if (both != NEVER).any() else both[:1]


def met_in_product(walk: Builder, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The sources of a product of two streams; their writers move together where channels are in their order."""
    straight = tuple(range(first.shape[1]))
    writers = [walk.writers(sources) for sources in (first, second)]
    single = all(len(names) == 1 for names in writers)
    if single and all(
        walk.positions(names[0], sources) == straight for names, sources in zip(writers, (first, second), strict=True)
    ):
        walk.tied.append((writers[0][0], writers[1][0]))
    elif not parts_of_one(walk, first, second):
        for sources in (first, second):
            walk.join(sources, "its channels are multiplied by others'")
    return walk.add_product((first, second))


def gate(walk: Builder, weighed: np.ndarray, weights: np.ndarray) -> bool:
    """Note that the filters behind `weights` follow the channels they weigh; False where they cannot."""
    if parts_of_one(walk, weighed, weights):
        walk.readers.append(Gate(weighed, weights))
        return True
    followers = _followers(walk, weighed, weights)
    if followers is None:
        return False
    walk.readers.append(Gate(weighed, weights))
    of = ", ".join(walk.writers(weighed)) or "the image"
    for layer in followers:
        walk.follows.setdefault(layer, f"its filters weigh the channels of {of} one by one and leave with them")
    walk.tied = [pair for pair in walk.tied if not set(pair) & set(followers)]
    alike = {*followers, *walk.writers(weighed)}  # which leave together by that alone
    walk.summed = [pair for pair in walk.summed if not (set(pair) & set(followers) and set(pair) <= alike)]
    return True


def _followers(walk: Builder, weighed: np.ndarray, weights: np.ndarray) -> list[str] | None:
    """The layers that leave filter by filter with the channels they weigh; None where some cannot."""
    filters = weights[weights != NEVER]
    columns = np.nonzero(weights != NEVER)[1]
    once = len({*zip(filters, columns, strict=True)}) == len(set(filters))  # each weighs one channel
    if (filters == ALWAYS).any() or not once or any(int(source) in walk.products for source in filters):
        return None
    found = list[str]()
    for layer in walk.writers(weights):
        site = walk.site(layer)
        if layer in walk.writers(weighed):
            return None
        found.append(layer)
        if site.groups == 1:
            continue
        at = walk.positions(layer, weights)
        if at is None or not site.groups == site.outputs == site.reads.shape[1] == weights.shape[1]:
            return None  # its filters cannot leave one by one
        behind = site.reads[:, np.argsort(at)]
        if same(behind, weighed) or (behind == ALWAYS).all():  # there where what it weighs is
            continue
        more = _followers(walk, weighed, behind)
        if more is None:
            return None
        found += more
    return found


def parts_of_one(walk: Builder, first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two tensors are equal parts of one layer's filters, in order; the same of both leave then.

    A depthwise layer between leaves with what it filters.
    """
    between: list[str] = []
    origins = [_origin(walk, sources, between) for sources in (first, second)]
    if any(origin is None for origin in origins):
        return False
    (layer, begin, width), (other, at, _) = origins  # type: ignore[misc]
    size = walk.site(layer).outputs
    if layer != other or begin == at or size % width or begin % width or at % width:
        return False
    walk.keep_alike(layer, size // width)
    for writer, reader in (
        walk.tied if walk.site(layer).groups > 1 else ()
    ):  # which a depthwise layer filters one by one
        if reader == layer:
            walk.keep_alike(writer, size // width)
    for name in between:
        walk.follows.setdefault(name, f"its filters leave with the channels of {layer} that they filter")
    walk.tied = [pair for pair in walk.tied if not set(pair) & set(between)]
    return True


def _origin(walk: Builder, sources: np.ndarray, between: list[str]) -> tuple[str, int, int] | None:
    """The layer that writes channels in its filters' order, the first of these filters and how many; else None."""
    if len(sources) != 1 or sources[0, 0] <= ALWAYS or int(sources[0, 0]) in walk.products:
        return None
    width = sources.shape[1]
    if (sources[0] != sources[0, 0] + np.arange(width)).any() or len(walk.writers(sources)) != 1:
        return None
    site = walk.site(walk.writers(sources)[0])
    begin = int(sources[0, 0]) - site.filter_offset
    if site.groups == site.outputs == site.reads.shape[1] == width and width > 1:
        behind = _origin(walk, site.reads, between)
        if behind is not None and walk.site(behind[0]).outputs > width:
            between.append(site.name)
            return behind
    return site.name, begin, width
