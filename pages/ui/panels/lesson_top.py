"""The top of the lesson: the steps, the network, and what teachers need."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from urllib.parse import urlencode

import streamlit as st

from fpgm_core.lesson import STEPS, Words, document_work, pack
from pages.ui.panels.lesson_controls import mirror_lesson
from pages.ui.session.lesson_state import LessonState, link
from pages.ui.session.networks import images_of, network_key
from pages.ui.session.session import Session
from pages.ui.session.work_status import result_of


def lesson_top(session: Session, lesson: LessonState, words: Words) -> None:
    """Where one is in the lesson, and its menus; a bare page has the number of the step alone."""
    names = list(STEPS)
    if lesson.bare:
        step = STEPS[lesson.step]
        st.caption(words("page.step", number=names.index(step.name) + 1, count=len(names), minutes=step.minutes))
        return
    title, teacher = st.columns([5.1, 1], vertical_alignment="bottom")
    minutes = sum(step.minutes for step in STEPS.values())
    subtitle = words("page.subtitle", count=len(names), minutes=minutes, network=session.network.title)
    title.markdown(f"**{words('page.title')}**  \n{subtitle}")
    with teacher:
        _teacher_menu(session, lesson, words)
    st.segmented_control(
        words("page.title"),
        names,
        required=True,
        format_func=lambda name: f"{names.index(name) + 1} {words(f'{name}.short')}",
        label_visibility="collapsed",
        **mirror_lesson("step", lesson.step, lambda lesson, name: replace(lesson, step=name, problem=None)),
    )


def _teacher_menu(session: Session, lesson: LessonState, words: Words) -> None:
    """Links to every step, and the printable lesson."""
    with st.popover(words("page.teacher"), width="stretch"):
        st.caption(words("page.teacher_help"))
        rows = []
        for number, name in enumerate(STEPS, 1):
            full, bare = (urlencode(link(lesson, session.state, name, bare=bare)) for bare in (False, True))
            rows.append(
                f"{number}. {words(f'{name}.title')}: [{words('page.whole')}](?{full}) · "
                f"[{words('page.bare')}](?{bare})"
            )
        st.markdown("\n".join(rows))
        st.caption(words("page.keys"))
        _printable(session, lesson, words)


def _printable(session: Session, lesson: LessonState, words: Words) -> None:
    """The lesson as a worksheet and its answers, written in the background once they are asked for."""
    network, language, controls = session.network, words.language, lesson.controls
    key = ("print", *network_key(network), language, *(f"{name}{pack(values)}" for name, values in controls.items()))
    st.caption(words("page.print_help"))
    if st.session_state.get("printing") != key:
        st.button(words("page.print"), on_click=lambda: st.session_state.update(printing=key))
        return
    images, training = images_of(network, "choose"), images_of(network, "train")
    document = result_of(
        session,
        "lesson_print",
        partial(document_work, network, language, images=images, training=training, controls=controls),
        key=key,
        doing=words("page.printing"),
        page="Learn",
    )
    if document is not None:
        for kind, text in (("worksheet", document.worksheet), ("answers", document.key)):
            st.download_button(
                words(f"page.download_{kind}"),
                text,
                f"lesson-{network.name.replace('/', '-')}-{language}-{kind}.html",
                "text/html",
                key=f"learn-{kind}",
                on_click="ignore",
            )
