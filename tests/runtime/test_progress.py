"""Work that tells how far it is and returns what it comes to."""

import pytest

from fpgm_core.runtime.progress import Progress, behind, run, timed, within


def counting(n, fail_at=None):
    for index in range(n):
        if index == fail_at:
            raise ValueError("no further")
        yield Progress(index, n, "counting")
    return n * n


def test_run_returns_what_the_work_returns_and_tells_every_step():
    shares = []
    assert run(counting(4), lambda progress: shares.append(progress.share)) == 16
    assert shares == [0.0, 0.25, 0.5, 0.75]


def test_what_goes_on_behind_tells_what_the_whole_is_at():
    whole, steps = Progress(3, 4, "the whole", partial="so far"), []
    assert run(behind(counting(3), whole), steps.append) == 9
    assert steps == [whole] * 3
    part = counting(3)
    behind_it = behind(part, whole)
    next(behind_it)
    behind_it.close()
    assert next(part, None) is None  # ended with it


def test_a_part_is_spread_over_its_share_of_the_whole():
    def whole():
        first = yield from within(counting(2), 0.0, 0.5)
        second = yield from within(counting(2), 0.5, 1.0, what="again")
        return first + second

    steps = []
    assert run(whole(), steps.append) == 8
    assert [(step.share, step.what) for step in steps] == [
        (0.0, "counting"), (0.25, "counting"), (0.5, "again"), (0.75, "again"),
    ]  # fmt: skip


def test_a_part_that_fails_fails_the_whole():
    with pytest.raises(ValueError, match="no further"):
        run(within(counting(3, fail_at=1)))


def test_work_that_is_closed_closes_its_parts():
    closed = []

    def part():
        try:
            yield Progress(0)
        finally:
            closed.append("part")

    work = timed(within(part()))
    next(work)
    work.close()
    assert closed == ["part"]


def test_the_time_left_follows_the_pace():
    times = iter([0.0, 1.0, 2.0, 3.0])
    steps = []
    run(timed(counting(4), clock=lambda: next(times)), steps.append)
    assert [step.seconds_left for step in steps] == [None, 3.0, 2.0, 1.0]


@pytest.mark.parametrize(("done", "total", "share"), [(0, 0, 1.0), (-1, 4, 0.0), (9, 4, 1.0), (1, 4, 0.25)])
def test_the_share_lies_between_0_and_1(done, total, share):
    assert Progress(done, total).share == share
