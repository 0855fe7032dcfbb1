"""The view History of the page Choose: every measured plan, found again, named, pinned, restored, taken away."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import streamlit as st

from fpgm_core import FpgmError
from fpgm_core.evaluation import History, HistoryEntry, Interval
from fpgm_core.figures import trace_figure
from fpgm_core.lesson import Words
from pages.ui.components.incoming import read_rows, sent
from pages.ui.components.telling import plain, told
from pages.ui.panels.pictures import cached_figure, clicked_index, labels_of
from pages.ui.panels.plan_list import dense_point, kept_entries, plan_label, point_of, restore, rung_title, top5_column
from pages.ui.panels.trace import is_on_screen
from pages.ui.session.comparing import MOST, ask_to_compare
from pages.ui.session.opening import is_private
from pages.ui.session.session import Session
from pages.ui.session.widgets import callback

_MOST = 500  # rows
_CHART = "history_chart"


def history_view(session: Session) -> None:
    """Search, the plans as points and as rows, and what can be done with those that are chosen."""
    words = session.words
    which = _which(session, words)
    try:
        entries = kept_entries(session, **which)
    except FpgmError as error:
        st.error(plain(words.phrase(told(error))))
        return
    if session.kept_plans.notice:
        st.warning(plain(words.phrase(session.kept_plans.notice)))
    if not entries:
        st.info(words("history.none"))
    chart, table = st.columns([1, 1.5], gap="medium")
    with chart:
        _chart(session, [one for one in entries if one.plan.fingerprint == session.state.plan.fingerprint], words)
    with table:
        _actions(session, entries, _chosen(entries), words)
        _table(entries, words)
        st.caption(words("history.whose_own" if is_private() else "history.whose_browser"))


def _which(session: Session, words: Words) -> dict[str, object]:
    """What is looked for, and the files of what is found."""
    with st.container(key="history_search", horizontal=True, vertical_alignment="center", gap="small"):
        search = st.text_input(
            words("history.search"), key="history_text", placeholder=words("history.search"), width=260,
            label_visibility="collapsed",
        )  # fmt: skip
        own = st.toggle(words("history.this_network"), value=True, key="history_own")
        pinned = st.toggle(words("history.only_pinned"), key="history_pinned")
        model = session.state.plan.model if own else ""
        which: dict[str, object] = {"model": model, "search": search.strip(), "pinned": pinned, "limit": _MOST}
        history = session.kept_plans
        for kind, mime, write in (
            ("csv", "text/csv", history.as_csv),
            ("json", "application/json", history.as_json),
        ):
            st.download_button(
                kind.upper(), partial(write, **which), f"plans.{kind}", mime, key=f"history_{kind}",
                on_click="ignore", help=words("history.export"),
            )  # fmt: skip
    return which


def _chart(session: Session, entries: Sequence[HistoryEntry], words: Words) -> None:
    """The plans of the network on screen: accuracy against MACs."""
    if not entries:
        st.caption(words("history.none_of_network"))
        return
    points, dense = [point_of(entry, words) for entry in entries], dense_point(entries, words)
    on_screen = next((place for place, entry in enumerate(entries) if is_on_screen(session, entry)), None)
    key = ("history", on_screen, dense, *points)
    ids = [entry.id for entry in entries]
    st.plotly_chart(
        cached_figure(key, lambda: trace_figure(points, dense, current=on_screen, labels=labels_of(words))),
        key=_CHART,
        alt=words("trace.alt"),
        on_select=callback(lambda session: _restore_clicked(session, ids)),
        selection_mode="points",
        config={"displayModeBar": False},
    )
    st.caption(words("history.chart_caption"))


def _restore_clicked(session: Session, ids: Sequence[int]) -> None:
    index = clicked_index(_CHART, len(ids))
    if index is not None:
        _restore(session, ids[index])


def _restore(session: Session, number: int) -> None:
    try:
        restore(session, session.kept_plans.entry(number))
    except FpgmError as error:
        session.refuse(error)


def _table(entries: Sequence[HistoryEntry], words: Words) -> None:
    several = len({entry.plan.model for entry in entries}) > 1
    rows = {
        words("history.column_pinned"): ["★" if entry.pinned else "" for entry in entries],
        words("history.column_name"): [entry.name for entry in entries],
        words("sheet.plan"): [
            f"{entry.plan.model}: " * several + plan_label(entry.plan, entry.method, words) for entry in entries
        ],
        words("sheet.rung"): [rung_title(entry.method, words) for entry in entries],
        words("sheet.macs_cut"): [100 * (1 - entry.macs / entry.dense_macs) for entry in entries],
        words("sheet.accuracy"): [100 * entry.accuracy.value for entry in entries],
        words("history.column_interval"): [_interval(entry.accuracy) for entry in entries],
        words("sheet.change"): [100 * entry.change.value for entry in entries],
        **top5_column(entries, words),
        words("history.column_images"): [entry.num_images for entry in entries],
        words("history.column_when"): [time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.at)) for entry in entries],
        words("history.column_study"): [entry.study.partition(" ")[0] for entry in entries],
    }
    number = st.column_config.NumberColumn(format="%.2f")
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        height=520,
        key=table_key(entries),
        on_select="rerun",
        selection_mode="multi-row",
        column_config={words(f"sheet.{name}"): number for name in ("macs_cut", "accuracy", "change", "top5")},
    )


def _interval(accuracy: Interval) -> str:
    return f"[{100 * accuracy.low:.1f}, {100 * accuracy.high:.1f}]"


def table_key(entries: Sequence[HistoryEntry]) -> str:
    """The table's key, another for other rows: what was selected of those must not become what stands there now."""
    return f"history_table:{hash(tuple(entry.id for entry in entries))}"


