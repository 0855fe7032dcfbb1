"""The page Learn: the lesson, one step at a time: its controls, its question, its pictures, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from fpgm_core import FpgmError
from fpgm_core.lesson import (
    MEASUREMENTS,
    STEPS,
    Evidence,
    Picture,
    Step,
    StepContext,
    StepView,
    Words,
    combined,
    get_step,
    known_evidence,
)
from pages.ui.components.incoming import sent
from pages.ui.components.page_keys import page_keys, read_turn
from pages.ui.components.telling import plain, told
from pages.ui.panels.challenge import challenge
from pages.ui.panels.frame import dress, live_figures, navigation, open_page, top_bar, wait_for_network
from pages.ui.panels.lesson_controls import change_lesson, step_controls
from pages.ui.panels.lesson_plane import live_plane
from pages.ui.panels.lesson_top import lesson_top
from pages.ui.panels.under_way import under_way
from pages.ui.session.lesson_state import LessonState, current_lesson, set_lesson, share_lesson
from pages.ui.session.links import current_session
from pages.ui.session.networks import images_of, network_key
from pages.ui.session.session import Session
from pages.ui.session.work_status import result_of

_KEYS = "page_keys"
_STYLE = """
.st-key-lesson [data-testid="stMarkdownContainer"] p, .st-key-lesson li { font-size: 1.06rem; line-height: 1.5; }
.st-key-lesson .katex-display { margin: .3rem 0 .8rem; overflow: visible !important; }
.st-key-lesson .katex-display > .katex { font-size: 1.08em; }
.st-key-says { border-left: 4px solid #0072B2 !important; }
"""
_DOING = {"costs": "measuring_costs", "contest": "measuring_contest", "zeros": "timing"}


def learn_page() -> None:
    """Draw the page."""
    open_page("Learn")
    session = current_session()
    session.enter("Learn")
    dress(_STYLE)
    wait_for_network(session)
    lesson = _turned(current_lesson(session))
    words, step = session.words, get_step(lesson.step)
    share_lesson(lesson, session.state)
    page_keys(_KEYS, step.name)
    if not lesson.bare:
        navigation(session)
        session.begin()
        live_figures(session, top_bar(session))
    place = st.container(key="under_way")
    with st.container(key="lesson"):
        lesson_top(session, lesson, words)
        if lesson.problem or session.message:
            st.error(plain(words.phrase(lesson.problem or session.message or "")))
        number = list(STEPS).index(step.name) + 1
        st.header(f"{number}. {words(f'{step.name}.title')}", anchor=False)
        _step(session, lesson, step, words)
        _turn_buttons(lesson, words)
        if not lesson.bare:
            _appendix(words)
    under_way(session, place)


def _turned(lesson: LessonState) -> LessonState:
    """The lesson after the last arrow key, if that is news."""
    turn = read_turn(sent(_KEYS, "turn"))
    if turn is None or turn[0] <= st.session_state.get("turned", 0):
        return lesson
    st.session_state.turned = turn[0]
    set_lesson(lesson.turned(turn[1]))
    return current_lesson()


def _step(session: Session, lesson: LessonState, step: Step, words: Words) -> None:
    """The step's words and controls on the left, its first picture on the right, the others and what they say below."""
    left, right = st.columns([1, 1.7], gap="large")
    view = StepView()
    with right:
        if step.name == "challenge":
            challenge(session, lesson, words)
        elif step.name == "plane":
            live_plane()
        else:
            view = _view(session, lesson, step, words)
            for picture in view.pictures[:1]:
                _picture(picture, words)
    with left:
        if not lesson.bare:
            st.markdown(_paragraphs(words(f"{step.name}.lead")))
            lines = words(f"{step.name}.formula").replace("\n", r"\\[.5em] ")
            st.latex(rf"\begin{{gathered}} {lines} \end{{gathered}}")
        if step.asks:
            _question(lesson, step, view, words)
        if not lesson.bare:
            st.markdown(f"**{words('page.do_this')}:** {words(f'{step.name}.do')}")
        step_controls(session, lesson, step, view, words)
    with _pictures(view.pictures[1:], words):
        if step.options:
            _conclusion(lesson, step, view, words)


def _paragraphs(text: str) -> str:
    """Lines as Markdown's paragraphs."""
    return text.replace("\n", "\n\n")


def _pictures(pictures: Sequence[Picture], words: Words) -> DeltaGenerator:
    """Draw pictures two by two; returns the place for what follows: beside a last one that is alone, else below."""
    after = st.container()
    for first in range(0, len(pictures), 2):
        columns = st.columns(2, gap="large")
        for column, picture in zip(columns, pictures[first : first + 2], strict=False):
            with column:
                _picture(picture, words)
        after = columns[1] if first + 1 == len(pictures) else st.container()
    return after


def _picture(picture: Picture, words: Words) -> None:
    st.plotly_chart(picture.figure, key=f"learn-{picture.name}", alt=picture.caption, config={"displayModeBar": False})
    st.caption(picture.caption)
    if picture.table:
        with st.expander(words("page.numbers")):
            st.dataframe(pd.DataFrame(picture.table), hide_index=True, height=240)


def _view(session: Session, lesson: LessonState, step: Step, words: Words) -> StepView:
    """What the step shows, as it stands."""
    context = StepContext(session.network, words, _evidence(session, step, words), lesson.revealed)
    try:
        return step.show(context, lesson.step_controls)
    except FpgmError as error:
        st.error(words("page.failed", reason=plain(words.phrase(told(error)))))
        return StepView()


def _evidence(session: Session, step: Step, words: Words) -> Evidence:
    """What the step needs, as far as it is there; the rest is measured in the background."""
    network, parts = session.network, list[Evidence]()
    images, training = images_of(network, "choose"), images_of(network, "train")
    if not step.needs:
        return Evidence()
    if not network.trained or images is None or training is None:
        st.warning(words("page.only_trained"))
        return Evidence()
    for need in step.needs:
        evidence = known_evidence(network, need, images=images, training=training)
        if evidence is None and need == "contest" and st.session_state.get("contest") != network.fingerprint:
            set_wanted = partial(st.session_state.update, contest=network.fingerprint)
            st.button(words("page.measure_contest"), on_click=set_wanted)
        elif evidence is None:
            evidence = result_of(
                session,
                f"lesson_{need}",
                partial(MEASUREMENTS[need], network, images, training),
                key=(need, *network_key(network)),
                doing=words(f"page.{_DOING[need]}"),
                page="Learn",
            )
        if evidence is not None:
            parts.append(evidence)
    return combined(parts)


def _question(lesson: LessonState, step: Step, view: StepView, words: Words) -> None:
    """Predict first: the answer comes once an option was chosen, or the answer asked for."""
    question = f"**{words('page.predict')}:** {words(f'{step.name}.question')}"
    if not step.options:  # answered in the picture
        st.markdown(question)
        return
    answer = lesson.answers.get(step.name)
    key = f"learn-answer-{step.name}-{lesson.revision}-{answer}"
    st.radio(
        question,
        step.options,
        index=step.options.index(answer) if answer in step.options else None,
        format_func=lambda option: words(f"{step.name}.{option}"),
        key=key,
        on_change=change_lesson(lambda lesson: lesson.with_answer(st.session_state[key])),
    )
    if not lesson.revealed:
        show = change_lesson(lambda lesson: lesson.with_answer(""))
        st.button(words("page.show_me"), key="learn-show", on_click=show)
    elif answer and view.answer:
        is_right = answer == view.answer
        said = words("page.you_said", said=words(f"{step.name}.{answer}"), answer=words(f"{step.name}.{view.answer}"))
        (st.success if is_right else st.info)(f"{said} {words('page.right' if is_right else 'page.wrong')}")


def _conclusion(lesson: LessonState, step: Step, view: StepView, words: Words) -> None:
    with st.container(key="says", border=True):
        st.markdown(f"**{words('page.conclusion')}**")
        if lesson.revealed:
            if step.explained:
                st.markdown(_paragraphs(words(f"{step.name}.why")))
            st.markdown("\n".join(f"- {sentence}" for sentence in view.conclusion))
        else:
            st.caption(words("page.covered"))


def _turn_buttons(lesson: LessonState, words: Words) -> None:
    back, again, forward = st.columns([1, 1, 1])
    for column, name, steps in ((back, "back", -1), (forward, "forward", 1)):
        column.button(
            words(f"page.{name}"),
            key=f"learn-{name}",
            disabled=lesson.turned(steps) is lesson,
            width="stretch",
            on_click=change_lesson(partial(LessonState.turned, steps=steps)),
        )
    restart = change_lesson(LessonState.restarted)
    again.button(words("page.again"), key="learn-again", width="stretch", on_click=restart)


def _appendix(words: Words) -> None:
    """Four questions with their answers, the glossary, and where it is written."""
    with st.expander(words("page.check")):
        for number in range(1, 5):
            st.markdown(f"**{words(f'check.q{number}')}**  \n{words(f'check.a{number}')}")
    for kind in ("glossary", "references"):
        with st.expander(words(f"page.{kind}")):
            st.markdown("\n".join(f"- {text}" for text in words.under(kind).values()))
