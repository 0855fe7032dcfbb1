"""The sealed half: shown when a person asks to report a plan on it, and counted from then on."""

from __future__ import annotations

import json
import threading
from functools import partial
from pathlib import Path

import streamlit as st

from fpgm_core.runtime.storage import home, write_atomic
from pages.ui.session.networks import network_key, why_unmeasured
from pages.ui.session.session import Session, callback, measurement_work
from pages.ui.session.work_status import result_of

_COUNTING = threading.Lock()


def sealed_report(session: Session) -> None:
    """The button that asks for it, how often it was asked, and the accuracy of the plan on its rung once it was."""
    network, plan, method = session.network, session.state.plan, session.state.method
    if why_unmeasured(network) is not None:
        return
    asked, words = (plan.key, method), session.words
    st.subheader(words("sealed.title"), anchor=False)
    times = times_seen(*asked)
    seen = "" if not times else words("sealed.once") if times == 1 else words("sealed.times", n=times)
    if st.session_state.get("sealed") != asked:
        st.caption(f"{words('sealed.about')} {seen}")
        st.button(words("sealed.report"), key="report_sealed", on_click=callback(_ask))
        return
    work = partial(measurement_work, network, plan, method, "sealed")
    found = result_of(
        session, "sealed", work, key=("sealed", *network_key(network), *asked), doing=words("sealed.doing")
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


def _ask(session: Session) -> None:
    plan, method = session.state.plan, session.state.method
    st.session_state.sealed = (plan.key, method)
    with _COUNTING:
        seen = {**_all_seen(), f"{plan.key} {method}": times_seen(plan.key, method) + 1}
        write_atomic(_file(), json.dumps(seen, indent=1).encode())


def times_seen(plan: str, method: str) -> int:
    """How often the plan of that key was reported on the sealed half, on that rung, with this `FPGM_HOME`."""
    return _all_seen().get(f"{plan} {method}", 0)


def _file() -> Path:
    return home() / "sealed.json"


def _all_seen() -> dict[str, int]:
    """Every count; none where the file is not there, or is no longer what was written."""
    try:
        seen = json.loads(_file().read_bytes())
        return {str(key): int(count) for key, count in seen.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
