"""Every control of the Explore page, driven headless: each changes the plan, the counts or the picture."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from driving import look, opened, picture, press, session_of, shown, sound, until

from fpgm_core import CRITERIA, Network, Plan, SelectionOptions
from fpgm_core.criteria import norm_diagnostics
from fpgm_core.graph import weights_of
from fpgm_core.pruning import allowed_percents
from pages.ui.components.picture import Look, read_look
from pages.ui.panels.live_bars import bars
from pages.ui.session.networks import first_view, keep_scores, score_cache
from pages.ui.session.opened import NETWORKS
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


def figure(app, key):
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
    members = [member for unit in network.units(plan(app).coupling) for member in unit.members]
    found = {name: norm_diagnostics(weights_of(network.module, name)) for name in members}
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
    assert session_of(app).pending is not None
    assert until(app, lambda: plan(app).criterion == "taylor", 120)
    assert session_of(app).pending is None
    assert "Taylor, first order" in str(picture(app)), "its rank stands beside the others'"
    score_cache().clear()
    other = opened(s=encode(session_of(app).state))
    assert plan(other).criterion == "fpgm"
    press(other, "stop:scores")
    assert session_of(other).pending is None
    assert plan(other).criterion == "fpgm"
    assert widget(other.selectbox, "Criterion").value == "fpgm"


def test_another_criterion_prunes_other_filters(app):
    before = picture(app)
    assert before["rival"][0] == "L2 norm"
    widget(app.selectbox, "Criterion").set_value("l2_norm").run()
    assert picture(app)["cut"]["own"] == before["cut"]["rival"] != before["cut"]["own"]
    assert picture(app)["rival"][0] == "FPGM"


def test_coupling_inner_keeps_shared_rates_and_says_why_layers_stay_whole(app):
    widget(app.selectbox, "Coupling").set_value("inner").run()
    assert plan(app).coupling == "inner"
    assert len(plan(app).rates) == 9
    assert any("residual sum" in str(frame.value) for frame in app.dataframe)


def test_coupled_shows_a_bar_a_group_and_says_which_layers_move_together(app):
    network = Network.load("resnet20")
    assert len(bars(session_of(app))) == len(network.layers) == 19
    assert "More: every layer moves alone" in popovers(app)
    widget(app.selectbox, "Coupling").set_value("coupled").run()
    assert not app.exception
    assert plan(app).coupling == "coupled"
    units = network.units("coupled")
    assert [bar.name for bar in bars(session_of(app))] == [unit.name for unit in units]
    groups = {unit.name: ", ".join(unit.members) for unit in units if len(unit.members) > 1}
    assert f"More: {len(groups)} groups" in popovers(app)
    (shown,) = [frame.value for frame in app.dataframe if "agreement" in frame.value]
    assert dict(zip(shown["unit"], shown["layers"], strict=True)) == groups
    assert shown["agreement"].between(-1, 1).all()
    look(app, layer="layer1.0.conv2")
    assert "moves with conv1" in picture(app)["cut"]["facts"]
    assert "conv1, layer1.0.conv2" in picture(app)["views"]["Scores"]["caption"], "it says which layers vote"


def test_refused_layers_say_why_they_stay_whole(app):
    widget(app.selectbox, "Coupling").set_value("inner").run()
    refused = Network.load("resnet20").refusals("inner")
    assert f"More: {len(refused)} stay whole" in popovers(app)
    (shown,) = [frame.value for frame in app.dataframe if "why it is not pruned" in frame.value]
    assert dict(zip(shown["layer"], shown["why it is not pruned"], strict=True)) == refused
    name = next(iter(refused))
    look(app, layer=name)
    assert f"stays whole: {refused[name]}" in picture(app)["cut"]["facts"]
    assert picture(app)["unit"] == "", "the browser offers no lock then"
    kept = plan(app)
    look(app, layer=name, locks=[[0, "out"]])
    assert plan(app) == kept
    assert not app.exception


@pytest.mark.parametrize(("multiple", "kept"), [(8, {16, 24, 40}), (32, {16, 32, 64})])
def test_counts_kept_are_rounded_up_to_a_multiple(app, multiple, kept):
    widget(app.selectbox, "Keep a multiple of").set_value(multiple).run()
    assert not app.exception
    assert plan(app).options.round_to == multiple
    assert {bar.size - bar.pruned for bar in bars(session_of(app))} == kept
    macs = Network.load("resnet20").cost(plan(app)).macs
    assert macs > 19_126_720
    assert f"{macs:,} of 40,551,040" in cards(app)
    widget(app.selectbox, "Keep a multiple of").set_value(1).run()
    assert "19,126,720 of 40,551,040" in cards(app)


def test_every_view_has_its_own_picture_of_all_filters(app):
    views = picture(app)["views"]
    filters = len(picture(app)["to_median"])
    drawn = [view["panels"][0] for name, view in views.items() if name in ("Map", "Scores", "Radial", "Norms")]
    assert all(len(panel["x"]) == len(panel["y"]) == filters for panel in drawn)
    assert len({json.dumps(panel) for panel in drawn}) == 4
    for view in ("Scores", "Radial", "Norms", "Map"):
        look(app, view=view)
        assert session_of(app).state.view == picture(app)["look"]["view"] == view


def test_the_bundled_umap_is_there_at_once_with_pca_beside_it(app):
    umap, pca = picture(app)["views"]["Map"]["panels"]
    assert (umap["note"], pca["note"]) == ("UMAP · median approximate", "PCA · median exact")
    assert umap["median"]
    assert umap["ties"]
    assert pca["median"]
    assert not pca["ties"]
    look(app, mapping="PCA", seed=0)
    assert session_of(app).state.mapping == "PCA"


def test_another_map_seed_is_taken_and_computed(app):
    look(app, seed=3)
    assert session_of(app).state.seed == 3
    assert "UMAP is being computed" in picture(app)["views"]["Map"]["caption"]
    assert session_of(app).jobs.get("layout") is not None
    session_of(app).jobs.close()


def test_another_layer_and_another_filter_are_shown(app):
    look(app, layer="layer3.0.conv2", chosen=None)
    assert session_of(app).state.layer == picture(app)["layer"] == "layer3.0.conv2"
    before = picture(app)["tiles"]
    look(app, chosen=7)
    assert session_of(app).state.chosen == picture(app)["tiles"]["shown"] == 7
    assert picture(app)["tiles"]["sheets"] != before["sheets"]


def test_what_cannot_be_looked_at_is_refused(app):
    kept = session_of(app).state
    wrong = {"layer": "nothing", "chosen": 64, "view": "nothing", "mapping": "t-SNE", "seed": 2**40}
    for changed in ({name: value} for name, value in wrong.items()):
        look(app, **changed)
        assert app.error
        assert session_of(app).state == kept


@pytest.mark.parametrize(
    "changed",
    [
        {"seq": "x"}, {"seq": -1}, {"locks": "x"}, {"locks": [[0, "off"]]}, {"locks": [[0.5, "in"]]},
        {"locks": [[0]]}, {"chosen": True}, {"seed": float("nan")}, {"seed": float("inf")}, {"layer": None},
        {"view": 3},
    ],
)  # fmt: skip
def test_a_look_that_is_not_one_is_not_read(changed):
    good = {"seq": 9, "layer": "conv1", "chosen": 5, "view": "Map", "mapping": "PCA", "seed": 0, "locks": [[1.0, None]]}
    assert read_look(good) == Look("conv1", 5, "Map", "PCA", 0, 9, ((1, None),))
    assert read_look(good | changed) is None
    assert read_look("rubbish") is None


def test_a_lock_prunes_a_filter_whatever_its_score_and_can_be_lifted(app):
    look(app, chosen=0, locks=[[0, "out"]])
    assert plan(app).locked_out == {"layer3.0.conv1": (0,)}
    assert picture(app)["locked_out"] == [0]
    assert 0 in picture(app)["cut"]["own"]
    look(app, locks=[[0, "in"], [3, "out"]])
    assert plan(app).locked_in == {"layer3.0.conv1": (0,)}
    assert plan(app).locked_out == {"layer3.0.conv1": (3,)}
    look(app, locks=[[0, None], [3, None]])
    assert not plan(app).locked_in
    assert not plan(app).locked_out


def test_a_lock_the_rate_has_no_room_for_is_refused_and_nothing_changes(app):
    widget(app.selectbox, "Preset").set_value("uniform_0%").run()
    kept = plan(app)
    look(app, chosen=2, locks=[[2, "out"]])
    assert "raise the rate" in shown(app.error[0].value)
    assert plan(app) == kept
    assert picture(app)["locked_out"] == []


def test_a_bar_with_locks_moves_only_where_they_leave_room(app):
    look(app, chosen=0, locks=[[0, "out"], [1, "out"], [2, "in"], [3, "in"]])
    bar = next(bar for bar in bars(session_of(app)) if bar.name == "layer3.0.conv1")
    assert (bar.low, bar.high) == (0.04, 0.98)
    assert all((other.low, other.high) == (0, 1) for other in bars(session_of(app)) if other.name != bar.name)


@pytest.mark.parametrize(("model", "coupling"), [("mobilenetv2_cifar", "inner"), ("resnet20", "coupled")])
@pytest.mark.parametrize("criterion", ["fpgm", "fpgm_mix"])
def test_what_is_coloured_is_what_the_plan_prunes(model, coupling, criterion):
    network = Network.load(model)
    unit = next(unit for unit in network.units(coupling)[::-1] if len(unit.members) > 1)
    layer = unit.members[-1]
    locks = {"locked_in": {unit.name: (1,)}, "locked_out": {unit.name: (0, 2)}}
    plans = [network.plan(0.3, criterion=criterion, coupling=coupling, **locks)]
    plans.append(replace(plans[0].with_rates({unit.name: 0.456}), options=SelectionOptions(round_to=8)))
    for state in (ViewState(plan, layer) for plan in plans):
        drawn = picture(opened(s=encode(state)))
        rate = state.plan.rate(unit.name)
        for order, cut, name in (("own", "own", criterion), ("rival", "rival", "l2_norm")):
            kept = network.prune(replace(state.plan, criterion=name)).keep_masks[layer]
            assert drawn["cut"][cut] == np.flatnonzero(~kept).tolist()
            assert drawn["cut"]["rate"] == rate
            for percent in allowed_percents(replace(state.plan, criterion=name), unit)[::30]:
                moved = replace(state.plan.with_rates({unit.name: percent / 100}), criterion=name)
                coloured = [sum(flip <= percent for flip in flips) % 2 == 1 for flips in drawn[order][1]]
                assert coloured == (~network.prune(moved).keep_masks[layer]).tolist()


def test_a_bar_keeps_the_layer_of_its_unit_under_study():
    app = opened(s=encode(first_view("mobilenetv2_cifar")))
    before = session_of(app).state
    network = session_of(app).network
    unit = network.unit_of(before.layer, before.plan.coupling)
    assert before.layer != unit.name
    move(app, {unit.name: 0.5}, chosen=unit.name)
    assert session_of(app).state.layer == before.layer
    other = next(each.name for each in network.units(before.plan.coupling) if each != unit)
    move(app, {other: 0.5}, phase="drag", chosen=other, seq=2)
    assert picture(app)["layer"] == other, "what the hand moves is what the eye sees"
    assert session_of(app).state.layer == before.layer
    move(app, {other: 0.5}, chosen=other, seq=3)
    assert session_of(app).state.layer == other


def test_a_touched_bar_leaves_the_measurement_alone(app):
    app.session_state["equaliser"] = {"tick": 1}
    sound(app.run())
    job = session_of(app).measuring
    assert job is not None
    move(app, {}, phase="drag", chosen="conv1")
    assert session_of(app).measuring is job
    assert "moving" not in cards(app)


def test_no_widget_s_none_is_a_choice(app):
    """A widget whose words change loses its selection in the browser, which then says that nothing is chosen."""
    state = session_of(app).state
    labels = [element.label for element in (*app.selectbox, *app.get("button_group"))]
    assert {"Model", "Criterion", "Coupling", "Ladder", "Preset", "Keep a multiple of"} <= set(labels)
    for label in labels:
        widget([*app.selectbox, *app.get("button_group")], label).set_value(None)
        sound(app.run())
        assert session_of(app).state == state, label
        assert not app.error


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
    NETWORKS.clear()
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
    look(app, view="Radial", chosen=3)
    link = app.query_params["s"]
    other = opened(s=link[0] if isinstance(link, list) else link)
    assert session_of(other).state == session_of(app).state


@pytest.mark.parametrize("damage", [lambda s: s[:-9], lambda s: "x" + s[1:], lambda s: "????", lambda s: "AAAA"])
def test_a_damaged_link_is_told_and_the_page_opens(app, damage):
    other = opened(s=damage(encode(session_of(app).state)))
    assert "link" in shown(other.error[0].value)
    assert session_of(other).state == first_view()


def test_a_link_with_a_plan_for_other_weights_is_told(app):
    state = session_of(app).state
    other = opened(s=encode(replace(state, plan=replace(state.plan, fingerprint="0" * 64))))
    assert "other weights" in shown(other.error[0].value)
    assert session_of(other).state == first_view()


def test_a_saved_plan_opens_again_and_a_foreign_one_is_refused(app):
    saved = replace(plan(app), rates={"conv1": 0.5})
    app.get("file_uploader")[0].upload("plan.json", saved.to_json().encode(), "application/json").run()
    assert plan(app) == saved
    foreign = Network.load("resnet56").plan(0.2)
    app.get("file_uploader")[0].upload("other.json", foreign.to_json().encode(), "application/json").run()
    assert "resnet56" in shown(app.error[0].value)
    assert plan(app) == saved


def test_a_network_without_weights_shows_costs_and_no_accuracy(app):
    widget(app.selectbox, "Model").set_value("resnet110").run()
    assert not app.exception
    assert plan(app).model == "resnet110"
    assert "no trained weights" in app.warning[0].value
    assert "not measured" in cards(app)
    assert "of 252,887,680" in cards(app)


def test_a_network_without_batch_norms_has_no_recalibrated_rung_and_the_page_says_why():
    app = opened(s=encode(replace(first_view("squeezenet1_1"), method="recalibrated")))
    assert session_of(app).state.method == "as_is"
    assert "squeezenet1_1 has no batch normalisation" in shown(app.error[0].value)
    ladder = widget(app.get("button_group"), "Ladder")
    assert [str(option) for option in ladder.options] == ["As is", "Merged", "Repaired"]
    assert "No **Recalibrated**: squeezenet1_1 has no batch normalisation" in ladder.help


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
    assert figure(app, "trace")["data"]


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
