"""Caches in memory: one budget in bytes for each device, which all caches share.

    inverses = Cache[Tensor]("inverses")
    inverse = inverses.get_or_make(key, lambda: torch.linalg.inv(matrix))

A `Cache` is a view of its device's budget, cheap to make anywhere: two of one name on one device hold the same values.
Where all of them together hold too much, the value goes that was used longest ago, whichever cache it is in.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import cachetools
import numpy as np
import torch
from torch import Tensor, nn

from fpgm_core.runtime.limits import configured_bytes

V = TypeVar("V")

_CPU = torch.device("cpu")
_HOST_BYTES = 2 << 30
_GPU_SHARE = 1 / 8  # of the device's memory
_ENTRY_BYTES = 512  # what an entry takes beside its value, about: keys, links, the objects around the arrays


def size_of(value: Any) -> int:
    """The bytes of all arrays in a value; each once, a view with all that it keeps alive.

    They may lie in modules, dataclasses and containers, however nested; objects of other classes count nothing.
    """
    sizes: dict[int, int] = {}
    pending, seen = [value], dict[int, Any]()
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen[id(part)] = part
        if isinstance(part, Tensor):
            storage = part.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        elif isinstance(part, np.ndarray):
            owner = part
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            sizes[id(owner)] = owner.nbytes
        elif isinstance(part, str | bytes | bytearray):
            sizes[id(part)] = len(part)
        else:
            pending.extend(_parts(part))
    return sum(sizes.values())


def _parts(value: Any) -> list[Any]:
    if isinstance(value, nn.Module):
        return [*value.parameters(), *value.buffers()]
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in fields(value)]
    return []


@dataclass(frozen=True)
class _Entry:
    value: Any
    size: int


@dataclass(frozen=True)
class CacheUse:
    """What one cache holds: so many values, of so many bytes."""

    entries: int = 0
    bytes: int = 0


class CacheBudget:
    """At most `limit` bytes of values, the least recently used out first; safe between threads.

    Values lie under the name of their cache and their key.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.RLock()  # a value's finaliser may use a cache
        self._entries: cachetools.LRUCache[tuple[str, Hashable], _Entry] = cachetools.LRUCache(
            limit, getsizeof=lambda entry: entry.size
        )

    @property
    def bytes(self) -> int:
        """What all values take together."""
        return int(self._entries.currsize)

    def get(self, name: str, key: Hashable) -> Any:
        """The value, which is now the most recently used; None where there is none."""
        with self._lock:
            entry = self._entries.get((name, key))
        return None if entry is None else entry.value

    def put(self, name: str, key: Hashable, value: Any, size: int, *, replace: bool = True) -> Any:
        """Hold a value of `size` bytes, unless it alone is over the limit; the value that is there now, if any.

        With `replace` false a value that is there already stays.
        """
        entry = _Entry(value, size + _ENTRY_BYTES)
        with self._lock:
            present = self._entries.get((name, key))
            if present is not None and not replace:
                return present.value
            self._entries.pop((name, key), None)
            if entry.size > self.limit:
                return None
            self._entries[name, key] = entry
            return value

    def resize(self, limit: int) -> None:
        """Hold at most `limit` bytes from now on."""
        with self._lock:
            held, self.limit = self._entries, limit
            self._entries = cachetools.LRUCache(limit, getsizeof=lambda entry: entry.size)
            while held:
                place, entry = held.popitem()  # used longest ago first
                if entry.size <= limit:
                    self._entries[place] = entry

    def drop(self, name: str, key: Hashable) -> None:
        """Forget one value."""
        with self._lock:
            self._entries.pop((name, key), None)

    def clear(self, name: str | None = None, *, keep: Collection[str] = ()) -> None:
        """Forget the values of one cache, or of all but those that are named."""
        with self._lock:
            for place in [place for place in self._entries if name in (None, place[0]) and place[0] not in keep]:
                del self._entries[place]

    def report(self) -> Mapping[str, CacheUse]:
        """What each cache holds, by its name."""
        found: dict[str, CacheUse] = {}
        with self._lock:
            for place in self._entries:
                # Not `self._entries[place]`: to be reported is not to be used.
                entry = cachetools.Cache.__getitem__(self._entries, place)
                use = found.get(place[0], CacheUse())
                found[place[0]] = CacheUse(use.entries + 1, use.bytes + entry.size)
        return MappingProxyType(found)


_BUDGETS: dict[str, CacheBudget] = {}
_BUDGETS_LOCK = threading.Lock()


