"""The figures of the bar: accuracy on its rung, MACs, parameters, of the plan on screen or under the hand."""

from __future__ import annotations

from streamlit.delta_generator import DeltaGenerator

from fpgm_core.recovery import get_recovery_method
from pages.ui.components.cards import accuracy_card, macs_card, params_card
from pages.ui.session.session import Session


def draw_figures(
    session: Session,
    accuracy: DeltaGenerator,
    macs: DeltaGenerator,
    params: DeltaGenerator,
) -> None:
    """Draw the three cards into their places."""
    network, job, words = session.network, session.measuring, session.words
    cost, dense = network.cost(session.plan), network.dense_cost
    accuracy.html(
        accuracy_card(
            session.measurement,
            refitted=session.refitted,
            error=words.phrase(job.error) if job and job.error else None,
            moving=session.is_moving,
            trained=network.trained,
            rung=words.of(get_recovery_method(session.state.method)).lower(),
            words=words,
        )
    )
    macs.html(macs_card(cost, dense, words))
    params.html(params_card(cost, dense, words))
