"""Every control of the Explore page, driven headless: each changes the plan, the counts or the picture."""

import json
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from driving import opened, press, session_of, sound, until

from fpgm_core import CRITERIA, Network, Plan
from fpgm_core.criteria import norm_diagnostics
from fpgm_core.graph import weights_of
from pages.ui.panels.live_bars import bars
from pages.ui.session.networks import first_view, keep_scores, registry_network, score_cache
from pages.ui.session.session import TriedPlan
from pages.ui.session.view_state import ViewState, decode, encode


@pytest.fixture(autouse=True)
def no_scores():
    """No criterion has looked at images yet."""
    score_cache().clear()
    yield
    score_cache().clear()


@pytest.fixture
def app():
    return opened()


def plan(app):
    return session_of(app).state.plan


def widget(elements, label):
    return next(element for element in elements if element.label == label)


def cards(app):
    return " ".join(element.proto.body for element in app.get("html"))


def picture(app, key="picture"):
    figures = {element.proto.id.rsplit("-", 1)[-1]: element.proto.spec for element in app.get("plotly_chart")}
    return json.loads(figures[key])


def popovers(app):
    return [block.proto.popover.label for block in app.get("popover")]


def move(app, rates, phase="rest", chosen=None, seq=1):
    app.session_state["equaliser"] = {"move": {"seq": seq, "rates": rates, "phase": phase, "chosen": chosen}}
    sound(app.run())


@pytest.mark.parametrize("model", [None, "resnet56", "mobilenetv2_cifar"])
def test_the_first_view_is_pruned_and_shows_the_layer_where_norm_and_fpgm_disagree_most(model):
    app = opened(s=encode(first_view(model)) if model else "")
    assert plan(app).model == (model or "mobilenetv2_cifar")
    assert set(plan(app).rates.values()) == {0.3}
    network = Network.load(plan(app).model)
    found = {layer.name: norm_diagnostics(weights_of(network.module, layer.name)) for layer in network.layers}
    assert session_of(app).state.layer == min(found, key=lambda name: found[name].spearman)
    assert f"{network.cost(plan(app)).macs:,} of {network.dense_cost.macs:,}" in cards(app)
    assert not app.error


def test_the_first_picture_is_of_a_depthwise_layer():
    state = first_view()
    layer = Network.load(state.plan.model).module.get_submodule(state.layer)
    assert layer.groups == layer.in_channels > 1


def test_a_bar_that_rests_changes_plan_counts_and_chosen_layer(app):
    before = cards(app)
    move(app, {"layer3.2.conv1": 0.9}, chosen="layer3.2.conv1")
    assert plan(app).rate("layer3.2.conv1") == 0.9
    assert session_of(app).state.layer == "layer3.2.conv1"
    assert cards(app) != before


def test_a_bar_under_the_hand_shows_costs_and_leaves_the_plan(app):
    kept = plan(app)
    move(app, {"layer3.2.conv1": 0.9}, phase="drag")
    assert plan(app) == kept
    assert session_of(app).draft.rate("layer3.2.conv1") == 0.9
    expected = Network.load("resnet20").cost(session_of(app).draft).macs
    assert f"{expected:,} of 40,551,040" in cards(app)
    assert "moving" in cards(app)


@pytest.mark.parametrize(
    "message",
    [
        "rubbish",
        {"seq": 1},
        {"seq": 1, "rates": {"layer1.0.conv1": 7.0}},
        {"seq": 1, "rates": {"layer1.0.conv1": "1"}},
        {"seq": 1, "rates": {"nothing": 0.5}, "phase": "drag"},
        {"seq": "x", "rates": {"layer1.0.conv1": 0.5}},
    ],
)
def test_a_message_that_is_not_one_changes_nothing(app, message):
    kept = plan(app)
    app.session_state["equaliser"] = {"move": message}
    app.run()
    assert not app.exception
    assert plan(app) == kept


def test_the_master_moves_all_units_and_one_stage(app):
    widget(app.slider, "Master: prune %").set_value(10).run()
    assert set(plan(app).rates.values()) == {0.1}
    widget(app.selectbox, "Master moves").set_value("layer2").run()
    widget(app.slider, "Master: prune %").set_value(50).run()
    assert {unit: rate for unit, rate in plan(app).rates.items() if rate == 0.5}.keys() == {
        f"layer2.{block}.conv{i}" for block in range(3) for i in (1, 2)
    }


