"""The views of what is replaceable on Explore, driven headless: refit costs, their agreement, damage, stopping."""

import json

import numpy as np
import pytest
from driving import again, look, opened, picture, press, session_of, until
from view_states import resnet20_view

from fpgm_core import Network
from fpgm_core.calibration import CalibrationConfig, calibrate
from fpgm_core.data import load_images
from fpgm_core.evaluation import QUESTIONS, replaceability
from fpgm_core.lesson import network_says, words_of
from fpgm_core.recovery import damage_work
from fpgm_core.runtime.progress import Progress, run
from pages.ui.panels import refit
from pages.ui.panels.live_bars import bars
from pages.ui.session.view_state import ViewState, encode

FEW = CalibrationConfig(num_images=150, positions=8)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(refit, "CALIBRATION", FEW)


@pytest.fixture(scope="module")
def moments(resnet20):
    return calibrate(resnet20, load_images("cifar10", "train"), config=FEW)


def figure(app, key):
    specs = {element.proto.id.rsplit("-", 1)[-1]: element.proto.spec for element in app.get("plotly_chart")}
    return json.loads(specs[key]) if key in specs else None


def widget(elements, label):
    return next(element for element in elements if element.label == label)


def test_every_layer_has_its_agreement_and_the_chosen_one_its_filters(resnet20, moments):
    app = opened()
    look(app, view="Replaceability")
    assert "Reading training images" in picture(app)["cut"]["busy"]["Replaceability"]
    assert until(app, lambda: figure(app, "agreement"), 90)
    found = replaceability(resnet20, moments, "independent")
    panels = [trace for trace in figure(app, "agreement")["data"] if trace["name"] == "g"]
    for panel, question in zip(panels, QUESTIONS, strict=True):
        findings = [one.by_distance[question] for one in found]
        assert panel["x"] == pytest.approx([finding.interval.value for finding in findings], abs=1e-6)
        assert [symbol.endswith("-open") for symbol in panel["marker"]["symbol"]] == [
            finding.verdict == "undecided" for finding in findings
        ]
    *told, parted = network_says(found, resnet20, words=words_of("en"))
    assert parted in [heading.value for heading in app.subheader]
    assert any(all(said in text.value for said in told) for text in app.markdown)
    look(app, view="Refit cost")
    one = next(one for one in found if one.layer == resnet20_view().layer)
    cost, good = picture(app)["views"]["Refit cost"]["panels"]
    assert cost["x"] == good["x"] == pytest.approx(one.distance_sums, rel=1e-5)
    assert cost["y"] == pytest.approx(one.costs, rel=1e-5)
    assert good["y"] == pytest.approx(one.made_good, rel=1e-5)
    for answers in (one.by_distance, one.by_norm):
        for question in ("cheap", "replaceable"):
            assert answers[question].interval.told() in picture(app)["views"]["Refit cost"]["caption"]


def test_the_refit_cost_view_says_where_a_layer_has_none(resnet20):
    app = opened()
    look(app, view="Refit cost")
    assert until(app, lambda: picture(app)["views"]["Refit cost"]["panels"], 90)
    widget(app.selectbox, "Coupling").set_value("inner").run()
    look(app, layer="layer1.0.conv2")
    assert until(app, lambda: "no refit cost" in picture(app)["views"]["Refit cost"]["caption"], 90)


def test_damage_is_drawn_beside_the_bars_as_predicted(resnet20, moments):
    app = opened()
    widget(app.selectbox, "Coupling").set_value("inner").run()
    assert not any(bar.heat for bar in bars(session_of(app)))
    widget(app.toggle, "Damage beside each bar").set_value(True).run()
    assert until(app, lambda: all(bar.heat for bar in bars(session_of(app))), 90)
    expected = run(damage_work(resnet20, moments, plan=session_of(app).state.plan))
    for bar in bars(session_of(app)):
        assert bar.damage == f"its readers lose {expected.at(bar.name, bar.rate):.1%} of their signal (predicted)"
        assert bar.heat.count("rgb") == 1 + len(expected.rates)
    assert np.unique([bar.heat for bar in bars(session_of(app))]).size == len(expected.units)


def test_a_network_without_weights_says_why_there_is_nothing():
    app = opened(s=encode(ViewState(Network.load("resnet110").plan(0.2), "conv1", view="Refit cost")))
    assert until(app, lambda: not session_of(app).is_arriving, 60)
    assert until(app, lambda: "random weights" in picture(app)["cut"]["busy"].get("Refit cost", ""), 60)


def test_work_that_is_stopped_waits_until_it_is_wanted_again(monkeypatch):
    def slow(network, coupling):
        while True:
            yield Progress(0.25)

    monkeypatch.setattr(refit, "refit_cost_work", slow)
    app = opened()
    look(app, view="Refit cost")
    session = session_of(app)
    assert until(app, lambda: "25%" in picture(app)["cut"]["busy"]["Refit cost"])
    press(app, "stop:replaceability")
    assert session.jobs.get("replaceability") is None
    again(app)
    assert session.jobs.get("replaceability") is None, "looking at the view does not begin it again"
    assert "Stopped" in picture(app)["cut"]["busy"]["Refit cost"]
    look(app, view="Map")
    look(app, view="Refit cost")
    assert session.jobs.get("replaceability") is not None
    session.jobs.close()
