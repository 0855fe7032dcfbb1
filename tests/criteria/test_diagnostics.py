"""The norm criterion's two requirements, and how far two criteria agree."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist

from fpgm_core.criteria import norm_diagnostics, overlap, rankdata, spearman
from fpgm_core.graph import weights_of

numbers = st.lists(st.sampled_from([-1.5, 0.0, 0.25, 3.0, 1e9]) | st.floats(-10, 10), min_size=2, max_size=20)


def test_spread_and_floor_are_their_hand_formulas():
    figures = norm_diagnostics(torch.tensor([[3.0, 4.0], [0.0, 1.0], [-6.0, 0.0]]))  # norms 5, 1 and 6
    assert (figures.l2_min, figures.l2_max, figures.l2_mean) == (1, 6, 4)
    assert figures.l2_std == pytest.approx((14 / 3) ** 0.5)
    assert figures.spread == pytest.approx((14 / 3) ** 0.5 / 4)
    assert figures.floor == 1 / 4


def test_the_figures_of_equal_filters_say_that_nothing_separates_them():
    figures = norm_diagnostics(torch.ones(5, 1, 2, 2))
    assert (figures.spread, figures.floor, figures.spearman) == (0, 1, None)


def test_the_figures_of_zeros_are_zero():
    figures = norm_diagnostics(torch.zeros(5, 1, 2, 2))
    assert (figures.spread, figures.floor, figures.l2_max, figures.spearman) == (0, 0, 0, None)


@given(numbers)
def test_spread_and_floor_do_not_depend_on_scale(values):
    filters = torch.tensor(values)[:, None]
    first, second = norm_diagnostics(filters), norm_diagnostics(filters * 8)
    assert (first.spread, first.floor) == (second.spread, second.floor)
    assert 0 <= first.floor <= 1


def test_the_toy_filters_disagree_as_their_ranks_say():
    toy = torch.stack([torch.full((1, 3, 3), value) for value in (3.0, 2.0, 0.1)])
    # norms rank 3, 2, 1; sums of distances 11.7, 8.7, 14.4 rank 2, 1, 3: Spearman 1 - 6 (1 + 1 + 4) / (3 * 8)
    assert norm_diagnostics(toy).spearman == pytest.approx(-0.5)


def test_the_bundled_resnet20_disagrees_most_at_layer3_0_conv1(resnet20):
    by_layer = {layer.name: norm_diagnostics(weights_of(resnet20.module, layer.name)) for layer in resnet20.layers}
    lowest = min(by_layer, key=lambda name: by_layer[name].spearman)
    assert lowest == "layer3.0.conv1"
    assert round(by_layer[lowest].spearman, 2) == 0.94
    flat = weights_of(resnet20.module, lowest).flatten(1).double().numpy()
    expected = stats.spearmanr(np.linalg.norm(flat, axis=1), cdist(flat, flat).sum(1)).statistic
    assert by_layer[lowest].spearman == pytest.approx(expected)


@given(numbers)
def test_ranks_are_those_of_scipy(values):
    assert rankdata(np.array(values)).tolist() == stats.rankdata(values).tolist()


@given(st.data(), numbers)
def test_spearman_is_that_of_scipy(data, first):
    second = data.draw(st.lists(st.integers(-3, 3), min_size=len(first), max_size=len(first)))
    found = spearman(np.array(first), np.array(second))
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("1100", "1100", 1.0),
        ("1100", "0011", 0.0),
        ("1000", "0001", 2 / 3),
        ("1110", "0000", 1 / 4),  # divided by the larger set
        ("0000", "1110", 1 / 4),
        ("1111", "1000", 0.0),
        ("1111", "1111", None),
    ],
)
def test_overlap_is_the_share_of_the_pruned_in_common(first, second, shared):
    keeps = [np.array([digit == "1" for digit in text]) for text in (first, second)]
    assert overlap(*keeps) == shared
