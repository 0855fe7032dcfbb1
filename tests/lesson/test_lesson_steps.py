"""The steps: every sentence and every answer follows from the figures, in every language, on every network."""

import re
from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr

from fpgm_core import FpgmError
from fpgm_core.evaluation import Contest, Entry, Interval, Zeros, premise
from fpgm_core.filters import geometric_median, medoid, num_pruned, weights_of
from fpgm_core.lesson import (
    LANGUAGES,
    MEASUREMENTS,
    PLANES,
    STEPS,
    FilterControls,
    Found,
    PlaneControls,
    Scene,
    at_hand,
    can_measure,
    get_step,
    joined,
    seeing,
    steps,
    told,
    words_of,
)
from fpgm_core.lesson.controls import AgreementControls, CostControls, MedianControls, NormControls
from fpgm_core.lesson.measuring import PRINTED
from fpgm_core.repair import RUNGS, refit_cost, stand_in

TRAINED, UNTRAINED = ("resnet20", "mobilenetv2_cifar"), "shufflenet_v2_x0_5"
SEEN = ("plane", "norms", "median", "reviewer", "agreement")  # they need weights alone
ZEROS = Zeros(8, 3, "cpu", 2, 10.0, 9.0, 6.5, 0.4)
EN = words_of("en")


@pytest.fixture
def show(network, found, heard):
    """A function: a step on a network with controls, what was measured with it; the Shown and the words."""

    def call(step, name="resnet20", controls=None, language="en", revealed=True, **measured):
        words = heard(language)
        known = replace(found(name), zeros=ZEROS) if name in TRAINED else Found()
        scene = Scene(network(name), words, replace(known, **measured), revealed)
        return STEPS[step].show(scene, controls or STEPS[step].controls()), words

    return call


def column(picture, title):
    return list(picture.table[title])


# Every step, every language, every network


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", [*TRAINED, UNTRAINED])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_as_it_comes(show, step, name, language):
    shown, words = show(step, name, language=language)
    if name == UNTRAINED and step not in (*SEEN, "challenge", "cost"):
        assert shown.conclusion == shown.pictures == ()
        assert shown.answer is None
        return
    assert shown.conclusion
    for sentence in (*shown.conclusion, *(picture.caption for picture in shown.pictures)):
        assert sentence
        assert not re.search(r"[{}]|\bnan\b|\binf\b", sentence), sentence
    assert words.names <= set(words_of(language).strings)
    if STEPS[step].options and (name in TRAINED or step in SEEN):
        assert shown.answer in STEPS[step].options
    else:
        assert shown.answer is None
    for picture in shown.pictures:
        assert picture.figure.to_dict()["data"]
        assert len({len(list(values)) for values in (picture.table or {"": []}).values()}) == 1
    names = [picture.name for picture in shown.pictures]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("step", STEPS)
def test_languages_say_the_same(show, step):
    (english, first), (korean, second) = (show(step, language=language) for language in ("en", "ko"))
    assert first.asked == second.asked or len(first.asked) == len(second.asked)
    assert [name for name, _ in first.asked] == [name for name, _ in second.asked]
    assert english.answer == korean.answer
    digits = [re.findall(r"\d+\.\d+", "".join(one.conclusion)) for one in (english, korean)]
    assert sorted(digits[0]) == sorted(digits[1])
    if step != "challenge":
        assert english.conclusion != korean.conclusion


@pytest.mark.parametrize("step", [name for name, step in STEPS.items() if step.options])
def test_pictures_do_not_give_the_answer_away(show, step):
    covered, shown = show(step, revealed=False)[0], show(step)[0]
    assert covered.answer == shown.answer
    if step in ("replaceable", "cost"):
        assert len(covered.pictures) < len(shown.pictures)


def test_the_steps_are_eight_and_take_half_an_hour():
    assert list(STEPS) == ["plane", "norms", "median", "reviewer", "agreement", "replaceable", "cost", "challenge"]
    assert all(name == step.name for name, step in STEPS.items())
    assert 20 <= sum(step.minutes for step in STEPS.values()) <= 30
    assert {need for step in STEPS.values() for need in step.needs} == set(MEASUREMENTS)
    assert all(len(set(step.options)) == len(step.options) != 1 for step in STEPS.values())
    assert get_step("norms") is STEPS["norms"]
    with pytest.raises(FpgmError, match="unknown step 'nobody'; choose one of plane, norms"):
        get_step("nobody")


