"""Step 1 of the lesson: the plane whose filters are dragged, marked, added and deleted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import product
from math import hypot

import streamlit as st

from fpgm_core import FpgmError
from fpgm_core.lesson import PLANES, PlaneControls, StepContext, Words, get_step, plane_facts
from pages.ui.components.incoming import sent
from pages.ui.components.plane import Plane, plane, read_plane
from pages.ui.session.lesson_state import LessonState, current_lesson, set_lesson, share_lesson
from pages.ui.session.links import current_session

_KEY = "plane"
_RINGS = (1.0, 2.0, 3.0, 4.0)
_GRID = (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5)  # where a button puts a new filter


def take_plane_move() -> None:
    """Take the plane's newest message into the lesson, if it is news."""
    lesson, move = current_lesson(), read_plane(sent(_KEY, "move"))
    if move is not None and move.seq > lesson.echo and lesson.step == "plane":
        set_lesson(replace(lesson.with_controls(PlaneControls(move.points, move.marked)), echo=move.seq))


def plane_controls(lesson: LessonState, words: Words) -> None:
    """Where the filters lie to begin with, and the button that shows what the criteria drop."""
    points = getattr(lesson.step_controls, "points", None)
    current = next((name for name, arrangement in PLANES.items() if arrangement == points), "own")
    names = [*PLANES, *(["own"] if current == "own" else [])]
    key = f"arrangement-{current}-{lesson.revision}"
    st.selectbox(
        words("plane.arrangement"),
        names,
        index=names.index(current),
        format_func=lambda name: words(f"plane.{name}"),
        key=key,
        on_change=lambda: _arrange(st.session_state[key]),
    )
    add, remove = st.columns(2)  # for fingers and keys: a mouse double-clicks, or presses Delete
    add.button(words("plane.add"), key="plane-add", width="stretch", on_click=_replace, args=(_with_one_more,))
    remove.button(words("plane.remove"), key="plane-remove", width="stretch", on_click=_replace, args=(_unmarked,))
    if not lesson.revealed:
        st.button(words("plane.reveal"), key="plane-reveal", type="primary", width="stretch", on_click=_reveal)


def _arrange(name: str) -> None:
    if name in PLANES:
        _replace(lambda controls: PlaneControls(PLANES[name]))


def _replace(make: Callable[[PlaneControls], PlaneControls]) -> None:
    """Put other filters onto the plane; where there is no room for them, or too few are left, it stays as it is."""
    take_plane_move()  # one still unread would otherwise undo this
    lesson = current_lesson()
    if isinstance(lesson.step_controls, PlaneControls):
        with suppress(FpgmError):
            set_lesson(replace(lesson.with_controls(make(lesson.step_controls)), revision=lesson.revision + 1))


def _with_one_more(controls: PlaneControls) -> PlaneControls:
    """One filter more, in the free place that lies farthest from all others."""

    def distance_to_nearest(place: tuple[float, float]) -> float:
        return min(hypot(place[0] - x, place[1] - y) for x, y in controls.points)

    return PlaneControls((*controls.points, max(product(_GRID, _GRID), key=distance_to_nearest)), controls.marked)


def _unmarked(controls: PlaneControls) -> PlaneControls:
    """Without the filters that are marked."""
    return PlaneControls(tuple(point for index, point in enumerate(controls.points) if index not in controls.marked))


def _reveal() -> None:
    take_plane_move()
    set_lesson(current_lesson().with_answer(""))


@st.fragment
def live_plane() -> None:
    """The plane and its sentences: all that is drawn anew while a filter is dragged."""
    take_plane_move()
    lesson = current_lesson()
    session = current_session()
    share_lesson(lesson, session.state)
    words, controls = session.words, lesson.step_controls
    if not isinstance(controls, PlaneControls):  # another step's
        return
    plane(_plane(controls, lesson.revealed), _labels(words), lesson.revision, lesson.echo, _KEY)
    st.caption(words("plane.controls_caption"))
    with st.container(key="says", border=True):
        st.markdown(f"**{words('page.conclusion')}**")
        if lesson.revealed:
            context = StepContext(session.network, words)
            sentences = get_step("plane").show(context, controls).conclusion
            st.markdown("\n".join(f"- {sentence}" for sentence in sentences))
        else:
            st.caption(words("page.covered"))


def _plane(controls: PlaneControls, revealed: bool) -> Plane:
    facts = plane_facts(controls.points)
    return Plane(
        points=controls.points,
        marked=controls.marked,
        median=facts.median,
        mean=facts.mean,
        medoid=facts.medoid,
        nearest=facts.nearest,
        rings=_RINGS,
        cut=facts.cut if revealed else None,
        by_norm=facts.by_norm if revealed else (),
        by_distance=facts.by_distance if revealed else (),
        revealed=revealed,
    )


def _labels(words: Words) -> dict[str, str]:
    labels = {name: words(f"plane.{name}") for name in ("label", "point", "yours", "hint")}
    labels |= {name: words(f"figure.{name}") for name in ("median", "mean", "medoid")}
    return labels | {"norm": words("figure.norm_drops"), "fpgm": words("figure.fpgm_drops")}
