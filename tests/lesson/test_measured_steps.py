"""Steps 6 to 9: no sentence says more than what was measured."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import EN, TRAINED, ZEROS

from fpgm_core.calibration import refit_cost, stand_in
from fpgm_core.criteria import geometric_median
from fpgm_core.evaluation import QUESTIONS, VERDICTS, Contest, Entry, Interval, verdict_counts
from fpgm_core.graph import weights_of
from fpgm_core.lesson import (
    STEPS,
    Evidence,
    FilterControls,
    StepContext,
)
from fpgm_core.lesson.controls import CostControls, FlopsControls
from fpgm_core.lesson.steps.flops import PRINTED
from fpgm_core.pruning import Network
from fpgm_core.recovery import ladder

# Step 6


@pytest.mark.parametrize("name", TRAINED)
def test_what_the_others_make_good(show, evidence, network, name):
    layer = evidence(name).replaceability[3].layer
    alone, refitted = stand_in(network(name), layer, moments=evidence(name).moments)
    answers = set()
    for chosen in range(len(alone)):
        if chosen % 7:
            continue
        shown, words = show("replaceable", name, FilterControls(layer, chosen))
        lost = words.values("replaceable.lost")
        good = 1 - refitted[chosen] / alone[chosen]
        assert (lost["alone"], lost["refitted"], lost["made_good"]) == pytest.approx(
            (alone[chosen], refitted[chosen], good)
        )
        assert shown.answer == ("quarter" if good <= 0.25 else "half" if good < 0.75 else "most")
        answers.add(shown.answer)
        assert shown.pictures[1].figure.data[0].y == pytest.approx((alone[chosen], refitted[chosen]))
        assert shown.pictures[2].figure.data[0].y == pytest.approx(1 - refitted / alone)
    costs = refit_cost(network(name), layer, moments=evidence(name).moments)
    assert words.values("replaceable.ranks")["cheapest"] == costs.argmin()
    by_norm = evidence(name).replaceability[3].by_norm
    assert words.values("replaceable.norm") == {
        "cost": by_norm["cheap"].interval.told(), "share": by_norm["replaceable"].interval.told(),
    }  # fmt: skip
    nearest = geometric_median(weights_of(network(name).module, layer)).nearest
    assert words.values("replaceable.ranks")["nearest_rank"] == 1 + (costs < costs[nearest]).sum()
    shares, ranked = 1 - refitted / alone, words.values("replaceable.ranks_good")
    assert (ranked["best"], ranked["nearest_rank"]) == (shares.argmax(), 1 + (shares > shares[nearest]).sum())


def answered(layer, question, widened):
    """A layer where a question has another widened interval."""
    finding = replace(layer.by_distance[question], interval=widened, widened=widened)
    return replace(layer, by_distance=layer.by_distance | {question: finding})


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("interval", [Interval(0.4, 0.1, 0.6), Interval(-0.4, -0.6, -0.1), Interval(0.3, -0.1, 0.6)])
def test_each_question_is_judged_by_its_widened_interval_alone(show, evidence, question, interval):
    known = evidence("resnet20").replaceability
    first = answered(known[0], question, interval)
    layers = (first, *known[1:])
    shown, words = show("replaceable", controls=FilterControls(first.layer), replaceability=layers)
    word = QUESTIONS[question].verdict(interval)
    assert {f"replaceable.{question}_{kind}" for kind in VERDICTS} & words.names == {f"replaceable.{question}_{word}"}
    assert any(interval.told() in sentence for sentence in shown.conclusion)
    for name in QUESTIONS:
        over, counts = words.values(f"replaceable.network_{name}"), verdict_counts(layers, name)
        assert {kind: over[kind] for kind in VERDICTS[:3]} == {kind: counts[kind] for kind in VERDICTS[:3]}
        assert over["count"] == len(layers) - counts["few"]


def test_too_few_filters_are_no_verdict(show, evidence):
    known = evidence("resnet20").replaceability
    first = answered(known[0], "cheap", None)
    _, words = show("replaceable", controls=FilterControls(first.layer), replaceability=(first, *known[1:]))
    assert "replaceable.few" in words.names
    assert words.values("replaceable.network_cheap")["count"] == len(known) - 1


def test_cheap_to_lose_and_replaceable_part_where_their_verdicts_do(show, evidence):
    known = evidence("resnet20").replaceability
    _, words = show("replaceable")
    parted = sum(one.by_distance["cheap"].verdict != one.by_distance["replaceable"].verdict for one in known)
    assert words.values("replaceable.parted") == {"parted": parted, "count": len(known)}
    above, below = Interval(0.4, 0.1, 0.6), Interval(-0.4, -0.6, -0.1)
    alike = tuple(answered(answered(one, "cheap", above), "replaceable", below) for one in known)
    _, words = show("replaceable", replaceability=alike)
    assert "replaceable.parted" not in words.names
    assert "replaceable.alike" in words.names


def test_the_covered_step_keeps_the_shares_to_itself(show):
    covered = show("replaceable", revealed=False)[0]
    assert [picture.name for picture in covered.pictures] == ["scatter"]
    for title in ("alone", "made_good"):
        assert EN(f"table.{title}") not in covered.pictures[0].table


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
    assert words.values("cost.fails") == {
        "rung": "recalibrated", "seeds": 3, "above": 1, "below": 1, "rest": 1,
    }  # fmt: skip
    assert words.values("cost.leader") == {"rung": "recalibrated", "name": "L2 norm"}
    _, words = show("cost", contest=contest, controls=CostControls("as_is"))
    assert {kind for kind, _ in kinds(words).values()} == {"tie"}


def test_nobody_leads_a_tie(show):
    shown, words = show("cost", contest=contest_of(), controls=CostControls("recalibrated"))
    assert shown.answer == "none"
    assert words.values("cost.no_leader")["names"] == "L2 norm, FPGM, mix, refit cost"
    assert "cost.leader" not in words.names
    two = contest_of(l2_norm=below(260), refit_cost=below(262))
    shown, words = show("cost", contest=two, controls=CostControls("recalibrated"))
    assert shown.answer == "none"
    assert words.values("cost.no_leader")["names"] == "refit cost, L2 norm"
    shown, words = show("cost", contest=contest_of(fpgm=below(300)), controls=CostControls("recalibrated"))
    assert shown.answer == "fpgm"
    assert words.values("cost.control")["above"] == 3
    assert words.values("cost.rungs") == {"first": "as is", "last": "recalibrated", "low": 0.5, "high": 0.75,
                                           "gap": pytest.approx(25)}  # fmt: skip


@settings(max_examples=8)
@given(st.lists(st.integers(150, 260), min_size=4, max_size=4), st.integers(0, 2**31))
def test_no_sentence_says_more_than_its_interval(network, counts, seed):
    rng = np.random.RandomState(seed)
    masks = [rng.permutation(400) < count for count in counts]
    contest = contest_of(**dict(zip(("l2_norm", "fpgm", "fpgm_mix", "refit_cost"), masks, strict=True)))
    scene = StepContext(network("resnet20"), EN, Evidence(contest=contest))
    shown = STEPS["cost"].show(scene, CostControls("recalibrated"))
    fpgm = contest.entry("fpgm")
    for name in ("l2_norm", "fpgm_mix", "refit_cost"):
        change = contest.change(contest.entry(name), fpgm, "recalibrated")
        title = EN(f"criterion.{name}")
        ahead = [sentence for sentence in shown.conclusion if f"{title} is ahead of FPGM" in sentence]
        behind = [sentence for sentence in shown.conclusion if f"{title} is behind FPGM" in sentence]
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


@pytest.mark.parametrize("rung", ladder())
@pytest.mark.parametrize("name", TRAINED)
def test_the_contest_that_ships_is_told_as_it_was_measured(show, evidence, name, rung):
    contest = evidence(name).contest
    shown, words = show("cost", name, CostControls(rung))
    for criterion in ("l2_norm", "fpgm_mix", "refit_cost"):
        change = contest.change(contest.entry(criterion), contest.entry("fpgm"), rung)
        kind, text = kinds(words)[EN(f"criterion.{criterion}")]
        assert kind == ("tie" if not change.excludes_zero else "ahead" if change.value > 0 else "behind")
        assert text == change.told(-100 if kind == "behind" else 100)
    leaders = contest.ranking(rung).leaders
    assert shown.answer == (leaders[0] if len(leaders) == 1 else "none")
    ladder = shown.pictures[0].table
    rows = [*(contest.entry(criterion) for criterion in contest.criteria), *contest.random]
    assert list(ladder[EN(f"rung.{rung}")]) == [row.hits[rung].mean() for row in rows]


def test_a_covered_contest_has_the_control_alone(show):
    shown, words = show("cost", revealed=False)
    assert [picture.name for picture in shown.pictures] == ["contest"]
    assert len(shown.pictures[0].figure.data) == 1
    assert len(shown.pictures[0].table[EN("table.criterion")]) == 10
    assert "cost.ladder_covered" in words.names


# Step 8


def test_flops_are_the_papers_where_it_printed_them(show, network):
    shown, words = show("flops", controls=FlopsControls(rate=0.3))
    closed = words.values("flops.closed")
    assert f"{closed['closed']:.1%}" == "42.2%"
    net = network("resnet20")
    assert closed["counted"] == 1 - net.cost(net.plan(0.3)).macs / net.dense_cost.macs
    assert shown.answer == "more"
    (picture,) = shown.pictures
    lines = {
        round(rate, 2): share
        for rate, share in zip(*(picture.table[EN(f"figure.{key}")] for key in ("rate", "closed_form")), strict=True)
    }
    assert {rate: round(lines[rate] * 100, 1) for rate in PRINTED["resnet20"]} == PRINTED["resnet20"]


def test_networks_the_formula_does_not_know_borrow_resnet20(show):
    (_, first), (_, other) = (
        show("flops", name, FlopsControls(rate=0.5)) for name in ("resnet20", "mobilenetv2_cifar")
    )
    assert first.values("flops.closed") == other.values("flops.closed")
    assert first.values("flops.curves")["network"] == other.values("flops.curves")["network"] == "ResNet-20"


@pytest.mark.parametrize(("counted", "answer"), [(0.4, "same"), (0.44, "same"), (0.46, "more"), (0.3, "less")])
def test_the_share_of_the_flops_is_judged_by_the_count(show, monkeypatch, counted, answer):
    class Counted:
        """A cost that leaves as much as the case says."""

        def __init__(self, dense):
            self.macs = dense * (1 - counted)

    monkeypatch.setattr(Network, "cost", lambda network, plan: Counted(network.dense_cost.macs))
    assert show("flops", controls=FlopsControls(rate=0.4))[0].answer == answer


def test_covered_flops_are_the_dashed_line_alone(show):
    covered, words = show("flops", revealed=False)
    (trace,) = covered.pictures[0].figure.data
    assert trace.name == EN("figure.identity")
    assert covered.pictures[0].table is None
    assert "flops.covered" in words.names


# Step 9


@pytest.mark.parametrize(
    ("scattered", "compact", "answer"),
    [(9.6, 6.5, "compact"), (9.4, 6.5, "both"), (9.4, 9.6, "scattered"), (10.4, 9.5, "neither")],
)
def test_faster_is_what_takes_five_percent_less(show, scattered, compact, answer):
    zeros = replace(ZEROS, dense_ms=10.0, scattered_ms=scattered, compact_ms=compact)
    shown, words = show("zeros", zeros=zeros)
    assert shown.answer == answer
    said = words.values("zeros.said")
    assert (said["scattered_ratio"], said["compact_ratio"]) == pytest.approx((scattered / 10, compact / 10))
    assert list(shown.pictures[0].figure.data[0].y) == [10.0, scattered, compact]


def test_covered_zeros_are_the_dense_network_alone(show):
    covered, _ = show("zeros", revealed=False)
    assert list(covered.pictures[0].figure.data[0].y) == [ZEROS.dense_ms]
    assert show("zeros", zeros=None)[0].pictures == ()


def test_macs_that_differ_are_told(show, network):
    contest = contest_of()
    entries = (replace(contest.entries[0], macs=90), *contest.entries[1:])
    _, words = show("cost", contest=replace(contest, entries=entries))
    dense = network("resnet20").dense_cost.macs
    assert words.values("cost.nearly") == {"low": 90, "high": 100, "dense": dense}
    assert "cost.equal" not in words.names
