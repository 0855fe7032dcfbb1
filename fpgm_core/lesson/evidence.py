"""What the steps' pictures need measured: refit costs, the contest of criteria, the time that zeros take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from fpgm_core.calibration import Calibration, calibrate_steps
from fpgm_core.evaluation import contest_steps, known_contest, replaceability, zeros_steps
from fpgm_core.lesson.content import Evidence
from fpgm_core.pruning import Network
from fpgm_core.runtime.progress import Progress, Work

COUPLING = "inner"  # one rate means equal MACs there, and every filter has readers of its own
_ZEROS_RATE = 0.4
T = TypeVar("T")


def costs_work(network: Network, *, calibration: Calibration = Calibration()) -> Work[Evidence]:
    """Refit costs of every layer inside the blocks, and the moments they come from."""
    moments = yield from _as_work(calibrate_steps(network, calibration))
    return Evidence(moments=moments, replaceability=replaceability(network, moments, COUPLING))


def criteria_work(network: Network) -> Work[Evidence]:
    """The contest of criteria at equal MACs on every rung."""
    contest = yield from _as_work(contest_steps(network))
    return Evidence(contest=contest)


def zeros_work(network: Network, *, batch: int = 32, runs: int = 15) -> Work[Evidence]:
    """What zeros are worth in time: scattered over the weights, or taken out as whole filters."""
    plan = network.plan(_ZEROS_RATE, coupling=COUPLING)
    zeros = yield from _as_work(zeros_steps(network, plan, batch=batch, runs=runs))
    return Evidence(zeros=zeros)


def _as_work(steps: Iterable[float | T]) -> Work[T]:
    """The former dialect, shares and last the result, as Work; goes when its last user does."""
    results: list[T] = []
    for step in steps:
        if isinstance(step, float):
            yield Progress(step)
        else:
            results.append(step)
    (result,) = results
    return result


Measure = Callable[[Network], Work[Evidence]]
MEASUREMENTS: Mapping[str, Measure] = {"costs": costs_work, "contest": criteria_work, "zeros": zeros_work}  # by need


def known_evidence(network: Network, need: str) -> Evidence | None:
    """A measurement that takes no time because it was made before; None where there is none."""
    contest = known_contest(network) if need == "contest" else None
    return None if contest is None else Evidence(contest=contest)


def can_measure(network: Network) -> bool:
    """Whether the network has trained weights, and images here to measure it on."""
    return network.trained and network.dataset == "cifar10"


def combined(parts: Iterable[Evidence]) -> Evidence:
    """Several measurements as one; of the same kind the last one counts."""
    together = Evidence()
    for part in parts:
        together = replace(together, **{name: value for name, value in vars(part).items() if value is not None})
    return together
