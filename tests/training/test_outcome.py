"""What a run leaves: weights, plan and record that agree with each other and with a plain loop."""

import hashlib
import json

import numpy as np
import pytest
import torch

from fpgm_core import EvaluationConfig, FpgmError, Network, Plan, evaluate
from fpgm_core.data import load_images
from fpgm_core.training import Outcome, Recipe, Trainer, outcome, outcome_steps, trainer, write_outcome

RECIPE = Recipe(epochs=1, learning_rate=0.02, batch=32)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(trainer, "_WATCHED", 50)
    monkeypatch.setattr(outcome, "load_images", lambda name, split, root: load_images(name, split, root).first(120))


def reached(network, plan, schedule="hard", scratch=False):
    images = load_images("cifar10", "train").first(64)
    training = Trainer(network, plan, RECIPE, schedule, images, scratch, "cpu", "float32")
    list(training.steps())
    *steps, end = outcome_steps(training)
    assert all(isinstance(step, float) and 0 < step <= 1 for step in steps)
    assert isinstance(end, Outcome)
    return training, end


@pytest.mark.parametrize(("schedule", "coupling"), [("hard", "independent"), ("soft", "coupled")])
def test_what_is_written_evaluates_to_what_the_record_says(resnet20, tmp_path, schedule, coupling):
    plan = resnet20.plan(0.3, coupling=coupling)
    training, end = reached(resnet20, plan, schedule)
    paths = write_outcome(end, tmp_path)
    assert sorted(path.name for path in paths) == sorted(path.name for path in tmp_path.iterdir())
    record = json.loads((tmp_path / "resnet20_cifar10.json").read_text())
    weights = tmp_path / record["file"]
    assert record["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    again = Network.load("resnet20", weights)
    assert again.fingerprint == record["fingerprint"]
    reread = Plan.from_json((tmp_path / "plan.json").read_bytes())
    masks = again.keep_masks(reread)
    assert all(np.array_equal(masks[layer], training.masks[layer]) for layer in masks)
    assert again.cost(reread).macs == record["macs"]
    for half in ("choose", "sealed"):
        settings = EvaluationConfig(half, 120, rung="as_is", device="cpu", precision="float32")
        assert evaluate(again, reread, settings).correct == record["accuracy"][half]["correct"]
    both = record["accuracy"]["choose"]["correct"] + record["accuracy"]["sealed"]["correct"]
    assert record["accuracy"]["all"] == {"correct": both, "images": 240, "accuracy": both / 240}
    assert record["recipe"] == str(RECIPE)
    assert record["trained_on"] == "cifar10 train 64"
    assert [epoch["number"] for epoch in record["curve"]] == [1]


def test_a_dense_run_leaves_no_plan(resnet20, tmp_path):
    _, end = reached(resnet20, resnet20.plan(), scratch=True)
    assert {path.name for path in write_outcome(end, tmp_path)} == {
        "resnet20_cifar10.safetensors",
        "resnet20_cifar10.json",
    }
    assert end.macs == end.dense_macs == resnet20.dense_cost.macs
    network = Network.load("resnet20", tmp_path / "resnet20_cifar10.safetensors")
    with torch.no_grad():
        images = load_images("cifar10", "choose").first(120)
        right = network.module(images.normalised(0, 120)).argmax(1) == images.labels
    assert int(right.sum()) == end.correct["choose"]


def test_a_compact_run_has_figures_and_no_dense_shapes(resnet20):
    _, end = reached(resnet20, resnet20.plan(0.5, coupling="inner"), "finetune")
    assert (end.whole, end.plan) == (None, None)
    assert end.macs == resnet20.cost(resnet20.plan(0.5, coupling="inner")).macs
    assert end.correct["all"] > 60


def test_a_folder_that_cannot_be_written(resnet20, tmp_path):
    _, end = reached(resnet20, resnet20.plan())
    (tmp_path / "file").write_text("")
    with pytest.raises(FpgmError, match="cannot write"):
        write_outcome(end, tmp_path / "file" / "below")
