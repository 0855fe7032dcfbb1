"""A network in parts that remembers what came out of them: what a change left alone is not computed again."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from fpgm_core.data import Batch
from fpgm_core.graph import settings_of
from fpgm_core.inference.segments import segments
from fpgm_core.runtime.cache import Cache, CacheBudget

_PARTS = 10
_RECENT = 256  # chains that a new one is compared with
_LATE = 2  # marks from the end
_LARGEST_SHARE = 1 / 8  # of the budget, for one mark's values of all images: 128 MiB of 1 GiB


@dataclass(frozen=True)
class _Entry:
    """What a batch became behind a part, and the notes taken on the way."""

    value: Tensor
    notes: tuple[Any, ...]


class PrefixCache:
    """Values behind parts, by the content of all parts so far and the batch, in the budget that all caches share."""

    def __init__(self, device: torch.device = torch.device("cpu"), *, budget: CacheBudget | None = None) -> None:
        self._cache = Cache[_Entry]("prefixes", device=device, budget=budget)
        self._recent: deque[tuple[str, ...]] = deque(maxlen=_RECENT)
        self._lock = threading.Lock()

    @staticmethod
    @cache
    def on(device: torch.device) -> PrefixCache:
        """A device's prefix cache: this process's one."""
        return PrefixCache(device)

    def worth(self, marks: tuple[str, ...], late: bool = True) -> frozenset[str]:
        """Which marks of a new chain to remember values at: the last before what is new in it, and those at its end.

        Whoever moved a unit will move it again; and late values are small and save most. Those only if `late`.
        """
        with self._lock:
            same = max((_shared(marks, other) for other in self._recent), default=0)
            self._recent.append(marks)
        return frozenset((*marks[max(0, same - 1) : same], *(marks[-_LATE:] if late else ())))

    def get(self, key: Hashable) -> _Entry | None:
        """What is remembered there, if anything."""
        return self._cache.get(key)

    def put(self, key: Hashable, entry: _Entry, batches: float) -> bool:
        """Remember, unless so many batches like it would take more than an eighth of the budget; whether it did.

        What does not fit as a whole drives out its own beginning before it is read again.
        """
        if entry.value.nbytes * batches > self._cache.budget.limit * _LARGEST_SHARE:
            return False
        return self._cache.put(key, entry)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._recent.clear()
        self._cache.clear()

    @property
    def bytes(self) -> int:
        """What the values take."""
        return self._cache.bytes


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many marks two chains begin with together."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


class Chain(nn.Module):
    """A network as consecutive parts, each one tensor to one.

    A part whose `overwrites_input` is true writes into what it is called with; what is remembered it gets a copy of.
    """

    def __init__(
        self,
        parts: Iterable[nn.Module],
        marks: tuple[str, ...] = (),
        worth: frozenset[str] = frozenset(),
        late: bool = True,
    ) -> None:
        super().__init__()
        self.parts, self.late = nn.ModuleList(parts), late
        self._marks, self._worth = marks, worth

    @classmethod
    def cut(cls, module: GraphModule, kind: str, late: bool = True) -> Chain:
        """A traced network, cut where it can be; `kind` tells apart what makes other values of the same tensors."""
        return cls.remembering(segments(module, _PARTS), kind, late)

    @classmethod
    def plain(cls, module: GraphModule, late: bool = True) -> Chain:
        """The same parts, of which nothing is remembered yet."""
        return cls(segments(module, _PARTS), late=late)

    @classmethod
    def remembering(cls, parts: Sequence[nn.Module], kind: str, late: bool = True) -> Chain:
        """A chain that remembers: two that begin with equal parts, to the last bit, share what those make.

        With `late` false only what comes before its first difference from an earlier one: for a plan that no hand goes
        on from.
        """
        marks = _marks(parts[:-1], kind)
        device = next((tensor.device for part in parts for tensor in part.parameters()), torch.device("cpu"))
        return cls(parts, marks, PrefixCache.on(device).worth(marks, late), late)

    def forward(self, x: Tensor) -> Tensor:
        """Every part in turn; nothing is remembered."""
        for part in self.parts:
            x = part(x)
        return x

    def run(self, batch: Batch, note: Callable[[nn.Module], Any] = lambda part: None) -> tuple[Tensor, list[Any]]:
        """What the network makes of a batch, and `note` of every part right after it ran on it.

        Parts that are equal to those of an earlier chain are not run where what they made, and the note, are
        remembered.
        """
        prefixes = PrefixCache.on(batch.device or batch.images.pixels.device)
        begin, entry = self._remembered(batch, prefixes)
        value, notes = (entry.value, list(entry.notes)) if entry else (batch.normalised(), [])
        remembered = _storage(value) if entry else None
        for index, part in enumerate(self.parts[begin:], begin):
            if _storage(value) == remembered and getattr(part, "overwrites_input", False):
                value = value.clone()
            value = part(value)
            notes.append(note(part))
            mark = self._marks[index] if index < len(self._marks) else None
            if mark in self._worth:
                like_it = len(batch.images) / (batch.end - batch.begin)
                if prefixes.put((mark, batch.key), _Entry(value, tuple(notes)), like_it):
                    remembered = _storage(value)
        return value, notes

    def _remembered(self, batch: Batch, prefixes: PrefixCache) -> tuple[int, _Entry | None]:
        """The last part's number behind which a value of the batch is remembered, plus one, and the value."""
        for index in reversed(range(len(self._marks))):
            entry = prefixes.get((self._marks[index], batch.key))
            if entry is not None:
                return index + 1, entry
        return 0, None


def _storage(tensor: Tensor) -> int:
    """The address of a tensor's memory, which its views share."""
    return tensor.untyped_storage().data_ptr()


def _marks(parts: Sequence[nn.Module], kind: str) -> tuple[str, ...]:
    """For each part a digest of everything in it and in those before it: code, settings, names, tensors."""
    sha, marks = hashlib.sha256(kind.encode()), []
    for part in parts:
        sha.update(f"{part}{settings_of(part)}".encode())
        for name, tensor in {**part.state_dict(), **dict(part.named_buffers())}.items():  # buffers not saved too
            sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        marks.append(sha.hexdigest())
    return tuple(marks)
