"""The history on the pages: kept from sitting to sitting, named, pinned, restored, deleted; each visitor's own."""

import asyncio
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from driving import again, opened, press, session_of, until
from view_states import resnet20_view

from fpgm_core.data import load_images
from fpgm_core.evaluation import evaluate
from fpgm_core.runtime.cache import cache_report
from pages.ui.history import table_key
from pages.ui.panels.plan_list import kept_entries
from pages.ui.session import kept_plans
from pages.ui.session.kept_plans import history_of_visitor
from pages.ui.session.networks import first_view
from pages.ui.session.view_state import encode
from pages.ui.session.visitors import COOKIE, VisitorCookie

PAGE = "pages/5_Choose.py"


@pytest.fixture
def history(resnet20):
    """Three plans of ResNet-20, measured on a few images."""
    kept, images = kept_plans.History(), load_images("cifar10", "choose").first(20)
    for rate in (0.2, 0.4, 0.6):
        pruned = resnet20.prune(rate, coupling="inner")
        kept.add(pruned, images, evaluate(pruned, images))
    return kept


def shown(state=None):
    """The view History with everything in it; without a state of a network that nothing can be measured of."""
    app = opened(s=encode(state or first_view("resnet110")))
    app.session_state["choose_view"] = "history"
    again(app.switch_page(PAGE))
    app.toggle(key="history_own").set_value(False).run()
    return app


def select(app, entries, chosen):
    """Select the rows of some entries; `entries` are all that are listed."""
    app.session_state[table_key(entries)] = {
        "selection": {"rows": [entries.index(one) for one in chosen], "columns": []}
    }
    return again(app)


def test_what_was_read_is_read_anew_once_it_changed_and_takes_the_place_of_what_was_read_before(history, resnet20):
    session, images = session_of(opened()), load_images("cifar10", "choose").first(20)
    shown_first = kept_entries(session, limit=9)
    assert kept_entries(session, limit=9) is shown_first
    held = cache_report()["cpu"]["history"].entries
    pruned = resnet20.prune(0.1, coupling="inner")
    history.add(pruned, images, evaluate(pruned, images))
    assert [entry.plan for entry in kept_entries(session, limit=9)] == [pruned.plan, *(e.plan for e in shown_first)]
    assert cache_report()["cpu"]["history"].entries == held
    session.jobs.close()


def test_a_measured_plan_is_kept_and_found_in_the_next_sitting():
    app = opened(s=encode(resnet20_view()))
    session = session_of(app)
    assert until(app, lambda: session.measured("recalibrated") is not None, 120)
    (entry,) = session.kept_plans.entries()
    assert (entry.plan, entry.method) == (session.state.plan, "recalibrated")
    assert entry.accuracy == session.measured("recalibrated").accuracy
    other = opened(s=encode(resnet20_view()))  # another sitting
    assert [one.id for one in session_of(other).kept_plans.entries()] == [entry.id]
    assert any(element.proto.id.endswith("trace") for element in other.get("plotly_chart"))


def test_plans_are_pinned_named_found_and_deleted(history):
    app, entries = shown(), history.entries()
    latest, middle, first = entries
    select(app, entries, [middle])
    press(app, "history_pin")
    select(app, history.entries(), [history.entry(middle.id)])
    app.text_input(key=f"history_name:{middle.id}").set_value("the middle").run()
    assert (history.entry(middle.id).pinned, history.entry(middle.id).name) == (True, "the middle")
    app.text_input(key="history_text").set_value("middle").run()
    assert app.dataframe[0].value["name"].tolist() == ["the middle"]
    app.text_input(key="history_text").set_value("").run()
    select(app, history.entries(), [history.entry(latest.id), history.entry(first.id)])
    assert app.button(key="history_restore").disabled  # which of the two?
    press(app, "history_delete")
    assert [entry.id for entry in history.entries()] == [middle.id]


