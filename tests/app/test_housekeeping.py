"""Between visits: a closed tab's work ends within seconds, a lost connection comes back, a server at rest lets go."""

import time
import weakref
from dataclasses import replace

import pytest
from driving import again, opened, session_of, until
from view_states import resnet20_view

from fpgm_core import Network
from fpgm_core.runtime.cache import cache_report
from fpgm_core.runtime.progress import Progress
from pages.ui.session import session as session_module
from pages.ui.session.housekeeping import GRACE, LINGER, REST, House, Quiet, give_back, house, let_go
from pages.ui.session.view_state import encode


def held():
    return sum(use.bytes for use in cache_report()["cpu"].values())


class Tab:
    def __init__(self):
        self.said = []

    def pause(self):
        self.said.append("pause")

    def close(self):
        self.said.append("close")


@pytest.fixture
def rested():
    return []


@pytest.fixture
def keeping(rested):
    return House(lambda: rested.append("rest"))


def test_a_tabs_work_ends_within_ten_seconds_and_all_of_it_later(keeping):
    assert GRACE + 4 < 10  # the worker's patience with a step is four seconds
    tab, other = Tab(), Tab()
    keeping.enter("gone", tab)
    keeping.enter("there", other)
    open_now = {"there"}.__contains__
    assert keeping.tick(open_now, 0.0) == []
    assert keeping.tick(open_now, GRACE - 0.1) == []
    assert tab.said == []  # it may be back at once
    keeping.tick(open_now, GRACE)
    assert tab.said[0] == "pause"
    assert keeping.tick(open_now, LINGER - 1) == []
    assert "close" not in tab.said
    assert keeping.tick(open_now, LINGER) == ["gone"]
    assert tab.said[-1] == "close"
    assert keeping.tick(open_now, LINGER + 1) == []
    assert other.said == []


def test_a_connection_that_is_lost_for_a_moment_ends_nothing(keeping):
    tab, names = Tab(), {"tab"}
    keeping.enter("tab", tab)
    for now in range(0, 100, 2):
        (names.discard if now % 4 else names.add)("tab")
        keeping.tick(names.__contains__, float(now))
    assert tab.said == []


def test_a_server_rests_once_when_the_last_has_gone(keeping, rested):
    names = {"one", "two"}
    for name in names:
        keeping.enter(name, Tab())
    keeping.tick(names.__contains__, 0.0)
    names.discard("one")
    keeping.tick(names.__contains__, 100.0)
    assert rested == []
    names.discard("two")
    keeping.tick(names.__contains__, 100.0 + REST - 1)
    assert rested == []
    for late in (0, 1, 500):
        keeping.tick(names.__contains__, 100.0 + REST + late)
    assert rested == ["rest"]
    keeping.enter("three", Tab())
    keeping.tick({"three"}.__contains__, 1000.0)
    keeping.tick(names.__contains__, 1000.0 + REST)
    assert rested == ["rest", "rest"]


def test_freed_memory_goes_back_once_whenever_no_work_was_under_way_for_a_while():
    done = []
    quiet = Quiet(lambda: done.append("given back"), 5.0)
    quiet.tick(100.0, is_busy=False)
    assert done == [], "nothing was freed yet"
    for begun in (200.0, 300.0):
        quiet.tick(begun, is_busy=True)
        quiet.tick(begun + 4.9, is_busy=False)
        quiet.tick(begun + 6, is_busy=True)
        quiet.tick(begun + 10.9, is_busy=False)
        assert len(done) == (begun > 250)
        for late in (11, 12, 50):
            quiet.tick(begun + late, is_busy=False)
    assert len(done) == 2


def test_a_network_that_nobody_holds_takes_no_memory_once_freed_memory_goes_back(monkeypatch):
    network = Network.load("resnet18")
    network.cost(network.plan(0.5))
    weights = weakref.ref(next(network.module.parameters()))
    del network
    monkeypatch.setenv("FPGM_REST_BYTES", "1")
    give_back()
    assert weights() is None


def test_a_page_whose_connection_was_lost_goes_on_by_itself():
    app = opened()
    session = session_of(app)
    assert until(app, lambda: session.measurement is not None)
    shown = session.state
    session.pause()
    assert session.measuring is None
    again(app)
    assert session_of(app) is session
    assert session.state == shown
    assert until(app, lambda: session.measurement is not None)
    session.jobs.close()


def test_a_server_at_rest_forgets_what_can_be_made_anew_and_makes_it_anew(monkeypatch):
    app = opened()
    session = session_of(app)
    assert until(app, lambda: session.measurement is not None)
    session.pause()
    monkeypatch.setenv("FPGM_REST_BYTES", "1T")
    let_go()
    assert held() > 0, "the process holds less than that"
    monkeypatch.setenv("FPGM_REST_BYTES", "1")
    deadline = time.monotonic() + 20
    while held() and time.monotonic() < deadline:  # the step under way may yet leave something
        let_go()
        time.sleep(0.1)
    assert held() == 0
    again(app)
    assert until(app, lambda: session.measurement is not None)
    session.jobs.close()


def test_every_tab_is_looked_after():
    app = opened()
    session = session_of(app)
    house().tick(lambda name: name != session.name, 0.0)
    house().tick(lambda name: name != session.name, GRACE)
    assert session.jobs.is_closed
    again(app)
    assert not session.jobs.is_closed
    session.jobs.close()


def test_a_measurement_whose_thread_is_lost_begins_again_and_the_page_says_so(monkeypatch):
    lost, measured = [], session_module.measurement_work

    def dying(*arguments):
        if not lost:
            lost.append(True)
            yield Progress(0.1)
            raise SystemExit("killed")
        return (yield from measured(*arguments))

    monkeypatch.setattr(session_module, "measurement_work", dying)
    view = resnet20_view()
    own = view.plan.with_rates({"conv1": 0.75})  # which no other test measures: equal measurements are shared
    app = opened(s=encode(replace(view, plan=own)))
    session = session_of(app)
    assert until(app, lambda: session.measurement is not None)
    assert lost
    assert any("begun it again" in info.value for info in app.info)
    session.jobs.close()