def test_presets_set_the_rates(app):
    widget(app.selectbox, "Preset").set_value("stages_rising").run()
    assert plan(app).rate("layer1.0.conv1") < plan(app).rate("layer2.0.conv1") < plan(app).rate("layer3.0.conv1")
    widget(app.selectbox, "Preset").set_value("uniform_0%").run()
    assert plan(app).rates == {}
    assert "−0.0%" in cards(app)


# Those that need images wait for their scores: see below.
@pytest.mark.parametrize(
    "criterion", [name for name, record in CRITERIA.items() if name != "fpgm" and record.needs != "images"]
)
def test_every_criterion_can_be_chosen(app, criterion):
    widget(app.selectbox, "Criterion").set_value(criterion).run()
    assert not app.exception
    assert plan(app).criterion == criterion


def test_a_criterion_that_needs_images_is_moved_to_when_its_scores_are_made(app):
    before = plan(app)
    score_cache().clear()
    widget(app.selectbox, "Criterion").set_value("taylor").run()
    assert plan(app) == before
    assert session_of(app).pending.state.plan.criterion == "taylor"
    assert until(app, lambda: plan(app).criterion == "taylor", 120)
    assert session_of(app).pending is None
    assert any("Taylor, first order" in frame.value.get("criterion", pd.Series()).tolist() for frame in app.dataframe)
    score_cache().clear()
    other = opened(s=encode(session_of(app).state))
    assert plan(other).criterion == "fpgm"
    press(other, "cancel_scores")
    assert session_of(other).pending is None
    assert plan(other).criterion == "fpgm"
    assert widget(other.selectbox, "Criterion").value == "fpgm"


def test_another_criterion_prunes_other_filters(app):
    before = picture(app)
    widget(app.selectbox, "Criterion").set_value("l2_norm").run()
    assert picture(app)["data"] != before["data"]


def test_coupling_inner_keeps_shared_rates_and_says_why_layers_stay_whole(app):
    widget(app.selectbox, "Coupling").set_value("inner").run()
    assert plan(app).coupling == "inner"
    assert len(plan(app).rates) == 9
    assert any("residual sum" in str(frame.value) for frame in app.dataframe)


def test_coupled_shows_a_bar_a_group_and_says_which_layers_move_together(app):
    network = Network.load("resnet20")
    assert len(bars(session_of(app))) == len(network.layers) == 19
    assert "every layer moves alone" in popovers(app)
    widget(app.selectbox, "Coupling").set_value("coupled").run()
    assert not app.exception
    assert plan(app).coupling == "coupled"
    units = network.units("coupled")
    assert [bar.name for bar in bars(session_of(app))] == [unit.name for unit in units]
    groups = {unit.name: ", ".join(unit.members) for unit in units if len(unit.members) > 1}
    assert f"{len(groups)} groups" in popovers(app)
    (shown,) = [frame.value for frame in app.dataframe if "agreement" in frame.value]
    assert dict(zip(shown["unit"], shown["layers"], strict=True)) == groups
    assert shown["agreement"].between(-1, 1).all()
    widget(app.selectbox, "Layer").set_value("layer1.0.conv2").run()
    assert any("moves with conv1" in text.value for text in app.markdown)


def test_refused_layers_say_why_they_stay_whole(app):
    widget(app.selectbox, "Coupling").set_value("inner").run()
    refused = Network.load("resnet20").refusals("inner")
    assert f"{len(refused)} stay whole" in popovers(app)
    (shown,) = [frame.value for frame in app.dataframe if "why it is not pruned" in frame.value]
    assert dict(zip(shown["layer"], shown["why it is not pruned"], strict=True)) == refused
    name = next(iter(refused))
    widget(app.selectbox, "Layer").set_value(name).run()
    assert any(f"stays whole: {refused[name]}" in text.value for text in app.markdown)
    assert widget(app.get("button_group"), "Lock").disabled
    assert not app.exception


