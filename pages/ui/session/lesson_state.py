"""Where a person is in the lesson: one immutable value, and the link that carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import streamlit as st

from fpgm_core import FpgmError, Network
from fpgm_core.lesson import STEPS, Controls, FilterControls, get_step, pack, unpack
from pages.ui.components.telling import told
from pages.ui.session.links import plan_link
from pages.ui.session.session import Session
from pages.ui.session.view_state import ViewState

_PARAMETERS = ("step", "bare", "c")


@dataclass(frozen=True)
class LessonState:
    """The step on screen, what is set on each step, and what was answered.

    `bare` hides the controls. `answers` has the option chosen by step, "" where the answer was just asked for; only
    steps in it show their answer. `revision` is raised by whatever changes the toy plane but the plane itself, `echo`
    is the plane's last message; `problem` says what was wrong with the link.
    """

    step: str = next(iter(STEPS))
    bare: bool = False
    controls: Mapping[str, Controls] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)
    revision: int = 1
    echo: int = 0
    problem: str | None = None

    def __post_init__(self) -> None:
        get_step(self.step)

    @property
    def step_controls(self) -> Controls:
        """What is set on the step on screen."""
        return self.controls.get(self.step) or get_step(self.step).controls()

    @property
    def revealed(self) -> bool:
        """Whether the step on screen shows its answer."""
        return self.step in self.answers

    def turned(self, steps: int) -> LessonState:
        """The lesson so many steps on; unchanged where there is no such step."""
        names = list(STEPS)
        index = names.index(self.step) + steps
        return replace(self, step=names[index], problem=None) if 0 <= index < len(names) else self

    def with_controls(self, controls: Controls) -> LessonState:
        """The lesson with other controls on the step on screen."""
        return replace(self, controls={**self.controls, self.step: controls})

    def with_answer(self, option: str) -> LessonState:
        """The lesson with an answer to the step on screen."""
        return replace(self, answers={**self.answers, self.step: option})

    def restarted(self) -> LessonState:
        """The lesson with the step on screen as it first was."""
        controls = {name: controls for name, controls in self.controls.items() if name != self.step}
        answers = {name: option for name, option in self.answers.items() if name != self.step}
        return replace(self, controls=controls, answers=answers, revision=self.revision + 1, problem=None)


def current_lesson(session: Session | None = None) -> LessonState:
    """This tab's lesson, begun from the link where it names a step; with a `session`, as far as it fits its network."""
    if "lesson" not in st.session_state:
        st.session_state.lesson = _from_link()
    lesson: LessonState = st.session_state.lesson
    return lesson if session is None else _fitting(lesson, session.network)


def set_lesson(lesson: LessonState) -> None:
    """Make a lesson state this tab's."""
    st.session_state.lesson = lesson


def _fitting(lesson: LessonState, network: Network) -> LessonState:
    """The lesson without choices of layers and filters that the network does not have."""
    sizes = {layer.name: layer.filters for layer in network.layers}
    controls = {
        name: controls
        for name, controls in lesson.controls.items()
        if not isinstance(controls, FilterControls)
        or (controls.layer in sizes and -1 <= controls.filter < sizes[controls.layer])
    }
    return lesson if len(controls) == len(lesson.controls) else replace(lesson, controls=controls)


def _from_link() -> LessonState:
    """The lesson of the address; without one the first step."""
    query = {name: st.query_params.get(name) for name in _PARAMETERS}
    lesson = LessonState()
    try:
        if query["step"]:
            lesson = replace(lesson, step=query["step"], bare=query["bare"] == "1")
            lesson = lesson.with_controls(unpack(get_step(lesson.step).controls, query["c"] or ""))
    except FpgmError as error:
        return replace(lesson, problem=told(error))
    return lesson


def link(lesson: LessonState, state: ViewState, step: str | None = None, *, bare: bool | None = None) -> dict[str, str]:
    """The query parameters of an address that opens a step of the lesson, on this view state's network."""
    target = replace(lesson, step=step or lesson.step, bare=lesson.bare if bare is None else bare)
    settings = pack(target.step_controls)
    return {
        "step": target.step,
        **({"bare": "1"} if target.bare else {}),
        **({"c": settings} if settings else {}),
        **plan_link(state),
    }


def share_lesson(lesson: LessonState, state: ViewState) -> None:
    """Put the lesson into the address, where it can be copied."""
    wanted = link(lesson, state)
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)
