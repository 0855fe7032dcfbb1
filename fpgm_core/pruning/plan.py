"""The plan: a frozen record of what to prune, with a JSON form that is checked on reading."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

from fpgm_core.criteria import SelectionOptions, check_rate, get_criterion
from fpgm_core.errors import FpgmError
from fpgm_core.graph.units import get_coupling

FORMAT_VERSION = 1
_KEYS = {
    "format_version", "model", "fingerprint", "criterion", "options", "coupling", "rates", "locked_in", "locked_out",
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What to prune from one network: immutable, a new one for every move of a slider.

    `rates` maps unit names to the fraction pruned, 0..1; units not named keep everything.
    `locked_in` and `locked_out` map unit names to filters that are kept, or pruned, whatever their
    scores. `fingerprint` names the weights the plan was made for.
    """

    model: str
    fingerprint: str
    criterion: str = "fpgm"
    coupling: str = "independent"
    options: SelectionOptions = field(default_factory=SelectionOptions)
    rates: Mapping[str, float] = field(default_factory=dict)
    locked_in: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    locked_out: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        get_criterion(self.criterion)
        get_coupling(self.coupling)
        rates = {unit: check_rate(rate, f"rate of {unit}") for unit, rate in self.rates.items()}
        # Rates of zero and empty locks say nothing: left out, so that equal plans are equal.
        object.__setattr__(
            self, "rates", MappingProxyType({unit: rate for unit, rate in sorted(rates.items()) if rate > 0})
        )
        for name in ("locked_in", "locked_out"):
            locks = {unit: tuple(sorted(set(indices))) for unit, indices in sorted(getattr(self, name).items())}
            object.__setattr__(
                self, name, MappingProxyType({unit: indices for unit, indices in locks.items() if indices})
            )

    @cached_property
    def key(self) -> str:
        """A hash of the whole plan: equal plans have equal keys."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def __hash__(self) -> int:
        return hash(self.key)

    def rate(self, unit: str) -> float:
        """The fraction pruned of a unit, 0 where the plan does not name it."""
        return self.rates.get(unit, 0.0)

    def with_rates(self, rates: Mapping[str, float]) -> Plan:
        """The same plan with the rates of the named units replaced."""
        return replace(self, rates={**self.rates, **rates})

    def with_lock(self, unit: str, index: int, state: str | None) -> Plan:
        """The same plan with one filter locked "in" (kept), "out" (pruned), or unlocked (None)."""
        changed: dict[str, Any] = {}
        for name in ("in", "out"):
            locks = dict(getattr(self, f"locked_{name}"))
            indices = set(locks.get(unit, ())) - {index}
            locks[unit] = tuple(indices | {index}) if state == name else tuple(indices)
            changed[f"locked_{name}"] = locks
        return replace(self, **changed)

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data, in a fixed order."""
        return {
            "format_version": self.format_version,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "criterion": self.criterion,
            "options": asdict(self.options),
            "coupling": self.coupling,
            "rates": dict(self.rates),
            "locked_in": {unit: list(indices) for unit, indices in self.locked_in.items()},
            "locked_out": {unit: list(indices) for unit, indices in self.locked_out.items()},
        }

    def to_json(self, indent: int | None = None) -> str:
        """The plan's JSON form; `from_json` reads it back to an equal plan."""
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """Read a plan. Raises FpgmError naming the first thing that is wrong with it."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FpgmError(f"the plan is not JSON ({error}); write it again with this tool") from error
        return cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: Any) -> Plan:
        """A plan from plain data, checked. Raises FpgmError naming the first thing that is wrong with it."""
        if not isinstance(data, dict):
            raise FpgmError("the plan is not a JSON object; write it again with this tool")
        unknown, missing = sorted(set(data) - _KEYS), sorted(_KEYS - set(data))
        if unknown or missing:
            what = f"has no {missing[0]!r}" if missing else f"has an unknown key {unknown[0]!r}"
            raise FpgmError(f"the plan {what}; its keys are {', '.join(sorted(_KEYS))}")
        if data["format_version"] != FORMAT_VERSION or isinstance(data["format_version"], bool):
            raise FpgmError(
                f"the plan has format_version {data['format_version']!r}; this version reads {FORMAT_VERSION}"
            )
        texts = {name: _text(data, name) for name in ("model", "fingerprint", "criterion", "coupling")}
        options = _mapping(data, "options")
        unknown = sorted(set(options) - {option.name for option in fields(SelectionOptions)})
        if unknown:
            raise FpgmError(f"the plan has unknown options {unknown}")
        return cls(
            texts["model"],
            texts["fingerprint"],
            texts["criterion"],
            texts["coupling"],
            SelectionOptions(**options),
            rates=_mapping(data, "rates"),
            locked_in=_locks(data, "locked_in"),
            locked_out=_locks(data, "locked_out"),
        )

    def check_units(self, known: Iterable[str]) -> None:
        """Raise FpgmError where the plan names a unit that is not among `known`."""
        names = set(known)
        for unit in (*self.rates, *self.locked_in, *self.locked_out):
            if unit not in names:
                raise FpgmError(
                    f"{self.model} has no unit {unit!r} under coupling {self.coupling!r}; "
                    f"its units are {', '.join(sorted(names)[:4])}{', ...' if len(names) > 4 else ''}"
                )


def _text(data: Mapping[str, Any], name: str) -> str:
    if not isinstance(data[name], str) or not data[name]:
        raise FpgmError(f"the plan's {name} is {data[name]!r}, not a name")
    return data[name]


def _mapping(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if not isinstance(data[name], dict):
        raise FpgmError(f"the plan's {name} is not a JSON object")
    return data[name]


def _locks(data: Mapping[str, Any], name: str) -> dict[str, tuple[int, ...]]:
    locks = _mapping(data, name)
    for unit, indices in locks.items():
        whole = isinstance(indices, list) and all(isinstance(i, int) and not isinstance(i, bool) for i in indices)
        if not whole:
            raise FpgmError(f"the plan's {name} of {unit} is not a list of filter numbers")
    return {unit: tuple(indices) for unit, indices in locks.items()}
