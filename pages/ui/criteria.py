"""The view Criteria of the page Choose: all criteria over a grid of goals, with the band of random draws."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial

import pandas as pd
import streamlit as st

from fpgm_core import CRITERIA, FpgmError, Network
from fpgm_core.criteria import check_scorable
from fpgm_core.data import load_images
from fpgm_core.evaluation import GOALS, ContestConfig, ContestGrid, contest_grid_work
from fpgm_core.figures import grid_figure
from fpgm_core.lesson import Words
from fpgm_core.recovery import get_recovery_method, ladder
from fpgm_core.runtime.progress import Work
from pages.ui.components.telling import plain
from pages.ui.panels.pictures import cached_figure, labels_of
from pages.ui.panels.trust import trust_caption
from pages.ui.session.links import current_session
from pages.ui.session.networks import network_key, why_unmeasured
from pages.ui.session.session import Session
from pages.ui.session.widgets import callback

IMAGES, SEEDS = 2000, 5
_JOB = "criteria_grid"
_RANDOM = "random"
_EVERY = 1.5  # seconds


def criteria_view(session: Session) -> None:
    """What contends, on which rung; the chart, drawn as it comes."""
    network, words = session.network, session.words
    if (why := why_unmeasured(network)) is not None:
        st.warning(words("choose.unmeasured", why=words.phrase(why)))
        return
    left, right = st.columns([2.4, 1], gap="medium")
    with right:
        rules = _controls(session, words)
    with left:
        _pictures(session, rules)


def scorable(network: Network) -> list[str]:
    """The criteria that can score a network's filters, without the control."""
    found = []
    for name in CRITERIA:
        try:
            check_scorable(network, name)
        except FpgmError:
            continue
        found.append(name)
    return [name for name in found if name != _RANDOM]


def _controls(session: Session, words: Words) -> ContestConfig | None:
    """The rung, the criteria, and the button that begins; what they ask for, None where that is nothing."""
    network, plan = session.network, session.state.plan
    st.caption(words("criteria.about", goals=len(GOALS), images=IMAGES, seeds=SEEDS))
    rungs = list(ladder(network))
    rung = st.selectbox(
        words("criteria.rung"), rungs, index=rungs.index(session.state.method) if session.state.method in rungs else 0,
        format_func=lambda name: words.of(get_recovery_method(name)), key=f"criteria_rung:{network.name}",
    )  # fmt: skip
    names = scorable(network)
    chosen = st.multiselect(
        words("criteria.who"), names, default=names, key=f"criteria_who:{network.name}",
        format_func=lambda name: words.of(CRITERIA[name]),
    )  # fmt: skip
    trust_caption(session)
    if not chosen:
        st.info(words("criteria.nobody"))
        return None
    rules = ContestConfig(coupling=plan.coupling, criteria=tuple(chosen), seeds=SEEDS, rungs=(rung,))
    job = session.jobs.get(_JOB, _key(session, rules))
    if job is not None and job.error:
        st.error(plain(words.phrase(job.error)))
    st.button(
        words("criteria.measure"), key="begin_criteria", type="primary", disabled=job is not None and not job.done,
        on_click=callback(lambda session: _begin(session, rules)),
    )  # fmt: skip
    return rules


def _key(session: Session, rules: ContestConfig) -> Hashable:
    return (_JOB, *network_key(session.network), rules)


def _begin(session: Session, rules: ContestConfig) -> None:
    title = session.words("criteria.measuring", network=session.network.title)
    session.jobs.start(_JOB, partial(_grid_work, session.network, rules), key=_key(session, rules), title=title)


def _grid_work(network: Network, rules: ContestConfig) -> Work[ContestGrid]:
    choose, training = (load_images(network.dataset, split) for split in ("choose", "train"))
    return contest_grid_work(network, choose.first(min(IMAGES, len(choose))), training, goals=GOALS, rules=rules)


def _pictures(session: Session, rules: ContestConfig | None) -> None:
    """The chart and its numbers; drawn anew as entries come."""
    job = session.jobs.get(_JOB, _key(session, rules)) if rules is not None else None
    running = job is not None and not job.done

    @st.fragment(run_every=_EVERY if running else None)
    def watch() -> None:
        session = current_session()
        empty = ContestGrid((), len(GOALS), session.network.dense_cost.macs)
        grid: ContestGrid = (job.result or job.partial or empty) if job is not None else empty
        _draw(session, grid, rules)

    watch()


def _draw(session: Session, grid: ContestGrid, rules: ContestConfig | None) -> None:
    words, rung = session.words, rules.rungs[0] if rules is not None else ""
    titles = {name: words.of(CRITERIA[name]) for name in rules.criteria} if rules is not None else {}
    entries = sum(len(contest.entries) for contest in grid.contests)
    key = ("criteria", session.network.fingerprint, rules, words.language, entries)
    st.plotly_chart(
        cached_figure(key, lambda: grid_figure(grid, rung, titles, labels=labels_of(words))),
        key="criteria_chart",
        alt=words("criteria.alt"),
        config={"displayModeBar": False},
    )
    st.caption(words("criteria.caption"))
    if entries:
        with st.expander(words("picture.numbers")):
            st.dataframe(_table(grid, rung, list(titles), words), hide_index=True)


def _table(grid: ContestGrid, rung: str, criteria: Sequence[str], words: Words) -> pd.DataFrame:
    rows = [
        {
            words("top.criterion"): words.of(CRITERIA[name]),
            words("sheet.macs_cut"): round(100 * cut, 1),
            words("sheet.accuracy"): round(100 * accuracy.value, 2),
            words("history.column_interval"): f"[{100 * accuracy.low:.1f}, {100 * accuracy.high:.1f}]",
        }
        for name in criteria
        for cut, accuracy in grid.points(name, rung)
    ]
    return pd.DataFrame(rows)
