"""The table of time over width, and what is predicted from it: interpolation, fit, what is kept, what is refused."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from fpgm_core import FpgmError, Network
from fpgm_core.allocation import (
    COSTS,
    Choices,
    Goal,
    Stairs,
    milliseconds,
    register_cost,
    stairs_of,
    unregister_cost,
)
from fpgm_core.runtime.progress import run
from fpgm_core.timing import (
    LayerShape,
    LayerTimes,
    Target,
    TimeTable,
    TimingConfig,
    Whole,
    available_runtimes,
    fitted,
    kept_predictor,
    probe_work,
    timing_study_work,
    widths,
)
from fpgm_core.timing.layers import layer_shapes
from fpgm_core.timing.probing import whole_plans
from fpgm_core.timing.runtimes import images_for

CONV = LayerShape("conv", 24, 16, (8, 8), (3, 3), padding=(1, 1))
DEPTHWISE = LayerShape("conv", 12, 12, (8, 8), (3, 3), padding=(1, 1), groups=12)
IDENTITY = {"runtime": "made up", "version": "1", "processor": "none", "device": "cpu", "threads": 1, "batch": 1}
QUICK = TimingConfig(runs=6, width=0.5, seconds=0.01)


def times(shape, of):
    return LayerTimes(shape, {pair: of(*pair) for pair in shape.points}, False)


def at(found, *pairs):
    inputs, outputs = (np.array(side) for side in zip(*pairs, strict=True))
    return found.at(inputs, outputs)


# The table of one layer


def test_points_are_multiples_of_4_against_each_other_and_every_count_beside_the_dense_width():
    rows, columns = CONV.grid
    assert rows == (1, 4, 8, 12, 16, 20, 24)
    assert columns == (1, 4, 8, 12, 16)
    assert CONV.points[0] == (24, 16)
    assert set(CONV.points) == {
        *((i, o) for i in rows for o in columns), *((24, o) for o in range(1, 17)), *((i, 16) for i in range(1, 25))
    }  # fmt: skip
    assert DEPTHWISE.points == tuple((count, count) for count in range(1, 13))
    grouped = LayerShape("conv", 32, 64, (8, 8), groups=4)
    assert all(i % 4 == o % 4 == 0 for i, o in grouped.points)
    wide = LayerShape("linear", 2048, 1000, ())
    assert max(map(len, wide.grid)) <= 18
    assert len(wide.points) < 500


def test_measured_points_come_back_and_between_them_a_product_is_exact():
    found = times(CONV, lambda i, o: 2.0 + 0.5 * i * o)
    assert at(found, *CONV.points) == pytest.approx([2.0 + 0.5 * i * o for i, o in CONV.points])
    assert at(found, (10, 6), (22, 15)) == pytest.approx([2 + 0.5 * 60, 2 + 0.5 * 330], rel=0.02)
    assert list(at(found, (0, 8), (8, 0), (0, 0))) == [0, 0, 0]


def test_stairs_of_single_counts_show_at_other_widths_too():
    def stairs(i, o):
        return i * (1.0 if o % 4 == 0 else 3.0)

    found = times(CONV, stairs)
    assert at(found, (8, 12), (8, 11), (20, 13)) == pytest.approx([8, 24, 60], rel=0.01)


WIDE = (
    LayerShape("conv", 256, 256, (8, 8), (3, 3), padding=(1, 1), groups=256),
    LayerShape("conv", 1024, 320, (8, 8)),
    LayerShape("conv", 1200, 600, (8, 8), groups=4),
)


@pytest.mark.parametrize("shape", WIDE, ids=lambda shape: shape.told)
def test_of_wide_layers_counts_off_a_block_are_as_slow_as_those_nearby(shape):
    """As ONNX Runtime's depthwise layers are: four times as slow, and more, where 4 does not divide the channels."""

    def truth(i, o):
        slow = [1.0 + 0.003 * c / shape.unit * (1 + (c // shape.unit) % 2) for c in (i, o) if (c // shape.unit) % 4]
        return (1 + 0.01 * o) * float(np.prod(slow))

    found = times(shape, truth)
    counts = [int(shape.outputs * part) // shape.unit * shape.unit for part in (0.3, 0.4, 0.53, 0.61, 0.7, 0.83, 0.97)]
    inputs = counts if shape.depthwise else [shape.inputs] * len(counts)
    expected = [truth(i, o) for i, o in zip(inputs, counts, strict=True)]
    assert sum(1 for count in counts if (count // shape.unit) % 4) > 2
    assert at(found, *zip(inputs, counts, strict=True)) == pytest.approx(expected, rel=0.05)


def test_depthwise_layers_have_one_width():
    found = times(DEPTHWISE, lambda i, o: float(o**2))
    assert list(at(found, (7, 7), (12, 12))) == [49, 144]


def test_values_go_and_come_back_and_others_are_refused():
    found = times(CONV, lambda i, o: float(i + o))
    values = json.loads(json.dumps(found.to_values()))
    assert LayerTimes.from_values(CONV, values).ms == found.ms
    for broken in (
        {**values, "ms": values["ms"][1:]}, {**values, "points": values["points"][1:], "ms": values["ms"][1:]},
        {**values, "ms": [-1.0, *values["ms"][1:]]}, {**values, "busy": "no"}, {},
    ):  # fmt: skip
        with pytest.raises((ValueError, KeyError, TypeError)):
            LayerTimes.from_values(CONV, broken)


# Which layers there are, and pieces of them


def test_the_layers_of_a_network(resnet20):
    found = layer_shapes(resnet20.flow)
    assert len(found) == len(resnet20.flow.sites)
    assert found[0] == LayerShape("conv", 3, 16, (32, 32), (3, 3), padding=(1, 1), norm=True, relu=True)
    assert found[1] == LayerShape("conv", 16, 16, (32, 32), (3, 3), padding=(1, 1), norm=True, relu=True)
    assert found[2] == LayerShape("conv", 16, 16, (32, 32), (3, 3), padding=(1, 1), norm=True, relu=False)
    assert found[-1] == LayerShape("linear", 64, 10, (), bias=True)


def test_what_has_no_table_is_left_to_the_rest():
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular"), nn.ReLU(), nn.ConvTranspose2d(8, 8, 2, 2),
        nn.Conv2d(8, 8, 3, padding="same"), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip
    found = layer_shapes(Network.from_module(module, (3, 8, 8)).flow)
    assert [shape is None for shape in found] == [True, True, True, False]


@pytest.mark.parametrize("name", [name for name in available_runtimes() if name != "pytorch"])
@pytest.mark.parametrize(
    "shape",
    [
        LayerShape("conv", 8, 12, (9, 7), (3, 5), (2, 1), (1, 2), (1, 1), 1, True, True, True),
        LayerShape("conv", 8, 8, (9, 7), (3, 3), dilation=(2, 2), groups=8),
        LayerShape("conv", 8, 12, (9, 7), groups=4),
        LayerShape("linear", 8, 12, (), bias=True),
        LayerShape("linear", 8, 12, (5,), bias=True),
        LayerShape("linear", 8, 12, (5,)),
    ],
    ids=lambda shape: shape.told,
)
def test_every_kind_of_layer_runs_narrower_in_every_runtime(shape, name):
    pair = (4, 4) if shape.depthwise else (4, 8)
    _, *rest = shape.images(pair[0], 2)
    images, form = images_for(rest, 2), shape.form(*pair)
    with torch.no_grad():
        wanted = form.module(images).shape
    import onnxruntime

    session = onnxruntime.InferenceSession(form.onnx, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"images": images.numpy()})
    assert answer.shape == wanted
    Target(name, batch=2, threads=1).load(form, images)()
    assert len(form.onnx) < 1000


# Prediction


def made_up(network, coupling, weights=(0.5, 1.25, 0.1), error=0.0):
    """A predictor of a machine whose times are a known sum, and that sum."""
    shapes = layer_shapes(network.flow)
    table = TimeTable(
        IDENTITY, shapes, {shape: times(shape, lambda i, o: 1e-3 + 1e-5 * i * o) for shape in shapes if shape}
    )
    positions = np.array([site.cost_per_weight for site in network.flow.sites])

    def truth(pruned):
        inputs, outputs = (one[None] for one in widths(pruned))
        return weights[0] + weights[1] * table.ms(inputs, outputs)[0] + weights[2] * (outputs @ positions)[0] / 1e6

    pruned = [network.prune(plan) for plan in whole_plans(network, network.plan(coupling=coupling))]
    noise = 1 + error * np.random.RandomState(0).standard_normal(len(pruned))
    ms = np.array([truth(one) for one in pruned]) * noise
    inputs, outputs = (np.array(one) for one in zip(*map(widths, pruned), strict=True))
    whole = Whole(inputs, outputs, np.stack([ms, ms * 0.99, ms * 1.01], axis=1), False)
    return fitted(network, table, whole, coupling), truth


@pytest.mark.parametrize("coupling", ["inner", "coupled"])
def test_a_sum_is_found_again(resnet20, coupling):
    predictor, truth = made_up(resnet20, coupling)
    pruned = resnet20.prune(0.6, coupling=coupling)
    assert predictor.ms(pruned).value == pytest.approx(truth(pruned), rel=1e-6)
    assert predictor.error < 1e-6
    assert predictor.ratio(pruned).value == pytest.approx(truth(resnet20.prune(0.0)) / truth(pruned), rel=1e-6)


def test_the_interval_says_how_well_it_fits(resnet20):
    exact, _ = made_up(resnet20, "coupled")
    rough, truth = made_up(resnet20, "coupled", error=0.05)
    hits = 0
    for rate in np.linspace(0.1, 0.9, 9):
        pruned = resnet20.prune(float(rate), coupling="coupled")
        near, far = exact.ms(pruned), rough.ms(pruned)
        assert near.high - near.low < 0.01 * (far.high - far.low)
        hits += far.low <= truth(pruned) <= far.high
    assert hits >= 8


def test_the_dense_network_of_an_independent_plan_is_the_measured_one(resnet20):
    predictor, _ = made_up(resnet20, "independent")
    assert milliseconds(predictor).exact(resnet20.prune(0.0)) == 1e6 * predictor.dense.value
    assert predictor.dense.value == predictor.whole.ms[0, 0]


def test_milliseconds_are_a_cost_that_can_be_cut(resnet20):
    predictor, truth = made_up(resnet20, "coupled")
    register_cost(milliseconds(predictor))
    try:
        choices = Choices.of(resnet20, resnet20.plan(coupling="coupled"))
        draws = np.random.RandomState(0)
        chosen = np.array([[draws.randint(len(one.counts)) for one in choices.units] for _ in range(20)])
        cost = COSTS["ms"].model(choices)(choices.counts(chosen))
        exact = [COSTS["ms"].exact(resnet20.prune(choices.plan(one))) for one in chosen]
        assert cost == pytest.approx(exact, rel=0.02)
        goal = Goal({"ms": 0.2})
        pruned = resnet20.prune(0.6, coupling="coupled")
        assert goal.reached(pruned)["ms"] == pytest.approx(1 - truth(pruned) / truth(resnet20.prune(0.0)))
        with pytest.raises(FpgmError, match="the milliseconds are of resnet20, coupled; probe this network"):
            COSTS["ms"].exact(resnet20.prune(0.5, coupling="inner"))
    finally:
        unregister_cost("ms")


def test_stairs_are_what_is_predicted_with_one_unit_at_every_count(resnet20):
    predictor, _ = made_up(resnet20, "coupled")
    plan = resnet20.plan(0.4, coupling="coupled")
    units = {unit.name: unit for unit in resnet20.units("coupled")}
    counts = {name: resnet20.count_pruned(plan, unit) for name, unit in units.items()}
    found = stairs_of(Choices.of(resnet20, plan), predictor, counts)
    assert found.keys() == units.keys()
    for name in list(units)[:3]:
        one = found[name]
        assert list(one.counts) == list(range(units[name].size))
        for count in (0, 5, units[name].size - 1):
            moved = plan.with_rates({name: count / units[name].size})
            assert one.ms[count] == pytest.approx(predictor.ms(resnet20.prune(moved)).value, rel=0.02)


def test_a_bargain_is_a_count_that_every_larger_one_takes_longer_than():
    # Kept: 8 7 6 5 4 3 2 1, whole steps at 8, 4 and 2; one too little to be worth a mark at 7.
    one = Stairs("a", 8, np.arange(8), np.array([8.0, 7.99, 9.0, 9.0, 4.0, 5.0, 2.0, 2.0]))
    assert list(one.counts[one.bargains]) == [0, 4, 6]
    assert [one.nearest_bargain(count) for count in (0, 1, 3, 5, 7)] == [0, 0, 4, 4, 6]
    assert one.better(5) == 4
    assert one.better(3) == 0
    assert one.better(4) is None
    assert one.better(7) == 6


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.b(torch.relu(self.a(x))).mean((2, 3)))


@pytest.fixture
def small():
    return Network.from_module(Small(), (3, 6, 6), name="small", trained=False)


def probe(network, target, **options):
    return run(probe_work(network, network.plan(coupling="coupled"), target, layers=QUICK, whole=QUICK, **options))


def test_a_probe_is_kept_by_machine_and_not_timed_again(small):
    target = Target(threads=1)
    assert kept_predictor(small, "coupled", target.identity) is None
    found = probe(small, target)
    again = kept_predictor(small, "coupled", target.identity)
    assert {shape: one.ms for shape, one in again.table.times.items()} == {
        shape: one.ms for shape, one in found.table.times.items()
    }
    assert (again.whole.ms == found.whole.ms).all()
    assert kept_predictor(small, "inner", target.identity) is None
    assert kept_predictor(small, "coupled", Target(threads=1, batch=2).identity) is None
    pruned = small.prune(0.5, coupling="coupled")
    ms = again.ms(pruned)
    assert ms.low <= ms.value <= ms.high


def test_a_probe_that_was_stopped_goes_on_where_it_was(small):
    target, steps = Target(threads=1), []
    work = probe_work(small, small.plan(coupling="coupled"), target, layers=QUICK, whole=QUICK)
    for step in work:
        steps.append(step)
        if len({one.what for one in steps}) == 3:  # the third layer has begun
            work.close()
            break
    told = []
    run(probe_work(small, small.plan(coupling="coupled"), target, layers=QUICK, whole=QUICK), told.append)
    assert steps[0].what not in {step.what for step in told}
    shares = [step.share for step in told]
    assert shares == sorted(shares)
    assert shares[0] > 0


def test_a_study_beside_what_was_measured(small):
    target = Target(threads=1)
    study = run(timing_study_work(probe(small, target), small.plan(coupling="coupled"), target, count=3, config=QUICK))
    assert len(study.plans) == 3
    assert study.median_error == pytest.approx(np.median([abs(one.error) for one in study.plans]))
    assert 0 <= study.covered <= 1
    for one in study.plans:
        assert one.error == pytest.approx(one.predicted.value / one.measured.value - 1)
        assert 0 <= one.macs_cut < 1