def _chosen(entries: Sequence[HistoryEntry]) -> list[HistoryEntry]:
    """The rows that are selected."""
    return [entries[row] for row in read_rows(sent(table_key(entries), "selection"), len(entries)) or ()]


def _actions(session: Session, entries: Sequence[HistoryEntry], chosen: Sequence[HistoryEntry], words: Words) -> None:
    """What can be done with the rows that are selected."""
    ids = [entry.id for entry in chosen]
    one = chosen[0] if len(chosen) == 1 else None
    with st.container(key="history_actions", horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            words("history.restore"), key="history_restore", disabled=one is None, type="primary",
            on_click=callback(lambda session: _restore(session, ids[0])),
        )  # fmt: skip
        pin = not chosen or not all(entry.pinned for entry in chosen)
        st.button(
            words("history.pin" if pin else "history.unpin"), key="history_pin", disabled=not chosen,
            on_click=callback(lambda session: _for_each(session, ids, lambda history, each: history.pin(each, pin))),
        )  # fmt: skip
        st.button(
            words("history.delete"), key="history_delete", disabled=not chosen,
            on_click=callback(lambda session: _for_each(session, ids, lambda history, each: history.delete(each))),
        )  # fmt: skip
        comparable = [entry.id for entry in chosen if entry.plan.fingerprint == session.state.plan.fingerprint]
        st.button(
            words("history.compare"), key="history_compare", disabled=not 1 <= len(comparable) <= MOST,
            on_click=partial(ask_to_compare, comparable), help=words("history.compare_help"),
        )  # fmt: skip
        key = f"history_name:{one.id if one else 0}"
        st.text_input(
            words("history.name"), one.name if one else "", key=key, placeholder=words("history.name"), width=220,
            disabled=one is None, label_visibility="collapsed", max_chars=200,
            on_change=callback(
                lambda session: _for_each(
                    session, ids, lambda history, each: history.rename(each, st.session_state[key])
                )
            ),
        )  # fmt: skip
    if not chosen and entries:
        st.caption(words("history.choose_rows"))


def _for_each(session: Session, ids: Sequence[int], act: Callable[[History, int], None]) -> None:
    """Change entries of the visitor's own history; what is not there any more is told."""
    history = session.kept_plans
    try:
        for number in ids:
            act(history, number)
    except FpgmError as error:
        session.refuse(error)
