"""The view Compare of the page Choose: two to four plans on the same images, and what each forgot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from fpgm_core import COUPLINGS, CRITERIA
from fpgm_core.data import load_images
from fpgm_core.evaluation import Comparison
from fpgm_core.figures import class_change_figure, confusion_figure
from fpgm_core.lesson import Words
from fpgm_core.recovery import get_recovery_method
from pages.ui.components.gallery import gallery
from pages.ui.components.telling import plain
from pages.ui.panels.pictures import labels_of
from pages.ui.panels.plan_list import entries_beside, plan_label
from pages.ui.panels.speed import speed_told
from pages.ui.session.comparing import (
    CHOSEN,
    COUPLING,
    CRITERION,
    DENSE,
    KEPT,
    MOST,
    NOW,
    RUNG,
    Compared,
    Contender,
    Side,
    compared_work,
    contenders,
    known_side,
)
from pages.ui.session.networks import network_key, why_unmeasured
from pages.ui.session.session import Session
from pages.ui.session.speed import machines
from pages.ui.session.work_status import result_of

_JOB = "compare"
_ENTRIES, _SHOWN, _FEW = 100, 16, 20  # entries to choose from, images a side, classes whose confusion can be drawn
_ALWAYS = (f"{DENSE}:", f"{NOW}:")


def compare_view(session: Session) -> None:
    """Who is compared, dense against the plan on screen at first; and what came of it."""
    network, words = session.network, session.words
    if (why := why_unmeasured(network)) is not None:
        st.warning(words("choose.unmeasured", why=words.phrase(why)))
        return
    known = contenders(network, session.state, entries_beside(session, fingerprint=network.fingerprint, limit=_ENTRIES))
    wanted = [name for name in st.session_state.get(CHOSEN, _ALWAYS) if name in known]
    st.session_state[CHOSEN] = wanted or list(_ALWAYS)
    names = st.multiselect(
        words("compare.who"), list(known), key=CHOSEN, max_selections=MOST, persist_state="session",
        format_func=lambda name: label_of(known[name], words), placeholder=words("compare.add"),
    )  # fmt: skip
    if len(names) < 2:
        st.info(words("compare.two"))
        return
    asked = tuple(known[name] for name in names)
    found = result_of(
        session, _JOB, partial(compared_work, network, asked), key=(_JOB, *network_key(network), asked),
        doing=words("compare.doing"), page="Choose",
    )  # fmt: skip
    labels = [label_of(one, words) for one in asked]
    if found is not None:
        _result(session, found, labels)
    else:
        _ahead(session, asked, labels)


def label_of(one: Contender, words: Words) -> str:
    """What a contender is called."""
    if one.kind == DENSE:
        return words("compare.dense")
    if one.kind == NOW:
        return words("compare.now", rung=words.of(get_recovery_method(one.method)).lower())
    if one.kind == RUNG:
        return words("compare.rung", rung=words.of(get_recovery_method(one.which)).lower())
    if one.kind == CRITERION:
        return words("compare.criterion", criterion=words.of(CRITERIA[one.which]))
    if one.kind == COUPLING:
        return words("compare.coupling", coupling=words.of(COUPLINGS[one.which]).lower())
    assert one.kind == KEPT
    return f"#{one.which}: {plan_label(one.plan, one.method, words)}"


def _ahead(session: Session, asked: Sequence[Contender], labels: Sequence[str]) -> None:
    """What is known before anybody has answered: costs and rates; and places for what comes."""
    sides = [known_side(session.network, one) for one in asked]
    st.dataframe(_summary(session, sides, (), labels), hide_index=True, placeholder="…")
    for column in st.columns(2, gap="medium"):
        column.skeleton(height=240)
    known = [(label, side) for label, side in zip(labels, sides, strict=True) if side is not None]
    st.dataframe(_rates([side for _, side in known], [label for label, _ in known], session.words), hide_index=True)


def _result(session: Session, found: Compared, labels: Sequence[str]) -> None:
    words = session.words
    sides = (found.first, *found.others)
    st.dataframe(
        _summary(session, sides, found.comparisons, labels), hide_index=True, key="compared_plans", placeholder=""
    )
    st.caption(words("compare.paired", first=labels[0]))
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader(words("compare.forgotten"), anchor=False)
        _classes(found, labels, words)
    which = 0
    with right:
        if len(found.others) > 1:
            which = st.segmented_control(
                words("compare.against", first=labels[0]), range(len(found.others)), default=0, required=True,
                format_func=lambda place: labels[place + 1], key="compared_with",
            ) or 0  # fmt: skip
        st.subheader(words("compare.confusion"), anchor=False)
        _confusion(found.comparisons[which], words)
    _flipped(session, found.comparisons[which], words)
    with st.expander(words("compare.rates"), expanded=True):
        st.dataframe(_rates(sides, labels, words), hide_index=True, key="compared_rates")
    with st.expander(words("compare.filters")):
        _filters(found.filters[which], labels, which, words)


def _summary(
    session: Session, sides: Sequence[Side | None], comparisons: Sequence[Comparison], labels: Sequence[str]
) -> pd.DataFrame:
    """A row a plan: accuracy with its interval, the paired change against the first, cost, images lost and won.

    Milliseconds are predicted, on the machine that the tab asks about.
    """
    words, rows, against = session.words, [], [None, *comparisons, *[None] * len(sides)]
    on = machines(session).get(session.speed.on)
    timed = words("compare.column_ms", machine=on)
    for label, side, one in zip(labels, sides, against, strict=False):
        accuracy = side.accuracy if side is not None else None
        said = f"{accuracy.value:.2%} [{accuracy.low:.1%}, {accuracy.high:.1%}]" if accuracy is not None else None
        rows.append(
            {
                words("sheet.plan"): label,
                words("sheet.choose"): said,
                words("compare.column_change"): one.change.told(100) if one else None,
                words("sheet.macs"): f"{side.cost.macs:,}" if side is not None else None,
                words("live.params"): f"{side.cost.params:,}" if side is not None else None,
                **({} if on is None else {timed: None if side is None else speed_told(session, side.plan)}),
                words("compare.column_lost"): len(one.lost) if one else None,
                words("compare.column_won"): len(one.won) if one else None,
            }
        )
    return pd.DataFrame(rows)


def _classes(found: Compared, labels: Sequence[str], words: Words) -> None:
    """What happened to each class; and in a sentence which truly changed."""
    changes = {label: one.by_class for label, one in zip(labels[1:], found.comparisons, strict=True)}
    for label, rows in changes.items():
        worse = [one.name for one in rows if one.changed and one.change.value < 0]
        named = ", ".join(worse[:_FEW]) + " …" * (len(worse) > _FEW)
        said = words("compare.lost_classes", plan=plain(label), count=len(worse), classes=plain(named))
        st.markdown(said if worse else words("compare.no_class", plan=plain(label)))
    st.plotly_chart(
        class_change_figure(changes, labels=labels_of(words)), key="class_changes", alt=words("compare.classes_alt"),
        config={"displayModeBar": False},
    )  # fmt: skip
    st.caption(words("compare.holm"))


def _confusion(one: Comparison, words: Words) -> None:
    """What is taken for what, oftener or less than before: a map, or of many classes the pairs that grew most."""
    before, after = one.confusion(after=False), one.confusion()
    if len(one.class_names) <= _FEW:
        st.plotly_chart(
            confusion_figure(before, after, one.class_names, labels=labels_of(words)), key="confusion",
            alt=words("compare.confusion_alt"), config={"displayModeBar": False},
        )  # fmt: skip
        st.caption(words("compare.confusion_caption"))
        return
    change = after - before
    np.fill_diagonal(change, 0)
    rows = [divmod(int(place), len(one.class_names)) for place in np.argsort(-change, axis=None)[:_FEW]]
    columns: Mapping[str, list[object]] = {
        words("compare.truly"): [one.class_names[i] for i, _ in rows],
        words("compare.named"): [one.class_names[j] for _, j in rows],
        words("compare.before"): [int(before[pair]) for pair in rows],
        words("compare.after"): [int(after[pair]) for pair in rows],
    }
    st.dataframe(pd.DataFrame(columns), hide_index=True)


def _flipped(session: Session, one: Comparison, words: Words) -> None:
    """The images whose answer flipped, both ways."""
    images, columns = load_images(session.network.dataset, "choose"), st.columns(2, gap="medium")
    for column, name, numbers in zip(columns, ("lost", "won"), (one.lost, one.won), strict=True):
        with column:
            st.subheader(words(f"compare.{name}", count=len(numbers)), anchor=False)
            pages = max(1, -(-len(numbers) // _SHOWN))
            page = 1
            if pages > 1:
                page = st.number_input(
                    words("compare.page", pages=pages), 1, pages, 1, key=f"flipped_{name}", width=150
                )
            shown = numbers[(page - 1) * _SHOWN : page * _SHOWN]
            pixels = [images.pixels[int(number)].cpu().numpy() for number in shown]
            st.html(gallery(pixels, [_became(one, int(number), words) for number in shown]))


def _became(one: Comparison, number: int, words: Words) -> tuple[str, str]:
    names = one.class_names
    before, after = names[one.before[number]], names[one.after[number]]
    return names[one.labels[number]], words("compare.became", before=before, after=after)


def _rates(sides: Sequence[Side], labels: Sequence[str], words: Words) -> pd.DataFrame:
    """Every unit's filters that go, a column a plan."""
    units = list(dict.fromkeys(name for side in sides for name in side.sizes))

    def cell(side: Side, unit: str) -> str:
        if unit not in side.sizes:
            return ""
        gone, size = side.pruned[unit], side.sizes[unit]
        return f"{gone}/{size} ({gone / size:.0%})"

    columns = {label: [cell(side, unit) for unit in units] for label, side in zip(labels, sides, strict=True)}
    return pd.DataFrame({words("sheet.unit"): units, **columns})


def _filters(
    differ: Mapping[str, tuple[np.ndarray, np.ndarray]], labels: Sequence[str], which: int, words: Words
) -> None:
    """By layer, the filters that only one of the two keeps."""
    if not differ:
        st.caption(words("compare.same_filters"))
        return
    columns = {
        words("sheet.layer"): list(differ),
        words("compare.only", plan=labels[0]): [_numbers(first) for first, _ in differ.values()],
        words("compare.only", plan=labels[which + 1]): [_numbers(second) for _, second in differ.values()],
    }
    st.dataframe(pd.DataFrame(columns), hide_index=True)


def _numbers(filters: np.ndarray) -> str:
    return f"{len(filters)}: {', '.join(map(str, filters))}" if len(filters) else "–"
