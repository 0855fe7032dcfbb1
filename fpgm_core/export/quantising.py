"""Pruning, quantising, or both: the dense and the pruned network in float32 and in eight bits, each by its own file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import Interval, change_between, wilson
from fpgm_core.export import networks
from fpgm_core.export.eight_bits import as_int8, training_for
from fpgm_core.inference import rank_work
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.runtime.progress import Progress, Work, within
from fpgm_core.timing import FASTER, SAME, SLOWER, VERDICTS, Form, Target, TimingConfig, Timings, as_onnx, formed_work

DENSE, DENSE_INT8, PRUNED, PRUNED_INT8 = "dense", "dense_int8", "pruned", "pruned_int8"
FORMS = {
    DENSE: "dense, float32",
    DENSE_INT8: "dense, eight bits",
    PRUNED: "pruned, float32",
    PRUNED_INT8: "pruned, eight bits",
}
PAIRS = ((DENSE_INT8, DENSE), (PRUNED, DENSE), (PRUNED_INT8, DENSE), (PRUNED_INT8, PRUNED), (PRUNED, DENSE_INT8))
NO_DIFFERENCE = VERDICTS[SAME]
_MADE, _MEASURED = 0.2, 0.7  # the shares of the whole that are done then, roughly: for progress alone


@dataclass(frozen=True, eq=False)
class Quantising:
    """The four forms of `FORMS`: their ONNX `files`, what each classified rightly, and what they take, in turns.

    `right` is by split and form, bool (images,), from the files themselves in ONNX Runtime; all forms of a split see
    the same images. `timings` are by target.
    """

    files: Mapping[str, bytes]
    right: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    timings: Mapping[Target, Timings] = field(default_factory=dict)

    def accuracy(self, form: str, split: str) -> Interval:
        """A form's accuracy on a split, with Wilson's 95% interval, fractions in 0..1."""
        right = self.right[split][form]
        return wilson(int(right.sum()), len(right))

    def change(self, form: str, other: str, split: str) -> Interval:
        """A form's accuracy minus another's on the same images, with the paired 95% interval."""
        return change_between(self.right[split][form], self.right[split][other])

    def bytes_share(self, form: str, other: str) -> float:
        """A form's bytes as a share of another's."""
        return len(self.files[form]) / len(self.files[other])

    def to_dict(self) -> dict[str, Any]:
        """As plain values: a row for every form, one for every pair of `PAIRS`, and where they were timed."""
        return {
            "forms": [self._form(name) for name in FORMS],
            "pairs": [self._pair(form, other) for form, other in PAIRS],
            "timed": [
                {**target.identity, "runs": timings.rounds, "busy": timings.conditions.busy}
                for target, timings in self.timings.items()
            ],
        }

    def _form(self, name: str) -> dict[str, Any]:
        return {
            "form": name,
            "title": FORMS[name],
            "bytes": len(self.files[name]),
            "accuracy": {
                split: {"images": len(right[name]), **_limits(self.accuracy(name, split))}
                for split, right in self.right.items()
            },
            "ms": [{"batch": target.batch, **_limits(one.ms(name))} for target, one in self.timings.items()],
        }

    def _pair(self, form: str, other: str) -> dict[str, Any]:
        return {
            "form": form,
            "against": other,
            "change": {split: _limits(self.change(form, other, split)) for split in self.right},
            "bytes_share": self.bytes_share(form, other),
            "speed": [
                {"batch": target.batch, **_speed(timings, other, form)} for target, timings in self.timings.items()
            ],
        }


def change_told(change: Mapping[str, float]) -> str:
    """What a change of accuracy allows to say, in points: "−0.42 [−0.61, −0.23]", or "no difference found [...]"."""
    interval = Interval(change["value"], change["low"], change["high"])
    limits = interval.told(100)
    return limits if interval.excludes_zero else f"{NO_DIFFERENCE} {limits[limits.index('[') :]}"


def _limits(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _speed(timings: Timings, slow: str, fast: str) -> dict[str, Any]:
    """What `speed_told` reads of two forms that took turns."""
    ratio, verdict = timings.ratio(slow, fast), timings.verdict(slow, fast)
    known = verdict in (FASTER, SLOWER)
    return {
        "ratio": ratio.value, "ratio_low": ratio.low, "ratio_high": ratio.high,
        "verdict": verdict, "speed_up": ratio.value if known else None,
    }  # fmt: skip


def quantising_work(
    pruned: PrunedNetwork,
    training: ImageSet | None,
    *,
    images: Mapping[str, ImageSet],
    targets: Sequence[Target],
    timing: TimingConfig | None = None,
    aligned: bool = False,
) -> Work[Quantising]:
    """Write a pruned network and its dense one as ONNX in float32 and in eight bits, measure and time all four.

    `training` images calibrate, `images` are test images by split; `aligned` as for `PrunedNetwork.compact`. Raises
    FpgmError for a network that prunes nothing, as `training_for` and `as_int8` do, and where a target's runtime is not
    available.
    """
    network = pruned.network
    if pruned.prunes_nothing:
        raise FpgmError("this plan prunes nothing, so there is no pruning to compare with quantising; give it rates")
    calibrating, files = training_for(network, training), dict[str, bytes]()
    for number, (float32, int8, one) in enumerate(
        ((DENSE, DENSE_INT8, network.prune(0.0)), (PRUNED, PRUNED_INT8, pruned))
    ):
        yield Progress(_MADE * number / 2, what=f"writing {FORMS[float32]}")
        files[float32] = as_onnx(one.compact(aligned=aligned).eval(), network.input_shape)
        yield Progress(_MADE * (number + 0.3) / 2, what=f"writing {FORMS[int8]}")
        files[int8] = as_int8(files[float32], calibrating)
    made = Quantising(files)
    measured = yield from within(judged_work(made, images), _MADE, _MEASURED)
    timings, forms = dict[Target, Timings](), {name: Form.of_onnx(content) for name, content in made.files.items()}
    for number, target in enumerate(targets):
        begin, end = (_MEASURED + (1 - _MEASURED) * place / len(targets) for place in (number, number + 1))
        work = formed_work(forms, network.input_shape, target, timing)
        timings[target] = yield from within(work, begin, end, f"timing batches of {target.batch}")
    return replace(measured, timings=timings)


def judged_work(quantising: Quantising, images: Mapping[str, ImageSet]) -> Work[Quantising]:
    """The same with the accuracy of every file on more splits."""
    wanted = [(split, form) for split in images for form in FORMS]
    found: dict[str, dict[str, np.ndarray]] = {split: {} for split in images}
    for number, (split, form) in enumerate(wanted):
        there = images[split].to(torch.device("cpu"))
        reloaded = networks.reload_onnx({form: quantising.files[form]}, form)
        begin, end = number / len(wanted), (number + 1) / len(wanted)
        ranks = yield from within(rank_work(reloaded, there), begin, end, f"measuring {FORMS[form]} on {split}")
        found[split][form] = (ranks == 0).numpy()
    return replace(quantising, right={**quantising.right, **found})
