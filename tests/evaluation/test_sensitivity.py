"""The sweep: every point is what measuring that plan says, and none is measured twice."""

from dataclasses import replace

import pytest

from fpgm_core import EvaluationConfig, FpgmError
from fpgm_core.data import load_images
from fpgm_core.evaluation import Point, Sweep, measure_work, paired_change, sensitivity, sweep_work
from fpgm_core.runtime.progress import run

FLOAT32 = EvaluationConfig(precision="float32")
RATES = (0.5, 0.9)


@pytest.fixture(scope="module")
def images():
    return load_images("cifar10", "choose").first(100)


@pytest.fixture(scope="module")
def training():
    return load_images("cifar10", "train").first(128)


@pytest.fixture
def sweep(resnet20, images, training):
    """A function: a sweep of ResNet-20 on few images, with other arguments where they are given."""

    def begin(**options):
        options = {"images": images, "training": training, "rates": RATES, "config": FLOAT32, **options}
        return sweep_work(resnet20, **options)

    return begin


@pytest.fixture
def measured(monkeypatch):
    """The plans that were measured, as they are."""
    plans = []

    def noted(pruned, *rest, **more):
        plans.append(pruned.plan)
        return measure_work(pruned, *rest, **more)

    monkeypatch.setattr(sensitivity, "measure_work", noted)
    return plans


def files(home):
    return list((home / "sensitivity").iterdir())


def test_every_point_is_that_plan_measured(resnet20, images, training, sweep):
    found = run(sweep())
    units = [unit.name for unit in resnet20.units("inner")]
    assert [(point.unit, point.rate) for point in found.points] == [(unit, rate) for unit in units for rate in RATES]
    assert found.total == len(found.points) == 18
    for point in found.points[::5]:
        pruned = resnet20.prune({point.unit: point.rate}, coupling="inner")
        exact = run(measure_work(pruned, images, method="recalibrated", training=training, config=FLOAT32))
        assert (point.num_correct, point.num_dense_correct, point.num_both_correct, point.num_images) == (
            exact.num_correct, exact.num_dense_correct, exact.num_both_correct, 100,
        )  # fmt: skip
        assert point.macs == pruned.cost.macs
        assert point.change == exact.change


def test_the_change_is_paired():
    point = Point("conv1", 0.5, 1, num_correct=70, num_dense_correct=80, num_both_correct=65, num_images=100)
    assert point.change == paired_change(65, 5, 15, 15)
    assert point.change.value == pytest.approx(-0.1)


def test_the_criterion_and_the_coupling_are_the_plans_and_its_rates_are_not(resnet20, sweep, measured):
    like = resnet20.plan(0.3, coupling="coupled", criterion="random", locked_in={"conv1": (1,)})
    run(sweep(plan=like, rates=(0.5,)))
    assert {(plan.criterion, plan.coupling, len(plan.rates), len(plan.locked_in)) for plan in measured} == {
        ("random", "coupled", 1, 0)
    }
    assert len(measured) == len(resnet20.units("coupled"))


def test_a_sweep_resumes_where_it_stopped(sweep, measured, own_home):
    running = sweep()
    seen = next(running).partial
    assert (len(seen.points), seen.total) == (0, 18)
    while seen is None or len(seen.points) < 3:
        seen = next(running).partial
    running.close()
    assert len(measured) == 3
    again = sweep()
    assert next(again).partial.points == seen.points
    finished = run(again)
    assert len(measured) == 18
    assert run(sweep()) == finished  # all is known
    more = run(sweep(rates=(0.9, 0.2, 0.9)))  # only what is new is measured
    assert (len(measured), len(more.points), len(files(own_home))) == (27, 18, 1)


def test_progress_rises(sweep):
    shares = []
    run(sweep(rates=(0.5,)), lambda progress: shares.append(progress.share))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1] > 0.9) == (0, True)


@pytest.mark.parametrize("other", ["images", "training", "method", "split", "precision"])
def test_other_arguments_are_another_sweep(sweep, images, training, measured, other):
    changed = {
        "images": {"images": images.first(50)},
        "training": {"training": training.first(127)},
        "method": {"method": "as_is"},
        "split": {"images": load_images("cifar10", "sealed").first(100)},
        "precision": {"config": replace(FLOAT32, precision="bfloat16")},
    }[other]
    run(sweep(rates=(0.5,)))
    run(sweep(rates=(0.5,), **changed))
    assert len(measured) == 18


def test_what_is_not_to_be_kept_is_neither_written_nor_read(sweep, measured, own_home):
    for _ in range(2):
        run(sweep(rates=(0.5,), method="as_is", use_cache=False))
    assert len(measured) == 18
    assert not (own_home / "sensitivity").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"identity": 1}', b"\xff", None])
def test_a_damaged_record_is_measured_again(sweep, measured, own_home, content):
    whole = run(sweep(rates=(0.5,)))
    (file,) = files(own_home)
    kept = file.read_bytes()
    middle = len(kept) // 2
    file.write_bytes(kept[:middle] + bytes([kept[middle] ^ 1]) + kept[middle + 1 :] if content is None else content)
    assert run(sweep(rates=(0.5,))) == whole
    assert len(measured) == 18
    assert file.read_bytes() == kept


def test_what_cannot_be_swept_is_refused(sweep):
    with pytest.raises(FpgmError, match="name at least one rate"):
        next(sweep(rates=()))
    with pytest.raises(FpgmError, match=r"1\.2"):
        next(sweep(rates=(1.2,)))
    with pytest.raises(FpgmError, match="recalibrated reads training images; give some"):
        run(sweep(training=None, rates=(0.5,)))


def point(unit, rate, lost):
    """A point that lost so many of 100 images."""
    return Point(
        unit, rate, 1, num_correct=90 - lost, num_dense_correct=90, num_both_correct=90 - max(lost, 0), num_images=100
    )


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