def test_only_trained_networks_can_be_measured(network):
    assert all(can_measure(network(name)) for name in TRAINED)
    assert not can_measure(network(UNTRAINED))


# Step 1


@pytest.mark.parametrize(
    ("plane", "said"), [("apart", "plane.part"), ("around", "plane.agree"), ("groups", "plane.between")]
)
def test_the_plane_says_whether_they_part(show, plane, said):
    shown, words = show("plane", controls=PlaneControls(PLANES[plane]))
    assert words.names & {"plane.part", "plane.agree", "plane.between"} == {said}
    points = np.array(PLANES[plane])
    norms, sums = np.linalg.norm(points, axis=1), cdist(points, points).sum(1)
    drops = words.figures("plane.drops")
    assert drops["norm"] == ", ".join(map(str, norms.argsort()[:3]))
    assert drops["fpgm"] == ", ".join(map(str, sums.argsort()[:3]))
    assert words.figures("plane.where")["medoid"] == sums.argmin()
    (picture,) = shown.pictures
    assert column(picture, EN("table.g")) == pytest.approx(sums)
    assert column(picture, EN("table.norm")) == pytest.approx(norms)


def test_what_you_dropped_is_compared(show):
    _, words = show("plane")
    assert "plane.yours_drops" not in words.names
    _, words = show("plane", controls=PlaneControls(marked=(0, 3, 4)))
    assert words.figures("plane.yours_drops") == {"yours": "0, 3, 4", "with_norm": 1, "with_fpgm": 1}


def test_a_covered_plane_shows_nobodys_drops(show):
    for revealed, drawn in ((False, 0), (True, 3)):
        figure = show("plane", revealed=revealed)[0].pictures[0].figure
        drops = [trace for trace in figure.data if trace.name in (EN("figure.norm_drops"), EN("figure.fpgm_drops"))]
        assert [len(trace.x) for trace in drops] == [drawn, drawn]
        assert any(trace.name == EN("figure.norm_cut") for trace in figure.data) == revealed


# Step 2


def test_norms_tell_filters_apart_in_the_ideal_layer_alone(show):
    as_it_comes, words = show("norms")
    assert as_it_comes.answer == "most"
    assert words.figures("norms.here")["ratio"] > 0.75
    ideal, words = show("norms", controls=NormControls(deviation=0.2, smallest=0.0))
    assert ideal.answer == "half"
    here = words.figures("norms.here")
    assert here["ratio"] == pytest.approx(here["ideal"])
    assert ideal.conclusion[0] != as_it_comes.conclusion[0]
    few, words = show("norms", controls=NormControls(deviation=0.2, smallest=0.0, rate=0.1))
    assert few.answer == "quarter"
    assert words.figures("norms.here")["ratio"] < 0.3


@pytest.mark.parametrize("name", [*TRAINED, UNTRAINED])
@pytest.mark.parametrize("rate", [0.25, 0.6])
def test_norms_of_real_layers_by_hand(show, network, name, rate):
    shown, words = show("norms", name, NormControls(rate=rate))
    found = {}
    for layer in network(name).layers:
        filters = weights_of(network(name).module, layer.name).flatten(1).double().numpy()
        norms = np.sort(np.linalg.norm(filters, axis=1))
        cut = num_pruned(len(norms), rate)
        found[layer.name] = (
            norms.std() / norms.mean(),
            norms[0] / norms.mean(),
            norms[:cut].mean() / norms[cut:].mean(),
        )
    table = next(picture for picture in shown.pictures if picture.name == "requirements").table
    for index, title in enumerate(("spread", "floor", "ratio")):
        assert list(table[EN(f"table.{title}")]) == pytest.approx([row[index] for row in found.values()], rel=1e-5)
    real, low, high = words.figures("norms.real"), *(pick(found, key=lambda one: found[one][2]) for pick in (min, max))
    assert (real["low_layer"], real["high_layer"]) == (low, high)
    assert (real["low"], real["high"]) == pytest.approx((found[low][2], found[high][2]), rel=1e-5)
    fails = words.figures("norms.fails")
    assert fails["layer"] == high
    assert (fails["spread"], fails["floor"]) == pytest.approx(found[high][:2], rel=1e-5)


