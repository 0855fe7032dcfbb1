"""The eight steps in their order, and the measurements that they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from fpgm_core.calibration import CalibrationConfig, calibrate_work
from fpgm_core.data import load_images
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import Contest, Zeros, contest_steps, known_contest, replaceability, zeros_steps
from fpgm_core.lesson import controls, demonstrations, measurements
from fpgm_core.lesson.content import Found, Step
from fpgm_core.pruning import Network
from fpgm_core.runtime.progress import shares

_ZEROS_BATCH, _ZEROS_RATE = 32, 0.4
_RECORDS = (
    Step("plane", controls.PlaneControls, demonstrations.show_plane),
    Step("norms", controls.NormControls, demonstrations.show_norms, ("quarter", "half", "most")),
    Step("median", controls.MedianControls, demonstrations.show_median, ("mean", "median", "alike")),
    Step("reviewer", controls.FilterControls, demonstrations.show_reviewer, ("none", "few", "most")),
    Step("agreement", controls.AgreementControls, demonstrations.show_agreement, ("more", "less", "same")),
    Step(
        "replaceable", controls.FilterControls, measurements.show_replaceable, ("quarter", "half", "most"), ("costs",)
    ),
    Step(
        "cost",
        controls.CostControls,
        measurements.show_cost,
        ("l2_norm", "fpgm", "fpgm_mix", "refit_cost", "none"),
        ("contest", "zeros"),
        4,
    ),
    Step("challenge", controls.NoControls, measurements.show_challenge),
)
STEPS: Mapping[str, Step] = {record.name: record for record in _RECORDS}


def get_step(name: str) -> Step:
    """The step of that name. Raises FpgmError, listing the names, where there is none."""
    if name not in STEPS:
        raise FpgmError(f"unknown step {name!r}; choose one of {', '.join(STEPS)}")
    return STEPS[name]


def _costs(network: Network) -> Iterator[float | Found]:
    images = load_images(network.dataset, "train")  # to be handed in
    moments = yield from shares(calibrate_work(network, images, config=CalibrationConfig()))
    yield Found(moments=moments, replaceability=replaceability(network, moments, measurements.COUPLING))


def _contest(network: Network) -> Iterator[float | Found]:
    for step in contest_steps(network):
        yield Found(contest=step) if isinstance(step, Contest) else step


def _zeros(network: Network) -> Iterator[float | Found]:
    plan = network.plan(_ZEROS_RATE, coupling=measurements.COUPLING)
    for step in zeros_steps(network, plan, batch=_ZEROS_BATCH):
        yield Found(zeros=step) if isinstance(step, Zeros) else step


# What steps need, by name: each yields the share done, 0..1, and last a Found with its part.
MEASUREMENTS: Mapping[str, Callable[[Network], Iterator[float | Found]]] = {
    "costs": _costs,
    "contest": _contest,
    "zeros": _zeros,
}


def at_hand(network: Network, name: str) -> Found | None:
    """A measurement that needs no time, since it was made before; None where there is none."""
    if name != "contest":
        return None
    found = known_contest(network)
    return None if found is None else Found(contest=found)


def can_measure(network: Network) -> bool:
    """Whether the network has trained weights, and images here to measure it on."""
    return network.trained and network.dataset == "cifar10"


def joined(parts: list[Found]) -> Found:
    """What several measurements found, together."""
    together = Found()
    for part in parts:
        together = replace(together, **{name: value for name, value in vars(part).items() if value is not None})
    return together
