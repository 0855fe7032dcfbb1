"""The lesson on screen: one step at a time, its controls, its question, its pictures, and what they say."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from fpgm_core import FpgmError
from fpgm_core.lesson import (
    LANGUAGES,
    MEASUREMENTS,
    STEPS,
    Controls,
    FilterControls,
    Found,
    Picture,
    Scene,
    Shown,
    Step,
    Words,
    at_hand,
    can_measure,
    document_steps,
    get_step,
    joined,
    pack,
    words_of,
)
from fpgm_core.models import get_model_info, list_models
from pages.ui.panels.challenge import challenge
from pages.ui.session.lesson_state import LessonState, go, link, now, share_course
from pages.ui.session.session import Session, first_view, mirror
from pages.ui.panels.pickers import STYLE, navigation
from pages.ui.panels.lesson_plane import arrangement, live_plane
from pages.ui.components.page_keys import read_turn, turning
from pages.ui.session.work_status import awaited

_KEYS = "turning"
_STYLE = """
.st-key-lesson [data-testid="stMarkdownContainer"] p, .st-key-lesson li { font-size: 1.06rem; line-height: 1.5; }
.st-key-lesson .formula { font-family: "Cambria Math", "STIX Two Text", serif; font-size: 1.15rem;
  white-space: pre-wrap; padding: .5rem .9rem; border-radius: .3rem; background: rgba(128,128,128,.12); }
