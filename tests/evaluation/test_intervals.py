"""Wilson's and Newcombe's intervals against scipy, the printed example, and simulation."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from fpgm_core.evaluation import Interval, paired_change, wilson

counts = st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
tables = st.tuples(*[st.integers(0, 500)] * 4).filter(any)


@given(counts)
def test_wilson_equals_scipys(count):
    correct, images = count
    expected = binomtest(correct, images).proportion_ci(0.95, method="wilson")
    found = wilson(correct, images)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= found.low <= found.value == correct / images <= found.high <= 1


def test_wilson_by_hand():
    z2 = 1.959963984540054**2
    half = math.sqrt(0.9 * 0.1 / 100 + z2 / 40_000) * math.sqrt(z2)
    found = wilson(90, 100)
    assert found.low == pytest.approx((0.9 + z2 / 200 - half) / (1 + z2 / 100))
    assert found.high == pytest.approx((0.9 + z2 / 200 + half) / (1 + z2 / 100))


def test_newcombes_own_example():
    # Statistics in Medicine 17 (1998), example (a): 20, 12, 2, 16; method 10.
    found = paired_change(20, 12, 2, 16)
    assert found.value == pytest.approx(0.2)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0562, 0.3292)


def test_limits_of_all_and_of_none_do_not_go_beyond_by_rounding():
    for n in range(1, 500):
        assert (wilson(n, n).high, wilson(0, n).low) == (1.0, 0.0)


def newcombe(both, new, old, neither):
    """Method 10 as the paper prints it: a, b, c, d; phi 0 where a margin is empty, else corrected for continuity."""
    a, b, c, d, n = both, new, old, neither, both + new + old + neither
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    corrected = max(a * d - b * c - n / 2, 0) if a * d > b * c else a * d - b * c
    phi = corrected / math.sqrt(margins) if margins else 0
    (l2, u2), (l3, u3) = ((wilson(k, n).low, wilson(k, n).high) for k in (a + b, a + c))
    p2, p3 = (a + b) / n, (a + c) / n
    delta = math.sqrt((p2 - l2) ** 2 - 2 * phi * (p2 - l2) * (u3 - p3) + (u3 - p3) ** 2)
    epsilon = math.sqrt((u2 - p2) ** 2 - 2 * phi * (u2 - p2) * (p3 - l3) + (p3 - l3) ** 2)
    return p2 - p3 - delta, p2 - p3 + epsilon


def test_every_small_table_has_the_papers_limits():
    for table in product(range(6), repeat=4):
        if any(table):
            found = paired_change(*table)
            assert (found.low, found.high) == pytest.approx(newcombe(*table), abs=1e-12), table


@given(tables)
def test_swapping_the_networks_turns_the_interval_around(table):
    both, new, old, neither = table
    one, other = paired_change(both, new, old, neither), paired_change(both, old, new, neither)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low), abs=1e-12)


@given(tables)
def test_right_and_wrong_play_the_same_part(table):
    both, new, old, neither = table
    one, other = paired_change(both, new, old, neither), paired_change(neither, new, old, both)
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), abs=1e-12)


@given(tables)
def test_limits_enclose_the_change(table):
    found = paired_change(*table)
    assert -1 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1
    assert found.value == pytest.approx((table[1] - table[2]) / sum(table))


@pytest.mark.parametrize("agreement", [(450, 50), (900, 100)])
def test_equal_answers_change_nothing_but_stay_uncertain(agreement):
    found = paired_change(agreement[0], 0, 0, agreement[1])
    assert found.value == 0
    assert found.low == -found.high
    assert 0 < found.high < 0.01
    assert not found.excludes_zero


def unpaired(new, old, n):
    first, second = wilson(new, n), wilson(old, n)
    return math.hypot(first.value - first.low, second.high - second.value) + math.hypot(
        first.high - first.value, second.value - second.low
    )


@pytest.mark.parametrize("table", [(850, 20, 50, 80), (700, 30, 60, 210), (100, 5, 10, 385)])
def test_correlated_answers_narrow_the_interval(table):
    both, new, old, _ = table
    found = paired_change(*table)
    independent = unpaired(both + new, both + old, sum(table))
    assert found.high - found.low < 0.9 * independent


def test_uncorrelated_answers_do_not():
    found = paired_change(250, 250, 250, 250)
    assert found.high - found.low == pytest.approx(unpaired(500, 500, 1000))


def test_more_images_narrow_it():
    widths = [paired_change(80 * k, 3 * k, 7 * k, 10 * k) for k in (1, 4, 16)]
    widths = [found.high - found.low for found in widths]
    for wide, narrow in pairwise(widths):
        assert wide / narrow == pytest.approx(2, abs=0.3)  # as the square root of the count


@pytest.mark.parametrize("chances", [(0.85, 0.02, 0.05, 0.08), (0.3, 0.2, 0.25, 0.25), (0.9, 0.01, 0.01, 0.08)])
def test_coverage_is_about_95_percent(chances):
    drawn = np.random.RandomState(0).multinomial(500, chances, size=4000)
    change = chances[1] - chances[2]
    intervals = [paired_change(*map(int, table)) for table in drawn]
    covered = np.mean([i.low <= change <= i.high for i in intervals])
    assert 0.94 <= covered <= 0.98  # a little generous where few answers differ


@pytest.mark.parametrize(("low", "high", "expected"), [(0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.1, False)])
def test_excludes_zero(low, high, expected):
    assert Interval((low + high) / 2, low, high).excludes_zero is expected


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.1), (-0.1, 0.0)])
def test_touching_zero_is_not_excluding_it(low, high):
    assert not Interval(low, low, high).excludes_zero


@pytest.mark.parametrize(
    ("interval", "scale", "text"),
    [
        (Interval(0.42, -0.31, 1.15), 1, "+0.42 [−0.31, +1.15]"),
        (Interval(-0.02, -0.03, -0.01), 100, "−2.00 [−3.00, −1.00]"),
        (Interval(-0.02, -0.03, -0.01), -100, "+2.00 [+1.00, +3.00]"),  # the lower end stays the lower
    ],
)
def test_an_interval_is_told_with_its_lower_end_first(interval, scale, text):
    assert interval.told(scale) == text


def test_an_interval_is_told_as_it_is_unless_a_scale_is_given():
    interval = Interval(-0.004, -0.031, 0.022)
    assert interval.told() == "−0.00 [−0.03, +0.02]"
    assert interval.told(100) == "−0.40 [−3.10, +2.20]"
    assert interval.told(-100) == "+0.40 [−2.20, +3.10]"
