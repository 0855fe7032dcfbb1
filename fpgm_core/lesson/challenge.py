"""Step 8's judge: a finished plan on the sealed half, beside FPGM at one rate for all and no more MACs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import EvaluationConfig, Figure, Interval, Repairing, measure
from fpgm_core.pruning import Network, Plan

TARGET = 0.4  # the share of the dense MACs that has to go


@dataclass(frozen=True)
class Judged:
    """A plan and its reference, both measured on the sealed half on the same rung of the ladder.

    `cut` is the share of the dense MACs that the plan cuts, `reference_cut` the reference's: at least as much.
    """

    plan: Plan
    rung: str
    cut: float
    figure: Figure
    reference_cut: float
    reference: Figure

    @property
    def change(self) -> Interval:
        """The plan's accuracy minus the reference's on the same images, with the paired 95% interval."""
        return self.figure.against(self.reference)


def cut_of(network: Network, plan: Plan) -> float:
    """The share of the dense network's MACs that a plan cuts, as counted."""
    return 1 - network.cost(plan).macs / network.dense_cost.macs


def reference_plan(network: Network, plan: Plan) -> Plan:
    """FPGM at the smallest rate, in whole percent and the same for every unit, that leaves no more MACs than `plan`."""
    most, low, high = network.cost(plan).macs, 0, 100

    def at(percent: int) -> Plan:
        return network.plan(percent / 100, criterion="fpgm", coupling=plan.coupling)

    def enough(percent: int) -> bool:
        try:
            return network.cost(at(percent)).macs <= most
        except FpgmError:  # nothing is left at all
            return True

    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    if network.cost(at(high)).macs > most:
        raise FpgmError("FPGM cannot cut as much at one rate for all; prune a little less")
    return at(high)


def judge_steps(
    network: Network, plan: Plan, rung: str, settings: EvaluationConfig = EvaluationConfig()
) -> Iterator[float | Judged]:
    """Measure a plan and its reference on the sealed half; yields the share done, 0..1, and last the Judged.

    `settings` say where, and on how many images; their split and rung do not count. Raises FpgmError for a plan that
    cuts less than TARGET, and as `measure` does.
    """
    cut = cut_of(network, plan)
    if cut < TARGET:
        raise FpgmError(f"the plan cuts {cut:.1%} of the MACs; at least {TARGET:.0%} has to go")
    reference = reference_plan(network, plan)
    asked = replace(settings, split="sealed", rung=rung)
    figures: list[Figure] = []
    for one in (plan, reference):
        begun = len(figures)
        for step in measure(network, one, asked, first_figure=False):
            share = step.share if isinstance(step, Repairing) else step.images / step.total if step else 0.0
            if isinstance(step, Figure) and step.state == "exact":
                figures.append(step)
            yield min(0.99, (begun + share) / 2)
    mine, theirs = figures
    yield Judged(plan, rung, cut, mine, cut_of(network, reference), theirs)
