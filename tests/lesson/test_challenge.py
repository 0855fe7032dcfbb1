"""The judge of step 8: at least 40% has to go, a reference that has no more MACs, and figures that are evaluate's."""

from dataclasses import replace

import pytest

from fpgm_core import EvaluationConfig, FpgmError, evaluate
from fpgm_core.data import load_images
from fpgm_core.evaluation import accuracy as evaluator
from fpgm_core.graph import COUPLINGS
from fpgm_core.lesson import TARGET_CUT, Verdict, judge_work, macs_cut
from fpgm_core.lesson.steps.challenge import reference_plan
from fpgm_core.recovery import methods as rungs
from fpgm_core.runtime.progress import run

FEW = EvaluationConfig(images=200, device="cpu", precision="float32")


@pytest.fixture
def small(monkeypatch):
    """Few training images for every rung."""
    monkeypatch.setattr(
        evaluator,
        "load_images",
        lambda name, split, root=None: load_images(name, split, root).first(300),
    )
    for room in (evaluator, rungs):
        monkeypatch.setattr(room, "IMAGES", 128)


def mixed(net, coupling, criterion, low, high):
    """A plan whose rates go up and down along the network."""
    units = net.units(coupling)
    rates = {unit.name: (low, high)[index % 2] for index, unit in enumerate(units)}
    return net.plan(rates, criterion=criterion, coupling=coupling)


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize(("low", "high"), [(0.4, 0.4), (0.2, 0.7), (0.55, 0.85), (0.01, 0.02)])
@pytest.mark.parametrize("name", ["resnet20", "mobilenetv2_cifar"])
def test_the_reference_has_the_smallest_rate_that_leaves_no_more(network, name, coupling, low, high):
    net = network(name)
    plan = mixed(net, coupling, "l2_norm", low, high)
    reference = reference_plan(net, plan)
    (rate,) = set(reference.rates.values())
    assert (reference.criterion, reference.coupling) == ("fpgm", coupling)
    assert set(reference.rates) == {unit.name for unit in net.units(coupling)}
    assert round(rate * 100) == pytest.approx(rate * 100)
    assert net.cost(reference).macs <= net.cost(plan).macs
    less = net.plan(rate - 0.01, criterion="fpgm", coupling=coupling)
    assert net.cost(less).macs > net.cost(plan).macs


def test_fpgm_at_one_rate_is_its_own_reference(network):
    net = network("resnet20")
    plan = net.plan(0.37, criterion="fpgm", coupling="inner")
    assert net.cost(reference_plan(net, plan)).macs == net.cost(plan).macs
    assert reference_plan(net, net.plan(coupling="inner")).rates == net.plan(0.0, coupling="inner").rates


def test_rates_at_which_nothing_is_left_do_not_stand_in_the_way(network):
    """Every convolution by itself: from 88% on, FPGM leaves nothing that reaches the mobile network's last layer."""
    net = network("mobilenetv2_cifar")
    with pytest.raises(FpgmError, match="nothing is left"):
        net.cost(net.plan(0.88, coupling="independent"))
    plan = net.plan(0.8, coupling="independent")
    assert set(reference_plan(net, plan).rates.values()) == {0.8}


def test_what_fpgm_cannot_cut_is_said(network):
    net = network("resnet20")
    with pytest.raises(FpgmError, match="cannot cut as much at one rate"):
        reference_plan(net, net.plan(1.0, criterion="random", coupling="independent"))


def test_the_cut_is_counted(network):
    net = network("resnet20")
    plan = net.plan(0.4, coupling="inner")
    assert macs_cut(net, plan) == 1 - net.cost(plan).macs / net.dense_cost.macs
    assert macs_cut(net, net.plan(coupling="inner")) == 0


def test_too_little_is_refused_before_anything_is_measured(network):
    net = network("resnet20")
    cuts = {rate: macs_cut(net, net.plan(rate / 100, coupling="inner")) for rate in range(30, 50)}
    most = max(rate for rate, cut in cuts.items() if cut < TARGET_CUT)
    with pytest.raises(FpgmError, match=rf"the plan cuts {cuts[most]:.1%} of the MACs; at least 40% has to go"):
        next(judge_work(net, net.plan(most / 100, coupling="inner"), method="as_is", config=FEW))


@pytest.mark.parametrize("rung", ["as_is", "recalibrated"])
def test_figures_are_those_of_the_sealed_split(network, small, rung):
    net = network("resnet20")
    plan = mixed(net, "inner", "l2_norm", 0.35, 0.55)
    strange = replace(FEW, split="choose", rung="merged")  # neither counts
    shares = []
    verdict = run(judge_work(net, plan, method=rung, config=strange), lambda step: shares.append(step.share))
    assert isinstance(verdict, Verdict)
    assert shares == sorted(shares)
    assert all(0 <= share < 1 for share in shares)
    asked = replace(FEW, split="sealed", rung=rung)
    mine, theirs = (evaluate(net, one, asked) for one in (plan, reference_plan(net, plan)))
    for figure, expected in ((verdict.measurement, mine), (verdict.reference, theirs)):
        assert (figure.state, figure.images, figure.rung) == ("exact", 200, rung)
        assert figure.hits == expected.hits
        assert figure.accuracy == expected.accuracy
    assert mine.hits != evaluate(net, plan, replace(asked, split="choose")).hits
    assert verdict.change == mine.against(theirs)
    assert (verdict.plan, verdict.method) == (plan, rung)
    assert verdict.cut == macs_cut(net, plan) >= TARGET_CUT
    assert verdict.reference_cut >= verdict.cut


def test_the_target_itself_is_enough(network, small):
    net = network("resnet20")
    plan = net.plan(0.45, coupling="inner")
    few = replace(FEW, images=20)
    verdict = run(judge_work(net, plan, method="as_is", config=few, target=macs_cut(net, plan)))
    assert verdict.change.value == 0
    assert not verdict.change.excludes_zero
