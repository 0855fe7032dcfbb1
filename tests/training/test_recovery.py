"""Recovery: measured before and after on both halves, stoppable, never without images or weights."""

import threading

import pytest
import torch

from fpgm_core import FpgmError, Prunable, Settings, evaluate
from fpgm_core.data import load_images
from fpgm_core.evaluation import evaluator
from fpgm_core.training import Recipe, Recovered, Run, recover_steps, recovery, trainer

RECIPE = Recipe(epochs=3, learning_rate=0.02, batch=64)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Small halves and few calibration images."""
    real = load_images
    monkeypatch.setattr(evaluator, "load_images", lambda name, split, root=None: real(name, split, root).first(300))
    monkeypatch.setattr(trainer, "_WATCHED", 100)
    for module in (evaluator, trainer):
        monkeypatch.setattr(module, "IMAGES", 128)


def recovered(prunable, plan, **options):
    images = load_images("cifar10", "train").first(512)
    return list(recover_steps(prunable, plan, RECIPE, images=images, device="cpu", precision="float32", **options))


def test_both_halves_are_measured_before_and_after(resnet20):
    plan = resnet20.plan(0.5, coupling="inner")
    *steps, result = recovered(resnet20, plan)
    assert isinstance(result, Recovered)
    assert any(isinstance(step, Run) and step.share for step in steps) or len(result.run.epochs) == 3
    for half in ("choose", "sealed"):
        alone = evaluate(resnet20, plan, Settings(half, device="cpu", precision="float32"))
        assert result.before[half].correct == alone.correct
        assert result.after[half].dense_correct == alone.dense_correct
        lost = alone.dense_accuracy.value - alone.accuracy.value
        gained = result.after[half].accuracy.value - alone.accuracy.value
        assert result.won_back(half) == pytest.approx(gained / lost)
        assert gained > 0.03


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
    figure = evaluate(resnet20, resnet20.plan(), Settings(images=100, device="cpu"))
    result = recovery.Recovered(Run(RECIPE), resnet20.module, {"sealed": figure}, {"sealed": figure})
    assert result.won_back("sealed") is None


def test_random_weights_are_not_fine_tuned():
    network = Prunable.load("resnet32")
    with pytest.raises(FpgmError, match="nothing to fine-tune"):
        next(recover_steps(network, network.plan(0.3)))