def budget_of(device: torch.device = _CPU) -> CacheBudget:
    """The budget that all caches of a device share. Raises FpgmError as `limit_of` does."""
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    with _BUDGETS_LOCK:
        if str(device) not in _BUDGETS:
            _BUDGETS[str(device)] = CacheBudget(limit_of(device))
        return _BUDGETS[str(device)]


def limit_of(device: torch.device = _CPU) -> int:
    """The bytes that caches may take: `FPGM_CACHE_BYTES` (default 2 GiB) of main memory, an eighth of a GPU's.

    Raises FpgmError where the variable is no number of bytes.
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory * _GPU_SHARE)
    return configured_bytes("FPGM_CACHE_BYTES", _HOST_BYTES)


class Cache(Generic[V]):
    """Values by key under one name, in the budget of `device`, where they lie.

    `sizeof` gives a value's bytes at the time when it is put. A key that names an object by its address is only safe
    while the value keeps that object alive.

        dense_hits = Cache[DenseHits]("dense hits", sizeof=lambda hits: size_of(hits.network), device=device)
        hits = dense_hits.get_or_make(key, lambda: DenseHits(network, images))

        repaired = Cache[tuple[PrunedNetwork, ImageSet]]("repaired", sizeof=lambda entry: size_of(entry[0].tensors))
        repaired.put(key, (pruned, images))   # the images, so that their address stays; they are counted elsewhere
        pruned, _ = repaired.get(key) or (None, None)
    """

    def __init__(
        self,
        name: str,
        *,
        sizeof: Callable[[V], int] = size_of,
        device: torch.device = _CPU,
        budget: CacheBudget | None = None,
    ) -> None:
        self.name = name
        self._sizeof = sizeof
        self._device, self._own_budget = device, budget

    @functools.cached_property
    def budget(self) -> CacheBudget:
        """The budget that it shares; found at first use, so that a cache may be made while modules are imported."""
        return self._own_budget or budget_of(self._device)

    def get(self, key: Hashable) -> V | None:
        """The value of a key, None where there is none (any more)."""
        found: V | None = self.budget.get(self.name, key)
        return found

    def put(self, key: Hashable, value: V) -> bool:
        """Hold a value in place of what was there; whether there is room for it at all."""
        return self.budget.put(self.name, key, value, self._sizeof(value)) is not None

    def get_or_make(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of a key, made where there is none.

        It is made outside the lock: two threads may both make it, and then share the first that is there.
        """
        found = self.get(key)
        if found is not None:
            return found
        made = make()
        shared: V | None = self.budget.put(self.name, key, made, self._sizeof(made), replace=False)
        return made if shared is None else shared

    def drop(self, key: Hashable) -> None:
        """Forget the value of a key."""
        self.budget.drop(self.name, key)

    def clear(self) -> None:
        """Forget its values; other caches keep theirs."""
        self.budget.clear(self.name)

    @property
    def bytes(self) -> int:
        """What its values take."""
        return self.budget.report().get(self.name, CacheUse()).bytes


class Shared(Generic[V]):
    """Values that are made once for whoever wants them: there as long as anybody holds one, and then while there is
    room in the budget.

    For large values that are in use for long, networks say: one that the budget has no room for is not made anew at
    every look. Values must take weak references.
    """

    def __init__(self, name: str, *, sizeof: Callable[[V], int] = size_of) -> None:
        self._cache = Cache[V](name, sizeof=sizeof)
        self._held: weakref.WeakValueDictionary[Hashable, V] = weakref.WeakValueDictionary()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> V | None:
        """The value of a key, None where there is none (any more)."""
        found = self._cache.get(key)
        return self._held.get(key) if found is None else found

    def put(self, key: Hashable, value: V) -> None:
        """Share a value in place of what was there."""
        self._held[key] = value
        self._cache.put(key, value)

    def get_or_make(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of a key, made where there is none; who asks for it meanwhile waits for that one."""
        found = self.get(key)
        if found is not None:
            return found
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            found = self.get(key)
            if found is None:
                found = make()
                self.put(key, found)
            return found

    def clear(self) -> None:
        """Forget its values; those that are held elsewhere are made anew for others."""
        self._held.clear()
        self._cache.clear()


def clear_caches(device: torch.device | None = None, *, keep: Collection[str] = ()) -> None:
    """Forget what every cache holds, but those that are named: of one device, or of all."""
    with _BUDGETS_LOCK:
        budgets = list(_BUDGETS.values())
    for budget in budgets if device is None else [budget_of(device)]:
        budget.clear(keep=keep)


def cache_report() -> Mapping[str, Mapping[str, CacheUse]]:
    """What each cache holds: by device, then by name."""
    with _BUDGETS_LOCK:
        budgets = dict(_BUDGETS)
    return MappingProxyType({device: budget.report() for device, budget in budgets.items()})