.st-key-says { border-left: 4px solid #0072B2 !important; }
"""
_DOING = {"costs": "measuring_costs", "contest": "measuring_contest", "zeros": "timing"}


def learn_panel(session: Session, held: LessonState) -> None:
    """The whole page."""
    held = _turned(held)
    words, step = words_of(held.language), get_step(held.step)
    share_course(held, session.state)
    st.html(f"<style>{STYLE}{_STYLE}</style>")
    turning(_KEYS)
    if not held.bare:
        navigation()
    with st.container(key="lesson"):
        _top(session, held, words)
        if held.problem or session.message:
            st.error(held.problem or session.message or "")
        number = list(STEPS).index(step.name) + 1
        st.header(f"{number}. {words(f'{step.name}.title')}", anchor=False)
        _step(session, held, step, words)
        _turn_buttons(held, words)
        _more(words)


def _turned(held: LessonState) -> LessonState:
    """The course after what the keys said last, if that is news."""
    turn = read_turn((st.session_state.get(_KEYS) or {}).get("turn"))
    if turn is None or turn[0] <= st.session_state.get("turned", 0):
        return held
    st.session_state.turned = turn[0]
    go(held.turned(turn[1]))
    return now()


def _change(make: Callable[[LessonState], LessonState]) -> Callable[[], None]:
    """A widget's callback that changes the session's course."""
    return lambda: go(make(now()))


def _mirrored(name: str, value: object, act: Callable[[LessonState, Any], LessonState], scope: str = "") -> dict[str, Any]:
    """As `mirror`, of a value of the course."""
    return mirror(f"learn-{name}", value, lambda _, wanted: go(act(now(), wanted)), scope)


def _top(session: Session, held: LessonState, words: Words) -> None:
    """Where one is: the steps, the language, the network, what teachers need. A bare page has the steps alone."""
    names = list(STEPS)
    if held.bare:
        step = STEPS[held.step]
        st.caption(words("page.step", number=names.index(step.name) + 1, count=len(names), minutes=step.minutes))
        return
    title, language, network, teacher = st.columns([2.6, 1, 1.5, 1], vertical_alignment="bottom")
    minutes = sum(step.minutes for step in STEPS.values())
    title.markdown(
        f"**{words('page.title')}**  \n{words('page.subtitle', minutes=minutes, network=session.network.title)}"
    )
    language.segmented_control(
        words("page.language"),
        list(LANGUAGES),
        required=True,
        format_func=LANGUAGES.__getitem__,
        label_visibility="collapsed",
        **_mirrored("language", held.language, lambda course, wanted: replace(course, language=wanted)),
    )
    offered = [info.name for info in list_models() if info.record]
    offered += [session.state.plan.model] if session.state.plan.model not in offered else []
    network.selectbox(
        words("page.network"),
        offered,
        format_func=lambda name: get_model_info(name).title,
        label_visibility="collapsed",
        **mirror("learn-network", session.state.plan.model, _open),
    )
    with teacher:
        _teacher(session, held, words)
    st.segmented_control(
        words("page.title"),
        names,
        required=True,
        format_func=lambda name: f"{names.index(name) + 1} {words(f'{name}.short')}",
        label_visibility="collapsed",
        **_mirrored("step", held.step, lambda course, wanted: replace(course, step=wanted, problem=None)),
    )


def _open(session: Session, model: str) -> None:
    session.go(first_view(model, coupling=session.state.plan.coupling))


def _teacher(session: Session, held: LessonState, words: Words) -> None:
    """Links to every step, and the printable lesson."""
    with st.popover(words("page.teacher"), width="stretch"):
        st.caption(words("page.teacher_help"))
        rows = []
        for number, name in enumerate(STEPS, 1):
            full, bare = (urlencode(link(held, session.state, name, bare)) for bare in (False, True))
            rows.append(
                f"{number}. {words(f'{name}.title')}: [{words('page.with_controls')}](?{full}) · "
                f"[{words('page.without_controls')}](?{bare})"
            )
        st.markdown("\n".join(rows))
        st.caption(words("page.keys"))
        _print(session, held, words)


def _print(session: Session, held: LessonState, words: Words) -> None:
    """The lesson as one file, written in the background once it is asked for."""
    network = session.network
    key = ("print", network.fingerprint, held.language, *(f"{k}{pack(v)}" for k, v in held.controls.items()))
    st.caption(words("page.print_help"))
    if st.session_state.get("printing") != key:
        st.button(words("page.print"), on_click=lambda: st.session_state.update(printing=key))
        return
    steps = partial(document_steps, network, held.language, held.controls)
    written = awaited(session, ":print", key, steps, words("page.printing"), _labels(words))
    if isinstance(written, str):
        name = f"lesson-{network.name}-{held.language}.html"
        st.download_button(words("page.download"), written, name, "text/html", on_click="ignore")


def _labels(words: Words) -> tuple[str, str]:
    return words("page.stop"), words("page.go_on")


def _step(session: Session, held: LessonState, step: Step, words: Words) -> None:
    """The step's words and controls on the left, its first picture on the right, the others and what they say below."""
    told, seen = st.columns([1, 1.7], gap="large")
    shown = Shown(())
    with seen:
        if step.name == "challenge":
            challenge(session, held, words)
        elif step.name == "plane":
            live_plane()
        else:
            shown = _shown(session, held, step, words, _found(session, step, words))
            for picture in shown.pictures[:1]:
                _picture(picture, words)
    with told:
        st.markdown(words(f"{step.name}.lead").replace("\n", "\n\n"))
        st.html(f'<div class="formula">{html.escape(words(f"{step.name}.formula"))}</div>')
        st.markdown(f"**{words('page.do_this')}:** {words(f'{step.name}.do')}")
        if not held.bare:
            _controls(session, held, step, shown, words)
        if step.options:
            _question(held, step, shown, words)
    with _beside(shown.pictures[1:], words):
        if step.options:
            _conclusion(held, shown, words)


def _beside(pictures: Sequence[Picture], words: Words) -> DeltaGenerator:
    """Draw pictures two by two; the place for what follows: beside the last one where that is alone, else below."""
    after = st.container()
    for first in range(0, len(pictures), 2):
        left, right = st.columns(2, gap="large")
        for place, picture in zip((left, right), pictures[first : first + 2], strict=False):
            with place:
                _picture(picture, words)
        after = right if first + 1 == len(pictures) else st.container()
    return after


def _found(session: Session, step: Step, words: Words) -> Found:
    """What the step needs, as far as it is there; the rest is measured in the background."""
    network, parts = session.network, list[Found]()
    if step.needs and not can_measure(network):
        st.warning(words("page.only_trained"))
        return Found()
    for need in step.needs:
        known = at_hand(network, need)
        if known is None and need == "contest" and st.session_state.get("contest") != network.fingerprint:
            wanted = network.fingerprint
            st.button(words("page.measure_contest"), on_click=partial(st.session_state.update, contest=wanted))
        elif known is None:
            steps = partial(MEASUREMENTS[need], network)
            key = (need, network.fingerprint)
            known = awaited(session, f":{need}", key, steps, words(f"page.{_DOING[need]}"), _labels(words))
        if isinstance(known, Found):
            parts.append(known)
    return joined(parts)


def _shown(session: Session, held: LessonState, step: Step, words: Words, found: Found) -> Shown:
    """The step as it stands; figures are kept while nothing they depend on changes."""
    scene = Scene(session.network, words, found, held.revealed)
    try:
        return step.show(scene, held.set_here)
    except FpgmError as error:
        st.error(words("page.failed", reason=error))
        return Shown(())


def _picture(picture: Picture, words: Words) -> None:
    st.plotly_chart(picture.figure, key=f"learn-{picture.name}", alt=picture.caption, config={"displayModeBar": False})
    st.caption(picture.caption)
    if picture.table:
        with st.expander(words("page.numbers")):
            st.dataframe(pd.DataFrame(picture.table), hide_index=True, height=240)


def _controls(session: Session, held: LessonState, step: Step, shown: Shown, words: Words) -> None:
    """A slider or a menu for every field of the step's controls, and what some steps have beside."""
    controls = held.set_here
    if step.name == "plane":
        arrangement(held, words)
    for one in fields(controls):
        label = words(f"{step.name}.{one.name}") if one.metadata else ""
        if "range" in one.metadata:
            low, high, by = one.metadata["range"]
            form = "percent" if one.name == "rate" else None
            st.slider(label, low, high, step=by, format=form, **_field(controls, one.name))
        elif "options" in one.metadata and isinstance(one.default, str):
            options = one.metadata["options"]
            st.segmented_control(label, options, required=True, format_func=partial(_named, words, one.name),
                                 **_field(controls, one.name))  # fmt: skip
        elif "options" in one.metadata:
            st.select_slider(label, one.metadata["options"], **_field(controls, one.name))
    if isinstance(shown.controls, FilterControls):
        _filter_controls(session, shown.controls, shown.offered, step, words)


def _named(words: Words, kind: str, value: str) -> str:
    return words(f"{kind}.{value}")


def _field(controls: Controls, name: str) -> dict[str, Any]:
    """Key and callback of the widget of one field."""

    def changed(course: LessonState, wanted: object) -> LessonState:
        return course.setting(replace(course.set_here, **{name: wanted}))

    return _mirrored(name, getattr(controls, name), changed, type(controls).__name__)


def _filter_controls(session: Session, controls: FilterControls, offered: Sequence[str], step: Step, words: Words) -> None:
    sizes = {layer.name: layer.filters for layer in session.network.layers}
    layer, chosen = st.columns(2)

    def other_layer(course: LessonState, wanted: str) -> LessonState:
        return course.setting(FilterControls(wanted))

    layer.selectbox(words(f"{step.name}.layer"), offered, **_mirrored("layer", controls.layer, other_layer, step.name))
    chosen.selectbox(
        words(f"{step.name}.filter"),
        range(sizes[controls.layer]),
        **_mirrored("filter", controls.filter, _other_filter(controls.layer), f"{step.name}{controls.layer}"),
    )


def _other_filter(layer: str) -> Callable[[LessonState, int], LessonState]:
    return lambda course, wanted: course.setting(FilterControls(layer, int(wanted)))


def _question(held: LessonState, step: Step, shown: Shown, words: Words) -> None:
    """Predict first: the answer comes once one of the options was chosen, or the answer asked for."""
    said = held.said.get(step.name)
    st.radio(
        f"**{words('page.predict')}:** {words(f'{step.name}.question')}",
        step.options,
        index=step.options.index(said) if said in step.options else None,
        format_func=lambda option: words(f"{step.name}.{option}"),
        key=f"learn-say-{step.name}-{held.revision}-{said}",
        on_change=lambda: go(now().saying(st.session_state[f"learn-say-{step.name}-{held.revision}-{said}"])),
    )
    if not held.revealed:
        st.button(words("page.show_me"), key="learn-show", on_click=_change(lambda course: course.saying("")))
    elif said and shown.answer:
        told = words("page.you_said", said=words(f"{step.name}.{said}"), answer=words(f"{step.name}.{shown.answer}"))
        (st.success if said == shown.answer else st.info)(
            f"{told} {words('page.right' if said == shown.answer else 'page.wrong')}"
        )


def _conclusion(held: LessonState, shown: Shown, words: Words) -> None:
    with st.container(key="says", border=True):
        st.markdown(f"**{words('page.conclusion')}**")
        if held.revealed:
            st.markdown("\n".join(f"- {sentence}" for sentence in shown.conclusion))
        else:
            st.caption(words("page.covered"))


def _turn_buttons(held: LessonState, words: Words) -> None:
    back, again, forward = st.columns([1, 1, 1])
    for place, name, by in ((back, "back", -1), (forward, "forward", 1)):
        place.button(
            words(f"page.{name}"),
            key=f"learn-{name}",
            disabled=held.turned(by) is held,
            width="stretch",
            on_click=_change(lambda course, by=by: course.turned(by)),  # type: ignore[misc]
        )
    again.button(words("page.again"), key="learn-again", width="stretch", on_click=_change(LessonState.begun_again))


def _more(words: Words) -> None:
    """Four questions with their answers, the glossary, and where it is written."""
    with st.expander(words("page.check")):
        for number in range(1, 5):
            st.markdown(f"**{words(f'check.q{number}')}**  \n{words(f'check.a{number}')}")
    for kind in ("glossary", "references"):
        with st.expander(words(f"page.{kind}")):
            st.markdown("\n".join(f"- {text}" for text in words.under(kind).values()))
