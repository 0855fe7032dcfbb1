"""The figures of the bar: accuracy on its rung, MACs, parameters, of the plan on screen or under the hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.errors import StreamlitInvalidLayoutContextError

from fpgm_core.inference import FEW_CLASSES
from fpgm_core.recovery import get_recovery_method
from pages.ui.components.cards import accuracy_card, beside, macs_card, params_card, top5_card
from pages.ui.panels.speed import speed_told
from pages.ui.session.networks import why_unmeasured
from pages.ui.session.session import Session


def draw_figures(
    session: Session,
    accuracy: DeltaGenerator,
    macs: DeltaGenerator,
    params: DeltaGenerator,
) -> None:
    """Draw the cards into their places; beside accuracy stands top-5 where there are more than ten classes."""
    network, job, words = session.network, session.measuring, session.words
    cost, dense = network.cost(session.plan), network.dense_cost
    measured, measurable = session.measurement, why_unmeasured(network) is None
    cards = [
        accuracy_card(
            measured,
            refitted=session.refitted,
            seconds_left=job.progress.seconds_left if job and job.progress and not job.done else None,
            error=words.phrase(job.error) if job and job.error else None,
            moving=session.is_moving,
            measurable=measurable,
            rung=words.of(get_recovery_method(session.state.method)).lower(),
            words=words,
        )
    ]
    if measurable and (network.num_classes or 0) > FEW_CLASSES:
        known = None if session.is_moving else measured
        cards.append(top5_card(known, words))
    speed = speed_told(session, session.plan)
    with places_outside():
        accuracy.html(beside(*cards))
        macs.html(macs_card(cost, dense, words, speed))
        params.html(params_card(cost, dense, words))


@contextmanager
def places_outside() -> Iterator[None]:
    """For a fragment that writes into places outside it: where a run of the whole page overtakes it, it ends quietly.

    Streamlit begins that run in a second thread, which takes the fragment's places away. The first is told to stop, but
    hears of it only when it next writes: into a place that is gone, which is an error of the page's otherwise.
    """
    try:
        yield
    except StreamlitInvalidLayoutContextError:
        st.empty()  # into the fragment itself: a run that was told to stop ends here
        raise