# Step 3


def test_the_mean_follows_the_outlier_the_median_does_not(show):
    shown, words = show("median", controls=MedianControls(away=8.0))
    moved = words.figures("median.moved")
    assert shown.answer == "mean"
    assert moved["mean"] == pytest.approx((8 - 1) / 7)  # one of seven filters
    assert moved["median"] < 0.1
    home, words = show("median", controls=MedianControls(away=1.0))
    assert home.answer == "alike"
    assert words.figures("median.moved")["mean"] == words.figures("median.moved")["median"] == 0


def test_the_path_goes_downhill_from_the_mean(show):
    shown, words = show("median", controls=MedianControls(taken=12))
    table = shown.pictures[0].table
    assert list(table["k"]) == list(range(13))
    assert all(after <= before for before, after in zip(table["f"][:-1], table["f"][1:], strict=True))
    downhill = words.figures("median.downhill")
    assert downhill["taken"] == 12
    assert table["f"][-1] == pytest.approx(downhill["least"] * (1 + downhill["above"]))
    assert table["f"][0] == pytest.approx(downhill["least"] * (1 + downhill["at_mean"]))
    _, none = show("median", controls=MedianControls(taken=0))
    assert none.figures("median.downhill")["above"] == none.figures("median.downhill")["at_mean"] > 0.01


# Step 4


