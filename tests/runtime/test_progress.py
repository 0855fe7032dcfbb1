"""Work: run to its end, made a part of other work, stopped, and its time left."""

import pytest

from fpgm_core.runtime.progress import Progress, run, timed, within


def counting(total, closed=None):
    try:
        for done in range(1, total + 1):
            yield Progress(done, total, "counting", partial=done)
        return f"counted to {total}"
    finally:
        if closed is not None:
            closed.append(True)


def test_a_share_is_of_the_total_and_stays_within_it():
    assert [Progress(done, 4).share for done in (-1, 0, 1, 4, 5)] == [0, 0, 0.25, 1, 1]
    assert Progress(0, 0).share == 1


def test_running_returns_the_result_and_tells_every_step():
    steps = []
    assert run(counting(3), steps.append) == "counted to 3"
    assert [step.done for step in steps] == [1, 2, 3]
    assert run(counting(0)) == "counted to 0"


def test_a_part_is_spread_over_its_share_of_the_whole():
    def whole():
        return (yield from within(counting(2), 0.2, 0.6)) + (yield from within(counting(1), 0.6, what="the rest"))

    steps = []
    assert run(whole(), steps.append) == "counted to 2counted to 1"
    assert [step.share for step in steps] == pytest.approx([0.4, 0.6, 1.0])
    assert [step.what for step in steps] == ["counting", "counting", "the rest"]
    assert [step.partial for step in steps] == [1, 2, 1]


@pytest.mark.parametrize("outer", [within, timed])
def test_stopping_stops_the_work_inside(outer):
    closed = []
    work = outer(counting(5, closed))
    next(work)
    assert not closed
    work.close()
    assert closed


def test_an_error_comes_out_of_the_work_inside():
    def failing():
        yield Progress(0.5)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run(within(failing()))


def test_the_time_left_is_at_the_pace_since_the_first_step():
    seconds = iter(range(100, 200, 10))
    steps = []
    assert run(timed(counting(4), lambda: next(seconds)), steps.append) == "counted to 4"
    assert [step.seconds_left for step in steps] == [None, 20, 10, 0]
