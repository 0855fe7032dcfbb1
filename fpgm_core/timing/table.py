"""The table of time over width: what every layer takes at its own widths, measured, and in between by interpolation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fpgm_core.runtime.storage import Kept, ResultStore
from fpgm_core.timing.layers import BLOCK, LayerShape

FORMAT = 1


@dataclass(frozen=True, eq=False)
class LayerTimes:
    """What one layer takes: by (inputs, outputs) a median in milliseconds; whether the machine was busy meanwhile."""

    shape: LayerShape
    ms: Mapping[tuple[int, int], float]
    busy: bool

    def at(self, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Milliseconds, float64 of the arrays' shape, of layers with so many channels and filters; 0 for none.

        Between the grid's widths linear in both, and from there by the stairs that single counts show beside the dense
        width of the other side; of a wide layer by those of the counts nearby that lie as far off a whole block.
        """
        if self.shape.depthwise:
            found = self._along(1, outputs)
        else:
            smooth = self._on_grid(inputs, outputs)
            found = smooth * self._step(0, inputs) * self._step(1, outputs)
        return np.where((inputs > 0) & (outputs > 0), found, 0.0)

    @cached_property
    def _grid(self) -> np.ndarray:
        rows, columns = self.shape.grid
        return np.array([[self.ms[i, o] for o in columns] for i in rows])

    def _on_grid(self, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        parts = []
        for widths, wanted in zip(self.shape.grid, (inputs, outputs), strict=True):
            place = np.interp(wanted, widths, np.arange(len(widths)))
            low = np.minimum(place.astype(int), max(0, len(widths) - 2))
            parts.append((low, np.minimum(low + 1, len(widths) - 1), place - low))
        (i, next_i, at_i), (o, next_o, at_o) = parts
        grid = self._grid
        near = grid[i, o] * (1 - at_o) + grid[i, next_o] * at_o
        far = grid[next_i, o] * (1 - at_o) + grid[next_i, next_o] * at_o
        result: np.ndarray = near * (1 - at_i) + far * at_i
        return result

    @cached_property
    def _stairs(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Counts and milliseconds along the input's side and the output's, with the other side dense."""
        shape, sides = self.shape, []
        for side, dense in ((0, shape.outputs), (1, shape.inputs)):
            own = {pair[side]: ms for pair, ms in self.ms.items() if pair[1 - side] == dense or shape.depthwise}
            counts = np.array(sorted(own))
            sides.append((counts, np.array([own[count] for count in counts])))
        return tuple(sides)

    def _along(self, side: int, counts: np.ndarray) -> np.ndarray:
        """Milliseconds at so many on one side, with the other dense."""
        known, ms = self._stairs[side]
        steps = np.isin(known, self.shape.grid[side])
        line, found = np.interp(known, known[steps], ms[steps]), np.interp(counts, known[steps], ms[steps])
        off, known_off = (each // self.shape.unit % BLOCK for each in (counts, known))
        for kind in np.unique(off):
            alike, at = known_off == kind, off == kind
            if alike.any():
                found[at] *= np.interp(counts[at], known[alike], (ms / line)[alike])
        result: np.ndarray = found
        return result

    def _step(self, side: int, counts: np.ndarray) -> np.ndarray:
        """How far a count's time lies from the grid's line, as a factor."""
        measured = self._along(side, counts)
        whole = np.full_like(counts, self.shape.outputs if side == 0 else self.shape.inputs)
        line = self._on_grid(counts, whole) if side == 0 else self._on_grid(whole, counts)
        result: np.ndarray = measured / np.maximum(line, 1e-12)
        return result

    def to_values(self) -> dict[str, Any]:
        """As plain values."""
        pairs = list(self.ms)
        return {"points": [list(pair) for pair in pairs], "ms": [self.ms[pair] for pair in pairs], "busy": self.busy}

    @classmethod
    def from_values(cls, shape: LayerShape, values: Mapping[str, Any]) -> LayerTimes:
        """Back from plain values. Raises ValueError, KeyError or TypeError where they are no times of this layer."""
        pairs = [(int(i), int(o)) for i, o in values["points"]]
        ms = [float(one) for one in values["ms"]]
        if set(pairs) != set(shape.points) or len(ms) != len(pairs) or not all(0 < one < 1e7 for one in ms):
            raise ValueError("they are not the times of this layer")
        if not isinstance(values["busy"], bool):
            raise TypeError("busy is no truth value")
        return cls(shape, dict(zip(pairs, ms, strict=True)), values["busy"])


@dataclass(frozen=True, eq=False)
class TimeTable:
    """The times of a network's layers on one machine: `identity` says which, `layers` what each site is.

    `times` are by shape: layers of equal shape are timed once.
    """

    identity: Mapping[str, Any]
    layers: tuple[LayerShape | None, ...]
    times: Mapping[LayerShape, LayerTimes]

    def ms(self, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """The sum over all layers, float64 (n,), at widths int (n, sites) of each layer's input and output."""
        total = np.zeros(len(outputs))
        for place, shape in enumerate(self.layers):
            if shape is not None:
                total += self.times[shape].at(inputs[:, place], outputs[:, place])
        return total

    @property
    def busy(self) -> int:
        """How many of its layers were timed on a busy machine."""
        return sum(one.busy for one in self.times.values())


def layer_identity(identity: Mapping[str, Any], shape: LayerShape) -> dict[str, Any]:
    """What the kept times of a layer are of: the machine and the layer."""
    return {"format": FORMAT, **identity, "layer": asdict(shape)}


def kept_times(identity: Mapping[str, Any], shape: LayerShape) -> LayerTimes | None:
    """The times of a layer that were measured before, on this machine or on another; None where none were."""
    store = ResultStore("timings")
    return store.read(layer_identity(identity, shape), lambda kept: LayerTimes.from_values(shape, kept.values))


def keep_times(identity: Mapping[str, Any], times: LayerTimes) -> None:
    """Keep the times of a layer. Raises FpgmError where they cannot be written."""
    ResultStore("timings").write(layer_identity(identity, times.shape), Kept(times.to_values()))
