"""What was forgotten: predictions, classes with Holm's adjustment, confusion, flipped images, filters that differ."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from fpgm_core import FpgmError, Network
from fpgm_core.data import load_images
from fpgm_core.evaluation import change_between, compare_work, evaluate, filters_that_differ
from fpgm_core.evaluation.compare import Comparison, holm
from fpgm_core.runtime.progress import run

NAMES = tuple("abc")


def test_predictions_are_the_networks_own(resnet20):
    images = load_images("cifar10", "choose").first(230)
    dense, pruned = resnet20.prune(0.0), resnet20.prune(0.3, coupling="inner")
    (found,) = run(compare_work([dense, pruned], images))
    with torch.inference_mode():
        expected = pruned.masked()(images.normalised(0, 230)).argmax(1).numpy()
    assert np.array_equal(found.after, expected)
    assert (found.after == found.labels).sum() == evaluate(pruned, images).num_correct
    assert found.change == evaluate(pruned, images).change
    assert sum(one.num_images for one in found.by_class) == 230
    assert {one.name for one in found.by_class} <= set(images.class_names)


def made(pairs):
    """A comparison from (label, before, after) by number of images."""
    rows = np.array([row for row, count in pairs.items() for _ in range(count)])
    return Comparison(rows[:, 1], rows[:, 2], rows[:, 0], NAMES)


def test_a_class_that_was_forgotten_is_found_where_accuracy_is_equal():
    found = made({(0, 0, 0): 50, (0, 0, 1): 20, (1, 1, 1): 50, (1, 0, 1): 20, (2, 2, 2): 60, (2, 2, 1): 1})
    assert abs(found.change.value) < 0.01
    forgotten, gained, same = found.by_class
    assert forgotten.changed
    assert forgotten.change.high < 0
    assert gained.changed
    assert not same.changed
    assert forgotten.p == pytest.approx(3 * binomtest(20, 20).pvalue)
    assert same.p == 1
    first = np.repeat([True, False], [70, 0])
    assert forgotten.change == change_between(np.repeat([True, False], [50, 20]), first)


def test_flips_and_confusion():
    found = made({(0, 0, 1): 2, (0, 1, 0): 1, (2, 2, 2): 3, (1, 0, 2): 1})
    assert found.lost.tolist() == [0, 1]
    assert found.won.tolist() == [2]
    assert found.confusion().tolist() == [[1, 2, 0], [0, 0, 1], [0, 0, 3]]
    assert found.confusion(after=False).tolist() == [[2, 1, 0], [1, 0, 0], [0, 0, 3]]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.9, 0.5]) == pytest.approx((1.0, 1.0))
    assert holm([]) == ()


def test_filters_that_differ(resnet20):
    first = resnet20.prune({"layer1.0.conv1": 0.25}, coupling="inner")
    second = resnet20.prune({"layer1.0.conv1": 0.5, "layer2.0.conv1": 0.25}, coupling="inner")
    found = filters_that_differ(first, second)
    assert set(found) == {"layer1.0.conv1", "layer2.0.conv1"}
    only_first, only_second = found["layer1.0.conv1"]
    assert (len(only_first), len(only_second)) == (4, 0)
    assert filters_that_differ(first, first) == {}
    with pytest.raises(FpgmError, match="plans of one network"):
        filters_that_differ(first, Network.load("resnet56").prune(0.2))


def test_one_network_is_no_comparison(resnet20):
    with pytest.raises(FpgmError, match="at least two networks"):
        run(compare_work([resnet20.prune(0.0)], load_images("cifar10", "choose").first(5)))