@pytest.mark.parametrize("name", [*TRAINED, UNTRAINED])
def test_leaving_oneself_out_changes_nothing(show, network, name):
    layers = network(name).layers
    for layer in (layers[0], layers[len(layers) // 2], layers[-1]):
        for chosen in (0, layer.filters - 1):
            shown, words = show("reviewer", name, FilterControls(layer.name, chosen))
            x = weights_of(network(name).module, layer.name).flatten(1).double().numpy()
            others = np.linalg.norm(np.delete(x, chosen, 0) - x[chosen], axis=1).sum()
            same = words.figures("reviewer.same")
            assert same["g"] == pytest.approx(others)
            assert same["g_prime"] == pytest.approx(others)
            assert (same["moved"], same["difference"], same["count"]) == (0, 0, layer.filters)
            assert shown.answer == "none"
            assert shown.controls == FilterControls(layer.name, chosen)


@settings(max_examples=5)
@given(st.integers(0, 2**31), st.integers(1, 20), st.integers(1, 8))
def test_g_prime_is_g_for_any_filters(network, seed, filters, numbers):
    """The step on a layer whose filters are drawn, some of them twice."""
    drawn = torch.randn(filters, numbers, generator=torch.Generator().manual_seed(seed))
    drawn = torch.cat([drawn, drawn[: filters // 2]])[:, :, None, None]
    net = network("resnet20")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(seeing, "weights_of", lambda module, layer: drawn)
        patched.setattr(seeing, "_middles", lambda network: [(0, 0)] * len(network.layers))
        shown = seeing.show_reviewer(Scene(net, EN), FilterControls("conv1", 0))
    assert shown.answer == "none"
    own = shown.pictures[0].figure.data[1]
    assert own.y[0] == 0


def test_the_answer_would_tell_a_g_prime_that_differs(network, monkeypatch):
    """A distance to oneself that is not 0 changes places: the answer is computed, not known beforehand."""
    line = np.arange(16.0)[:, None] ** 2
    for own, answer in (({}, "none"), ({15: 1e5}, "none"), ({7: 1e5}, "most"), ({15: -600.0}, "few")):
        wrong = torch.from_numpy(cdist(line, line))
        for index, value in own.items():
            wrong[index, index] = value
        monkeypatch.setattr(seeing, "pairwise_distances", lambda x, of=wrong: of if len(x) == 16 else torch.cdist(x, x))
        assert seeing.show_reviewer(Scene(network("resnet20"), EN), FilterControls("conv1", 0)).answer == answer


def test_four_points_are_told_with_their_figures(show):
    shown, words = show("reviewer")
    four = words.figures("reviewer.four_said")
    assert (four["near"], four["best"]) == ((1, 0), (0, 3))
    assert f"{four['near_distance']:.3f} {four['best_sum']:.3f} {four['near_sum']:.3f}" == "1.500 11.867 12.162"
    assert "11.867 against 12.162" in "".join(shown.conclusion)


@pytest.mark.parametrize("name", ["mobilenetv2_cifar", UNTRAINED])
def test_medoid_and_nearest_filter_of_every_layer(show, network, name):
    shown, words = show("reviewer", name)
    table = shown.pictures[1].table
    net = network(name)
    filters = [weights_of(net.module, layer.name) for layer in net.layers]
    assert list(table[EN("table.nearest")]) == [geometric_median(one).nearest for one in filters]
    assert list(table[EN("table.medoid")]) == [medoid(one) for one in filters]
    told = words.figures("reviewer.layers")
    assert told["differ"] == list(table[EN("table.same")]).count(EN("table.no"))
    assert (told["count"], told["sets"]) == (len(filters), 400)
    bound = words.figures("reviewer.bound")
    assert 1 <= bound["ratio"] <= 2
    assert bound["medoid"] == pytest.approx(bound["ratio"] * bound["median"])


@pytest.mark.parametrize("step", ["reviewer", "replaceable"])
@pytest.mark.parametrize(
    ("controls", "reason"),
    [
        (FilterControls("nobody"), "offers no layer 'nobody'"),
        (FilterControls("layer1.0.conv1", 16), "no filter 16; its filters are 0 to 15"),
        (FilterControls("layer1.0.conv1", -2), "no filter -2"),
    ],
)
def test_a_filter_that_is_not_there_is_refused(show, step, controls, reason):
    with pytest.raises(FpgmError, match=reason):
        show(step, controls=controls)


# Step 5


def test_more_numbers_help_off_the_origin_alone(show):
    for centre, answer in ((1.5, "more"), (0.0, "same")):
        shown, words = show("agreement", controls=AgreementControls(centre=centre))
        both = words.figures("agreement.both")
        assert shown.answer == answer
        assert (abs(both["to_many"] - both["from_few"]) < 0.01) == (answer == "same")
        assert both["from_near"] > both["to_far"]
    assert words.figures("agreement.here")["mean"] > 0.95


def test_real_layers_by_scipy(show, network):
    shown, words = show("agreement", "mobilenetv2_cifar")
    net = network("mobilenetv2_cifar")
    rhos = {}
    for layer in net.layers:
        x = weights_of(net.module, layer.name).flatten(1).double().numpy()
        rhos[layer.name] = spearmanr(np.linalg.norm(x, axis=1), cdist(x, x).sum(1)).statistic
    table = shown.pictures[2].table
    assert dict(zip(table[EN("table.layer")], table[EN("table.correlation")], strict=True)) == pytest.approx(
        rhos, abs=1e-4
    )
    said = words.figures("agreement.network")
    assert said["low_layer"] == min(rhos, key=rhos.get) == "layer3.0.depthwise"
    assert said["low_numbers"] == 9
    deep = [rho for name, rho in rhos.items() if name.endswith("depthwise")]
    assert words.figures("agreement.depthwise")["depthwise"] == pytest.approx(np.mean(deep), abs=1e-4)


def test_depthwise_layers_are_borrowed_where_there_are_none(show, network):
    _, words = show("agreement", "resnet20")
    assert words.figures("agreement.borrowed")["other"] == network("mobilenetv2_cifar").loaded.info.title
    assert "agreement.depthwise" not in words.names
    for name in ("mobilenetv2_cifar", UNTRAINED):
        _, words = show("agreement", name)
        assert "agreement.borrowed" not in words.names


# Step 6


@pytest.mark.parametrize("name", TRAINED)
def test_what_the_others_make_good(show, found, network, name):
    layer = found(name).replaceability[3].layer
    alone, refitted = stand_in(network(name), layer, found(name).moments)
    answers = set()
    for chosen in range(len(alone)):
        if chosen % 7:
            continue
        shown, words = show("replaceable", name, FilterControls(layer, chosen))
        lost = words.figures("replaceable.lost")
        good = 1 - refitted[chosen] / alone[chosen]
        assert (lost["alone"], lost["refitted"], lost["made_good"]) == pytest.approx(
            (alone[chosen], refitted[chosen], good)
        )
        assert shown.answer == ("quarter" if good <= 0.25 else "half" if good < 0.75 else "most")
        answers.add(shown.answer)
        assert shown.pictures[1].figure.data[0].y == pytest.approx((alone[chosen], refitted[chosen]))
    costs = refit_cost(network(name), layer, found(name).moments)
    assert words.figures("replaceable.ranks")["cheapest"] == costs.argmin()
    assert words.figures("replaceable.norm")["rho"] == told(found(name).replaceability[3].by_norm)
    nearest = geometric_median(weights_of(network(name).module, layer)).nearest
    assert words.figures("replaceable.ranks")["nearest_rank"] == 1 + (costs < costs[nearest]).sum()


@pytest.mark.parametrize(
    ("interval", "word"),
    [
        (Interval(0.4, 0.1, 0.6), "holds"),
        (Interval(-0.4, -0.6, -0.1), "reversed"),
        (Interval(0.3, -0.1, 0.6), "undecided"),
        (Interval(0.3, 0.0, 0.6), "undecided"),
        (Interval(-0.3, -0.6, 0.0), "undecided"),
        (None, "few"),
    ],
)
def test_the_premise_is_judged_by_its_interval_alone(show, found, interval, word):
    assert premise(interval) == word
    known = found("resnet20").replaceability
    first = replace(known[0], by_distance=interval)
    shown, words = show("replaceable", controls=FilterControls(first.layer), replaceability=(first, *known[1:]))
    assert {f"replaceable.{kind}" for kind in ("holds", "reversed", "undecided", "few")} & words.names == {
        f"replaceable.{word}"
    }
    over = words.figures("replaceable.network")
    assert over["holds"] + over["reversed"] + over["undecided"] == over["count"] == len(known) - (interval is None)
    if interval and interval.value < 0:
        assert over["weakest"] == first.layer
    if interval:
        assert any(told(interval) in sentence for sentence in shown.conclusion)


@pytest.mark.parametrize(
    ("interval", "scale", "text"),
    [
        (Interval(0.42, -0.31, 1.15), 1, "+0.42 [−0.31, +1.15]"),
        (Interval(-0.02, -0.03, -0.01), 100, "−2.00 [−3.00, −1.00]"),
        (Interval(-0.02, -0.03, -0.01), -100, "+2.00 [+1.00, +3.00]"),  # the lower end stays the lower
    ],
)
def test_an_interval_is_told_with_its_lower_end_first(interval, scale, text):
    assert told(interval, scale) == text


# Step 7


def contest_of(**right):
    """A contest on two rungs; `right` says by criterion which images (a mask) are right when recalibrated."""
    fpgm = np.arange(400) < 200
    masks = {"l2_norm": fpgm, "fpgm": fpgm, "fpgm_mix": fpgm, "refit_cost": fpgm} | right
    entries = [Entry(name, None, 100, {"as_is": fpgm, "recalibrated": mask}) for name, mask in masks.items()]
    for seed, shift in enumerate((0, -80, 80)):
        entries.append(Entry("random", seed, 100, {"as_is": fpgm, "recalibrated": np.arange(400) < 200 + shift}))
    return Contest("toy", "0" * 64, 0.4, "inner", "choose", 400, tuple(entries))


def below(count):
    return np.arange(400) < count


def kinds(words):
    """What is said of every criterion against FPGM: its kind and the text of the change, by title."""
    return {figures["name"]: (name.removeprefix("cost."), figures["change"]) for name, figures in words.asked
            if name in ("cost.ahead", "cost.behind", "cost.tie")}  # fmt: skip


def test_ahead_and_behind_only_where_the_interval_excludes_zero(show):
    contest = contest_of(l2_norm=below(260), fpgm_mix=below(140), refit_cost=below(201))
    shown, words = show("cost", contest=contest, controls=CostControls("recalibrated"))
    said = kinds(words)
    assert {name: kind for name, (kind, _) in said.items()} == {
        "L2 norm": "ahead",
        "mix": "behind",
        "refit cost": "tie",
    }
    assert said["L2 norm"][1].startswith("+15.00 [+")
    assert said["mix"][1].startswith("+15.00 [+")  # behind by so many points
    assert re.fullmatch(r"\+0\.25 \[−.*, \+.*\]", said["refit cost"][1])
    assert shown.answer == "l2_norm"
    assert "cost.control" not in words.names, "better than one draw of three is no better than chance"
    assert words.figures("cost.fails") == {
        "rung": "recalibrated", "seeds": 3, "above": 1, "below": 1, "rest": 1,
    }  # fmt: skip
    assert words.figures("cost.leader") == {"rung": "recalibrated", "name": "L2 norm"}
    _, words = show("cost", contest=contest, controls=CostControls("as_is"))
    assert {kind for kind, _ in kinds(words).values()} == {"tie"}


def test_nobody_leads_a_tie(show):
    shown, words = show("cost", contest=contest_of(), controls=CostControls("recalibrated"))
    assert shown.answer == "none"
    assert words.figures("cost.no_leader")["names"] == "L2 norm, FPGM, mix, refit cost"
    assert "cost.leader" not in words.names
    two = contest_of(l2_norm=below(260), refit_cost=below(262))
    shown, words = show("cost", contest=two, controls=CostControls("recalibrated"))
    assert shown.answer == "none"
    assert words.figures("cost.no_leader")["names"] == "refit cost, L2 norm"
    shown, words = show("cost", contest=contest_of(fpgm=below(300)), controls=CostControls("recalibrated"))
    assert shown.answer == "fpgm"
    assert words.figures("cost.control")["above"] == 3
    assert words.figures("cost.rungs") == {"first": "as is", "last": "recalibrated", "low": 0.5, "high": 0.75,
                                           "gap": pytest.approx(25)}  # fmt: skip


@settings(max_examples=8)
@given(st.lists(st.integers(150, 260), min_size=4, max_size=4), st.integers(0, 2**31))
def test_no_sentence_says_more_than_its_interval(network, counts, seed):
    rng = np.random.RandomState(seed)
    masks = [rng.permutation(400) < count for count in counts]
    contest = contest_of(**dict(zip(("l2_norm", "fpgm", "fpgm_mix", "refit_cost"), masks, strict=True)))
    scene = Scene(network("resnet20"), EN, Found(contest=contest))
    shown = STEPS["cost"].show(scene, CostControls("recalibrated"))
    fpgm = contest.entry("fpgm")
    for name in ("l2_norm", "fpgm_mix", "refit_cost"):
        change = contest.change(contest.entry(name), fpgm, "recalibrated")
        title = EN(f"criterion.{name}")
        ahead = [one for one in shown.conclusion if f"{title} is ahead of FPGM" in one]
        behind = [one for one in shown.conclusion if f"{title} is behind FPGM" in one]
        assert (len(ahead), len(behind)) == (int(change.low > 0), int(change.high < 0))
    leads = [
        name
        for name in contest.criteria
        if all(
            contest.change(contest.entry(name), contest.entry(other), "recalibrated").low > 0
            for other in contest.criteria
            if other != name
        )
    ]
    assert shown.answer == (leads[0] if leads else "none")
    best = [sentence for sentence in shown.conclusion if "is better than every other criterion here" in sentence]
    assert [EN("cost.leader", rung=EN("rung.recalibrated"), name=EN(f"criterion.{name}")) for name in leads] == best


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("name", TRAINED)
def test_the_contest_that_ships_is_told_as_it_was_measured(show, network, name, rung):
    contest = at_hand(network(name), "contest").contest
    shown, words = show("cost", name, CostControls(rung))
    for criterion in ("l2_norm", "fpgm_mix", "refit_cost"):
        change = contest.change(contest.entry(criterion), contest.entry("fpgm"), rung)
        kind, text = kinds(words)[EN(f"criterion.{criterion}")]
        assert kind == ("tie" if not change.excludes_zero else "ahead" if change.value > 0 else "behind")
        assert text == told(change, -100 if kind == "behind" else 100)
    leaders = contest.ranking(rung).leaders
    assert shown.answer == (leaders[0] if len(leaders) == 1 else "none")
    ladder = shown.pictures[0].table
    rows = [*(contest.entry(criterion) for criterion in contest.criteria), *contest.random]
    assert list(ladder[EN(f"rung.{rung}")]) == [row.hits[rung].mean() for row in rows]


def test_a_covered_contest_has_the_control_alone(show):
    shown, words = show("cost", revealed=False)
    assert [picture.name for picture in shown.pictures] == ["contest", "flops", "zeros"]
    assert len(shown.pictures[0].figure.data) == 1
    assert len(shown.pictures[0].table[EN("table.criterion")]) == 10
    assert "cost.ladder_covered" in words.names


def test_flops_are_the_papers_where_it_printed_them(show, network):
    shown, words = show("cost", controls=CostControls(rate=0.3))
    closed = words.figures("cost.closed")
    assert f"{closed['closed']:.1%}" == "42.2%"
    net = network("resnet20")
    assert closed["counted"] == 1 - net.cost(net.plan(0.3)).macs / net.dense_cost.macs
    picture = next(one for one in shown.pictures if one.name == "flops")
    lines = {
        round(rate, 2): share
        for rate, share in zip(*(picture.table[EN(f"figure.{key}")] for key in ("rate", "closed_form")), strict=True)
    }
    assert {rate: round(lines[rate] * 100, 1) for rate in PRINTED["resnet20"]} == PRINTED["resnet20"]


def test_networks_the_formula_does_not_know_borrow_resnet20(show):
    (_, first), (_, other) = (show("cost", name, CostControls(rate=0.5)) for name in ("resnet20", "mobilenetv2_cifar"))
    assert first.figures("cost.closed") == other.figures("cost.closed")
    assert first.figures("cost.flops")["network"] == other.figures("cost.flops")["network"] == "ResNet-20"


def test_time_is_told_as_it_was_taken(show):
    _, words = show("cost")
    time = words.figures("cost.time")
    assert (time["scattered_ratio"], time["compact_ratio"]) == pytest.approx((0.9, 0.65))
    _, words = show("cost", zeros=None)
    assert "cost.time" not in words.names


def test_macs_that_differ_are_told(show, network):
    contest = contest_of()
    entries = (replace(contest.entries[0], macs=90), *contest.entries[1:])
    _, words = show("cost", contest=replace(contest, entries=entries))
    dense = network("resnet20").dense_cost.macs
    assert words.figures("cost.nearly") == {"low": 90, "high": 100, "dense": dense}
    assert "cost.equal" not in words.names


# What they need


def test_measurements_tell_their_share_and_last_what_they_found(network, monkeypatch):
    monkeypatch.setattr(steps, "zeros_steps", partial(steps.zeros_steps, runs=2))
    monkeypatch.setattr(steps, "_ZEROS_BATCH", 1)
    *shares, last = MEASUREMENTS["zeros"](network("resnet20"))
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    assert last.zeros.batch == 1
    assert last.zeros.share == pytest.approx(0.4, abs=0.05)
    (last,) = MEASUREMENTS["contest"](network("resnet20"))
    assert last.contest.criteria == ("l2_norm", "fpgm", "fpgm_mix", "refit_cost")


def test_what_was_measured_before_is_at_hand(network):
    assert at_hand(network("resnet20"), "contest").contest.images == 5000
    assert at_hand(network("resnet20"), "costs") is None
    assert at_hand(network("resnet20"), "zeros") is None


def test_parts_are_joined(found):
    known = found("resnet20")
    parts = [Found(zeros=ZEROS), Found(contest=known.contest), Found(moments=known.moments)]
    together = joined(parts)
    assert (together.zeros, together.contest, together.moments) == (ZEROS, known.contest, known.moments)
    assert together.replaceability is None
    assert vars(joined([])) == dict.fromkeys(one.name for one in fields(Found))
