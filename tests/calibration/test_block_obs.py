"""Refit cost against brute force, greedy against a double loop, and who reads what."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fpgm_core import FpgmError, Network
from fpgm_core.calibration import (
    CalibrationConfig,
    Elimination,
    Moment,
    Moments,
    UnitLoss,
    calibrate,
    greedy_order,
    readings,
    refit_cost,
    stand_in,
)
from fpgm_core.data import load_images

FEW = CalibrationConfig(num_images=120, positions=16)


@pytest.fixture(scope="module")
def training():
    return load_images("cifar10", "train").first(120)


@pytest.fixture(scope="module")
def moments(resnet20, training):
    return calibrate(resnet20, training, config=FEW, use_cache=False)


def problem(seed, outputs=4, columns=12):
    rng = np.random.RandomState(seed)
    samples = rng.randn(40, columns) @ rng.randn(columns, columns)
    return rng.randn(outputs, columns), samples.T @ samples / 40 + 0.1 * np.eye(columns)


def brute(weight, second, gone):
    """min over W' without the columns `gone` of tr((W - W') G (W - W')^T), by numpy's own least squares."""
    factor = np.linalg.cholesky(second)  # G = L L^T: the error is ||L^T (W - W')^T||^2
    left = np.setdiff1d(np.arange(weight.shape[1]), gone)
    target = factor.T @ weight.T
    solution, *_ = np.linalg.lstsq(factor.T[:, left], target, rcond=None)
    return ((target - factor.T[:, left] @ solution) ** 2).sum()


seeds = st.integers(0, 2**31)


@given(seeds)
def test_costs_are_the_rise_of_the_error(seed):
    weight, second = problem(seed)
    blocks = np.arange(12).reshape(4, 3)
    found = Elimination(torch.from_numpy(weight), torch.from_numpy(second)).costs(torch.from_numpy(blocks))
    np.testing.assert_allclose(found, [brute(weight, second, block) for block in blocks], rtol=1e-6, atol=1e-9)


@given(seeds)
def test_what_goes_one_after_the_other_costs_what_it_costs_together(seed):
    weight, second = problem(seed)
    order = np.random.RandomState(seed).permutation(12)
    one = Elimination(torch.from_numpy(weight), torch.from_numpy(second))
    total = 0.0
    for begin in range(0, 12, 4):
        cost = one.remove(torch.from_numpy(order[begin : begin + 4]))
        assert cost >= 0
        total += cost
        assert total == pytest.approx(brute(weight, second, order[: begin + 4]), rel=1e-5, abs=1e-9)
    assert total == pytest.approx(np.trace(weight @ second @ weight.T))
    assert float(one.weight.abs().max()) == 0


def test_the_weights_that_are_left_are_refitted():
    weight, second = problem(3)
    one = Elimination(torch.from_numpy(weight), torch.from_numpy(second))
    one.remove(torch.tensor([2, 5]))
    left = np.setdiff1d(np.arange(12), [2, 5])
    refitted = weight @ second[:, left] @ np.linalg.inv(second[np.ix_(left, left)])
    np.testing.assert_allclose(one.weight[:, left], refitted, rtol=1e-6)


def ridged(moment, ridge=1e-3):
    covariance = moment.covariance[0].double().numpy()
    return covariance + ridge * np.diag(covariance).mean() * np.eye(len(covariance))


def test_refit_cost_of_a_layer_by_brute_force(resnet20, moments):
    found = refit_cost(resnet20, "layer1.1.conv1", moments=moments)
    weight = resnet20.module.layer1[1].conv2.weight.flatten(1).double().numpy()
    second = ridged(moments.of("layer1.1.conv2"))
    expected = [brute(weight, second, np.arange(9 * i, 9 * i + 9)) for i in range(16)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


# How far the others stand in


def test_standing_in_by_brute_force(resnet20, moments):
    """Both losses of a filter: the reader's weights as they are without its columns, and refitted."""
    alone, refitted = stand_in(resnet20, "layer1.1.conv1", moments=moments)
    weight = resnet20.module.layer1[1].conv2.weight.flatten(1).double().numpy()
    moment = moments.of("layer1.1.conv2")
    second, made = ridged(moment), np.trace(weight @ moment.covariance[0].double().numpy() @ weight.T)
    blocks = [np.arange(9 * i, 9 * i + 9) for i in range(16)]
    left_out = [np.trace(weight[:, b] @ second[np.ix_(b, b)] @ weight[:, b].T) for b in blocks]
    np.testing.assert_allclose(alone, np.array(left_out) / made, rtol=1e-4)
    np.testing.assert_allclose(refitted, [brute(weight, second, b) / made for b in blocks], rtol=1e-4)


@pytest.mark.parametrize("name", ["resnet20", "mobilenetv2_cifar"])
def test_standing_in_never_costs_more_than_leaving_out(name, resnet20, training, moments):
    net = resnet20 if name == "resnet20" else Network.load(name)
    known = moments if name == "resnet20" else calibrate(net, training, config=FEW, use_cache=False)
    better = 0
    for unit in net.units("inner"):
        for layer in unit.members:
            alone, refitted = stand_in(net, layer, moments=known)
            assert (refitted >= 0).all()
            assert (refitted <= alone * (1 + 1e-9)).all()
            better += (refitted < 0.9 * alone).sum()
            assert len(alone) == len(refitted) == net.module.get_submodule(layer).out_channels
    assert better > 100


@pytest.mark.parametrize("layer", ["layer1.0.conv1", "layer2.1.conv1", "layer3.2.conv1"])
def test_what_is_left_is_the_refit_cost_as_a_share(resnet20, moments, layer):
    """One layer reads it: the refit cost over the variance of what that layer makes."""
    _, refitted = stand_in(resnet20, layer, moments=moments)
    (read,) = readings(resnet20, [layer])
    reader = resnet20.module.get_submodule(read.layer)
    weight = reader.weight.flatten(1).double().numpy()
    made = np.trace(weight @ moments.of(read.layer).covariance[0].double().numpy() @ weight.T)
    costs = refit_cost(resnet20, layer, moments=moments)
    np.testing.assert_allclose(refitted * made, costs, rtol=1e-6)
    assert refitted.argsort().tolist() == costs.argsort().tolist()


def test_standing_in_is_summed_over_the_readers_and_shared_by_the_writers(resnet20, moments):
    """A stream's writer has several readers: of each its own share of that reader's variance."""
    layer, chosen = "layer3.1.conv2", 7
    alone, refitted = stand_in(resnet20, layer, moments=moments)
    expected, read_by = np.zeros(2), {}
    for read in readings(resnet20, [layer]):
        weight = resnet20.module.get_submodule(read.layer).weight.flatten(1).double().numpy()
        moment = moments.of(read.layer)
        second, made = ridged(moment), np.trace(weight @ moment.covariance[0].double().numpy() @ weight.T)
        block = read.blocks[read.filters.tolist().index(chosen)].numpy()
        left_out = np.trace(weight[:, block] @ second[np.ix_(block, block)] @ weight[:, block].T)
        expected += read.share / made * np.array([left_out, brute(weight, second, block)])
        read_by[read.layer] = read.share
    assert set(read_by) == {"layer3.2.conv1", "fc"}
    assert read_by["layer3.2.conv1"] < 1
    assert (alone[chosen], refitted[chosen]) == pytest.approx(expected, rel=1e-4)


def test_nobody_stands_in_where_nothing_was_read(resnet20, moments):
    with pytest.raises(FpgmError, match="nobody that can be refitted reads"):
        stand_in(Network.load("squeezenet1_1", "random"), "classifier.1", moments=moments)
    layers = {name: one for name, one in moments.layers.items() if name != "layer3.1.conv2"}
    less = Moments("", FEW, 120, "", layers, {"layer3.1.conv2": "too many columns"})
    with pytest.raises(FpgmError, match="too many columns"):
        stand_in(resnet20, "layer3.1.conv1", moments=less)


def test_greedy_takes_the_cheapest_next_one(resnet20, moments):
    order = greedy_order(UnitLoss.of(resnet20, ["layer1.1.conv1"], moments=moments))
    assert sorted(order) == list(range(16))
    weight = resnet20.module.layer1[1].conv2.weight.flatten(1).double().numpy()
    second, gone = ridged(moments.of("layer1.1.conv2")), []

    def together(filters):
        return brute(weight, second, np.concatenate([np.arange(9 * i, 9 * i + 9) for i in filters]))

    for expected in order[:4]:
        left = [i for i in range(16) if i not in gone]
        assert min(left, key=lambda i: together([*gone, i])) == expected
        gone.append(int(expected))


def test_a_filter_the_others_make_up_is_free_and_a_dead_one_too():
    rng = np.random.RandomState(0)
    samples = rng.randn(200, 3)
    samples = np.column_stack([samples, samples[:, 0] + samples[:, 1], np.zeros(200)])
    second = samples.T @ samples / 200 + 1e-9 * np.eye(5)
    costs = Elimination(torch.from_numpy(rng.randn(2, 5)), torch.from_numpy(second)).costs(torch.arange(5)[:, None])
    assert costs[[0, 1, 3, 4]].max() < 1e-6
    assert costs[2] > 0.05


def test_who_reads_an_inner_layer(resnet20):
    (one,) = readings(resnet20, ["layer2.1.conv1"])
    assert (one.layer, one.share) == ("layer2.1.conv2", 1)
    assert one.filters.tolist() == list(range(32))
    assert torch.equal(one.blocks, torch.arange(288).view(32, 9))


@pytest.mark.parametrize("layer", ["fc", "bn1", "layer9", ""])
def test_nobody_reads_what_is_no_convolution(resnet20, moments, layer):
    for asked in (lambda: readings(resnet20, ["conv1", layer]), lambda: stand_in(resnet20, layer, moments=moments)):
        with pytest.raises(FpgmError, match=f"'{layer}' is no convolution of this network"):
            asked()


def test_writers_of_a_stream_share_it(resnet20):
    found = {one.layer: one for one in readings(resnet20, ["conv1"])}
    assert found["layer1.0.conv1"].share == 1
    assert found["layer1.1.conv1"].share == pytest.approx(1 / 2)
    assert found["layer1.2.conv1"].share == pytest.approx(1 / 3)
    unit = resnet20.unit_of("conv1", "coupled")
    together = {one.layer: one for one in readings(resnet20, unit.members)}
    assert together["layer1.2.conv1"].share == 1  # all of its writers go together
    assert "fc" in together or "layer2.0.conv1" in together


def test_a_depthwise_layer_goes_with_what_it_reads():
    net = Network.load("mobilenetv2_cifar")
    unit = max(net.units("inner"), key=lambda one: len(one.members))
    read = readings(net, unit.members[:1])
    assert {one.layer for one in read} == {one.layer for one in readings(net, unit.members)}
    weights = [net.module.get_submodule(one.layer) for one in read]
    assert all(layer.groups == 1 for layer in weights)


def test_flattened_channels_are_blocks_of_features():
    net = Network.load("alexnet", "random")
    (one,) = (r for r in readings(net, ["features.10"]) if r.layer == "classifier.1")
    assert one.blocks.shape == (256, 36)
    assert one.blocks[3].tolist() == list(range(108, 144))


def test_units_of_groups_have_a_problem_a_group():
    net = Network.load("resnext50_32x4d", "random")
    found = [one for one in readings(net, ["layer1.0.conv1"]) if one.layer == "layer1.0.conv2"]
    assert [one.group for one in found] == list(range(32))
    assert found[5].filters.tolist() == [20, 21, 22, 23]


def test_singular_moments_have_finite_costs(resnet20, training):
    few = calibrate(resnet20, training, config=CalibrationConfig(2, 3), use_cache=False)
    assert few.of("layer3.2.conv2").singular
    costs = refit_cost(resnet20, "layer3.2.conv1", moments=few)
    assert np.isfinite(costs).all()
    assert (costs >= 0).all()
    dead = Moment(torch.zeros(1, 144), torch.zeros(1, 144, 144), 10)
    none = Moments("", FEW, 1, "", {"layer1.0.conv2": dead}, {})
    assert np.isfinite(refit_cost(resnet20, "layer1.0.conv1", moments=none)).all()
