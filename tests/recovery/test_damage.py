"""The damage surface against brute force, and what it predicts of plans."""

from dataclasses import replace

import numpy as np
import pytest

from fpgm_core import FpgmError
from fpgm_core.calibration import CalibrationConfig, calibrate
from fpgm_core.data import load_images
from fpgm_core.recovery import damage


@pytest.fixture(scope="module")
def moments(resnet20):
    few = CalibrationConfig(num_images=120, positions=16)
    return calibrate(resnet20, load_images("cifar10", "train"), config=few, use_cache=False)


def brute(weight, second, gone):
    """min over W' without the columns `gone` of tr((W - W') G (W - W')^T), by numpy's own least squares."""
    factor = np.linalg.cholesky(second)  # G = L L^T: the error is ||L^T (W - W')^T||^2
    left = np.setdiff1d(np.arange(weight.shape[1]), gone)
    target = factor.T @ weight.T
    solution, *_ = np.linalg.lstsq(factor.T[:, left], target, rcond=None)
    return ((target - factor.T[:, left] @ solution) ** 2).sum()


def ridged(moment, ridge=1e-3):
    covariance = moment.covariance[0].double().numpy()
    return covariance + ridge * np.diag(covariance).mean() * np.eye(len(covariance))


def test_a_surface_by_brute_force(resnet20, moments):
    found = damage(resnet20, moments, rates=(0.25, 0.5, 0.8))
    assert found.units == tuple(unit.name for unit in resnet20.units("inner"))
    assert (np.diff(found.loss, axis=1) > 0).all()
    row = found.units.index("layer1.0.conv1")
    unit = resnet20.units("inner")[row]
    weight = resnet20.module.layer1[0].conv2.weight.flatten(1).double().numpy()
    moment = moments.of("layer1.0.conv2")
    made = np.trace(weight @ moment.covariance[0].double().numpy() @ weight.T)
    for column, rate in enumerate(found.rates):
        keep = resnet20.keep_mask(resnet20.plan({unit.name: rate}, coupling="inner"), unit)
        gone = np.concatenate([np.arange(9 * i, 9 * i + 9) for i in np.flatnonzero(~keep)])
        assert found.loss[row, column] == pytest.approx(brute(weight, ridged(moment), gone) / made, rel=1e-4)


def test_a_plan_is_predicted_by_its_units(resnet20, moments):
    found = damage(resnet20, moments)
    first, second = found.units[:2]
    assert found.at(first, 0) == 0
    assert found.at(first, 0.35) == pytest.approx((found.at(first, 0.3) + found.at(first, 0.4)) / 2)
    plan = resnet20.plan({first: 0.3, second: 0.5}, coupling="inner")
    assert found.predicted(plan) == pytest.approx(found.at(first, 0.3) + found.at(second, 0.5))
    assert found.predicted(resnet20.plan(coupling="inner")) == 0
    with pytest.raises(FpgmError, match="no damage is predicted for fc"):
        found.at("fc", 0.1)
    with pytest.raises(ValueError, match="read-only"):
        found.loss[0, 0] = 1


def test_a_unit_without_moments_is_left_out_with_the_reason(resnet20, moments):
    layers = {name: one for name, one in moments.layers.items() if name != "layer3.1.conv2"}
    less = replace(moments, layers=layers, skipped={"layer3.1.conv2": "too many columns"})
    found = damage(resnet20, less, rates=[0.5])
    assert [name for name, _ in found.skipped] == ["layer3.1.conv1"]
    with pytest.raises(FpgmError, match="too many columns"):
        found.at("layer3.1.conv1", 0.5)
