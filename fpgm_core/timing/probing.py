"""Making the table: every layer at its widths, in turns with its dense form; and a few whole networks beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fpgm_core.pruning import Network, Plan, PrunedNetwork
from fpgm_core.runtime.progress import Progress, Work, within
from fpgm_core.runtime.storage import Kept, ResultStore
from fpgm_core.timing.engine import TimingConfig, timings_work
from fpgm_core.timing.latency import formed_work
from fpgm_core.timing.layers import LayerShape, layer_shapes
from fpgm_core.timing.runtimes import Form, Target, images_for
from fpgm_core.timing.table import FORMAT, LayerTimes, TimeTable, keep_times, kept_times

LAYERS = TimingConfig(runs=9, width=0.05, seconds=1.0)
WHOLE = TimingConfig(runs=15, width=0.02, seconds=30.0)
_AT_ONCE = 12  # points that take turns with one dense layer
_EVEN = (0.25, 0.5, 0.75)  # rates of the whole networks that are timed, one for all units
_MIXED = 5  # and of so many every unit has a rate of its own
_LEVELS = (0.2, 0.9)  # the most that a unit loses there


def table_work(
    network: Network, target: Target, *, config: TimingConfig = LAYERS, again: bool = False
) -> Work[TimeTable]:
    """The table of a network's layers on a target: what is kept of them is read, the rest timed and kept.

    `again` times anew what a busy machine had timed. Stop iterating to stop: every layer that is done is kept. Raises
    FpgmError where the runtime is not available.
    """
    identity, layers = target.identity, layer_shapes(network.flow)
    shapes = list(dict.fromkeys(shape for shape in layers if shape is not None))
    times, total, done = dict[LayerShape, LayerTimes](), sum(len(shape.points) for shape in shapes), 0
    for shape in shapes:
        known = kept_times(identity, shape)
        if known is None or (again and known.busy):
            begin, end = done / total, (done + len(shape.points)) / total
            known = yield from within(_layer_work(shape, target, config), begin, end, f"timing {shape.told}")
            keep_times(identity, known)
        times[shape] = known
        done += len(shape.points)
    return TimeTable(identity, layers, times)


def _layer_work(shape: LayerShape, target: Target, config: TimingConfig) -> Work[LayerTimes]:
    """One layer at all its points: each by its ratio to the dense layer, which takes turns with every dozen."""
    dense, *others = shape.points
    ratios, own, busy = dict[tuple[int, int], float](), list[float](), 0
    groups = [others[at : at + _AT_ONCE] for at in range(0, len(others), _AT_ONCE)] or [[]]
    for number, group in enumerate(groups):
        yield Progress(number, len(groups))
        passes = {str(pair): target.load(shape.form(*pair), _read(shape, pair, target)) for pair in (dense, *group)}
        assert target.threads is not None
        timing = timings_work(passes, threads=target.threads, config=config, own_thread=target.own_thread)
        timed = yield from within(timing, number / len(groups), (number + 1) / len(groups))
        own.append(timed.ms(str(dense)).value)
        busy += timed.conditions.busy
        for pair in group:
            ratios[pair] = 1 / timed.ratio(str(dense), str(pair)).value
    base = float(np.median(own))
    return LayerTimes(shape, {dense: base, **{pair: base * ratio for pair, ratio in ratios.items()}}, busy > 0)


def _read(shape: LayerShape, pair: tuple[int, int], target: Target) -> Any:
    batch, *rest = shape.images(pair[0], target.batch)
    return images_for(rest, batch)


@dataclass(frozen=True, eq=False)
class Whole:
    """Whole networks that were timed: their layers' widths, int (n, sites), and milliseconds, float64 (n,).

    `ms` are medians with their 95% intervals, (n, 3): value, low, high; the dense network's come first.
    """

    inputs: np.ndarray
    outputs: np.ndarray
    ms: np.ndarray
    busy: bool

    def to_values(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "inputs": self.inputs.tolist(), "outputs": self.outputs.tolist(), "ms": self.ms.tolist(), "busy": self.busy,
        }  # fmt: skip

    @classmethod
    def from_values(cls, values: Mapping[str, Any], sites: int) -> Whole:
        """Back from plain values. Raises ValueError, KeyError or TypeError where they are none."""
        inputs, outputs = (np.array(values[name], dtype=int) for name in ("inputs", "outputs"))
        ms = np.array(values["ms"], dtype=float)
        if inputs.shape != outputs.shape or inputs.shape != (len(ms), sites) or ms.shape != (len(inputs), 3):
            raise ValueError("they are not of this network")
        if not (np.isfinite(ms).all() and (ms > 0).all() and isinstance(values["busy"], bool)):
            raise ValueError("they are no times")
        return cls(inputs, outputs, ms, values["busy"])


def widths(pruned: PrunedNetwork) -> tuple[np.ndarray, np.ndarray]:
    """The channels that every layer of a pruned network reads and the filters that it keeps, int (sites,) each."""
    layers = pruned.cost.layers
    return np.array([one.live_inputs for one in layers]), np.array([one.kept for one in layers])


def whole_plans(network: Network, like: Plan) -> list[Plan]:
    """The plans whose networks are timed whole: none pruned, one rate for all units, and mixed rates, from a seed."""
    names, random = [unit.name for unit in network.units(like.coupling)], np.random.RandomState(0)
    rates = [dict.fromkeys(names, rate) for rate in (0.0, *_EVEN)]
    rates += [mixed_rates(names, level, random) for level in np.linspace(*_LEVELS, _MIXED)]
    free = network.plan(criterion="l2_norm", coupling=like.coupling)
    return [free.with_rates(one) for one in rates]


def mixed_rates(names: Sequence[str], level: float, random: np.random.RandomState) -> dict[str, float]:
    """A rate for every unit, drawn evenly from 0 to `level`."""
    return {name: float(rate) for name, rate in zip(names, random.uniform(0, level, len(names)), strict=True)}


def whole_identity(network: Network, coupling: str, identity: Mapping[str, Any]) -> dict[str, Any]:
    """What kept times of whole networks are of: the machine, the architecture, and the coupling."""
    flow = network.flow
    graph = hashlib.sha256(f"{flow.graph.code}{layer_shapes(flow)}{network.input_shape}".encode()).hexdigest()
    return {"format": FORMAT, **identity, "network": graph, "coupling": coupling}


def kept_whole(network: Network, coupling: str, identity: Mapping[str, Any]) -> Whole | None:
    """Whole networks that were timed before; None where none were."""
    sites = len(network.flow.sites)
    return ResultStore("timings").read(
        whole_identity(network, coupling, identity), lambda kept: Whole.from_values(kept.values, sites)
    )


def keep_whole(network: Network, coupling: str, identity: Mapping[str, Any], whole: Whole) -> None:
    """Keep them. Raises FpgmError where they cannot be written."""
    ResultStore("timings").write(whole_identity(network, coupling, identity), Kept(whole.to_values()))


def whole_work(
    network: Network, like: Plan, target: Target, *, config: TimingConfig = WHOLE, again: bool = False
) -> Work[Whole]:
    """Whole networks under a plan's coupling, timed in turns with the dense one; kept, and read where they are kept."""
    known = kept_whole(network, like.coupling, target.identity)
    if known is not None and not (again and known.busy):
        return known
    pruned = [network.prune(plan) for plan in whole_plans(network, like)]
    timed = yield from timed_work(pruned, target, config)
    keep_whole(network, like.coupling, target.identity, timed)
    return timed


def timed_work(pruned: Sequence[PrunedNetwork], target: Target, config: TimingConfig = WHOLE) -> Work[Whole]:
    """Pruned networks of one dense network, timed whole in turns; the first is what ratios are to."""
    forms = dict[str, Form]()
    for number, one in enumerate(pruned):
        yield Progress(0.5 * number / len(pruned), what=f"loading networks into {target.record.title}")
        forms[str(number)] = Form.of(one.compact().eval(), one.network.input_shape)
        if target.record.reads_onnx:
            forms[str(number)].onnx  # noqa: B018  made once, and slowly
    work = formed_work(forms, pruned[0].network.input_shape, target, config)
    timed = yield from within(work, 0.5, 1.0, "timing whole networks")
    base = timed.ms("0")
    ms = [(base.value, base.low, base.high)]
    for name in list(forms)[1:]:
        ratio = timed.ratio("0", name)  # by ratios: what disturbed the machine is in them no more
        ms.append((base.value / ratio.value, base.value / ratio.high, base.value / ratio.low))
    inputs, outputs = zip(*map(widths, pruned), strict=True)
    return Whole(np.array(inputs), np.array(outputs), np.array(ms), timed.conditions.busy)
