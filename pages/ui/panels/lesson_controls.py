"""The controls of a step of the lesson: a slider or a menu for every field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, fields, replace
from functools import partial
from typing import Any

import streamlit as st

from fpgm_core.lesson import Controls, FilterControls, Step, StepView, Words
from pages.ui.panels.lesson_plane import plane_controls
from pages.ui.session.lesson_state import LessonState, current_lesson, set_lesson
from pages.ui.session.session import Session
from pages.ui.session.widgets import mirror


def change_lesson(make: Callable[[LessonState], LessonState]) -> Callable[[], None]:
    """A widget's callback that changes this tab's lesson."""
    return lambda: set_lesson(make(current_lesson()))


def mirror_lesson(
    name: str, value: object, act: Callable[[LessonState, Any], LessonState], scope: str = ""
) -> dict[str, Any]:
    """As `mirror`, for a value of the lesson."""
    return mirror(f"learn-{name}", value, lambda _, wanted: set_lesson(act(current_lesson(), wanted)), scope)


def step_controls(session: Session, lesson: LessonState, step: Step, view: StepView, words: Words) -> None:
    """A widget for every field of the step's controls that is set by now, and what some steps have beside."""
    if step.name == "plane":
        plane_controls(lesson, words)
    for control in fields(lesson.step_controls):
        if control.metadata and (lesson.revealed or not control.metadata.get("after")):
            _widget(lesson.step_controls, control, step, words)
    if isinstance(view.controls, FilterControls):
        _filter_menus(session, view.controls, view, step, words)


def _widget(controls: Controls, control: Field[Any], step: Step, words: Words) -> None:
    name, label = control.name, words(f"{step.name}.{control.name}")

    def set_field(lesson: LessonState, value: object) -> LessonState:
        return lesson.with_controls(replace(lesson.step_controls, **{name: value}))

    link = mirror_lesson(name, getattr(controls, name), set_field, type(controls).__name__)
    options = control.metadata.get("options")
    if options is None:
        low, high, step_size = control.metadata["range"]
        st.slider(label, low, high, step=step_size, format="percent" if name == "rate" else None, **link)
    elif isinstance(control.default, str):
        st.segmented_control(label, options, required=True, format_func=partial(_option, words, name), **link)
    else:
        st.select_slider(label, options, **link)


def _option(words: Words, kind: str, value: str) -> str:
    return words(f"{kind}.{value}")


def _filter_menus(session: Session, controls: FilterControls, view: StepView, step: Step, words: Words) -> None:
    sizes = {layer.name: layer.filters for layer in session.network.layers}
    layer, chosen = st.columns(2)

    def set_layer(lesson: LessonState, name: str) -> LessonState:
        return lesson.with_controls(FilterControls(name))

    def set_filter(lesson: LessonState, index: int) -> LessonState:
        return lesson.with_controls(FilterControls(controls.layer, int(index)))

    layer.selectbox(
        words(f"{step.name}.layer"), view.layers, **mirror_lesson("layer", controls.layer, set_layer, step.name)
    )
    chosen.selectbox(
        words(f"{step.name}.filter"),
        range(sizes[controls.layer]),
        **mirror_lesson("filter", controls.filter, set_filter, f"{step.name}{controls.layer}"),
    )
