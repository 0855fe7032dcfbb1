"""Background work: one job of a name, equal requests shared, first figures first, everything ended with its tab."""

import importlib
import re
import threading
import time
import weakref
from functools import partial
from pathlib import Path

import pytest

import pages.ui
from fpgm_core import FpgmError
from fpgm_core.runtime.progress import Progress
from pages.ui.session.jobs import Jobs, device_worker, layout_worker
from pages.ui.session.worker import Limits, Turns, Worker

SOURCES = sorted(Path(next(iter(pages.ui.__path__))).rglob("*.py"))
# The names given where work is begun: `jobs.start("x"`, `result_of(session, "x"`, `_JOB = "x"`.
NAMED = re.compile(r'(?:jobs\.start|self\._wait|result_of|job_for)\(\s*(?:session,\s*)?f?"([\w{}]+)"|_JOB = "(\w+)"')
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
        "measurement", "scores", "network", "layout", "replaceability", "damage", "sensitivity", "training", "export",
        "judge", "lesson_print", "lesson_{need}",
    }  # fmt: skip


@pytest.mark.parametrize("worker", [device_worker, layout_worker])
@pytest.mark.parametrize("name", NAMES)
def test_work_of_every_name_ends_with_its_tab(name, worker, jobs):
    session, endless = jobs("closing"), Endless()
    assert until(lambda: not worker().under_way, 120)
    session.start(name, endless, key=object(), worker=worker())
    assert until(lambda: endless.steps, 120)  # where UMAP compiles for an earlier test, that is not broken off
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


class Large:
    """What work is about: a network, say."""


@pytest.mark.parametrize("long", [True, False])
@pytest.mark.parametrize("how", ["finished", "failed", "cancelled", "closed"])
def test_a_worker_at_rest_holds_nothing_of_what_its_work_was_about(how, long, jobs):
    large, session = Large(), jobs("holding")
    held, failed = weakref.ref(large), how == "failed"

    def begin(large):
        yield Progress(1, 4, partial="part")
        while how in ("cancelled", "closed"):
            time.sleep(0.001)
            yield Progress(1, 2)
        if failed:
            raise FpgmError(repr(large))

    job = session.start("work", partial(begin, large), key=("holding", how, long), long=long)
    assert until(lambda: job.partial)
    if how == "cancelled":
        session.cancel("work")
    elif how == "closed":
        session.close()
    else:
        assert until(lambda: job.done)
        assert session.get("work") is job  # which stays, for what it came to
        assert bool(job.error) == failed
    large = job = None
    assert until(lambda: held() is None)


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


@pytest.mark.parametrize(("error", "words"), [(FpgmError("too few"), "too few"), (ValueError("odd"), "log, under")])
def test_an_error_is_kept_in_words_and_the_same_can_be_begun_again(error, words, jobs):
    def failing():
        yield Progress(0.5)
        raise error

    session, endless = jobs("failing"), Endless()
    job = session.start("work", failing, key="key")
    assert until(lambda: job.done)
    assert words in job.error
    assert "odd" not in job.error
    assert job.result is None
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
    assert measured[:4] == ["first"] * 2 + ["second"] * 2
    assert measured[4:] in (["first"] * 2 + ["second"] * 2, ["second"] * 2 + ["first"] * 2), "one after the other"
    assert log.index("long") <= 2, "long work has every other step"


@pytest.fixture
def worker():
    """Makes workers, which end with the test."""
    made = []

    def make(**options):
        made.append(Worker(**options))
        return made[-1]

    yield make
    for each in made:
        for session in "abcdefgh":
            each.cancel(session)
        each.close()


def begin_long(worker, session, name="work", work=None):
    return worker.start(session, name, work or Endless(), key=(session, name), long=True)


def test_so_much_long_work_of_a_session_and_in_all_and_the_rest_waits_in_order(worker):
    working = worker(limits=Limits(session=2, server=3, waiting=4))
    jobs = {name: begin_long(working, "a", name) for name in ("one", "two", "three")}
    assert [job.place for job in jobs.values()] == [0, 0, 1]  # a session's third waits though there is room
    other = begin_long(working, "b")
    assert (other.place, jobs["three"].place) == (0, 1)
    late = [begin_long(working, session) for session in "cd"]
    assert [job.place for job in late] == [2, 3]
    assert until(lambda: other.progress is not None)
    assert not any(job.progress for job in (jobs["three"], *late))
    working.cancel("b")
    assert (late[0].place, jobs["three"].place, late[1].place) == (0, 1, 2)  # of c, for a has its two
    working.cancel("a", "one")
    assert (jobs["three"].place, late[1].place) == (0, 1)
    assert until(lambda: jobs["three"].progress and late[0].progress)
    assert late[1].progress is None


def test_what_is_too_much_to_wait_is_refused_in_words_and_may_come_back(worker):
    working = worker(limits=Limits(session=1, server=1, waiting=2))
    kept = [begin_long(working, session) for session in "abc"]
    refused = begin_long(working, "d")
    assert refused.done
    assert "try again" in refused.error
    assert [job.place for job in kept] == [0, 1, 2]
    working.cancel("a")
    assert begin_long(working, "d").place == 2
    assert working.under_way == 3


