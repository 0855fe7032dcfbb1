"""Records by name, the library's own and those that are added: one kind of table for all that can be registered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

from fpgm_core.errors import FpgmError


class Named(Protocol):
    """What a record of a registry has."""

    @property
    def name(self) -> str:
        """What the record is called."""


R = TypeVar("R", bound=Named)


class Registry(Mapping[str, R]):
    """Records of one `kind` by name, in the order of menus: the library's own first, then those that were added.

    It is a live view: what is added later is in it.
    """

    def __init__(self, kind: str, own: Iterable[R]) -> None:
        self._kind, self._records = kind, {record.name: record for record in own}
        self._own = frozenset(self._records)

    def __getitem__(self, name: str) -> R:
        return self._records[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def find(self, name: str) -> R:
        """The record called `name`. Raises FpgmError, listing the names, where there is none."""
        if name not in self._records:
            raise FpgmError(f"unknown {self._kind} {name!r}; choose one of {', '.join(self)}")
        return self._records[name]

    def add(self, record: R) -> R:
        """Add a record, or replace one of that name that was added, so that a notebook's cell can be run again.

        Raises FpgmError for a name that one of the library's own has.
        """
        if record.name in self._own:
            raise FpgmError(f"the {self._kind} {record.name!r} is the library's own; choose another name")
        self._records[record.name] = record
        return record

    def remove(self, name: str) -> None:
        """Take out a record that was added. Raises FpgmError for any other name."""
        if name in self._own or name not in self._records:
            raise FpgmError(f"no {self._kind} {name!r} was registered")
        del self._records[name]
