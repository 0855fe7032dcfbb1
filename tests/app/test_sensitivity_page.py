"""The Sensitivity page, driven headless: begun, stopped, resumed, bars set from it."""

import json
from dataclasses import replace

import pytest
from driving import again, opened, press, session_of, until
from view_states import resnet20_view

from fpgm_core.data import load_images
from fpgm_core.evaluation import sweep_work
from fpgm_core.figures.sensitivity import change_text
from fpgm_core.runtime.progress import run
from pages.ui import sensitivity
from pages.ui.components.incoming import read_point
from pages.ui.session.networks import first_view
from pages.ui.session.view_state import encode

IMAGES, TRAINING = 100, 128
RATES = (0.5, 0.9)
PAGE = "pages/5_Choose.py"


@pytest.fixture(autouse=True)
def few(monkeypatch):
    counts = {"choose": IMAGES, "train": TRAINING}
    monkeypatch.setattr(sensitivity, "load_images", lambda name, split: load_images(name, split).first(counts[split]))
    monkeypatch.setattr(sensitivity, "SWEEP_IMAGES", IMAGES)
    monkeypatch.setattr(sensitivity, "RATES", RATES)


def figure(app, key):
    specs = {element.proto.id.rsplit("-", 1)[-1]: element.proto.spec for element in app.get("plotly_chart")}
    return json.loads(specs[key]) if key in specs else None


def measured(app):
    """The numbers in the cells of the map, row by row."""
    return [text for row in figure(app, "sweep")["data"][0]["text"] for text in row if text]


def has(app, key):
    return any(button.key == key for button in app.button)


def complete(app):
    return not has(app, "begin_sweep") and not has(app, "stop:sensitivity")


def shown(state):
    """The view Sensitivity of a view state."""
    app = opened(s=encode(state))
    app.session_state["choose_view"] = "sensitivity"
    return again(app.switch_page(PAGE))


def state(**fields):
    return replace(resnet20_view(), **fields)


def test_the_map_is_the_sweep_and_the_bars_are_set_from_it(resnet20):
    app = shown(state(method="as_is"))
    assert measured(app) == []  # nothing is begun unasked; the picture that it will make is there
    assert session_of(app).jobs.get("sensitivity") is None
    press(app, "begin_sweep")
    assert until(app, lambda: complete(app), 120)
    plan = session_of(app).state.plan
    images = load_images("cifar10", "choose").first(IMAGES)
    sweep = run(sweep_work(resnet20, images, plan=plan, method="as_is", rates=RATES, use_cache=False))
    assert measured(app) == list(map(change_text, sweep.points))
    app.number_input(key="tolerated").set_value(20.0).run()
    expected = plan.with_rates(sweep.rates_within(0.2))
    cut = 1 - resnet20.cost(expected).macs / resnet20.dense_cost.macs
    assert app.button(key="set_bars").label == f"Set the bars: {cut:.1%} of the MACs cut"
    press(app, "set_bars")
    assert session_of(app).state.plan == expected
    assert app.button(key="set_bars").disabled
    assert until(app, lambda: session_of(app).measured("as_is"))  # what they lose together is measured
    assert any("Accuracy on choose" in html.value and "exact" in html.value for html in app.get("html"))


def test_a_sweep_is_stopped_kept_and_resumed(resnet20):
    app = shown(state())
    press(app, "begin_sweep")
    assert until(app, lambda: measured(app), 60)
    press(app, "stop:sensitivity")
    known = len(sensitivity.known_sweep(session_of(app)).points)
    total = 2 * len(resnet20.units("independent"))
    assert 0 < known < total
    assert app.button(key="begin_sweep").label == f"Resume: {known} of {total} points are measured"
    press(app, "begin_sweep")
    assert until(app, lambda: complete(app), 120)


def test_another_recovery_method_is_another_sweep(resnet20):
    app = shown(state(method="merged"))
    assert app.button(key="begin_sweep").label == f"Measure: {2 * len(resnet20.units('independent'))} points"
    assert any("*merged* as on Explore" in text.value for text in app.markdown)


def test_a_clicked_cell_sets_its_bar_and_clicked_again_takes_it_back():
    app = shown(state())
    session, names = session_of(app), [unit.name for unit in session_of(app).network.units("independent")]
    before = session.state.plan
    assert before.rate(names[3]) != 0.9
    sensitivity.set_bar(session, names, [3, 0.9])
    again(app)
    assert (session.state.plan, session.state.layer) == (before.with_rates({names[3]: 0.9}), names[3])
    sensitivity.set_bar(session, names, read_point([{"customdata": {"0": 3, "1": 0.9}}]))  # as some browsers send it
    assert session.state.plan == before.with_rates({names[3]: 0.0})


def test_a_bar_that_its_locks_forbid_is_refused_and_it_is_said():
    locked = resnet20_view().plan.with_rates({"layer1.0.conv1": 0.9}).with_lock("layer1.0.conv1", 3, "out")
    app = shown(state(plan=locked))
    session, names = session_of(app), [unit.name for unit in session_of(app).network.units("independent")]
    sensitivity.set_bar(session, names, [names.index("layer1.0.conv1"), 0.9])
    again(app)
    assert session.state.plan == locked
    assert any("raise the rate" in error.value for error in app.error)


def test_without_trained_weights_there_is_nothing_to_lose():
    app = shown(first_view("resnet110"))
    assert any("needs accuracy to lose" in warning.value for warning in app.warning)
    assert not has(app, "begin_sweep")