@pytest.mark.parametrize(("multiple", "kept"), [(8, {16, 24, 40}), (32, {16, 32, 64})])
def test_counts_kept_are_rounded_up_to_a_multiple(app, multiple, kept):
    widget(app.selectbox, "Keep ×").set_value(multiple).run()
    assert not app.exception
    assert plan(app).options.round_to == multiple
    assert {bar.size - bar.pruned for bar in bars(session_of(app))} == kept
    macs = Network.load("resnet20").cost(plan(app)).macs
    assert macs > 19_126_720
    assert f"{macs:,} of 40,551,040" in cards(app)
    widget(app.selectbox, "Keep ×").set_value(1).run()
    assert "19,126,720 of 40,551,040" in cards(app)


def test_every_view_draws_its_own_picture(app):
    seen = []
    for view in ("Map", "Radial", "Norms", "Scores"):
        widget(app.get("button_group"), "View").set_value(view).run()
        assert not app.exception
        seen.append(json.dumps(picture(app)["layout"].get("xaxis")))
    assert len(set(seen)) == 4


def test_the_bundled_umap_is_there_at_once_and_pca_takes_its_place(app):
    widget(app.get("button_group"), "View").set_value("Map").run()
    assert any("UMAP 1" in json.dumps(picture(app)["layout"]) for _ in [0])
    assert any("approximate" in caption.value for caption in app.caption)
    widget(app.get("button_group"), "Map").set_value("PCA").run()
    assert "principal component" in json.dumps(picture(app)["layout"])


def test_another_map_seed_is_taken(app):
    widget(app.get("button_group"), "View").set_value("Map").run()
    widget(app.selectbox, "Seed").set_value(3).run()
    assert session_of(app).state.seed == 3


def test_layer_and_filter_pickers_change_what_is_shown(app):
    widget(app.selectbox, "Layer").set_value("layer3.0.conv2").run()
    assert session_of(app).state.layer == "layer3.0.conv2"
    before = picture(app, "kernels")
    widget(app.selectbox, "Filter").set_value(7).run()
    assert session_of(app).state.chosen == 7
    assert picture(app, "kernels") != before


def test_a_lock_prunes_a_filter_whatever_its_score_and_can_be_lifted(app):
    widget(app.selectbox, "Filter").set_value(0).run()
    widget(app.get("button_group"), "Lock").set_value("prune").run()
    assert plan(app).locked_out == {"layer3.0.conv1": (0,)}
    assert "filter 0" not in str(app.error)
    widget(app.get("button_group"), "Lock").set_value("keep").run()
    assert plan(app).locked_in == {"layer3.0.conv1": (0,)}
    assert plan(app).locked_out == {}
    widget(app.get("button_group"), "Lock").set_value("free").run()
    assert not plan(app).locked_in


def test_a_lock_the_rate_has_no_room_for_is_refused_and_nothing_changes(app):
    widget(app.selectbox, "Preset").set_value("uniform_0%").run()
    kept = plan(app)
    widget(app.selectbox, "Filter").set_value(2).run()
    widget(app.get("button_group"), "Lock").set_value("prune").run()
    assert "raise the rate" in app.error[0].value
    assert plan(app) == kept
    assert widget(app.get("button_group"), "Lock").value == "free"


def test_a_repair_that_was_given_up_is_told(app):
    session = session_of(app)
    assert until(app, lambda: session.measured("recalibrated"), 60)
    assert not app.info
    kept = replace(session.measured("recalibrated"), notice="the repaired network does worse: recalibrated is kept")
    session.trace = [
        *session.trace,
        TriedPlan(replace(session.state, method="repaired"), session.network.cost(plan(app)), kept),
    ]
    widget(app.get("button_group"), "Ladder").set_value("repaired").run()
    assert any("The repaired network does worse: recalibrated is kept." in info.value for info in app.info)


def test_a_network_that_was_opened_anew_has_its_scores(app):
    network = session_of(app).network
    assert not network.has_scores("taylor")
    scores = {layer.name: np.arange(layer.filters, dtype=np.float64) for layer in network.layers}
    keep_scores(network, "taylor", scores)
    widget(app.selectbox, "Criterion").set_value("taylor").run()
    assert plan(app).criterion == "taylor"
    registry_network.clear()
    sound(app.run())
    assert plan(app).criterion == "taylor"
    assert session_of(app).network.has_scores("taylor")
    assert not network.has_scores("taylor"), "what was shared is not changed"


