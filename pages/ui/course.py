"""Where a person is in the lesson: one immutable value, and the link that carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import streamlit as st

from fpgm_core import FpgmError, Network
from fpgm_core.lesson import LANGUAGES, STEPS, Controls, FilterControls, get_step, pack, unpack, words_of
from pages.ui.sitting import Session
from pages.ui.state import Look, encode

_NAMES = ("step", "lang", "bare", "c")


@dataclass(frozen=True)
class Course:
    """The step on screen, the language, what is set on each step, and what was answered.

    `bare` hides the controls. `said` has the option chosen by step, "" where the answer was just asked for; only steps
    in it show their answer. `revision` is raised by whatever changes the toy plane but the plane itself, `echo` is the
    plane's last message; `problem` says what was wrong with the link.
    """

    step: str = next(iter(STEPS))
    language: str = next(iter(LANGUAGES))
    bare: bool = False
    controls: Mapping[str, Controls] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)
    revision: int = 1
    echo: int = 0
    problem: str | None = None

    def __post_init__(self) -> None:
        get_step(self.step)
        words_of(self.language)

    @property
    def set_here(self) -> Controls:
        """What is set on the step on screen."""
        return self.controls.get(self.step) or get_step(self.step).controls()

    @property
    def revealed(self) -> bool:
        """Whether the step on screen shows its answer."""
        return self.step in self.said

    def turned(self, by: int) -> Course:
        """The course `by` steps on, or where there is none as it is."""
        names = list(STEPS)
        at = names.index(self.step) + by
        return replace(self, step=names[at], problem=None) if 0 <= at < len(names) else self

    def setting(self, controls: Controls) -> Course:
        """The course with other controls on the step on screen."""
        return replace(self, controls={**self.controls, self.step: controls})

    def saying(self, option: str) -> Course:
        """The course with an answer to the step on screen."""
        return replace(self, said={**self.said, self.step: option})

    def begun_again(self) -> Course:
        """The course with the step on screen as it comes."""
        controls = {name: one for name, one in self.controls.items() if name != self.step}
        said = {name: option for name, option in self.said.items() if name != self.step}
        return replace(self, controls=controls, said=said, revision=self.revision + 1, problem=None)


def course(here: Session) -> Course:
    """This session's course, begun from the link where it names a step, as far as it fits the network."""
    if "course" not in st.session_state:
        st.session_state.course = _from_link()
    return fitting(st.session_state.course, here.network)


def go(to: Course) -> None:
    """Make a course the session's."""
    st.session_state.course = to


def now() -> Course:
    """The session's course, for callbacks."""
    held: Course = st.session_state.course
    return held


def fitting(held: Course, network: Network) -> Course:
    """The course without choices of layers and filters that the network does not have."""
    sizes = {layer.name: layer.filters for layer in network.layers}
    kept = {
        name: one
        for name, one in held.controls.items()
        if not isinstance(one, FilterControls) or (one.layer in sizes and -1 <= one.filter < sizes[one.layer])
    }
    return held if len(kept) == len(held.controls) else replace(held, controls=kept)


def _from_link() -> Course:
    """The course of the address; without one the first step, in the browser's language where the lesson has it."""
    asked = {name: st.query_params.get(name) for name in _NAMES}
    own = (st.context.locale or "").partition("-")[0]
    begun = Course(language=own if own in LANGUAGES else next(iter(LANGUAGES)))
    try:
        if asked["lang"]:
            begun = replace(begun, language=asked["lang"])
        if asked["step"]:
            begun = replace(begun, step=asked["step"], bare=asked["bare"] == "1")
            begun = begun.setting(unpack(get_step(begun.step).controls, asked["c"] or ""))
    except FpgmError as error:
        return replace(begun, problem=str(error))
    return begun


def link(held: Course, look: Look, step: str | None = None, bare: bool | None = None) -> dict[str, str]:
    """The query parameters of an address that opens a step of the course, on this look's network."""
    there = replace(held, step=step or held.step, bare=held.bare if bare is None else bare)
    settings = pack(there.set_here)
    return {
        "step": there.step,
        "lang": there.language,
        **({"bare": "1"} if there.bare else {}),
        **({"c": settings} if settings else {}),
        "s": encode(look),
    }


def share_course(held: Course, look: Look) -> None:
    """Put the course into the address, where it can be copied."""
    wanted = link(held, look)
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)
