"""The ten steps in their order, one file each."""

from __future__ import annotations

from collections.abc import Mapping

from fpgm_core.errors import FpgmError
from fpgm_core.lesson import controls
from fpgm_core.lesson.content import Step
from fpgm_core.lesson.steps.agreement import show_agreement
from fpgm_core.lesson.steps.challenge import show_challenge
from fpgm_core.lesson.steps.cost import show_cost
from fpgm_core.lesson.steps.flops import show_flops
from fpgm_core.lesson.steps.median import show_median
from fpgm_core.lesson.steps.norms import show_norms
from fpgm_core.lesson.steps.plane import show_plane
from fpgm_core.lesson.steps.replaceable import show_replaceable
from fpgm_core.lesson.steps.reviewer import show_reviewer
from fpgm_core.lesson.steps.zeros import show_zeros

_SHARES = ("quarter", "half", "most")
_RECORDS = (
    Step("plane", controls.PlaneControls, show_plane),
    Step("norms", controls.NormControls, show_norms, options=_SHARES, explained=True),
    Step("median", controls.MedianControls, show_median, options=("mean", "median", "alike"), explained=True),
    Step("reviewer", controls.FilterControls, show_reviewer, options=("none", "few", "most"), explained=True),
    Step("agreement", controls.AgreementControls, show_agreement, options=("more", "less", "same")),
    Step("replaceable", controls.FilterControls, show_replaceable, options=_SHARES, needs=("costs",)),
    Step(
        "cost",
        controls.CostControls,
        show_cost,
        options=("l2_norm", "fpgm", "fpgm_mix", "refit_cost", "none"),
        needs=("contest",),
    ),
    Step("flops", controls.FlopsControls, show_flops, options=("less", "same", "more"), explained=True, minutes=2),
    Step(
        "zeros",
        controls.NoControls,
        show_zeros,
        options=("both", "scattered", "compact", "neither"),
        explained=True,
        needs=("zeros",),
        minutes=2,
    ),
    Step("challenge", controls.NoControls, show_challenge, asks=False),
)
STEPS: Mapping[str, Step] = {record.name: record for record in _RECORDS}


def get_step(name: str) -> Step:
    """The step of that name. Raises FpgmError, listing the names, where there is none."""
    if name not in STEPS:
        raise FpgmError(f"unknown step {name!r}; choose one of {', '.join(STEPS)}")
    return STEPS[name]
