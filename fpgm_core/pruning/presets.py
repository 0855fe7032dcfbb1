"""Starting points for the rates: registry records that menus offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fpgm_core.graph.units import Unit


def stage_of(unit: str) -> str:
    """The part of a network a unit belongs to: "layer2" of "layer2.0.conv1", "features" of "features.3"."""
    return unit.partition(".")[0]


def stages(units: Sequence[Unit]) -> tuple[str, ...]:
    """The parts of a network, in forward order."""
    return tuple(dict.fromkeys(stage_of(unit.name) for unit in units))


@dataclass(frozen=True)
class Preset:
    """A rule that gives every unit a rate, 0..1."""

    name: str
    title: str
    rates: Callable[[Sequence[Unit]], dict[str, float]]


def _uniform(rate: float) -> Preset:
    title = f"Uniform {rate:.0%}" if rate else "Dense (nothing pruned)"
    return Preset(f"uniform_{rate:.0%}", title, lambda units: {unit.name: rate for unit in units})


def _ramp(first: float, last: float) -> Callable[[Sequence[Unit]], dict[str, float]]:
    def rates(units: Sequence[Unit]) -> dict[str, float]:
        parts = stages(units)
        step = (last - first) / max(1, len(parts) - 1)
        return {unit.name: round(first + step * parts.index(stage_of(unit.name)), 4) for unit in units}

    return rates


_RECORDS = (
    *(_uniform(rate) for rate in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
    Preset("stages_rising", "By stage, rising 10% to 50%", _ramp(0.1, 0.5)),
    Preset("stages_falling", "By stage, falling 50% to 10%", _ramp(0.5, 0.1)),
)
PRESETS: Mapping[str, Preset] = {record.name: record for record in _RECORDS}
