"""The names of a library's networks, for menus: kept on disk, since it takes seconds to import only to list them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from importlib.metadata import version

from fpgm_core.errors import FpgmError
from fpgm_core.runtime.storage import Kept, ResultStore


def kept_names(package: str, look_up: Callable[[], Iterable[str]]) -> tuple[str, ...]:
    """The names that `look_up` gives, asked once for every version of an installed `package`."""
    store, identity = ResultStore("names"), {"package": package, "version": version(package)}
    known = store.read(identity, _names_in)
    if known is not None:
        return known
    found = tuple(look_up())
    with contextlib.suppress(FpgmError):  # what cannot be kept is looked up again
        store.write(identity, Kept(list(found)))
    return found


def _names_in(kept: Kept) -> tuple[str, ...]:
    if not isinstance(kept.values, list) or not all(isinstance(name, str) for name in kept.values) or not kept.values:
        raise ValueError("no names")
    return tuple(kept.values)