def test_what_was_refused_is_asked_for_again_by_itself_a_little_later(worker, jobs):
    working, session = worker(limits=Limits(session=1, server=1, waiting=1)), jobs("d")
    for other in "ab":
        begin_long(working, other)
    job = session.start("work", Endless(), key="key", worker=working)
    assert session.get("work", "key") is job, "it is told why"
    assert job.error
    assert until(lambda: session.get("work", "key") is None)


def test_measurements_never_wait_in_the_queue(worker):
    working, log = worker(limits=Limits(session=1, server=1)), []
    for session in "ab":
        begin_long(working, session)
    job = working.start("c", "measurement", lambda: counting(3, log, "c"), key="c", long=False)
    assert until(lambda: job.done)


@pytest.mark.parametrize("variable", ["FPGM_SESSION_WORKS", "FPGM_WORKS", "FPGM_WAITING_WORKS"])
def test_whoever_starts_the_server_sets_the_limits(variable, monkeypatch):
    name = {"FPGM_SESSION_WORKS": "session", "FPGM_WORKS": "server", "FPGM_WAITING_WORKS": "waiting"}[variable]
    monkeypatch.setenv(variable, "7")
    assert getattr(Limits.configured(), name) == 7
    for wrong in ("0", "-1", "many", "1.5", "9" * 20):
        monkeypatch.setenv(variable, wrong)
        with pytest.raises(FpgmError, match=variable):
            Limits.configured()


def test_a_step_that_nobody_wants_is_broken_off(worker):
    """A step that goes on for ever, as one that follows somebody's network may: closing its tab ends it."""
    working, seen, ended = worker(patience=0.1), threading.Event(), []

    def stuck():
        yield Progress(0.1)
        try:
            seen.set()
            while True:
                time.sleep(0.01)
        except Exception:  # what libraries do
            ended.append("swallowed")
            while True:
                time.sleep(0.01)
        finally:
            ended.append("ended")

    begin_long(working, "a", work=stuck)
    assert seen.wait(10)
    begun = time.monotonic()
    working.cancel("a")
    assert until(lambda: ended)
    assert time.monotonic() - begun < 5
    assert ended == ["ended"]
    after = Endless()
    begin_long(working, "b", work=after)
    assert until(lambda: after.steps > 3), "the worker goes on"


def test_an_import_comes_to_its_end_before_a_step_is_broken_off(worker, tmp_path, monkeypatch):
    """One that is broken off in the middle may never be imported again."""
    (tmp_path / "slow_to_import.py").write_text(
        "import time\nuntil = time.monotonic() + 1\nwhile time.monotonic() < until:\n    pass\nwhole = True\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    working, seen, found = worker(patience=0.05), threading.Event(), []

    def importing():
        yield Progress(0.1)
        seen.set()
        module = importlib.import_module("slow_to_import")
        found.append(module.whole)
        while True:
            time.sleep(0.01)

    begin_long(working, "a", work=importing)
    assert seen.wait(10)
    working.cancel("a")
    assert until(lambda: found)
    after = Endless()
    begin_long(working, "b", work=after)
    assert until(lambda: after.steps > 3), "then it was broken off"


def test_a_step_that_somebody_else_wants_is_not_broken_off(worker):
    working, gate, seen = worker(patience=0.05), threading.Event(), threading.Event()

    def slow():
        seen.set()
        gate.wait(10)
        yield Progress(0.5)
        return "whole"

    job = working.start("a", "work", slow, key="same", long=True)
    assert working.start("b", "work", slow, key="same", long=True) is job
    assert seen.wait(10)
    working.cancel("a")
    time.sleep(0.2)
    gate.set()
    assert until(lambda: job.done)
    assert job.result == "whole"


class Dying:
    """Work that ends its thread, so many times, in the middle."""

    def __init__(self, times):
        self.times = times

    def __call__(self):
        yield Progress(0.2, partial="first")
        if self.times:
            self.times -= 1
            raise SystemExit(3)
        yield Progress(0.6, partial="second")
        return "whole"


@pytest.mark.parametrize("long", [False, True])
def test_work_that_ends_its_thread_is_begun_again_and_others_go_on(worker, long):
    working, log = worker(), []
    job = working.start("a", "measurement", Dying(1), key="dying", long=long)
    other = working.start("b", "measurement", lambda: counting(3, log, "b"), key="b", long=long)
    assert until(lambda: job.done and other.done)
    assert (job.result, job.error, other.result) == ("whole", None, "b")
    assert (job.begun_again, other.begun_again) == (True, False)
    twice = working.start("a", "measurement", Dying(2), key="dying twice", long=long)
    assert until(lambda: twice.done)
    assert "under failure" in twice.error
    assert twice.partial == "first", "what it had is there"
    later = working.start("b", "measurement", lambda: counting(1, log, "b"), key="later", long=long)
    assert until(lambda: later.done)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_is_gone_is_replaced(worker, monkeypatch):
    def gone(self, *_):
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(Turns, "choose", gone)
        working, log = worker(), []
        first = working.start("a", "measurement", lambda: counting(2, log, "a"), key="a", long=False)
        time.sleep(0.1)
    assert not first.done
    working.tend()
    second = working.start("b", "measurement", lambda: counting(2, log, "b"), key="b", long=False)
    assert until(lambda: first.done and second.done), "nothing that waited is lost"
