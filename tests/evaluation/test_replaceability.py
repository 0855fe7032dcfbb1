"""Rank correlations with intervals, verdicts that follow from them, and the plans of the study."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, rankdata, spearmanr

from fpgm_core.calibration import CalibrationConfig, calibrate
from fpgm_core.data import load_images
from fpgm_core.evaluation import (
    QUESTIONS,
    VERDICTS,
    Finding,
    Interval,
    RankCorrelation,
    Replaceability,
    answers_told,
    holm,
    rank_correlation,
    rank_interval,
    replaceability,
    verdict_counts,
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


def residuals(values, others):
    """What is left of values once their best line through `others` is taken away."""
    design = np.column_stack([others, np.ones_like(others)])
    return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]


def test_the_partial_correlation_is_that_of_what_the_third_leaves_of_the_ranks():
    rng = np.random.RandomState(2)
    third = rng.randn(40)
    first, second = third + rng.randn(40), third - rng.randn(40)
    ranks = [rankdata(array) for array in (first, second, third)]
    by_hand = np.corrcoef(residuals(ranks[0], ranks[2]), residuals(ranks[1], ranks[2]))[0, 1]
    found = rank_correlation(first, second, given=third)
    assert found.value == pytest.approx(by_hand)
    assert found.given == 1
    half = norm.ppf(0.975) * math.sqrt((1 + by_hand**2 / 2) / 36)
    assert found.interval().high == pytest.approx(math.tanh(math.atanh(by_hand) + half))


def test_intervals_of_partial_correlations_cover_what_they_should():
    """Two quantities that a third alone ties together: their partial correlation is 0, nearly."""
    rng, hit = np.random.RandomState(3), 0
    for _ in range(400):
        third = rng.randn(24)
        found = rank_correlation(third + rng.randn(24), third + rng.randn(24), given=third)
        hit += not found.interval().excludes_zero
    assert 0.92 <= hit / 400 <= 0.98


def test_what_cannot_be_correlated():
    values = np.arange(9.0)
    assert rank_correlation(values, values[::-1], given=values) is None, "the third fixes the first"
    assert rank_correlation(values, values, given=np.ones(9)) is None
    assert rank_correlation(np.arange(5), [3, 1, 2, 5, 4], given=[1, 3, 2, 5, 4]) is None, "one too few"
    holes = np.where(values < 6, values, np.nan)
    assert rank_correlation(holes, values).pairs == 6
    assert rank_correlation(np.where(values < 4, values, np.nan), values) is None


def test_the_p_value_is_the_error_whose_interval_ends_at_0():
    found = RankCorrelation(0.4, 20)
    interval = found.interval(found.p_value)
    assert interval.low == pytest.approx(0, abs=1e-9)
    assert not found.interval(0.9 * found.p_value).excludes_zero
    assert found.interval(1.1 * found.p_value).excludes_zero


def test_holm_by_hand():
    """Of four, the strongest is judged at 0.05 / 4, the next at 0.05 / 3; there it stops, for the last two as well."""
    found = [
        RankCorrelation(0.1, 40),
        RankCorrelation(0.7, 40),
        None,
        RankCorrelation(-0.36, 40),
        RankCorrelation(0.35, 40),
    ]
    shares = {1: 0.05 / 4, 3: 0.05 / 3, 4: 0.05 / 3, 0: 0.05 / 3}
    widened = holm(found)
    assert widened[2] is None
    for index, share in shares.items():
        assert widened[index] == found[index].interval(share)
    assert [each is not None and each.excludes_zero for each in widened] == [False, True, False, False, False]
    assert found[4].interval().excludes_zero, "alone it would be judged otherwise"
    assert holm([]) == ()


@given(st.lists(st.floats(-0.95, 0.95), min_size=1, max_size=12), st.integers(8, 60))
def test_holm_rejects_what_its_definition_rejects(values, pairs):
    found = [RankCorrelation(value, pairs) for value in values]
    ordered, rejected = sorted(found, key=lambda each: each.p_value), 0
    while rejected < len(ordered) and ordered[rejected].p_value < 0.05 / (len(ordered) - rejected):
        rejected += 1
    assert sum(each.excludes_zero for each in holm(found)) == rejected


@pytest.mark.parametrize(
    ("interval", "positive", "negative"),
    [
        (Interval(0.4, 0.1, 0.6), "holds", "reversed"),
        (Interval(-0.4, -0.6, -0.1), "reversed", "holds"),
        (Interval(0.3, -0.1, 0.6), "undecided", "undecided"),
        (Interval(0.3, 0.0, 0.6), "undecided", "undecided"),
        (Interval(-0.3, -0.6, 0.0), "undecided", "undecided"),
        (None, "few", "few"),
    ],
)
def test_a_verdict_follows_from_the_widened_interval_alone(interval, positive, negative):
    for name, word in (("cheap", positive), ("beyond_norm", positive), ("replaceable", negative)):
        finding = Finding(QUESTIONS[name], Interval(-0.9, -0.95, -0.85), interval)
        assert finding.verdict == word
        assert finding.told.startswith({"few": "too few"}.get(word, f"{word}: "))
    assert len({QUESTIONS[name].told("holds") for name in QUESTIONS}) == 3


@pytest.fixture(scope="module")
def found(resnet20):
    few = CalibrationConfig(200, 16)
    return replaceability(resnet20, calibrate(resnet20, load_images("cifar10", "train"), config=few, use_cache=False))


def test_layers_of_resnet20(resnet20, found):
    assert [one.layer for one in found] == [unit.name for unit in resnet20.units("inner")]
    for one in found:
        assert np.all(one.costs <= one.losses)
        np.testing.assert_allclose(one.made_good, 1 - one.costs / one.losses)
        for by, findings in ((one.distance_sums, one.by_distance), (one.norms, one.by_norm)):
            assert findings["cheap"].interval.value == pytest.approx(spearmanr(by, one.costs).statistic)
            assert findings["replaceable"].interval.value == pytest.approx(spearmanr(by, one.made_good).statistic)
        ranks = [rankdata(array) for array in (one.distance_sums, one.costs, one.norms)]
        by_hand = np.corrcoef(residuals(ranks[0], ranks[2]), residuals(ranks[1], ranks[2]))[0, 1]
        assert one.by_distance["beyond_norm"].interval.value == pytest.approx(by_hand)
        assert "beyond_norm" not in one.by_norm


def test_verdicts_are_judged_over_all_layers(found):
    for name in QUESTIONS:
        widened = holm([one.correlation(name) for one in found])
        assert [one.by_distance[name].widened for one in found] == list(widened)
        counts = verdict_counts(found, name)
        assert tuple(counts) == VERDICTS
        assert sum(counts.values()) == len(found)
        assert counts["holds"] == sum(one.by_distance[name].verdict == "holds" for one in found)


def test_cheap_to_lose_is_not_replaceable(found):
    """On ResNet-20 a small g tells of a small cost, and not of a large share made good: what the page must not mix."""
    assert verdict_counts(found, "cheap")["holds"] > len(found) / 2
    assert verdict_counts(found, "replaceable")["holds"] == 0


def test_the_words_follow_from_the_verdicts(found):
    *told, parted = answers_told(found)
    for question, said in zip(QUESTIONS.values(), told, strict=True):
        assert said.startswith(question.asks)
        counts = verdict_counts(found, question.name)
        assert {word for word in VERDICTS[:3] if f"{word} in {counts[word]}" in said} == {
            word for word in VERDICTS[:3] if counts[word]
        }
    assert "differ in" in parted
    alike = [replace(one, by_distance=one.by_distance | {"replaceable": one.by_distance["cheap"]}) for one in found]
    assert answers_told(alike)[-1].startswith("Cheap to lose and replaceable have the same verdict")


def test_a_filter_that_does_nothing_has_no_share():
    layer = Replaceability("layer", np.arange(7.0), np.arange(7.0), np.arange(7.0), np.arange(7.0) ** 2 / 12)
    assert np.isnan(layer.made_good[0])
    assert np.isfinite(layer.made_good[1:]).all()
    assert layer.correlation("replaceable").pairs == 6
    assert layer.correlation("cheap").pairs == 7
