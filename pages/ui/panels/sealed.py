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
    asked = (plan.key, method)
    st.subheader("Report on the sealed half", anchor=False)
    seen = times_seen(*asked)
    if st.session_state.get("sealed") != asked:
        st.caption(
            "Test images that nothing here has looked at: no bar, sweep or training. Look once, when the plan is "
            f"finished; every look is counted.{f' This plan was seen {_times(seen)}.' * bool(seen)}"
        )
        st.button("Report this plan", key="report_sealed", on_click=callback(_ask))
        return
    work = partial(measurement_work, network, plan, method, "sealed")
    found = result_of(
        session, "sealed", work, key=("sealed", *network_key(network), *asked), doing="measuring on the sealed half"
    )
    if found is None:
        return
    accuracy, change = found.accuracy, found.change.told(100)
    top5 = f" Top-5: {found.top5.percent}." if found.top5 else ""
    chosen = session.measured(method)
    gap = ""
    if chosen is not None:
        gap = f" On choose it is {chosen.accuracy.value:.2%}: a gap of "
        gap += f"{100 * (accuracy.value - chosen.accuracy.value):+.2f} points."
    st.markdown(
        f"**{accuracy.value:.2%}** [{accuracy.low:.1%}, {accuracy.high:.1%}] on sealed, {change} points against dense."
        f"{top5}{gap} Seen {_times(seen)}."
    )


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


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
