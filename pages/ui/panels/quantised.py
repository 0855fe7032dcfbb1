"""Pruning, quantising, or both: four files beside each other, on choose; on sealed where a report is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from fpgm_core import Network, Plan
from fpgm_core.data import load_images
from fpgm_core.evaluation import Interval
from fpgm_core.export import (
    FORMS,
    TIMING,
    Quantising,
    change_told,
    judged_work,
    most_measured,
    quantising_work,
)
from fpgm_core.lesson import Words
from fpgm_core.runtime.progress import Work, within
from fpgm_core.timing import Target, ms_told, speed_told
from pages.ui.components.telling import plain
from pages.ui.panels.sealed import count_look
from pages.ui.session.networks import network_key, why_unmeasured
from pages.ui.session.recovered import recovered_work
from pages.ui.session.session import Session
from pages.ui.session.widgets import callback
from pages.ui.session.work_status import result_of

BATCHES = 1, 64
_RECOVERED = 0.1  # the share of the whole that recovering takes, roughly: for progress alone
_SHOWN = "quantised_sealed"


def quantised(session: Session, *, aligned: bool) -> None:
    """The button that puts the four beside each other, their table, and the button that reports them on sealed.

    `aligned` as for `PrunedNetwork.compact`.
    """
    network, plan, method, words = session.network, session.state.plan, session.state.method, session.words
    if network.prune(plan).prunes_nothing:
        return
    st.subheader(words("quantised.title"), anchor=False)
    if (why := why_unmeasured(network)) is not None:
        st.caption(words("quantised.refused", why=words.phrase(why)))
        return
    key = ("quantising", *network_key(network), plan.key, method, aligned)
    job = session.jobs.get("quantising", key)
    st.caption(words("quantised.about"))
    if job is None or job.error:
        st.button(
            words("quantised.compare"),
            key="quantise",
            on_click=callback(lambda session: _begin(session, key, aligned)),
        )
    if job is not None and job.error:
        st.error(plain(words.phrase(job.error)))
    if job is None or not job.result:
        return
    found: Quantising = job.result
    _sealed(session, found, key)


def _begin(session: Session, key: tuple[Any, ...], aligned: bool) -> None:
    network, plan, method = session.network, session.state.plan, session.state.method
    session.jobs.cancel("quantising")
    work = partial(_work, network, plan, method, aligned)
    session.jobs.start("quantising", work, key=key, title=session.words("quantised.doing"))


def _work(network: Network, plan: Plan, method: str, aligned: bool) -> Work[Quantising]:
    training = load_images(network.dataset, "train")
    images = {"choose": load_images(network.dataset, "choose").at_most(most_measured(network))}
    pruned = yield from within(recovered_work(network, plan, method), 0, _RECOVERED)
    targets = [Target("onnxruntime", batch) for batch in BATCHES]
    work = quantising_work(pruned, training, images=images, targets=targets, timing=TIMING, aligned=aligned)
    return (yield from within(work, _RECOVERED))


def _sealed(session: Session, found: Quantising, key: tuple[Any, ...]) -> None:
    """The tables, with the sealed half where a person asked for it; each asking is counted as a look."""
    words = session.words
    if st.session_state.get(_SHOWN) == key:
        work = partial(_judged_work, session.network, found)
        doing = words("quantised.judging")
        found = result_of(session, "quantising_sealed", work, key=(*key, "sealed"), doing=doing) or found
    _tables(found, words)
    if st.session_state.get(_SHOWN) != key:
        st.button(words("quantised.report"), key="report_quantised", on_click=callback(partial(_ask, key=key)))


def _ask(session: Session, key: tuple[Any, ...]) -> None:
    if count_look(session):
        st.session_state[_SHOWN] = key


def _judged_work(network: Network, found: Quantising) -> Work[Quantising]:
    sealed = load_images(network.dataset, "sealed").at_most(most_measured(network))
    return (yield from judged_work(found, {"sealed": sealed}))


def _tables(found: Quantising, words: Words) -> None:
    values = found.to_dict()
    st.dataframe(pd.DataFrame([_form(row, words) for row in values["forms"]]), hide_index=True, placeholder="")
    st.dataframe(pd.DataFrame([_pair(row, words) for row in values["pairs"]]), hide_index=True, placeholder="")
    threads = values["timed"][0]["threads"]
    busy = any(one["busy"] for one in values["timed"])
    machine = words("export.busy" if busy else "export.quiet")
    images = len(next(iter(found.right["choose"].values())))
    st.caption(words("quantised.caption", images=images, threads=threads, machine=machine))


def _form(row: Mapping[str, Any], words: Words) -> dict[str, Any]:
    """One of the four: its size, its accuracy on each half that was looked at, its milliseconds."""
    return {
        words("sheet.network"): words.phrase(row["title"]),
        words("sheet.kib"): round(row["bytes"] / 1024),
        **{
            words(f"sheet.{split}"): Interval(one["value"], one["low"], one["high"]).percent
            for split, one in row["accuracy"].items()
        },
        **{words(f"sheet.ms_{one['batch']}"): ms_told(one["value"], one["low"], one["high"]) for one in row["ms"]},
    }


def _pair(row: Mapping[str, Any], words: Words) -> dict[str, Any]:
    """One beside another: the paired change on each half, and how many times as fast."""
    pair = [words.phrase(FORMS[row[name]]) for name in ("form", "against")]
    return {
        words("sheet.compared"): words("quantised.pair", form=pair[0], against=pair[1]),
        words("sheet.bytes_share"): f"{row['bytes_share']:.0%}",
        **{words(f"sheet.{split}_points"): words.phrase(change_told(one)) for split, one in row["change"].items()},
        **{words("sheet.faster_at", batch=one["batch"]): words.phrase(speed_told(one)) for one in row["speed"]},
    }
