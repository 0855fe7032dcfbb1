"""Step 8: a finished plan is judged on the sealed half, beside FPGM at one rate for all and no more MACs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import EvaluationConfig, Figure, Interval, Repairing, measure
from fpgm_core.lesson.content import StepContext, StepView
from fpgm_core.lesson.controls import NoControls
from fpgm_core.pruning import Network, Plan
from fpgm_core.runtime.progress import Progress, Work, within

TARGET_CUT = 0.4  # the share of the dense MACs that has to go


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A plan and its reference, both measured on the sealed half after the same recovery.

    `cut` is the share of the dense MACs that the plan cuts, `reference_cut` the reference's: at least as much.
    """

    plan: Plan
    method: str
    cut: float
    measurement: Figure
    reference_cut: float
    reference: Figure

    @property
    def change(self) -> Interval:
        """The plan's accuracy minus the reference's on the same images, with the paired 95% interval."""
        return self.measurement.against(self.reference)


def show_challenge(context: StepContext, controls: NoControls) -> StepView:
    """Nothing but words: plans are made and measured on the page."""
    return StepView(conclusion=(context.words("challenge.printed"),))


def macs_cut(network: Network, plan: Plan) -> float:
    """The share of the dense network's MACs that a plan cuts, as counted."""
    return 1 - network.cost(plan).macs / network.dense_cost.macs


def reference_plan(network: Network, plan: Plan) -> Plan:
    """FPGM at the smallest rate, in whole percent and the same for every unit, that leaves no more MACs than `plan`.

    Raises FpgmError where FPGM cannot cut as much at one rate.
    """
    budget, low, high = network.cost(plan).macs, 0, 100

    def uniform(percent: int) -> Plan:
        return network.plan(percent / 100, criterion="fpgm", coupling=plan.coupling)

    def fits(percent: int) -> bool:
        try:
            return network.cost(uniform(percent)).macs <= budget
        except FpgmError:  # nothing is left at all
            return True

    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    if network.cost(uniform(high)).macs > budget:
        raise FpgmError("FPGM cannot cut as much at one rate for all; prune a little less")
    return uniform(high)


def judge_work(
    network: Network,
    plan: Plan,
    *,
    method: str,
    config: EvaluationConfig = EvaluationConfig(),
    target: float = TARGET_CUT,
) -> Work[Verdict]:
    """Measure a plan and its reference on the sealed half after the recovery of that name.

    `config` says where, and on how many images; its split and rung do not count. Raises FpgmError, before anything
    is measured, for a plan that cuts less than `target` of the MACs; and as `measure` does.
    """
    cut = macs_cut(network, plan)
    if cut < target:
        raise FpgmError(f"the plan cuts {cut:.1%} of the MACs; at least {target:.0%} has to go")
    reference = reference_plan(network, plan)
    config = replace(config, split="sealed", rung=method)
    return Verdict(
        plan=plan,
        method=method,
        cut=cut,
        measurement=(yield from within(_measured(network, plan, config), 0.0, 0.5)),
        reference_cut=macs_cut(network, reference),
        reference=(yield from within(_measured(network, reference, config), 0.5, 1.0)),
    )


def _measured(network: Network, plan: Plan, config: EvaluationConfig) -> Work[Figure]:
    figure: Figure | None = None
    for step in measure(network, plan, config, first_figure=False):
        if isinstance(step, Figure):
            figure = step
        share = step.share if isinstance(step, Repairing) else step.images / step.total if step else 0.0
        yield Progress(min(0.99, share))
    assert figure is not None
    return figure
