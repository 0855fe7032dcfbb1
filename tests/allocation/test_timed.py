"""A goal of milliseconds on a machine whose times are known: what the prediction misses, timing sets right."""

from contextlib import contextmanager

import numpy as np
import pytest
from torch import nn

from fpgm_core import FpgmError
from fpgm_core.allocation import (
    COSTS,
    Choices,
    Goal,
    Losses,
    Prepared,
    milliseconds,
    register_cost,
    timed_suggestion_work,
    unregister_cost,
)
from fpgm_core.runtime.progress import run
from fpgm_core.timing import RUNTIMES, Lap, Runtime, Target, TimeTable, TimingConfig, Whole, fitted, widths
from fpgm_core.timing.layers import layer_shapes
from fpgm_core.timing.probing import whole_plans
from fpgm_core.timing.table import LayerTimes


def clock(work, number=1):
    """A stopwatch that reads off a pass what it takes on that machine."""
    return Lap(number * getattr(work, "seconds", 1e-3))


CONFIG = TimingConfig(runs=6, seconds=0.01, stopwatch=clock, load=lambda: 0.0)


def pairs_of(module):
    """The channels and filters of every convolution of a compact network."""
    return [(one.in_channels, one.out_channels) for one in module.modules() if isinstance(one, nn.Conv2d)]


@contextmanager
def machine(truth):
    """A runtime on which a network takes what `truth` says of its convolutions' widths, in milliseconds."""

    def load(form, images, target):
        def once():
            return None

        once.seconds = truth(pairs_of(form.module)) / 1000
        return once

    RUNTIMES.add(Runtime("known", "A known machine", lambda: "", lambda: "1", load, reads_onnx=False))
    try:
        yield Target("known", threads=1)
    finally:
        RUNTIMES.remove("known")
        if "ms" in COSTS:
            unregister_cost("ms")


def believed(network, predicted):
    """A predictor that takes a network's time for a sum over its convolutions, at 1e-4 ms times both widths."""
    shapes = layer_shapes(network.flow)
    tables = {
        shape: LayerTimes(shape, {(i, o): 1e-4 * i * o for i, o in shape.points}, False) for shape in shapes if shape
    }
    pruned = [network.prune(plan) for plan in whole_plans(network, network.plan(coupling="coupled"))]
    inputs, outputs = (np.array(one) for one in zip(*map(widths, pruned), strict=True))
    ms = np.array([predicted(pairs_of(one.compact())) for one in pruned])
    identity = {"runtime": "known", "version": "1", "processor": "none", "device": "cpu", "threads": 1, "batch": 1}
    whole = Whole(inputs, outputs, np.stack([ms, ms * 0.99, ms * 1.01], axis=1), False)
    return fitted(network, TimeTable(identity, shapes, tables), whole, "coupled")


def plain(pairs):
    return 0.2 + sum(1e-4 * i * o for i, o in pairs)


def cache(pairs):
    """What shrinks fits into a cache: the less there is, the less every number of it takes."""
    whole = 269_000 / 9 * 1e-4
    return plain(pairs) * (0.6 + 0.4 * min(1.0, sum(1e-4 * i * o for i, o in pairs) / whole))


def vectors(pairs):
    """Odd widths are computed in whole vectors of 8, which the prediction does not know."""
    return 0.2 + sum(1e-4 * i * -(-o // 8) * 8 for i, o in pairs)


@pytest.fixture(scope="module")
def prepared(resnet20):
    """Losses that grow with what goes, faster in later units."""
    choices = Choices.of(resnet20, resnet20.plan(coupling="coupled", criterion="l2_norm"))
    losses = tuple(
        (1 + place) * (one.counts / one.unit.size) ** 2 / len(choices.units) for place, one in enumerate(choices.units)
    )
    return Prepared(choices, Losses("made up", choices, losses))


def solved(prepared, truth, cut, network):
    with machine(truth) as target:
        predictor, steps = believed(network, plain), []
        register_cost(milliseconds(predictor))
        work = timed_suggestion_work(prepared, Goal({"ms": cut}), predictor, target, timing=CONFIG)
        found = run(work, steps.append)
        reached = found.best.suggestion.reached["ms"]
        dense, pruned = (truth(pairs_of(one.compact())) for one in (network.prune(0.0), found.best.suggestion.pruned))
    return found, reached, 1 - pruned / dense, steps


@pytest.mark.parametrize("truth", [cache, vectors])
@pytest.mark.parametrize("cut", [0.3, 0.4])
def test_what_is_asked_for_is_reached_where_the_prediction_misses_it(prepared, resnet20, truth, cut):
    found, reached, true, steps = solved(prepared, truth, cut, resnet20)
    assert abs(found.tried[0].cut.value - cut) > 0.03  # as predicted it misses
    assert 1 < len(found.tried) <= 3
    assert found.best.cut.value == pytest.approx(true, abs=1e-9)  # what is told is what is true
    assert abs(true - cut) <= 0.03
    if found.best is found.tried[-1]:
        assert reached == pytest.approx(true, abs=0.005)  # and the measure of cost has been set right
    assert "solving again, set right by what was timed" in {step.what for step in steps}
    shares = [step.share for step in steps]
    assert shares == sorted(shares)


def test_a_prediction_that_is_right_is_timed_once(prepared, resnet20):
    found, reached, true, _ = solved(prepared, plain, 0.4, resnet20)
    assert len(found.tried) == 1
    assert reached == pytest.approx(true, abs=1e-3)
    assert 0.4 <= true < 0.42


def test_more_than_can_go_by_what_was_measured_gives_the_nearest(prepared, resnet20):
    def stubborn(pairs):
        return 10 + plain(pairs)  # nearly all of it stays

    found, _, true, _ = solved(prepared, stubborn, 0.4, resnet20)
    assert found.best.cut.value == pytest.approx(true)
    assert found.best.cut.value < 0.3


def test_a_goal_that_cannot_be_met_and_one_without_milliseconds_are_refused(prepared, resnet20):
    predictor = believed(resnet20, plain)
    with machine(plain) as target:
        register_cost(milliseconds(predictor))
        with pytest.raises(FpgmError, match="no milliseconds in this goal"):
            run(timed_suggestion_work(prepared, Goal({"macs": 0.3}), predictor, target, timing=CONFIG))
        with pytest.raises(FpgmError, match="cannot be met"):
            run(timed_suggestion_work(prepared, Goal({"ms": 0.9999}), predictor, target, timing=CONFIG))
