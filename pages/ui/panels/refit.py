"""Refit costs and predicted damage: measured in the background for the views that show them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial

from fpgm_core import FpgmError, Network, Plan
from fpgm_core.calibration import CalibrationConfig, Moments, calibrate_work
from fpgm_core.data import load_images
from fpgm_core.evaluation import Replaceability, replaceability
from fpgm_core.figures import heat_strips
from fpgm_core.recovery import DamageSurface
from fpgm_core.recovery import damage_work as predict_work
from fpgm_core.runtime.device import choose_device
from fpgm_core.runtime.progress import Progress, Work, within
from pages.ui.session.jobs import Job
from pages.ui.session.kept import kept
from pages.ui.session.networks import network_key
from pages.ui.session.session import Session
from pages.ui.session.work_status import job_for, result_of

COST_JOB = "replaceability"  # the name of the work that measures refit costs
CALIBRATION = CalibrationConfig()


def _moments_work(network: Network) -> Work[Moments]:
    """The calibration pass. Raises FpgmError for a network without trained weights."""
    if not network.trained:
        raise FpgmError(f"random weights have nothing that could be replaced: {network.notice}")
    training = load_images(network.dataset, "train")
    return (yield from calibrate_work(network, training, config=CALIBRATION, device=choose_device("auto")))


def refit_cost_work(network: Network, coupling: str) -> Work[tuple[Replaceability, ...]]:
    """Calibrate, and measure what the loss of each filter costs."""
    moments = yield from within(_moments_work(network), 0, 0.7)
    yield Progress(0.7)  # moments that were kept needed no pass
    return replaceability(network, moments, coupling)


def damage_work(network: Network, like: Plan) -> Work[DamageSurface]:
    """Calibrate, and predict what every unit costs at every rate under the criterion and coupling of `like`."""
    moments = yield from within(_moments_work(network), 0, 0.5)
    return (yield from within(predict_work(network, moments, plan=like), 0.5))


def refit_cost_job(session: Session) -> Job[tuple[Replaceability, ...]] | None:
    """Every layer's filters with their refit costs, as they come; None where that was stopped."""
    network, coupling = session.network, session.state.plan.coupling
    key = ("replaceability", *network_key(network), coupling)
    work = partial(refit_cost_work, network, coupling)
    return job_for(session, COST_JOB, work, key=key, doing=session.words("work.costs"))


def _damage_request(session: Session) -> tuple[Callable[[], Work[DamageSurface]], Hashable]:
    plan, network = session.state.plan, network_key(session.network)
    key = ("damage", *network, plan.criterion, plan.coupling, plan.options)
    return partial(damage_work, session.network, plan), key


def damage(session: Session) -> DamageSurface | None:
    """The damage surface of the plan's criterion and coupling, where it is wanted and there."""
    if not session.state.damage:
        return None
    work, key = _damage_request(session)
    job = job_for(session, "damage", work, key=key, doing=session.words("work.damage"))
    return None if job is None else job.result


def damage_status(session: Session) -> None:
    """What is to be said of the damage surface, where it is wanted and not there."""
    if session.state.damage:
        work, key = _damage_request(session)
        result_of(session, "damage", work, key=key, doing=session.words("work.damage"))


@kept
def strips(key: Hashable, _surface: DamageSurface) -> dict[str, str]:
    """The surface as one strip of colours a unit."""
    return heat_strips(_surface.rates, dict(zip(_surface.units, _surface.loss, strict=True)))
