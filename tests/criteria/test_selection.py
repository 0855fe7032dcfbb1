"""The one rounding function, ties, and locks that cannot be right."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpgm_core.criteria import check_rate, num_pruned
from fpgm_core.criteria.selection import check_locks, lowest
from fpgm_core.errors import FpgmError


@pytest.mark.parametrize(("n", "pruned"), [(16, 6), (32, 12), (64, 25)])
def test_forty_percent_of_the_papers_widths(n, pruned):
    assert num_pruned(n, 0.4) == pruned


@pytest.mark.parametrize("n", [1, 7, 10, 64, 100, 250, 1000])
def test_the_count_is_the_whole_part_of_n_times_rate_and_one_filter_stays(n):
    for thousandths in range(1001):  # 0.29 * 100 is 28.999999999999996: the exact count is in whole numbers
        assert num_pruned(n, thousandths / 1000) == min(n * thousandths // 1000, n - 1)


@given(st.integers(1, 512), st.integers(0, 512))
def test_a_rate_of_k_of_n_prunes_k(n, k):
    assert num_pruned(n, min(k, n) / n) == min(k, n - 1)


@given(st.integers(1, 512), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_rate_prunes_no_fewer(n, first, second):
    assert num_pruned(n, min(first, second)) <= num_pruned(n, max(first, second)) < n


@pytest.mark.parametrize("rate", [-0.1, 1.1, 40, float("nan"), float("inf"), True, "0.4", None])
def test_what_is_no_fraction_is_refused(rate):
    with pytest.raises(FpgmError, match=r"^rate .* is not a fraction; give the share to prune, from 0 to 1"):
        num_pruned(16, rate)
    with pytest.raises(FpgmError, match=f"^rate of conv1 {re.escape(repr(rate))} is not"):
        check_rate(rate, "rate of conv1")


@pytest.mark.parametrize("rate", [0, 1, 0.5, np.float64(0.25)])
def test_a_fraction_is_returned_as_a_float(rate):
    assert check_rate(rate) == rate
    assert isinstance(check_rate(rate), float)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(0, 20))
def test_the_lowest_scores_come_first_and_ties_go_to_the_lower_index(scores, count):
    by_hand = sorted(range(len(scores)), key=lambda i: (scores[i], i))[:count]
    assert lowest(np.array(scores, dtype=float), count).tolist() == by_hand


WRONG_LOCKS = {
    "no such filter": ((4,), (), "conv has no filter 4; its filters are 0 to 3"),
    "a negative filter": ((), (-1,), "conv has no filter -1"),
    "a contradiction": ((1, 2), (0, 2), "filter 2 of conv is locked in and locked out"),
    "too many locked out": (
        (),
        (0, 1, 2),
        "^conv: 3 filters are locked out but its rate prunes only 2; raise the rate",
    ),
    "too many locked in": ((0, 1, 2), (), "^conv: 3 filters are locked in but its rate keeps only 2; lower the rate"),
}


@pytest.mark.parametrize(("locked_in", "locked_out", "message"), WRONG_LOCKS.values(), ids=WRONG_LOCKS)
def test_locks_that_cannot_hold_are_refused(locked_in, locked_out, message):
    with pytest.raises(FpgmError, match=message):
        check_locks(4, 2, locked_in=locked_in, locked_out=locked_out, where="conv")


@pytest.mark.parametrize(("locked_in", "locked_out"), [((), ()), ((0, 1), (2, 3)), ((0, 0, 1), (3, 3, 3))])
def test_locks_that_just_fit_are_accepted(locked_in, locked_out):
    check_locks(4, 2, locked_in=locked_in, locked_out=locked_out, where="conv")


@pytest.mark.parametrize("first", range(0, 12, 3))
def test_locks_of_each_block_are_checked_by_themselves(first):
    inside = tuple(range(first, first + 3))  # 12 filters in 4 blocks of 3, of which one is pruned each
    check_locks(12, 1, locked_in=inside[:2], locked_out=inside[2:], where="conv", blocks=4)
    where = f"^conv, group of filters {first} to {first + 2}: "
    with pytest.raises(FpgmError, match=where + "2 filters are locked out but its rate prunes only 1; raise the rate"):
        check_locks(12, 1, locked_in=(), locked_out=inside[:2], where="conv", blocks=4)
    with pytest.raises(FpgmError, match=where + "3 filters are locked in but its rate keeps only 2; lower the rate"):
        check_locks(12, 1, locked_in=inside, locked_out=(), where="conv", blocks=4)


def test_locks_spread_over_blocks_fit_where_as_many_in_one_do_not():
    check_locks(12, 1, locked_in=(), locked_out=(0, 3, 6, 9), where="conv", blocks=4)
    with pytest.raises(FpgmError, match="group of filters 0 to 2"):
        check_locks(12, 1, locked_in=(), locked_out=(0, 1, 6, 9), where="conv", blocks=4)
