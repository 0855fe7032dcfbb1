"""The measurement of a plan on a page: on which images, recovered how, and which rungs it can stand on."""

from __future__ import annotations

from functools import partial

from fpgm_core import Measurement, Network, Plan
from fpgm_core.data import load_images
from fpgm_core.evaluation import measure_work
from fpgm_core.recovery import get_recovery_method, refused_rungs
from fpgm_core.runtime.progress import Work
from pages.ui.session.networks import network_of
from pages.ui.session.recovered import recovered_networks, trained_networks
from pages.ui.session.view_state import ViewState


def measurement_work(network: Network, plan: Plan, method: str, split: str = "choose") -> Work[Measurement]:
    """Measure a plan on a half of the test images, recovered by a method. The images are read in the background."""
    images = load_images(network.dataset, split)
    trained = trained_networks().get(network, plan, method)
    known = trained.pruned if trained else recovered_networks().get(network, plan, method)
    if known is not None:
        return (yield from measure_work(known, images))
    training = load_images(network.dataset, "train") if get_recovery_method(method).needs_images else None
    keep = partial(recovered_networks().keep, network, plan, method)
    return (yield from measure_work(network.prune(plan), images, method=method, training=training, keep=keep))


def can_stand_on(state: ViewState) -> bool:
    """Whether a view state's plan can be shown on its rung: one that the network has, a trained one trained here."""
    if not get_recovery_method(state.method).trains:
        return state.method not in refused_rungs(network_of(state))
    return trained_networks().get(network_of(state), state.plan, state.method) is not None
