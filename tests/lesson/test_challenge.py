"""The judge of step 8: at least 40% has to go, a reference that has no more MACs, and figures that are evaluate's."""

import pytest

from fpgm_core import EvaluationConfig, FpgmError, evaluate, recover
from fpgm_core.graph import COUPLINGS
from fpgm_core.lesson import TARGET_CUT, Verdict, judge_work, macs_cut
from fpgm_core.lesson.steps.challenge import reference_for
from fpgm_core.runtime.progress import run

FLOAT32 = EvaluationConfig(device="cpu", precision="float32")


@pytest.fixture(scope="module")
def sealed(images):
    return images("sealed").first(200)


@pytest.fixture(scope="module")
def training(images):
    return images("train").first(300)


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
    pruned = net.prune(mixed(net, coupling, "l2_norm", low, high))
    reference = reference_for(pruned)
    plan = reference.plan
    (rate,) = set(plan.rates.values())
    assert (plan.criterion, plan.coupling) == ("fpgm", coupling)
    assert set(plan.rates) == {unit.name for unit in net.units(coupling)}
    assert round(rate * 100) == pytest.approx(rate * 100)
    assert reference.cost.macs <= pruned.cost.macs
    less = net.prune(rate - 0.01, criterion="fpgm", coupling=coupling)
    assert less.cost.macs > pruned.cost.macs


def test_fpgm_at_one_rate_is_its_own_reference(network):
    net = network("resnet20")
    pruned = net.prune(0.37, criterion="fpgm", coupling="inner")
    assert reference_for(pruned).cost.macs == pruned.cost.macs
    assert reference_for(net.prune(0.0, coupling="inner")).plan.rates == net.plan(0.0, coupling="inner").rates


def test_rates_at_which_nothing_is_left_do_not_stand_in_the_way(network):
    """Every convolution by itself: from 88% on, FPGM leaves nothing that reaches the mobile network's last layer."""
    net = network("mobilenetv2_cifar")
    with pytest.raises(FpgmError, match="nothing is left"):
        net.prune(0.88, coupling="independent").cost  # noqa: B018
    reference = reference_for(net.prune(0.8, coupling="independent"))
    assert set(reference.plan.rates.values()) == {0.8}


def test_what_fpgm_cannot_cut_is_said(network):
    net = network("resnet20")
    with pytest.raises(FpgmError, match="cannot cut as much at one rate"):
        reference_for(net.prune(1.0, criterion="random", coupling="independent"))


def test_the_cut_is_counted(network):
    net = network("resnet20")
    pruned = net.prune(0.4, coupling="inner")
    assert macs_cut(pruned) == 1 - net.cost(pruned.plan).macs / net.dense_cost.macs
    assert macs_cut(net.prune(0.0, coupling="inner")) == 0


def test_too_little_is_refused_before_anything_is_measured(network):
    net = network("resnet20")
    plans = [net.prune(rate / 100, coupling="inner") for rate in range(30, 50)]
    most = max((pruned for pruned in plans if macs_cut(pruned) < TARGET_CUT), key=macs_cut)
    with pytest.raises(FpgmError, match=rf"the plan cuts {macs_cut(most):.1%} of the MACs; at least 40% has to go"):
        next(judge_work(most, None, method="as_is"))  # images that cannot be measured on


@pytest.mark.parametrize("method", ["as_is", "recalibrated"])
def test_figures_are_those_of_the_images_it_is_given(network, images, sealed, training, method):
    net = network("resnet20")
    pruned = net.prune(mixed(net, "inner", "l2_norm", 0.35, 0.55))
    shares = []
    work = judge_work(pruned, sealed, method=method, training=training, config=FLOAT32)
    verdict = run(work, lambda step: shares.append(step.share))
    assert isinstance(verdict, Verdict)
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    mine, theirs = (recover(each, method, images=training) for each in (pruned, reference_for(pruned)))
    mine, theirs = (evaluate(each, sealed, FLOAT32) for each in (mine, theirs))
    for measurement, expected in ((verdict.measurement, mine), (verdict.reference, theirs)):
        assert (measurement.state, measurement.num_images, measurement.method) == ("exact", 200, method)
        assert measurement.answers == expected.answers
        assert measurement.accuracy == expected.accuracy
    assert mine.answers != evaluate(recover(pruned, method, images=training), images("choose").first(200)).answers
    assert verdict.change == mine.against(theirs)
    assert (verdict.plan, verdict.method) == (pruned.plan, method)
    assert verdict.cut == macs_cut(pruned) >= TARGET_CUT
    assert verdict.reference_cut >= verdict.cut


def test_the_target_itself_is_enough(network, sealed):
    pruned = network("resnet20").prune(0.45, coupling="inner")
    verdict = run(judge_work(pruned, sealed.first(20), method="as_is", config=FLOAT32, target=macs_cut(pruned)))
    assert verdict.change.value == 0
    assert not verdict.change.excludes_zero
