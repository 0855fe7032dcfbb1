"""Measured speed: how long the dense and the compact network take in a runtime, in turns, what memory they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fpgm_core.evaluation import Interval
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.runtime.device import choose_device
from fpgm_core.runtime.progress import Progress, Work, run
from fpgm_core.timing.engine import TimingConfig, Timings, timings_work
from fpgm_core.timing.intervals import FASTER, SLOWER, VERDICTS
from fpgm_core.timing.memory import peak_bytes
from fpgm_core.timing.runtimes import Form, Target, images_for

DENSE, COMPACT = "dense", "compact"


@dataclass(frozen=True, eq=False)
class Latency:
    """Dense and compact network beside each other in one runtime, timed in turns.

    Bytes are the most that weights and activations held at once, in PyTorch: on a GPU as its allocator saw it,
    elsewhere the tensors alive during one pass, without a library's own scratch space; None in other runtimes.
    """

    target: Target
    timings: Timings
    identity: Mapping[str, Any]
    dense_peak_bytes: int | None
    compact_peak_bytes: int | None

    @property
    def dense(self) -> Interval:
        """Milliseconds of the dense network."""
        return self.timings.ms(DENSE)

    @property
    def compact(self) -> Interval:
        """Milliseconds of the compact network."""
        return self.timings.ms(COMPACT)

    @property
    def ratio(self) -> Interval:
        """How many times as long the dense network takes."""
        return self.timings.ratio(DENSE, COMPACT)

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`, by the ratio's interval."""
        return self.timings.verdict(DENSE, COMPACT)

    @property
    def speed_up(self) -> float | None:
        """How many times faster the compact network is, below 1 where it is slower; None where that is not known."""
        return self.ratio.value if self.verdict in (FASTER, SLOWER) else None

    @property
    def told(self) -> str:
        """The verdict for people: see `speed_told`."""
        return speed_told(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """As plain values. `speed_up` is None where the ratio's interval includes 1; `ratio` is always there."""
        dense, compact, ratio = self.dense, self.compact, self.ratio
        return {
            **self.identity,
            "runs": self.timings.rounds,
            "dense_ms": dense.value, "dense_ms_low": dense.low, "dense_ms_high": dense.high,
            "dense_spread": self.timings.spread(DENSE),
            "compact_ms": compact.value, "compact_ms_low": compact.low, "compact_ms_high": compact.high,
            "compact_spread": self.timings.spread(COMPACT),
            "ratio": ratio.value, "ratio_low": ratio.low, "ratio_high": ratio.high,
            "speed_up": self.speed_up, "verdict": self.verdict,
            "busy": self.timings.conditions.busy, "conditions": asdict(self.timings.conditions),
            "dense_peak_bytes": self.dense_peak_bytes, "compact_peak_bytes": self.compact_peak_bytes,
        }  # fmt: skip


def speed_told(row: Mapping[str, Any]) -> str:
    """What a latency's plain values allow to say: "1.42 times as fast [1.38, 1.47]", or "no difference found"."""
    between = f"[{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
    if row["speed_up"] is None:
        return f"{VERDICTS[row['verdict']]} {between}"
    slower = " (slower)" if row["verdict"] == SLOWER else ""
    return f"{row['speed_up']:.2f} times as fast{slower} {between}"


def measure_latency(
    pruned: PrunedNetwork, *, target: Target | None = None, config: TimingConfig | None = None
) -> Latency:
    """Time the dense and the compact network on random images. See `latency_work`."""
    return run(latency_work(pruned, target=target, config=config))


def latency_work(
    pruned: PrunedNetwork,
    *,
    target: Target | None = None,
    config: TimingConfig | None = None,
    forms: Mapping[str, Form] | None = None,
) -> Work[Latency]:
    """Time the dense and the compact network in turns on random images, in float32, in the target's runtime.

    Without a target that is PyTorch, one image, on the CPU. PyTorch runs them in channels_last. `forms` are those of
    `forms_of`, where they were made before. Raises FpgmError where the runtime or the device is not there.
    """
    shape, forms, target = pruned.network.input_shape, forms or forms_of(pruned), target or Target()
    timings = yield from formed_work(forms, shape, target, config)
    peaks = [_peak(forms[name], shape, target) for name in (DENSE, COMPACT)]
    return Latency(target, timings, target.identity, *peaks)


def forms_of(pruned: PrunedNetwork, *, aligned: bool = False) -> dict[str, Form]:
    """The dense and the compact network, `aligned` or not, as runtimes take them, by name.

    Both are rebuilt from the trace: it frees activations sooner than a forward that keeps them in variables.
    """
    modules = {DENSE: pruned.network.prune(0.0).compact(), COMPACT: pruned.compact(aligned=aligned)}
    return {name: Form.of(module.eval(), pruned.network.input_shape) for name, module in modules.items()}


def formed_work(
    forms: Mapping[str, Form], input_shape: Sequence[int], target: Target, config: TimingConfig | None
) -> Work[Timings]:
    """Time forms of networks that read the same images in turns, on random images of a shape (C, H, W)."""
    yield Progress(0, what=f"loading networks into {target.record.title}")
    images = images_for(input_shape, target.batch)
    passes = {name: target.load(form, images) for name, form in forms.items()}
    assert target.threads is not None
    return (yield from timings_work(passes, threads=target.threads, config=config, own_thread=target.own_thread))


def _peak(form: Form, input_shape: Sequence[int], target: Target) -> int | None:
    if target.runtime != "pytorch":
        return None
    device = choose_device(target.device)
    return peak_bytes(form.placed(device), images_for(input_shape, target.batch).to(device))
