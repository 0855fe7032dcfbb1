"""Background work: one job of a name, equal requests shared, first figures first, everything ended with its tab."""

import re
import threading
import time
from pathlib import Path

import pytest

import pages.ui
from fpgm_core import FpgmError
from fpgm_core.runtime.progress import Progress
from pages.ui.session.jobs import Jobs, Worker, device_worker, layout_worker

SOURCES = sorted(Path(next(iter(pages.ui.__path__))).rglob("*.py"))
# The names given where work is begun: `jobs.start("x"`, `result_of(session, "x"`, `_JOB = "x"`.
NAMED = re.compile(r'(?:jobs\.start|result_of|job_for)\(\s*(?:session,\s*)?f?"([\w{}]+)"|_JOB = "(\w+)"')
NAMES = sorted({first or second for path in SOURCES for first, second in NAMED.findall(path.read_text())})


class Endless:
    """Work that never ends, and says whether it still runs."""

    def __init__(self):
        self.steps = 0

    def __call__(self):
        while True:
            self.steps += 1
            time.sleep(0.001)
            yield Progress(0.5)

    def rests(self):
        before = self.steps
        time.sleep(0.1)
        return self.steps <= before + 1  # the step under way


def counting(number, log, name):
    for done in range(number):
        log.append(name)
        yield Progress(done, number, partial=done + 1 if done else None)
    return name


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


@pytest.fixture
def jobs():
    """Makes the jobs of a session by its name."""
    made = []

    def make(session):
        made.append(Jobs(session))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_the_names_are_all_that_the_pages_begin():
    assert set(NAMES) >= {
        "measurement", "scores", "layout", "replaceability", "damage", "sensitivity", "training", "export", "judge",
        "lesson_print", "lesson_{need}",
    }  # fmt: skip


@pytest.mark.parametrize("worker", [device_worker, layout_worker])
@pytest.mark.parametrize("name", NAMES)
def test_work_of_every_name_ends_with_its_tab(name, worker, jobs):
    session, endless = jobs("closing"), Endless()
    session.start(name, endless, key=object(), worker=worker())
    assert until(lambda: endless.steps)
    session.close()
    assert endless.rests()
    assert not worker().under_way
    with pytest.raises(FpgmError, match="closed"):
        session.start(name, endless, key=object())


@pytest.mark.parametrize("end", ["cancel", "stop"])
@pytest.mark.parametrize("name", NAMES)
def test_work_of_every_name_ends_when_it_is_cancelled(name, end, jobs):
    session, endless, key = jobs("cancelling"), Endless(), object()
    session.start(name, endless, key=key)
    assert until(lambda: endless.steps)
    getattr(session, end)(name)
    assert endless.rests()
    assert session.get(name) is None
    assert session.is_stopped(name, key) == (end == "stop")
    session.start(name, endless, key=key)
    assert not session.is_stopped(name, key)


def test_a_job_is_replaced_by_the_next_of_its_name(jobs):
    session, first, second = jobs("replacing"), Endless(), Endless()
    session.start("work", first, key=1)
    assert until(lambda: first.steps)
    session.start("work", second, key=2)
    assert until(lambda: second.steps)
    assert first.rests()
    assert session.get("work", 1) is None
    assert session.get("work", 2) is not None


def test_equal_requests_share_a_job_that_ends_with_the_last(jobs):
    one, other, endless = jobs("one"), jobs("other"), Endless()
    job = one.start("work", endless, key="same")
    assert other.start("work", endless, key="same") is job
    one.close()
    assert not endless.rests()
    other.close()
    assert endless.rests()


def test_a_finished_measurement_is_found_again_and_finished_long_work_is_not(jobs):
    first, later, log = jobs("first"), jobs("later"), []
    for long in (False, True):
        job = first.start("work", lambda: counting(1, log, "done"), key=("measured", long), long=long)
        assert until(lambda job=job: job.done)
        assert job.result == "done"
        first.cancel("work")
        again = later.start("work", lambda: counting(1, log, "done"), key=("measured", long), long=long)
        assert (again is job) is not long


def test_a_job_has_the_latest_progress_and_partial_and_the_result(jobs):
    gate = threading.Event()

    def work():
        yield Progress(1, 4, "reading", partial="half")
        yield Progress(2, 4, "reading")
        gate.wait(10)
        return "whole"

    job = jobs("progress").start("work", work, key=object())
    assert until(lambda: job.share == 0.5)
    assert (job.partial, job.result, job.done, job.has_news) == ("half", None, False, True)
    gate.set()
    assert until(lambda: job.done)
    assert (job.result, job.error) == ("whole", None)


@pytest.mark.parametrize(
    ("error", "words"), [(FpgmError("too few"), "too few"), (ValueError("odd"), "The work failed (ValueError: odd)")]
)
def test_an_error_is_kept_in_words_and_the_same_can_be_begun_again(error, words, jobs):
    def failing():
        yield Progress(0.5)
        raise error

    session, endless = jobs("failing"), Endless()
    job = session.start("work", failing, key="key")
    assert until(lambda: job.done)
    assert (job.error, job.result) == (words, None)
    assert session.get("work", "key") is job
    assert session.start("work", endless, key="key") is not job
    assert until(lambda: endless.steps), "the worker lives"


def test_first_figures_come_first_then_measurements_in_order_with_long_work_between():
    worker, log, gate = Worker(), [], threading.Event()

    def blocking():
        yield Progress(0.0)
        gate.wait(10)

    worker.start("x", "gate", blocking, key="gate", long=False)
    names = ("first", "second")
    jobs = [
        worker.start(name, "measurement", lambda name=name: counting(4, log, name), key=name, long=False)
        for name in names
    ]
    jobs.append(worker.start("third", "long", lambda: counting(3, log, "long"), key="long", long=True))
    gate.set()
    assert until(lambda: all(job.done for job in jobs))
    worker.close()
    measured = [name for name in log if name != "long"]
    assert measured == ["first"] * 2 + ["second"] * 2 + ["first"] * 2 + ["second"] * 2
    assert log.index("long") <= 2, "long work has every other step"
