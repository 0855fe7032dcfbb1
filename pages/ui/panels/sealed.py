"""The sealed half: shown when a person asks to report a plan on it, and counted from then on."""

from __future__ import annotations

from functools import partial

import streamlit as st

from fpgm_core import FpgmError
from fpgm_core.data import load_images
from fpgm_core.runtime.storage import home
from fpgm_core.runtime.tally import Tally
from pages.ui.session.measuring import measurement_work
from pages.ui.session.networks import network_key, why_unmeasured
from pages.ui.session.session import Session
from pages.ui.session.widgets import callback
from pages.ui.session.work_status import result_of


def sealed_report(session: Session) -> None:
    """The button that asks for it, how often it was asked, and the accuracy of the plan on its rung once it was."""
    network, plan, method = session.network, session.state.plan, session.state.method
    if why_unmeasured(network) is not None:
        return
    asked, words = _asked(session), session.words
    st.subheader(words("sealed.title"), anchor=False)
    times = times_seen(asked)
    seen = "" if not times else words("sealed.once") if times == 1 else words("sealed.times", n=times)
    if st.session_state.get("sealed") != asked:
        st.caption(f"{words('sealed.about')} {seen}")
        st.button(words("sealed.report"), key="report_sealed", on_click=callback(_ask))
        return
    work = partial(measurement_work, network, plan, method, "sealed")
    found = result_of(
        session, "sealed", work, key=("sealed", *network_key(network), plan.key, method), doing=words("sealed.doing")
    )
    if found is None:
        return
    accuracy, chosen = found.accuracy, session.measured(method)
    said = [
        words("sealed.found", accuracy=accuracy.value, low=accuracy.low, high=accuracy.high,
              change=found.change.told(100))
    ]  # fmt: skip
    if found.top5:
        said.append(words("sealed.top5", top5=found.top5.percent))
    if chosen is not None:
        gap = 100 * (accuracy.value - chosen.accuracy.value)
        said.append(words("sealed.gap", choose=chosen.accuracy.value, gap=gap))
    st.markdown(" ".join([*said, seen]))


def _asked(session: Session) -> str:
    """What a look is at, as it is counted: the plan on its rung, and whose images, where they are a person's own."""
    state = session.state
    images = load_images(session.network.dataset, "sealed").digest[:16] if state.data else ""
    return f"{state.plan.key} {state.method} {images}".rstrip()


def _ask(session: Session) -> None:
    if count_look(session):
        st.session_state.sealed = _asked(session)


def count_look(session: Session) -> bool:
    """Count a look at the plan on its rung; whether it was: what is not counted is not shown."""
    try:
        _looks().add(_asked(session))
    except FpgmError as error:
        session.refuse(error)
        return False
    return True


def times_seen(asked: str) -> int:
    """How often a plan was reported on the sealed half, on that rung, with this `FPGM_HOME`."""
    return _looks().count(asked)


def _looks() -> Tally:
    return Tally(home() / "sealed.sqlite", former=home() / "sealed.json")