def test_undo_and_redo_walk_the_history(app):
    first = plan(app)
    move(app, {"conv1": 0.8})
    second = plan(app)
    app.button(key="undo").click().run()
    assert plan(app) == first
    app.button(key="redo").click().run()
    assert plan(app) == second
    assert app.button(key="redo").disabled


@pytest.mark.parametrize("rung", ["as_is", "merged", "repaired"])
def test_every_rung_of_the_ladder_is_measured_as_such(app, rung):
    widget(app.get("button_group"), "Ladder").set_value(rung).run()
    assert session_of(app).state.method == rung
    assert until(app, lambda: session_of(app).measured(rung), 120)
    figure = session_of(app).measured(rung)
    assert figure.method == rung
    shown = widget(app.get("button_group"), "Ladder").options
    assert any(f"{figure.accuracy.value:.2%}" in str(option) for option in shown)


def test_the_link_carries_everything_into_another_browser(app):
    move(app, {"layer2.1.conv1": 0.7}, chosen="layer2.1.conv1")
    widget(app.get("button_group"), "View").set_value("Radial").run()
    link = app.query_params["s"]
    other = opened(s=link[0] if isinstance(link, list) else link)
    assert session_of(other).state == session_of(app).state


@pytest.mark.parametrize("damage", [lambda s: s[:-9], lambda s: "x" + s[1:], lambda s: "????", lambda s: "AAAA"])
def test_a_damaged_link_is_told_and_the_page_opens(app, damage):
    other = opened(s=damage(encode(session_of(app).state)))
    assert "link" in other.error[0].value
    assert session_of(other).state == first_view()


def test_a_link_with_a_plan_for_other_weights_is_told(app):
    state = session_of(app).state
    other = opened(s=encode(replace(state, plan=replace(state.plan, fingerprint="0" * 64))))
    assert "other weights" in other.error[0].value
    assert session_of(other).state == first_view()


def test_a_saved_plan_opens_again_and_a_foreign_one_is_refused(app):
    saved = replace(plan(app), rates={"conv1": 0.5})
    app.get("file_uploader")[0].upload("plan.json", saved.to_json().encode(), "application/json").run()
    assert plan(app) == saved
    foreign = Network.load("resnet56").plan(0.2)
    app.get("file_uploader")[0].upload("other.json", foreign.to_json().encode(), "application/json").run()
    assert "resnet56" in app.error[0].value
    assert plan(app) == saved


def test_a_network_without_weights_shows_costs_and_no_accuracy(app):
    widget(app.selectbox, "Model").set_value("resnet110").run()
    assert not app.exception
    assert plan(app).model == "resnet110"
    assert "no trained weights" in app.warning[0].value
    assert "not measured" in cards(app)
    assert "of 252,887,680" in cards(app)


def test_the_exact_figure_arrives_and_enters_the_trace(app):
    widget(app.selectbox, "Preset").set_value("uniform_0%").run()
    deadline = time.monotonic() + 60
    while not session_of(app).trace and time.monotonic() < deadline:
        time.sleep(0.5)
        app.run()
    tried = session_of(app).trace[-1]
    assert tried.state.plan.rates == {}
    assert tried.measurement.state == "exact"
    assert (tried.measurement.num_correct, tried.measurement.num_images) == (4584, 5000)
    assert "91.68%" in cards(app)
    assert picture(app, "trace")["data"]


def test_view_states_round_trip_through_links():
    state = ViewState(
        Plan("resnet20", "f" * 64, rates={"conv1": 0.25}, locked_in={"conv1": (3,)}),
        "conv1",
        4,
        "Map",
        "PCA",
        2,
        "as_is",
    )
    assert decode(encode(state)) == state


def test_the_first_measurement_waits_until_the_bars_are_on_screen(app):
    """It would hold up the page that is being drawn: the bars ask for it."""
    assert session_of(app).measuring is None
    assert "measuring" in cards(app)
    app.session_state["equaliser"] = {"tick": 1}
    sound(app.run())
    assert session_of(app).measuring is not None
    assert until(app, lambda: session_of(app).measurement)