def test_a_plan_is_restored_with_its_network(history):
    app, entries = shown(), history.entries()
    select(app, entries, entries[1:2])
    press(app, "history_restore")
    assert session_of(app).state.plan == entries[1].plan
    session_of(app).stop_measuring()


def test_what_was_selected_is_not_what_stands_there_once_others_were_measured(history, resnet20):
    app, entries = shown(), history.entries()
    select(app, entries, entries[:1])
    pruned, images = resnet20.prune(0.7, coupling="inner"), load_images("cifar10", "choose").first(20)
    history.add(pruned, images, evaluate(pruned, images))
    again(app)
    assert app.button(key="history_delete").disabled


def test_a_plan_alone_is_compared_with_the_dense_network(history):
    app = shown(replace(resnet20_view(), method="as_is"))
    assert until(app, lambda: session_of(app).measured("as_is") is not None, 120)
    entries = history.entries()
    select(app, entries, entries[3:])
    press(app, "history_compare")
    assert app.session_state["choose_view"] == "compare"
    assert app.session_state["compared"] == ["dense:", f"kept:{entries[3].id}"]


def test_where_others_may_visit_everybody_has_a_history_of_their_own(monkeypatch, resnet20):
    images = load_images("cifar10", "choose").first(10)
    pruned = resnet20.prune(0.3)
    measured = evaluate(pruned, images)
    monkeypatch.setattr(kept_plans, "is_private", lambda: False)
    visitors = {}
    for who in ("a" * 22, "b" * 22, "none given here"):
        monkeypatch.setattr(kept_plans.st, "context", SimpleNamespace(cookies={COOKIE: who}))
        visitors[who] = history_of_visitor("tab of another")
    first, second, unknown = visitors.values()
    first.add(pruned, images, measured)
    assert len(first.entries()) == 1
    assert not second.entries()
    assert not unknown.entries()
    assert len({first.path, second.path, unknown.path}) == 3
    assert "a" * 22 not in str(first.path)  # a listing of the folder gives nobody away
    monkeypatch.setattr(kept_plans, "is_private", lambda: True)
    assert not history_of_visitor("tab").entries()
    assert history_of_visitor("tab").path == kept_plans.History().path


def answered(headers, kind=b"text/html; charset=utf-8"):
    """The cookies that a page's answer sets."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "scheme": "https", "headers": headers}
    asyncio.run(VisitorCookie(app)(scope, None, send))
    return [value.decode() for name, value in sent[0]["headers"] if name == b"set-cookie"]


def test_a_browser_is_given_a_cookie_once_that_no_script_can_read():
    (cookie,), (other,) = answered([]), answered([(b"cookie", b"fpgm_visitor=../../etc")])
    assert re.fullmatch(rf"{COOKIE}=[\w-]{{22}}; Path=/; HttpOnly; SameSite=Lax; Max-Age=\d+; Secure", cookie)
    assert cookie != other
    own = cookie.partition(";")[0].encode()
    assert answered([(b"cookie", own)]) == []
    assert answered([], kind=b"text/css") == []


def test_only_so_many_visitors_are_kept(monkeypatch):
    monkeypatch.setattr(kept_plans, "is_private", lambda: False)
    monkeypatch.setattr(kept_plans, "MOST_VISITORS", 2)
    for who in "abc":
        monkeypatch.setattr(kept_plans.st, "context", SimpleNamespace(cookies={COOKIE: who * 22}))
        history_of_visitor("tab").entries()
    assert len(list(history_of_visitor("tab").path.parent.glob("*.sqlite"))) == 2


def test_every_page_goes_on_where_the_history_cannot_be_read(own_home):
    (own_home / "history.sqlite").mkdir(parents=True)
    for page, view in (("app.py", ""), (PAGE, "history"), (PAGE, "compare"), (PAGE, "front")):
        app = opened(s=encode(first_view("resnet20")))
        app.session_state["choose_view"] = view
        app = again(app.switch_page(page)) if view else app
        assert any("cannot open the history" in error.value for error in app.error)
        assert not app.exception
        session_of(app).jobs.close()
