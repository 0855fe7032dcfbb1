"""How fast what is exported runs: dense and compact in every runtime, and every file beside the others, in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from fpgm_core.errors import FpgmError
from fpgm_core.export.networks import Reloaded
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.runtime.progress import Work, within
from fpgm_core.timing import (
    RUNTIMES,
    Form,
    Latency,
    Pass,
    Target,
    TimingConfig,
    Timings,
    as_onnx,
    available_runtimes,
    forms_of,
    latency_work,
    timings_work,
)
from fpgm_core.timing.runtimes import images_for

_FILES = 0.3  # the share of the whole that timing the files takes, roughly


@dataclass(frozen=True)
class Speed:
    """What was timed: dense and compact in every runtime; by artefact and batch, written out, a median in milliseconds.

    `untimed` names runtimes in which nothing was timed, with the reason.
    """

    latencies: tuple[Latency, ...] = ()
    artefacts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    untimed: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Its part of the manifest, as plain values."""
        return {
            "latency": [latency.to_dict() for latency in self.latencies],
            "untimed": [{"runtime": name, "reason": reason} for name, reason in self.untimed],
        }


NOTHING_TIMED = Speed()


def speed_work(
    pruned: PrunedNetwork,
    module: nn.Module,
    reloaded: Mapping[str, Reloaded],
    *,
    onnx: bytes | None,
    batches: Sequence[int],
    runtimes: Sequence[str] | None,
    timing: TimingConfig,
) -> Work[Speed]:
    """Time a pruned network, whose compact form is `module` and, where it was made before, `onnx`; and its files.

    Raises FpgmError for a runtime that is unknown.
    """
    found = dict[str, dict[str, float]]()
    for number, batch in enumerate(batches if reloaded else ()):
        timed = yield from within(
            _files_work(pruned, reloaded, batch, timing),
            _FILES * number / len(batches),
            _FILES * (number + 1) / len(batches),
            f"timing the files on batches of {batch}",
        )
        for name in reloaded:
            found.setdefault(name, {})[str(batch)] = timed.ms(name).value
    forms = forms_of(pruned)
    shape = pruned.network.input_shape
    forms["compact"] = Form(module, (lambda: onnx) if onnx is not None else lambda: as_onnx(module, shape))
    latencies, untimed = yield from within(_runtimes_work(pruned, forms, batches, runtimes, timing), _FILES)
    return Speed(tuple(latencies), found, tuple(untimed))


def _runtimes_work(
    pruned: PrunedNetwork,
    forms: Mapping[str, Form],
    batches: Sequence[int],
    runtimes: Sequence[str] | None,
    timing: TimingConfig,
) -> Work[tuple[list[Latency], list[tuple[str, str]]]]:
    names = available_runtimes() if runtimes is None else tuple(runtimes)
    untimed = [(name, record.lacks()) for name, record in RUNTIMES.items() if name not in names and record.lacks()]
    wanted = [(name, batch) for name in names for batch in batches]
    latencies = list[Latency]()
    for number, (name, batch) in enumerate(wanted):
        target = Target(name, batch, device="auto")
        what = f"timing batches of {batch} in {RUNTIMES[name].title}"
        work = latency_work(pruned, target=target, config=timing, forms=forms)
        try:
            latencies.append((yield from within(work, number / len(wanted), (number + 1) / len(wanted), what)))
        except FpgmError as error:
            untimed.append((name, str(error)))
    return latencies, list(dict(untimed).items())


def _files_work(
    pruned: PrunedNetwork, reloaded: Mapping[str, Reloaded], batch: int, timing: TimingConfig
) -> Work[Timings]:
    """Every reloaded file, in turns, as its own runtime does it on the CPU."""
    images = images_for(pruned.network.input_shape, batch)

    def passing(one: Reloaded) -> Pass:
        def once() -> None:
            with torch.inference_mode():
                one(images)

        return once

    passes = {name: passing(one) for name, one in reloaded.items()}
    return (yield from timings_work(passes, threads=torch.get_num_threads(), config=timing))
