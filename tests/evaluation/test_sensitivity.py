"""The sweep: every point is what measuring that plan says, and none is measured twice."""

import json
from dataclasses import replace

import pytest

from fpgm_core import EvaluationConfig, FpgmError, evaluate
from fpgm_core.evaluation import Point, Sweep, paired_change, sensitivity, sweep_steps
from fpgm_core.evaluation import accuracy as evaluator

FEW = EvaluationConfig(images=100, precision="float32")
RATES = (0.5, 0.9)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(evaluator, "IMAGES", 128)


@pytest.fixture
def measured(monkeypatch):
    """The plans that were measured, as they are."""
    plans, honest = [], sensitivity.measure

    def noted(network, plan, *rest, **more):
        plans.append(plan)
        return honest(network, plan, *rest, **more)

    monkeypatch.setattr(sensitivity, "measure", noted)
    return plans


def last(steps):
    *_, end = steps
    return end


def files(home):
    return list((home / "sensitivity").iterdir())


def test_every_point_is_that_plan_measured(resnet20, quick):
    sweep = last(sweep_steps(resnet20, settings=FEW, rates=RATES))
    units = [unit.name for unit in resnet20.units("inner")]
    assert [(point.unit, point.rate) for point in sweep.points] == [(unit, rate) for unit in units for rate in RATES]
    assert sweep.total == len(sweep.points) == 18
    for point in sweep.points[::5]:
        plan = resnet20.plan({point.unit: point.rate}, coupling="inner")
        figure = evaluate(resnet20, plan, FEW)
        assert (point.correct, point.dense_correct, point.both, point.images) == (
            figure.correct, figure.dense_correct, figure.both, 100,
        )  # fmt: skip
        assert point.macs == resnet20.cost(plan).macs
        assert point.change == figure.change


def test_the_change_is_paired():
    point = Point("conv1", 0.5, 1, correct=70, dense_correct=80, both=65, images=100)
    assert point.change == paired_change(65, 5, 15, 15)
    assert point.change.value == pytest.approx(-0.1)


def test_the_criterion_and_the_coupling_are_the_plans_and_its_rates_are_not(resnet20, quick, measured):
    like = resnet20.plan(0.3, coupling="coupled", criterion="random", locked_in={"conv1": (1,)})
    last(sweep_steps(resnet20, like, FEW, (0.5,)))
    assert {(plan.criterion, plan.coupling, len(plan.rates), len(plan.locked_in)) for plan in measured} == {
        ("random", "coupled", 1, 0)
    }
    assert len(measured) == len(resnet20.units("coupled"))


def test_a_sweep_is_gone_on_with(resnet20, quick, measured, own_home):
    running = sweep_steps(resnet20, settings=FEW, rates=RATES)
    seen = next(running)
    assert (len(seen.points), seen.total) == (0, 18)
    while len(seen.points) < 3:
        seen = next(running)
    running.close()
    assert len(measured) == 3
    again = sweep_steps(resnet20, settings=FEW, rates=RATES)
    assert next(again).points == seen.points
    whole = last(again)
    assert len(measured) == 18
    assert last(sweep_steps(resnet20, settings=FEW, rates=RATES)) == whole  # all is known
    more = last(sweep_steps(resnet20, settings=FEW, rates=(0.9, 0.2, 0.9)))  # only what is new is measured
    assert (len(measured), len(more.points), len(files(own_home))) == (27, 18, 1)


@pytest.mark.parametrize(
    "other",
    [{"images": 50}, {"rung": "as_is"}, {"split": "sealed"}, {"precision": "bfloat16"}],
)
def test_other_settings_are_another_sweep(resnet20, quick, measured, other):
    one = (0.5,)
    last(sweep_steps(resnet20, settings=FEW, rates=one))
    last(sweep_steps(resnet20, settings=replace(FEW, **other), rates=one))
    assert len(measured) == 18


@pytest.mark.parametrize("content", [b"", b"[]", b'{"identity": 1}', b"\xff", None])
def test_a_damaged_record_is_measured_again(resnet20, quick, measured, own_home, content):
    whole = last(sweep_steps(resnet20, settings=FEW, rates=(0.5,)))
    (file,) = files(own_home)
    held = json.loads(file.read_bytes())
    file.write_bytes(json.dumps({**held, "points": [{"unit": "conv1"}]}).encode() if content is None else content)
    assert last(sweep_steps(resnet20, settings=FEW, rates=(0.5,))) == whole
    assert len(measured) == 18
    assert json.loads(file.read_bytes()) == held


def test_what_cannot_be_swept_is_refused(resnet20):
    with pytest.raises(FpgmError, match="name at least one rate"):
        next(sweep_steps(resnet20, rates=()))
    with pytest.raises(FpgmError, match=r"1\.2"):
        next(sweep_steps(resnet20, rates=(1.2,)))
    with pytest.raises(FpgmError, match="ask for 1 to 5000"):
        last(sweep_steps(resnet20, settings=replace(FEW, images=0), rates=(0.5,)))


def point(unit, rate, lost):
    """A point that lost so many of 100 images."""
    return Point(unit, rate, 1, correct=90 - lost, dense_correct=90, both=90 - max(lost, 0), images=100)


def test_rates_within_are_the_highest_up_to_which_no_rate_loses_more():
    sweep = Sweep(
        (
            *(point("gentle", rate, lost) for rate, lost in ((0.1, -1), (0.2, 2), (0.3, 2))),
            *(point("steep", rate, lost) for rate, lost in ((0.1, 3), (0.2, 1), (0.3, 9))),  # its 20% is luck
            point("half", 0.1, 0),  # the rest is not measured yet
        ),
        12,
    )
    assert sweep.rates_within(0.02) == {"gentle": 0.3, "steep": 0.0, "half": 0.1}
    assert sweep.rates_within(0.03) == {"gentle": 0.3, "steep": 0.2, "half": 0.1}
    assert sweep.rates_within(0) == {"gentle": 0.1, "steep": 0.0, "half": 0.1}
    assert sweep.rates_within(1) == {"gentle": 0.3, "steep": 0.3, "half": 0.1}
    assert [len(points) for points in sweep.units.values()] == [3, 3, 1]


@pytest.mark.parametrize("loss", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_loss_that_cannot_be_is_refused(loss):
    with pytest.raises(FpgmError, match="give 0 to 1"):
        Sweep((), 1).rates_within(loss)
