"""The Replaceability page and its companions on Explore, driven headless: refit costs, damage, stopping."""

import base64
import json

import numpy as np
import pytest
from driving import again, opened, press, session_of, until
from view_states import resnet20_view

from fpgm_core import Network
from fpgm_core.calibration import CalibrationConfig, calibrate
from fpgm_core.data import load_images
from fpgm_core.evaluation import QUESTIONS, answers_told, replaceability
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


def array(values):
    """A figure's float32 array as its JSON holds it."""
    return np.frombuffer(base64.b64decode(values["bdata"]), np.dtype(values["dtype"]))


def widget(elements, label):
    return next(element for element in elements if element.label == label)


def test_every_layer_has_its_agreement_and_the_chosen_one_its_filters(resnet20, moments):
    app = opened("pages/3_Replaceability.py")
    assert until(app, lambda: figure(app, "agreement"), 90)
    found = replaceability(resnet20, moments, "independent")
    panels = [trace for trace in figure(app, "agreement")["data"] if trace["name"] == "g"]
    for panel, question in zip(panels, QUESTIONS, strict=True):
        findings = [one.by_distance[question] for one in found]
        assert panel["x"] == pytest.approx([finding.interval.value for finding in findings], abs=1e-6)
        assert [symbol.endswith("-open") for symbol in panel["marker"]["symbol"]] == [
            finding.verdict == "undecided" for finding in findings
        ]
    *told, parted = answers_told(found)
    assert [heading.value for heading in app.subheader][-1] == parted
    assert any(all(said in text.value for said in told) for text in app.markdown)
    one = next(one for one in found if one.layer == resnet20_view().layer)
    names = [trace["name"] for trace in figure(app, "costs")["data"]]
    pruned = int((~resnet20.keep_mask(session_of(app).state.plan, resnet20.unit_of(one.layer, "independent"))).sum())
    assert names == [f"kept ({len(one.costs) - pruned})", f"pruned ({pruned})"]
    shares = np.concatenate([array(trace["y"]) for trace in figure(app, "made_good")["data"]])
    assert sorted(shares) == pytest.approx(sorted(one.made_good), abs=1e-6)
    before = figure(app, "costs"), figure(app, "made_good")
    widget(app.get("button_group"), "Against").set_value("L2 norm").run()
    for old, key in zip(before, ("costs", "made_good"), strict=True):
        assert figure(app, key)["layout"]["xaxis"] != old["layout"]["xaxis"]


def test_the_refit_cost_view_says_where_a_layer_has_none(resnet20):
    app = opened()
    widget(app.get("button_group"), "View").set_value("Refit cost").run()
    assert until(app, lambda: figure(app, "costs"), 90)
    widget(app.selectbox, "Coupling").set_value("inner").run()
    widget(app.selectbox, "Layer").set_value("layer1.0.conv2").run()
    assert until(app, lambda: any("no refit cost" in info.value for info in app.info), 90)


def test_damage_is_drawn_beside_the_bars_as_predicted(resnet20, moments):
    app = opened()
    widget(app.selectbox, "Coupling").set_value("inner").run()
    assert not any(bar.heat for bar in bars(session_of(app)))
    widget(app.toggle, "Damage").set_value(True).run()
    assert until(app, lambda: all(bar.heat for bar in bars(session_of(app))), 90)
    expected = run(damage_work(resnet20, moments, plan=session_of(app).state.plan))
    for bar in bars(session_of(app)):
        assert bar.damage == f"predicted loss {expected.at(bar.name, bar.rate):.1%}"
        assert bar.heat.count("rgb") == 1 + len(expected.rates)
    assert np.unique([bar.heat for bar in bars(session_of(app))]).size == len(expected.units)


def test_a_network_without_weights_says_why_there_is_nothing():
    look = ViewState(Network.load("resnet110").plan(0.2), "conv1")
    app = opened("pages/3_Replaceability.py", s=encode(look))
    assert until(app, lambda: any("random weights" in error.value for error in app.error), 60)


def test_work_that_is_stopped_waits_until_it_is_wanted_again(monkeypatch):
    def slow(network, coupling):
        while True:
            yield Progress(0.25)

    monkeypatch.setattr(refit, "refit_cost_work", slow)
    app = opened("pages/3_Replaceability.py")
    press(app, "stop:replaceability")
    session = session_of(app)
    assert session.jobs.get("replaceability") is None
    again(app)
    assert session.jobs.get("replaceability") is None, "looking at the page does not begin it again"
    press(app, "resume:replaceability")
    assert session.jobs.get("replaceability") is not None
    press(app, "stop:replaceability")
