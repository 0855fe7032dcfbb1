"""Step 1: what norm and FPGM drop of a few points in the plane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fpgm_core.figures import lesson as figures
from fpgm_core.lesson.content import Picture, StepContext, StepView
from fpgm_core.lesson.controls import PlaneControls
from fpgm_core.lesson.toys import PlaneFacts, plane_facts
from fpgm_core.runtime.words import Words


def show_plane(context: StepContext, controls: PlaneControls) -> StepView:
    """The plane with its median and, once revealed, what each criterion drops."""
    facts, words = plane_facts(controls.points), context.words
    figure = figures.plane_figure(
        np.array(controls.points),
        median=facts.median,
        by_norm=facts.by_norm if context.revealed else (),
        by_distance=facts.by_distance if context.revealed else (),
        cut=facts.cut if context.revealed else None,
        words=words,
    )
    table: dict[str, Sequence[object]] = {
        words("table.filter"): range(len(facts.norms)),
        words("table.norm"): facts.norms,
        words("table.g"): facts.sums,
    }
    picture = Picture("plane", figure, words("plane.controls_caption"), table)
    return StepView((picture,), _conclusion(facts, controls, words=words))


def _conclusion(facts: PlaneFacts, controls: PlaneControls, *, words: Words) -> tuple[str, ...]:
    count, marked = len(facts.by_norm), set(controls.marked)
    sentences = [
        words("plane.drops", norm=_listed(facts.by_norm), fpgm=_listed(facts.by_distance), shared=facts.shared,
              count=count)
    ]  # fmt: skip
    if marked:
        sentences.append(
            words("plane.yours_drops", yours=_listed(controls.marked), with_norm=len(marked & {*facts.by_norm}),
                  with_fpgm=len(marked & {*facts.by_distance}))
        )  # fmt: skip
    kind = "agree" if facts.shared == count else "between" if facts.shared else "part"
    sentences.append(words(f"plane.{kind}", away=float(np.hypot(*facts.median))))
    x, y = facts.median
    sentences.append(words("plane.where", x=x, y=y, medoid=facts.medoid))
    return tuple(sentences)


def _listed(filters: tuple[int, ...]) -> str:
    return ", ".join(map(str, filters)) or "–"
