"""Step 10: a finished plan is judged beside FPGM at one rate for all and no more MACs, on the same images."""

from __future__ import annotations

from dataclasses import dataclass

from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import EvaluationConfig, Interval, Measurement, measure_work
from fpgm_core.lesson.content import StepContext, StepView
from fpgm_core.lesson.controls import NoControls
from fpgm_core.pruning import Plan, PrunedNetwork
from fpgm_core.runtime.progress import Work, within

TARGET_CUT = 0.4  # the share of the dense MACs that has to go


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A plan and its reference, both measured on the same images after the same recovery.

    `cut` is the share of the dense MACs that the plan cuts, `reference_cut` the reference's: at least as much.
    """

    plan: Plan
    method: str
    cut: float
    measurement: Measurement
    reference_cut: float
    reference: Measurement

    @property
    def change(self) -> Interval:
        """The plan's accuracy minus the reference's on the same images, with the paired 95% interval."""
        return self.measurement.against(self.reference)


def show_challenge(context: StepContext, controls: NoControls) -> StepView:
    """Nothing but words: plans are made and measured on the page."""
    return StepView(conclusion=(context.words("challenge.printed"),))


def macs_cut(pruned: PrunedNetwork) -> float:
    """The share of the dense network's MACs that is cut, as counted."""
    return 1 - pruned.cost.macs / pruned.network.dense_cost.macs


def reference_for(pruned: PrunedNetwork) -> PrunedNetwork:
    """FPGM at the smallest rate, in whole percent and the same for every unit, that leaves no more MACs.

    Raises FpgmError where FPGM cannot cut as much at one rate.
    """
    budget, low, high = pruned.cost.macs, 0, 100

    def uniform(percent: int) -> PrunedNetwork:
        return pruned.network.prune(percent / 100, criterion="fpgm", coupling=pruned.plan.coupling)

    def fits(percent: int) -> bool:
        try:
            return uniform(percent).cost.macs <= budget
        except FpgmError:  # nothing is left at all
            return True

    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    if uniform(high).cost.macs > budget:
        raise FpgmError("FPGM cannot cut as much at one rate for all; prune a little less")
    return uniform(high)


def judge_work(
    pruned: PrunedNetwork,
    images: ImageSet,
    *,
    method: str,
    training: ImageSet | None = None,
    config: EvaluationConfig = EvaluationConfig(),
    target: float = TARGET_CUT,
) -> Work[Verdict]:
    """Measure a pruned network and its reference on `images`, each recovered by `method`.

    Raises FpgmError, before anything is measured, for one that cuts less than `target` of the MACs; and as
    `measure_work` does.
    """
    cut = macs_cut(pruned)
    if cut < target:
        raise FpgmError(f"the plan cuts {cut:.1%} of the MACs; at least {target:.0%} has to go")
    reference = reference_for(pruned)
    first, second = (
        measure_work(each, images, method=method, training=training, config=config, preview=False)
        for each in (pruned, reference)
    )
    return Verdict(
        plan=pruned.plan,
        method=method,
        cut=cut,
        measurement=(yield from within(first, 0.0, 0.5)),
        reference_cut=macs_cut(reference),
        reference=(yield from within(second, 0.5, 1.0)),
    )
