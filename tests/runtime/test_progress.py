"""Work as a part of other work: its shares are spread, its result comes back."""

import pytest

from fpgm_core.runtime.progress import finished


def whole():
    found = yield from finished(iter([0.0, 0.5, 1.0, "found"]), 0.2, 0.6)
    yield found


def test_shares_are_spread_and_the_result_is_returned():
    *shares, found = whole()
    assert shares == pytest.approx([0.2, 0.4, 0.6])
    assert found == "found"


def test_stopping_stops_the_work_inside():
    closed = []

    def inside():
        try:
            yield 0.5
        finally:
            closed.append(True)

    steps = finished(inside())
    assert next(steps) == 0.5
    steps.close()
    assert closed
