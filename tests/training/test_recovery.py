"""Recovery: measured before and after on both halves, stoppable, never without images or weights."""

import threading
from dataclasses import replace

import pytest
import torch

from fpgm_core import EvaluationConfig, FpgmError, Network, Plan, evaluate
from fpgm_core.calibration import CalibrationConfig
from fpgm_core.data import load_images
from fpgm_core.evaluation import accuracy as evaluator
from fpgm_core.export import ARTEFACTS, bundle, export_steps
from fpgm_core.pruning import counted_macs, masked_module
from fpgm_core.recovery import repair
from fpgm_core.training import SCHEDULES, Recipe, Recovered, Run, recover_steps, recovery, trainer

RECIPE = Recipe(epochs=3, learning_rate=0.02, batch=64)


@pytest.fixture(autouse=True)
def few(monkeypatch, threads):
    """Small halves and few calibration images; the same arithmetic whatever the machine."""
    threads(2)
    real = load_images
    monkeypatch.setattr(evaluator, "load_images", lambda name, split, root=None: real(name, split, root).first(300))
    monkeypatch.setattr(trainer, "_WATCHED", 100)
    for module in (evaluator, trainer):
        monkeypatch.setattr(module, "IMAGES", 128)


def recovered(network, plan, recipe=RECIPE, count=512, **options):
    images = load_images("cifar10", "train").first(count)
    return list(recover_steps(network, plan, recipe, images=images, device="cpu", precision="float32", **options))


def test_both_halves_are_measured_before_and_after(resnet20):
    plan = resnet20.plan(0.5, coupling="inner")
    *steps, result = recovered(resnet20, plan)
    assert isinstance(result, Recovered)
    assert any(isinstance(step, Run) and step.share for step in steps) or len(result.run.epochs) == 3
    for half in ("choose", "sealed"):
        alone = evaluate(resnet20, plan, EvaluationConfig(half, device="cpu", precision="float32"))
        assert result.before[half].correct == alone.correct
        assert result.after[half].dense_correct == alone.dense_correct
        lost = alone.dense_accuracy.value - alone.accuracy.value
        gained = result.after[half].accuracy.value - alone.accuracy.value
        assert result.won_back(half) == pytest.approx(gained / lost)
        assert gained > 0.01


def test_the_after_figure_is_of_the_network_handed_out(resnet20):
    *_, result = recovered(resnet20, resnet20.plan(0.5, coupling="inner"))
    images = load_images("cifar10", "sealed").first(300)
    with torch.no_grad():
        right = result.network(images.normalised(0, 300)).argmax(1) == images.labels
    assert result.after["sealed"].correct == int(right.sum())


def test_stopping_keeps_what_was_reached(resnet20):
    stop = threading.Event()
    stop.set()
    *_, result = recovered(resnet20, resnet20.plan(0.5, coupling="inner"), stop=stop)
    assert isinstance(result, Recovered)
    assert len(result.run.epochs) < 3


def test_nothing_to_win_back(resnet20):
    figure = evaluate(resnet20, resnet20.plan(), EvaluationConfig(images=100, device="cpu"))
    plan, both = resnet20.plan(), {"sealed": figure}
    result = recovery.Recovered(Run(RECIPE), plan, resnet20.prune(plan).compact(), None, both, both)
    assert result.won_back("sealed") is None


def test_random_weights_are_not_fine_tuned():
    network = Network.load("resnet32")
    with pytest.raises(FpgmError, match="nothing to fine-tune"):
        next(recover_steps(network, network.plan(0.3)))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_was_reached_is_exported_with_a_proof_of_its_own_weights(resnet20, schedule, monkeypatch):
    """Schedules that choose again end with other filters than the plan's: what leaves must be about those."""
    monkeypatch.setattr(bundle, "ARTEFACTS", {name: ARTEFACTS[name] for name in ("plan", "table", "python")})
    plan = resnet20.plan(0.5, coupling="coupled")
    stop = threading.Event() if schedule == "rescored" else None  # stopped, it has not reached the plan's rates
    if stop:
        stop.set()
    recipe = replace(RECIPE, epochs=6 if stop else 2)
    *_, result = recovered(resnet20, plan, recipe, 192, schedule=schedule, stop=stop)
    *_, made = export_steps(resnet20, result.plan, measured=False, trained=result.network, whole=result.whole)
    assert made.manifest["rung"] == "trained"
    assert made.manifest["macs"] == counted_macs(result.network, (3, 32, 32)) == resnet20.cost(result.plan).macs
    reread = Plan.from_json(made.files["plan.json"].decode())
    kept = {layer: int(mask.sum()) for layer, mask in resnet20.keep_masks(reread).items()}
    assert kept == {layer: result.network.get_submodule(layer).out_channels for layer in kept}
    if result.whole is not None:
        images = load_images("cifar10", "choose").first(100).normalised(0, 100)
        masks = resnet20.keep_masks(result.plan)
        with torch.no_grad():
            masked = masked_module(result.whole, resnet20.flow, masks)(images)
            torch.testing.assert_close(result.network(images), masked, rtol=1e-4, atol=1e-4)
            assert made.proof.logit_scale >= float(result.whole(images[:64]).abs().max()) * 0.999
    if schedule == "rescored":
        assert resnet20.cost(result.plan).macs > resnet20.cost(plan).macs
        with pytest.raises(FpgmError, match="export it with the plan that its training reached"):
            list(export_steps(resnet20, plan, measured=False, trained=result.network, whole=result.whole))


@pytest.mark.parametrize("schedule", ["finetune", "hard"])
def test_it_begins_with_repaired_weights(resnet20, schedule):
    plan = resnet20.plan(0.5, coupling="inner")
    training = load_images("cifar10", "train").first(500)
    mended = repair(resnet20, resnet20.keep_masks(plan), calibration=CalibrationConfig(400, 12), images=training)
    recipe = replace(RECIPE, epochs=1, learning_rate=1e-7)  # so little that what it began with shows
    *_, result = recovered(resnet20, plan, recipe, 128, schedule=schedule, mended=mended)
    alone = evaluate(resnet20, plan, EvaluationConfig("choose", device="cpu", precision="float32"))
    assert result.before["choose"].correct > alone.correct + 10
    weight = result.network.get_submodule("layer1.0.conv2").weight
    expected = mended.compact(resnet20).get_submodule("layer1.0.conv2").weight
    torch.testing.assert_close(weight, expected, rtol=1e-3, atol=1e-4)
    assert counted_macs(result.network, (3, 32, 32)) == resnet20.cost(plan).macs
