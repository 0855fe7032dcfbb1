"""Measurements that are made once: a study that stopped goes on from those that `FPGM_HOME` keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from fpgm_core.data import ImageSet
from fpgm_core.evaluation.accuracy import EvaluationConfig, measure_work
from fpgm_core.evaluation.measurement import Measurement
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.recovery import RecoveryContext, get_recovery_method
from fpgm_core.runtime.device import choose_device, choose_precision
from fpgm_core.runtime.progress import Work, within
from fpgm_core.runtime.storage import Kept, ResultStore

_FORMAT = 1  # of what recovery methods make: raised when one of them changes
_STORE = ResultStore("measurements")


def kept_measure_work(
    pruned: PrunedNetwork,
    images: ImageSet,
    *,
    method: str = "as_is",
    training: ImageSet | None = None,
    config: EvaluationConfig = EvaluationConfig(),
    recovered: PrunedNetwork | None = None,
    keep: Callable[[PrunedNetwork], object] = lambda recovered: None,
    **options: Any,
) -> Work[Measurement]:
    """`measure_work`'s exact measurement, made where the same network has none kept, and kept then.

    Which filters are pruned counts, not the plan that says so: what prunes alike is measured once. `recovered` is what
    `method` makes of it, where an earlier measurement gave that to `keep`. `options` are the recovery method's own, a
    training recipe say. Raises FpgmError as `measure_work` does, and where nothing can be written.
    """
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    identity = {
        "format": _FORMAT,
        "pruned": pruned.digest,
        "images": images.digest,
        "method": method,
        "options": {name: repr(value) for name, value in options.items()},
        "training": training.digest if training is not None and method != "as_is" else None,
        "precision": str(precision),
    }
    found = _STORE.read(identity, lambda kept: _measurement_in(kept, len(images)))
    if found is not None:
        return found
    if recovered is not None:
        pruned, method = recovered, "as_is"
    elif options:
        work = get_recovery_method(method).work(pruned, training, RecoveryContext(device, precision), **options)
        pruned, method = (yield from within(work, 0, 0.8)), "as_is"
    measured = yield from measure_work(
        pruned, images, method=method, training=training, config=config, preview=False, remember_late=False, keep=keep
    )
    _STORE.write(identity, _kept(measured))
    return measured


def _kept(measured: Measurement) -> Kept:
    values = {name: value for name, value in asdict(measured).items() if name != "answers"}
    assert measured.answers is not None
    return Kept(values, {"answers": torch.from_numpy(np.frombuffer(measured.answers, np.uint8).copy())})


def _measurement_in(kept: Kept, num_images: int) -> Measurement:
    values = {**kept.values, "lost_devices": tuple(kept.values["lost_devices"])}
    found = Measurement(**values, answers=kept.arrays["answers"].numpy().tobytes())
    if found.state != "exact" or found.num_images != num_images or found.right.sum() != found.num_correct:
        raise ValueError("another measurement")
    return found
