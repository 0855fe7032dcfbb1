"""The measurement of a plan on a page: on which images, recovered how, and which rungs it can stand on."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from streamlit.runtime import Runtime

from fpgm_core import Measurement, Network, Plan
from fpgm_core.data import load_images
from fpgm_core.evaluation import measure_work
from fpgm_core.models import bundled_record
from fpgm_core.recovery import get_recovery_method, refused_rungs
from fpgm_core.runtime.progress import Work
from fpgm_core.runtime.work_process import WorkLost
from pages.ui.session.apart import Question, answer_work, begin_measuring_apart, measuring_process
from pages.ui.session.networks import network_of
from pages.ui.session.opened import OWN, kept_place, live_network
from pages.ui.session.recovered import recovered_networks, trained_networks
from pages.ui.session.view_state import ViewState


def measurement_work(network: Network, plan: Plan, method: str, split: str = "choose") -> Work[Measurement]:
    """Measure a plan on a half of the test images, recovered by a method. The images are read in the background."""
    images = load_images(network.dataset, split)
    trained = trained_networks().get(network, plan, method)
    known = trained.pruned if trained else recovered_networks().get(network, plan, method)
    if known is not None:
        return (yield from measure_work(known, images))
    keep = partial(recovered_networks().keep, network, plan, method)
    if (question := _question(network, plan, method, split)) is not None:
        with suppress(WorkLost):
            answer = yield from measuring_process().work(answer_work, question)
            if answer is not None:
                keep(answer.recovered(network.prune(plan)))
                return answer.measurement
        begin_measuring_apart(question)  # where it was lost, or was never there; this one goes on here
    training = load_images(network.dataset, "train") if get_recovery_method(method).needs_images else None
    return (yield from measure_work(network.prune(plan), images, method=method, training=training, keep=keep))


def _question(network: Network, plan: Plan, method: str, split: str) -> Question | None:
    """The measurement as a question to the process that measures; None where it does not know enough.

    A server has one. It knows networks that ship with the library and those whose weights are kept on disk, on the
    library's images.
    """
    if not Runtime.exists() or live_network(network.name) is not None or network.dataset.startswith(OWN):
        return None
    weights = kept_place(network.fingerprint)
    if weights is None and bundled_record(network.name) is None:
        return None
    return Question(
        network.name, weights, network.input_shape, network.identity, network.dataset, plan.to_json(), method, split
    )


def can_stand_on(state: ViewState) -> bool:
    """Whether a view state's plan can be shown on its rung: one that the network has, a trained one trained here."""
    if not get_recovery_method(state.method).trains:
        return state.method not in refused_rungs(network_of(state))
    return trained_networks().get(network_of(state), state.plan, state.method) is not None
