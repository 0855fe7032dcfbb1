"""Step 1 of the lesson: the plane whose filters are dragged, marked, added and deleted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import product
from math import hypot

import streamlit as st

from fpgm_core import FpgmError
from fpgm_core.lesson import PLANES, PlaneControls, Scene, Words, get_step, plane_facts, words_of
from pages.ui.session.lesson_state import LessonState, go, now, share_course
from pages.ui.components.plane import Plane, plane, read_plane
from pages.ui.session.session import sitting

_KEY = "plane"
_RINGS = (1.0, 2.0, 3.0, 4.0)
_GRID = (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5)  # where a button puts a new filter


def heed_plane() -> None:
    """Take the plane's newest message into the course, if it is news."""
    held, move = now(), read_plane((st.session_state.get(_KEY) or {}).get("move"))
    if move is not None and move.seq > held.echo and held.step == "plane":
        go(replace(held.setting(PlaneControls(move.points, move.marked)), echo=move.seq))


def arrangement(held: LessonState, words: Words) -> None:
    """Where the filters lie to begin with, and the button that shows what the criteria drop."""
    points = getattr(held.set_here, "points", None)
    known = next((name for name, one in PLANES.items() if one == points), "own")
    names = [*PLANES, *(["own"] if known == "own" else [])]
    key = f"arrangement-{known}-{held.revision}"
    st.selectbox(
        words("plane.arrangement"),
        names,
        index=names.index(known),
        format_func=lambda name: words(f"plane.{name}"),
        key=key,
        on_change=lambda: _arrange(st.session_state[key]),
    )
    add, remove = st.columns(2)  # for fingers and keys: a mouse double-clicks, or presses Delete
    add.button(words("plane.add"), key="plane-add", width="stretch", on_click=_replace, args=(_added,))
    remove.button(words("plane.remove"), key="plane-remove", width="stretch", on_click=_replace, args=(_removed,))
    if not held.revealed:
        st.button(words("plane.reveal"), key="plane-reveal", type="primary", width="stretch", on_click=_reveal)


def _arrange(name: str) -> None:
    if name in PLANES:
        _replace(lambda held: PlaneControls(PLANES[name]))


def _replace(make: Callable[[PlaneControls], PlaneControls]) -> None:
    """Put other filters onto the plane; where there is no room for them, or too few are left, it stays as it is."""
    heed_plane()  # a move still unread would else be made over them
    held = now()
    if isinstance(held.set_here, PlaneControls):
        with suppress(FpgmError):
            go(replace(held.setting(make(held.set_here)), revision=held.revision + 1))


def _added(held: PlaneControls) -> PlaneControls:
    """One filter more, in the free place that lies farthest from all others."""
    free = max(product(_GRID, _GRID), key=lambda place: min(hypot(place[0] - x, place[1] - y) for x, y in held.points))
    return PlaneControls((*held.points, free), held.marked)


def _removed(held: PlaneControls) -> PlaneControls:
    """Without the filters that are marked."""
    return PlaneControls(tuple(point for index, point in enumerate(held.points) if index not in held.marked))


def _reveal() -> None:
    heed_plane()
    go(now().saying(""))


@st.fragment
def live_plane() -> None:
    """The plane and its sentences: all that is drawn anew while a filter is dragged."""
    heed_plane()
    held = now()
    share_course(held, current_session().look)
    words, controls = words_of(held.language), held.set_here
    assert isinstance(controls, PlaneControls)
    facts = plane_facts(controls.points)
    shown = held.revealed
    state = Plane(
        controls.points,
        controls.marked,
        facts.median,
        facts.mean,
        facts.medoid,
        facts.nearest,
        _RINGS,
        facts.cut if shown else None,
        facts.by_norm if shown else (),
        facts.by_distance if shown else (),
        shown,
    )
    names = {name: words(f"plane.{name}") for name in ("label", "point", "yours", "hint")}
    names |= {name: words(f"figure.{name}") for name in ("median", "mean", "medoid")}
    names |= {"norm": words("figure.norm_drops"), "fpgm": words("figure.fpgm_drops")}
    plane(state, names, held.revision, held.echo, _KEY)
    st.caption(words("plane.controls_caption"))
    with st.container(key="says", border=True):
        st.markdown(f"**{words('page.conclusion')}**")
        if shown:
            said = get_step("plane").show(Scene(current_session().network, words), controls).conclusion
            st.markdown("\n".join(f"- {sentence}" for sentence in said))
        else:
            st.caption(words("page.covered"))
