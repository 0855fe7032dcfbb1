"""The views of the page Choose, driven headless: the front, criteria over goals, plans compared."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from driving import again, opened, press, session_of, until
from times import keep
from view_states import resnet20_view

from fpgm_core.allocation import SuggestConfig, known_ranking, prepared_work
from fpgm_core.data import load_images
from fpgm_core.evaluation import History, evaluate, wilson
from fpgm_core.runtime.progress import run
from fpgm_core.timing import Target
from pages.ui import compare, criteria, front
from pages.ui.panels import plan_list
from pages.ui.panels.trust import trust_told
from pages.ui.session import comparing, solving
from pages.ui.session.comparing import compared_work, contenders
from pages.ui.session.language import words_of
from pages.ui.session.networks import first_view
from pages.ui.session.speed import choose_machine, machines, predictor
from pages.ui.session.view_state import encode

FEW = {"choose": 60, "train": 64}
PAGE = "pages/5_Choose.py"


@pytest.fixture(autouse=True)
def few(monkeypatch):
    for module in (front, criteria, compare, comparing, solving, plan_list):
        monkeypatch.setattr(module, "load_images", lambda name, split: load_images(name, split).first(FEW[split]))
    damage = SuggestConfig(loss="damage")
    monkeypatch.setattr(solving, "prepared_work", partial(prepared_work, config=damage))
    monkeypatch.setattr(front, "CUTS", (0.2, 0.5))
    monkeypatch.setattr(front, "SEEDS", 1)
    solving.forget_losses()


def inner(**fields):
    plan = replace(resnet20_view().plan, coupling="inner", rates={"layer1.0.conv1": 0.5, "layer3.0.conv1": 0.25})
    return replace(resnet20_view(), plan=plan, method="as_is", **fields)


def shown(view, state=None):
    app = opened(s=encode(state or inner()))
    app.session_state["choose_view"] = view
    return again(app.switch_page(PAGE))


def figure(app, key):
    specs = {element.proto.id.rsplit("-", 1)[-1]: element.proto.spec for element in app.get("plotly_chart")}
    return json.loads(specs[key]) if key in specs else None


def traces(app, key):
    return {trace["name"]: trace for trace in figure(app, key)["data"] if trace.get("name")}


def idle(session, name):
    job = session.jobs.get(name)
    return job is not None and job.done


def drawn(app):
    """What the chart of the front was sent, its lines by title."""
    components = {element.proto.component_name: element.proto.json for element in app.get("bidi_component")}
    data = json.loads(components["fpgm_along"])
    return data, {line["title"]: line["marks"] for line in data["lines"]}


def ride(app, number, phase):
    """Say what the chart says when a hand takes a point."""
    seq = app.session_state["ride_echo"] + 1 if "ride_echo" in app.session_state else 1
    app.session_state["along"] = {"ride": {"seq": seq, "number": number, "phase": phase}}
    return again(app)


def test_the_front_is_measured_drawn_and_kept(resnet20):
    app = shown("front")
    session = session_of(app)
    assert until(app, lambda: session.measured("as_is") is not None, 60)
    app.multiselect(key="front_beside").set_value(["uniform"]).run()
    press(app, "begin_front")
    assert until(app, lambda: idle(session, "front"), 120)
    _, lines = drawn(app)
    assert [round(mark["x"]) for mark in lines["Solved"]] == [20, 50]
    assert len(lines["Uniform"]) == 2
    images = load_images("cifar10", "choose").first(FEW["choose"])
    solved = [entry for entry in session.kept_plans.entries() if entry.study.startswith("front solved")]
    truth = [evaluate(resnet20.prune(entry.plan), images).accuracy.value for entry in solved]
    assert sorted(mark["y"] for mark in lines["Solved"]) == pytest.approx(sorted(100 * value for value in truth))
    before = len(session.kept_plans.entries())
    press(app, "begin_front")  # again: what is kept is not measured again
    assert until(app, lambda: idle(session, "front"), 60)
    assert len(session.kept_plans.entries()) == before


@pytest.mark.parametrize(("state", "shown"), [("provisional", None), ("measuring", None), ("exact", 0.9)])
def test_the_dense_networks_line_waits_for_all_images(state, shown):
    measured = SimpleNamespace(state=state, dense_accuracy=SimpleNamespace(value=0.9))
    assert front.dense_of(SimpleNamespace(measurement=measured)) == shown


def test_the_bars_ride_along_the_front(resnet20):
    kept, images = History(), load_images("cifar10", "choose").first(FEW["choose"])
    plans = {}
    for rate in (0.25, 0.5):
        pruned = resnet20.prune(inner().plan.with_rates({"layer2.0.conv1": rate}))
        plans[kept.add(pruned, images, evaluate(pruned, images), study=f"front solved {rate:g}")] = pruned.plan
    first, second = plans
    app = shown("front")
    session, before = session_of(app), session_of(app).state.plan
    ride(app, first, "drag")
    assert (session.plan, session.state.plan) == (plans[first], before)  # shown, and not yet a step
    data, _ = drawn(app)
    assert data["current"] == first
    assert data["words"]["dense"] == f"dense {data['dense']:.2f}%", "its line says what it is"
    ride(app, second, "rest")
    assert session.state.plan == plans[second]
    press(app, "undo")
    assert session.state.plan == before
    for unfit in (999_999, -1, "1", None):  # whatever a browser may say
        ride(app, unfit, "rest")
        assert session.state.plan == before


def test_criteria_over_goals_beside_random_draws(monkeypatch):
    monkeypatch.setattr(criteria, "GOALS", (0.3, 0.5))
    monkeypatch.setattr(criteria, "SEEDS", 2)
    app = shown("criteria")
    session = session_of(app)
    assert figure(app, "criteria_chart")["data"] == []  # nothing is begun unasked
    app.multiselect(key="criteria_who:resnet20").set_value(["fpgm", "l2_norm"]).run()
    press(app, "begin_criteria")
    assert until(app, lambda: idle(session, "criteria_grid"), 120)
    drawn = traces(app, "criteria_chart")
    grid = session.jobs.get("criteria_grid").result
    assert [len(contest.entries) for contest in grid.contests] == [4, 4]
    assert drawn["FPGM"]["y"] == [100 * accuracy.value for _, accuracy in grid.points("fpgm", "as_is")]
    assert all(x >= goal for x, goal in zip(drawn["L2 norm"]["x"], (30, 50), strict=True))
    assert "random draws" in drawn


def test_dense_is_compared_with_the_plan_on_screen_unasked(resnet20):
    app = shown("compare")
    session = session_of(app)
    assert until(app, lambda: idle(session, "compare"), 120)
    again(app)
    table = app.dataframe[0].value
    images = load_images("cifar10", "choose").first(FEW["choose"])
    truth = evaluate(resnet20.prune(session.state.plan), images)
    assert table["change, points"].tolist()[1] == truth.change.told(100)
    assert table["MACs"].tolist() == [
        f"{resnet20.dense_cost.macs:,}",
        f"{resnet20.prune(session.state.plan).cost.macs:,}",
    ]
    both = session.jobs.get("compare").result.comparisons[0]
    assert table["images lost"].tolist()[1] == len(both.lost)
    assert figure(app, "class_changes")["data"][0]["x"] == [100 * one.change.value for one in both.by_class]
    assert sum("<figure>" in html.value for html in app.get("html")) == (len(both.lost) > 0) + (len(both.won) > 0)


def test_compared_plans_have_milliseconds_where_a_machine_was_timed(resnet20):
    app = shown("compare")
    session = session_of(app)
    assert until(app, lambda: idle(session, "compare"), 120)
    assert not any(name.startswith("predicted on") for name in again(app).dataframe[0].value)
    keep(resnet20, "inner", Target("pytorch").identity)
    choose_machine(session, "pytorch")
    dense, now = again(app).dataframe[0].value[f"predicted on {machines(session)['pytorch']}"]
    found = predictor(session)
    assert dense.startswith(f"{found.dense.value:.3g} ms [")
    assert now.startswith(f"{found.ms(resnet20.prune(session.state.plan)).value:.3g} ms [")


@pytest.mark.parametrize("view", ["front", "criteria"])
def test_the_page_says_which_rung_to_choose_by_where_these_weights_were_studied(resnet20, view):
    said = trust_told(known_ranking(resnet20), words_of("en"))
    assert said.startswith("Choose by **")
    assert said in [caption.value for caption in shown(view).caption]
    app = shown(view, replace(first_view("resnet56"), method="as_is"))  # nobody studied its plans
    assert not any(caption.value.startswith("Choose by") for caption in app.caption)


def test_the_same_counts_by_another_criterion_and_the_same_macs_under_another_coupling(resnet20):
    state = inner()
    known = contenders(resnet20, state, ())
    norm = known["criterion:l2_norm"].plan
    assert [resnet20.count_pruned(norm, unit) for unit in resnet20.units("inner")] == [
        resnet20.count_pruned(state.plan, unit) for unit in resnet20.units("inner")
    ]
    asked = (known["now:"], known["coupling:coupled"], known["criterion:l2_norm"])
    found = run(compared_work(resnet20, asked))
    images = load_images("cifar10", "choose").first(FEW["choose"])
    coupled = found.others[0]
    assert coupled.plan.coupling == "coupled"
    assert coupled.cost.macs <= found.first.cost.macs
    assert found.others[1].cost == found.first.cost
    for side in (found.first, *found.others):
        right = evaluate(resnet20.prune(side.plan), images).num_correct
        assert side.accuracy == wilson(right, len(images))
    masks = [resnet20.prune(plan).keep_masks for plan in (state.plan, norm)]
    assert set(found.filters[1]) == {name for name in masks[0] if not np.array_equal(*(mask[name] for mask in masks))}


@pytest.mark.parametrize("view", ["front", "criteria", "compare", "sensitivity"])
def test_without_trained_weights_there_is_nothing_to_choose_by(view):
    app = shown(view, first_view("resnet110"))
    assert any("needs accuracy to lose" in warning.value for warning in app.warning)
    assert not app.error


def test_a_link_opens_a_view():
    app = opened(PAGE, s=encode(inner()), view="history")
    assert app.session_state["choose_view"] in ("history", "front")
    app.query_params["view"] = "history"
    again(app)
    assert app.session_state["choose_view"] == "history"
