"""The order in which a unit's filters go says what pruning at each percent really does."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from torch import nn

from fpgm_core import CRITERIA, FpgmError, Network, SelectionOptions
from fpgm_core.pruning import allowed_percents, pruned_counts, removal_order, removal_order_work
from fpgm_core.runtime.progress import run

WEIGHTED = [name for name, record in CRITERIA.items() if record.needs != "images"]
LOCKS = {"locked_in": {"layer3.0.conv1": (1, 5)}, "locked_out": {"layer3.0.conv1": (0, 63)}}


def check(network, plan, unit, percents=(*range(0, 101, 9), 100)):
    """Its masks and counts are those of the pruned network, wherever the plan can be."""
    order = removal_order(network, plan, unit)
    for percent in percents:
        moved = plan.with_rates({unit.name: percent / 100})
        if percent not in allowed_percents(plan, unit):
            with pytest.raises(FpgmError, match="rate"):
                network.prune(moved)
            continue
        kept = network.prune(moved).keep_masks[unit.name]
        assert np.array_equal(order.keep_mask(percent), kept), percent
        assert pruned_counts(plan, unit)[percent] == int((~kept).sum())


@pytest.mark.parametrize("criterion", WEIGHTED)
@pytest.mark.parametrize("options", [SelectionOptions(), SelectionOptions(seed=3, mix_share=0.5, round_to=8)])
def test_every_criterion_with_and_without_rounding(resnet20, criterion, options):
    unit = resnet20.unit_of("layer2.0.conv1", "independent")
    check(resnet20, resnet20.plan(criterion=criterion, options=options), unit)


@pytest.mark.parametrize("criterion", ["fpgm", "l2_norm", "fpgm_mix"])
def test_locks_bound_the_rates_and_change_the_order(resnet20, criterion):
    unit = resnet20.unit_of("layer3.0.conv1", "inner")
    plan = replace(resnet20.plan(0.4, criterion=criterion, coupling="inner"), **LOCKS)
    order, counts, allowed = (
        removal_order(resnet20, plan, unit),
        pruned_counts(plan, unit),
        allowed_percents(plan, unit),
    )
    assert list(allowed) == [percent for percent in range(101) if 2 <= counts[percent] <= 62]
    assert not order.keep_mask(allowed[0])[[0, 63]].any()
    assert order.keep_mask(allowed[-1])[[1, 5]].all()
    check(resnet20, plan, unit)


def test_counts_and_progress_run_from_no_percent_to_all(resnet20):
    unit, shares = resnet20.unit_of("conv1", "independent"), []
    run(removal_order_work(resnet20, resnet20.plan(), unit), lambda step: shares.append(step.share))
    assert shares == sorted(shares)
    assert (shares[0], len(shares)) == (0, 101)
    assert shares[-1] < 1
    counts = pruned_counts(resnet20.plan(), unit)
    assert (len(counts), counts[0], counts[100]) == (101, 0, unit.size - 1)


def test_locks_without_room_leave_no_rate(resnet20):
    unit = resnet20.unit_of("conv1", "independent")
    plan = replace(resnet20.plan(), locked_in={"conv1": tuple(range(12))}, locked_out={"conv1": (12, 13, 14, 15)})
    assert {pruned_counts(plan, unit)[percent] for percent in allowed_percents(plan, unit)} == {4}
    rounded = replace(plan, options=SelectionOptions(round_to=16))
    assert allowed_percents(rounded, unit) == ()
    assert not any(removal_order(resnet20, rounded, unit).flips)


@pytest.mark.parametrize("criterion", ["fpgm", "fpgm_mix"])
def test_layers_that_move_together(resnet20, criterion):
    unit = next(unit for unit in resnet20.units("coupled") if len(unit.members) > 2)
    check(resnet20, resnet20.plan(criterion=criterion, coupling="coupled"), unit, range(0, 101, 25))


def test_equally_many_of_every_group():
    module = nn.Sequential(
        nn.Conv2d(3, 24, 3), nn.ReLU(), nn.Conv2d(24, 24, 3, groups=3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(24, 5),
    )  # fmt: skip
    network = Network.from_module(module, input_shape=(3, 12, 12), trained=False)
    units = [unit for unit in network.units("inner") if unit.blocks > 1]
    assert units
    for unit, criterion in product(units, ("fpgm", "fpgm_mix")):
        check(network, network.plan(criterion=criterion, coupling="inner"), unit, range(0, 101, 10))


def test_a_two_staged_criterion_takes_filters_back(resnet20):
    """Its sets are not nested: so a filter may flip more than once, and one number a filter would not do."""
    plan = resnet20.plan(options=SelectionOptions(mix_share=0.75))
    units = [unit for unit in resnet20.units("independent") if unit.size == 16]
    for criterion, most in (("fpgm_mix", 3), ("fpgm", 1)):
        orders = [removal_order(resnet20, replace(plan, criterion=criterion), unit) for unit in units]
        assert max(len(flips) for order in orders for flips in order.flips) == most
