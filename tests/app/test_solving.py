"""Rates from a goal on Explore, driven headless: solved, searched, stopped, taken back; and why each rate is so."""

import json
from dataclasses import replace
from functools import partial

import pytest
from driving import again, opened, press, session_of, until
from view_states import resnet20_view

from fpgm_core.allocation import Goal, SearchConfig, SuggestConfig, bargain, dearest, prepared_work
from fpgm_core.data import load_images
from pages.ui.components.telling import plain
from pages.ui.panels import goal
from pages.ui.session import solving
from pages.ui.session.solving import known_losses, take_solution
from pages.ui.session.view_state import encode

FEW = {"choose": 60, "train": 64}
SEARCH = SearchConfig(seconds=600, trials=3, sample=20, more=40)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(solving, "load_images", lambda name, split: load_images(name, split).first(FEW[split]))
    damage = SuggestConfig(loss="damage")  # reads second moments alone: seconds, not a minute
    monkeypatch.setattr(solving, "prepared_work", partial(prepared_work, config=damage))
    monkeypatch.setattr(goal, "take_solution", partial(take_solution, config=SEARCH))
    solving.forget_losses()


def explored():
    return opened(s=encode(resnet20_view()))


def asked_for(app, kind, amount):
    app.selectbox(key="goal_kind").set_value(kind).run()
    app.number_input(key=f"goal_amount:{kind}").set_value(amount).run()
    press(app, "solve")


def told(app):
    return " ".join(text.value for text in app.markdown)


def bars(app):
    sent = {element.proto.component_name: element.proto.json for element in app.get("bidi_component")}
    return json.loads(sent["fpgm_equaliser"])["units"]


def test_the_bars_move_to_what_was_solved_then_to_what_was_searched_and_undo_takes_both_back():
    app = explored()
    session, before = session_of(app), session_of(app).state.plan
    asked_for(app, "macs", 50.0)
    assert until(app, lambda: session.solving is not None and session.solving.start is not None, 120)
    start = session.solving.start
    assert Goal({"macs": 0.5}).met(start.pruned)
    assert until(app, lambda: session.solving.found is not None and session.jobs.get("search").done, 120)
    found = session.solving.found
    assert session.state.plan == found.best.plan
    assert Goal({"macs": 0.5}).met(session.network.prune(session.state.plan))
    assert f"to cut MACs by 50%: {start.reached['macs']:.1%} go" in told(app)
    assert f"Of {found.num_measured} plans measured" in told(app)
    assert {entry.study.split()[0] for entry in session.kept_plans.entries() if entry.study} == {"search"}
    press(app, "undo")
    assert session.state.plan == before


def test_a_search_is_stopped_and_the_best_so_far_is_kept(monkeypatch):
    endless = SearchConfig(seconds=600, trials=10_000, sample=20, more=40)
    monkeypatch.setattr(goal, "take_solution", partial(take_solution, config=endless))
    app = explored()
    session = session_of(app)
    asked_for(app, "params", 40.0)
    assert until(app, lambda: session.solving is not None and session.solving.found is not None, 120)
    press(app, "stop:search")
    assert until(app, lambda: session.jobs.get("search").done, 30)
    assert session.state.plan == session.solving.best.plan
    assert session.network.prune(session.state.plan).cost.params <= 0.6 * session.network.dense_cost.params


def test_a_goal_that_cannot_be_met_is_told_and_nothing_moves():
    inner = replace(resnet20_view().plan, coupling="inner", rates={})  # streams stay whole
    app = opened(s=encode(replace(resnet20_view(), plan=inner)))
    before = session_of(app).state.plan
    asked_for(app, "macs", 99.0)
    assert until(app, lambda: app.error, 120)
    assert "cannot be met" in app.error[0].value
    assert session_of(app).state.plan == before
    assert not app.button(key="solve").disabled


def test_another_criterion_ends_what_was_asked_for():
    app = explored()
    session = session_of(app)
    asked_for(app, "macs", 30.0)
    assert until(app, lambda: session.solving is not None and session.solving.start is not None, 120)
    app.selectbox[[box.label for box in app.selectbox].index("Criterion")].set_value("l2_norm").run()
    again(app)
    assert session.solving is None
    assert session.jobs.get("search") is None


def test_every_bar_says_why_it_has_its_rate_once_that_is_predicted():
    app = explored()
    session = session_of(app)
    assert all("predicted loss" not in bar["damage"] for bar in bars(app))
    press(app, "why")
    assert until(app, lambda: known_losses(session.network, session.state.plan) is not None, 120)
    prices = known_losses(session.network, session.state.plan).at(session.network, session.state.plan)
    for bar, price in zip(bars(app), prices, strict=True):
        assert bar["damage"].startswith(f"predicted loss {price.loss:.2g}, one fewer {price.loss_fewer:.2g}")
        assert f"cost {price.next_price:.2g} here" in bar["damage"]
    said = told(app)
    assert f"The bargain is **{plain(bargain(prices).unit)}**" in said
    assert f"most dear is **{plain(dearest(prices).unit)}**" in said
