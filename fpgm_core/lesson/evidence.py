"""What the steps' pictures need measured: refit costs, the contest of criteria, the time that zeros take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from fpgm_core.calibration import CalibrationConfig, calibrate_work
from fpgm_core.data import ImageSet
from fpgm_core.evaluation import contest_work, known_contest, replaceability
from fpgm_core.lesson.content import Evidence
from fpgm_core.pruning import Network
from fpgm_core.runtime.progress import Work
from fpgm_core.timing import Target, TimingConfig
from fpgm_core.timing import zeros_work as time_zeros_work

COUPLING = "inner"  # one rate means equal MACs there, and every filter has readers of its own
_ZEROS_RATE, _ZEROS_BATCH = 0.4, 32


def costs_work(
    network: Network, images: ImageSet, training: ImageSet, *, config: CalibrationConfig = CalibrationConfig()
) -> Work[Evidence]:
    """Refit costs of every layer inside the blocks, and the moments of `training` images that they come from."""
    moments = yield from calibrate_work(network, training, config=config)
    return Evidence(moments=moments, replaceability=replaceability(network, moments, COUPLING))


def criteria_work(network: Network, images: ImageSet, training: ImageSet) -> Work[Evidence]:
    """The contest of criteria at equal MACs, on every rung, on `images`."""
    return Evidence(contest=(yield from contest_work(network, images, training)))


def zeros_work(
    network: Network,
    images: ImageSet,
    training: ImageSet,
    *,
    target: Target | None = None,
    config: TimingConfig | None = None,
) -> Work[Evidence]:
    """What zeros are worth in time, scattered over the weights or taken out as whole filters; reads no images.

    On batches of 32, on the device that is there, unless a `target` says otherwise.
    """
    target = target or Target(batch=_ZEROS_BATCH, device="auto")
    pruned = network.prune(_ZEROS_RATE, coupling=COUPLING)
    return Evidence(zeros=(yield from time_zeros_work(pruned, target=target, config=config)))


# A measurement of a network: `images` are those to choose on, `training` those to learn from.
Measure = Callable[[Network, ImageSet, ImageSet], Work[Evidence]]
MEASUREMENTS: Mapping[str, Measure] = {"costs": costs_work, "contest": criteria_work, "zeros": zeros_work}  # by need


def known_evidence(network: Network, need: str, *, images: ImageSet, training: ImageSet) -> Evidence | None:
    """A measurement that takes no time because it was made before; None where there is none."""
    contest = known_contest(network, images, training) if need == "contest" else None
    return None if contest is None else Evidence(contest=contest)


def combined(parts: Iterable[Evidence]) -> Evidence:
    """Several measurements as one; of the same kind the last one counts."""
    together = Evidence()
    for part in parts:
        together = replace(together, **{name: value for name, value in vars(part).items() if value is not None})
    return together
