"""Work in a process of its own: the same steps and results, and a process that fails, dies and is begun anew."""

import os
import signal
import time

import pytest
from elsewhere import (
    counting_work,
    dying_work,
    failing_work,
    leaving_work,
    telling_work,
    unspeakable_work,
    writing_work,
)

from fpgm_core.runtime.progress import run
from fpgm_core.runtime.work_process import WorkLost, WorkProcess


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.fixture(scope="module")
def shared():
    process = WorkProcess("elsewhere", environment={"FPGM_SAID": "so"})
    yield process
    process.close()


@pytest.fixture
def process(shared):
    """A process that is ready."""
    shared.start()
    assert until(lambda: shared.is_ready)
    return shared


def assert_answers(process):
    assert run(process.work(counting_work, 2)) == 2


def test_steps_and_result_are_those_of_the_work_and_are_made_elsewhere(process):
    steps = []
    assert run(process.work(counting_work, 3), steps.append) == 3
    assert [step.done for step in steps] == [0, 1, 2]
    assert {step.partial for step in steps} == {process.pid}
    assert process.pid != os.getpid()


def test_several_works_go_on_side_by_side(process):
    one, other = process.work(counting_work, 2), process.work(counting_work, 3)
    assert [next(one).done, next(other).done, next(one).done, next(other).done] == [0, 0, 1, 1]
    assert run(one) == 2
    assert run(other) == 3


def test_its_environment_is_its_own_and_what_is_printed_there_is_no_answer(process):
    assert run(process.work(telling_work, "FPGM_SAID")) == "so"
    assert "FPGM_SAID" not in os.environ


def test_work_that_nobody_goes_on_with_is_closed_there(process, tmp_path):
    work = process.work(leaving_work, str(tmp_path / "told"))
    next(work)
    work.close()
    assert not (tmp_path / "told").exists()
    assert_answers(process)
    assert (tmp_path / "told").read_text() == "left"


@pytest.mark.parametrize("work", [failing_work, unspeakable_work])
def test_work_that_fails_there_is_lost_and_the_process_goes_on(process, work):
    pid = process.pid
    with pytest.raises(WorkLost):
        run(process.work(work))
    assert_answers(process)
    assert process.pid == pid


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_an_interrupt_at_the_terminal_is_for_who_asks(process):
    pid = process.pid
    os.kill(pid, signal.SIGINT)
    assert_answers(process)
    assert process.pid == pid


def test_what_was_under_way_in_a_process_that_died_is_lost_and_another_is_begun(process):
    pid, other = process.pid, process.work(counting_work, 5)
    next(other)
    with pytest.raises(WorkLost):
        run(process.work(dying_work))
    assert not process.is_ready
    with pytest.raises(WorkLost):
        next(other)
    process.start()
    assert until(lambda: process.is_ready)
    assert process.pid != pid
    assert_answers(process)


def test_a_step_that_is_broken_off_leaves_no_answer_to_the_next(process, monkeypatch):
    def broken(process):
        raise KeyboardInterrupt

    work = process.work(counting_work, 3)
    next(work)
    with monkeypatch.context() as patched:
        patched.setattr("fpgm_core.runtime.work_process._read", broken)
        with pytest.raises(KeyboardInterrupt):
            next(work)
    assert not process.is_ready
    process.start()
    assert until(lambda: process.is_ready)
    assert_answers(process)


def test_none_is_asked_before_it_is_ready():
    process = WorkProcess()
    assert process.pid is None
    with pytest.raises(WorkLost):
        run(process.work(counting_work, 2))


def test_it_is_ready_once_it_has_done_its_first_work(tmp_path):
    process = WorkProcess("elsewhere")
    process.start(writing_work, str(tmp_path / "told"))
    assert until(lambda: process.is_ready)
    assert (tmp_path / "told").read_text() == "written"
    assert_answers(process)
    process.close()


def test_a_process_that_never_becomes_ready_is_not_begun_for_ever():
    process, begun = WorkProcess(), set()
    for _ in range(9):
        process.start(dying_work)
        begun.add(process.pid)
        assert until(lambda: process.pid is None)
    assert len(begun - {None}) == 3
    assert not process.is_ready


def test_it_ends_with_who_asked(process):
    ended = process._process
    ended.stdin.close()  # as the system does for a process that died
    assert ended.wait(20) == 0
    process.close()
    assert process.pid is None
