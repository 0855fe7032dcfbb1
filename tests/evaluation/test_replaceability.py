"""Rank correlations with intervals, verdicts that follow from them, and the plans of the study."""

import math

import numpy as np
import pytest
from scipy.stats import norm, spearmanr

from fpgm_core.calibration import CalibrationConfig, calibrate
from fpgm_core.data import load_images
from fpgm_core.evaluation import (
    Interval,
    premise,
    rank_interval,
    replaceability,
    verdict,
)


def test_an_interval_by_hand():
    rng = np.random.RandomState(0)
    first = rng.randn(20)
    second = first + rng.randn(20)
    found, rho = rank_interval(first, second), spearmanr(first, second).statistic
    half = norm.ppf(0.975) * math.sqrt((1 + rho**2 / 2) / 17)
    assert found.value == pytest.approx(rho)
    assert (found.low, found.high) == pytest.approx(
        (math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half))
    )


def test_it_covers_what_it_should():
    """Normal pairs of correlation 0.6, whose rank correlation is 6/pi asin(0.3): 95% of intervals, nearly."""
    rng, true, hit = np.random.RandomState(1), 6 / math.pi * math.asin(0.3), 0
    for _ in range(400):
        first = rng.randn(32)
        second = 0.6 * first + 0.8 * rng.randn(32)
        found = rank_interval(first, second)
        hit += found.low <= true <= found.high
    assert 0.92 <= hit / 400 <= 0.98


def test_no_interval_of_too_few_or_of_constants():
    assert rank_interval(np.arange(4), np.arange(4)) is None
    assert rank_interval(np.ones(9), np.arange(9)) is None
    whole = rank_interval(np.arange(9), np.arange(9))
    assert whole.value == pytest.approx(1)
    assert -1 < whole.low < whole.high <= 1


@pytest.mark.parametrize(
    ("interval", "word"),
    [
        (Interval(0.4, 0.1, 0.6), "holds"),
        (Interval(-0.4, -0.6, -0.1), "reversed"),
        (Interval(0.3, -0.1, 0.6), "undecided"),
        (Interval(0.3, 0.0, 0.6), "undecided"),
        (Interval(-0.3, -0.6, 0.0), "undecided"),
        (None, "few"),
    ],
)
def test_the_premise_and_its_verdict_follow_from_the_interval(interval, word):
    assert premise(interval) == word
    assert verdict(interval).startswith({"few": "too few"}.get(word, word))


def test_layers_of_resnet20(resnet20):
    found = replaceability(
        resnet20,
        calibrate(resnet20, load_images("cifar10", "train"), config=CalibrationConfig(200, 16), use_cache=False),
    )
    assert [one.layer for one in found] == [unit.name for unit in resnet20.units("inner")]
    for one in found:
        assert one.by_distance.value == pytest.approx(spearmanr(one.distance_sums, one.costs).statistic)
        assert one.by_norm.value == pytest.approx(spearmanr(one.norms, one.costs).statistic)
        assert one.verdict == verdict(one.by_distance)
