"""What a plan takes before it is timed: the table's sum over layers, and the rest from a few whole networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fpgm_core.evaluation import Interval
from fpgm_core.pruning import Network, Plan, PrunedNetwork
from fpgm_core.runtime.progress import Work, within
from fpgm_core.timing.engine import TimingConfig
from fpgm_core.timing.layers import layer_shapes
from fpgm_core.timing.probing import (
    LAYERS,
    WHOLE,
    Whole,
    kept_whole,
    table_work,
    whole_work,
    widths,
)
from fpgm_core.timing.runtimes import Target
from fpgm_core.timing.table import TimeTable, kept_times

_TABLE = 0.6  # the share of the whole that the layers take, roughly


@dataclass(frozen=True, eq=False)
class Predictor:
    """Milliseconds of any plan of one coupling, on one machine.

    A network takes `weights` (3,) times: 1, what runs whatever is pruned; the sum of its layers in the table; and the
    numbers that its layers write, which what follows them (norms, activations, sums, copies between layouts) reads.
    Fitted to `whole` networks by least squares of relative errors; `error` is what is left, a relative standard
    deviation, `spread` (3, 3) how it grows away from what was timed, and `reach` how many such deviations hold 95%.
    """

    network: Network
    table: TimeTable
    whole: Whole
    weights: np.ndarray
    spread: np.ndarray
    error: float
    reach: float
    coupling: str

    @property
    def dense(self) -> Interval:
        """Milliseconds of the dense network, as measured."""
        return Interval(*map(float, self.whole.ms[0]))

    def scaled(self, factor: float) -> Predictor:
        """The same with whatever is predicted times a factor; the dense network's time stays as measured."""
        return replace(self, weights=self.weights * factor)

    def of_widths(self, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Predicted milliseconds, float64 (n,), at widths int (n, sites) of every layer's input and output."""
        result: np.ndarray = _terms(self.network, self.table, inputs, outputs) @ self.weights
        return result

    def ms(self, pruned: PrunedNetwork) -> Interval:
        """Predicted milliseconds of a pruned network, with the interval in which 95% of single ones fall."""
        inputs, outputs = (one[None] for one in widths(pruned))
        terms = _terms(self.network, self.table, inputs, outputs)[0]
        value = float(terms @ self.weights)
        relative = terms / value
        reach = self.reach * self.error * float(np.sqrt(1 + relative @ self.spread @ relative))
        return Interval(value, value * max(0.0, 1 - reach), value * (1 + reach))

    def ratio(self, pruned: PrunedNetwork) -> Interval:
        """How many times as long the dense network takes as a pruned one is predicted to."""
        dense, ms = self.dense, self.ms(pruned)
        return Interval(dense.value / ms.value, dense.low / ms.high, dense.high / max(ms.low, 1e-9))


def _terms(network: Network, table: TimeTable, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """What time is a sum of, float64 (n, 3): 1, milliseconds of the layers, millions of numbers that they write."""
    positions = np.array([site.cost_per_weight for site in network.flow.sites], dtype=float)
    written = outputs @ positions * table.identity["batch"] / 1e6
    return np.stack([np.ones(len(outputs)), table.ms(inputs, outputs), written], axis=1)


def fitted(network: Network, table: TimeTable, whole: Whole, coupling: str) -> Predictor:
    """The predictor that a table and whole networks make.

    Under `independent` coupling the dense network is left out of the fit: every other one places channels, at a cost
    that it does not have.
    """
    first = 1 if coupling == "independent" else 0
    ms = whole.ms[first:, 0]
    terms = _terms(network, table, whole.inputs[first:], whole.outputs[first:]) / ms[:, None]
    scale = np.maximum(np.abs(terms).max(0), 1e-12)
    weights = np.linalg.lstsq(terms / scale, np.ones(len(ms)), rcond=1e-6)[0] / scale
    left = len(ms) - len(weights)
    error = float(np.sqrt(((terms @ weights - 1) ** 2).sum() / left))
    from scipy.stats import t as student  # heavy, and needed here alone

    spread = np.linalg.pinv(terms.T @ terms)
    return Predictor(network, table, whole, weights, spread, error, float(student.ppf(0.975, left)), coupling)


def probe_work(
    network: Network,
    like: Plan,
    target: Target,
    *,
    layers: TimingConfig = LAYERS,
    whole: TimingConfig = WHOLE,
    again: bool = False,
) -> Work[Predictor]:
    """Time what a prediction needs and is not kept yet, layer by layer; stopped, it goes on where it was.

    `like` says the coupling. Raises FpgmError where the runtime is not available.
    """
    table = yield from within(table_work(network, target, config=layers, again=again), 0, _TABLE)
    timed = yield from within(whole_work(network, like, target, config=whole, again=again), _TABLE)
    return fitted(network, table, timed, like.coupling)


def kept_predictor(network: Network, coupling: str, identity: Mapping[str, Any]) -> Predictor | None:
    """The predictor of a machine from what is kept of it, nothing timed; None where something is missing."""
    layers = layer_shapes(network.flow)
    times = {shape: kept_times(identity, shape) for shape in layers if shape is not None}
    found = {shape: one for shape, one in times.items() if one is not None}
    whole = kept_whole(network, coupling, identity)
    if len(found) < len(times) or whole is None:
        return None
    return fitted(network, TimeTable(identity, layers, found), whole, coupling)
