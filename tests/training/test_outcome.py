"""What a run leaves: weights, plan and record that agree with each other and with a plain loop."""

import hashlib
import json

import numpy as np
import pytest
import torch

from fpgm_core import EvaluationConfig, FpgmError, ImageSet, Network, Plan, evaluate
from fpgm_core.data import load_images
from fpgm_core.runtime.progress import run
from fpgm_core.training import Recipe, Trainer, outcome_work, write_outcome

RECIPE = Recipe(epochs=1, learning_rate=0.02, batch=32)
COUNT = 120
CPU = EvaluationConfig(device="cpu", precision="float32")


@pytest.fixture(scope="module")
def halves():
    return {half: load_images("cifar10", half).first(COUNT) for half in ("choose", "sealed")}


@pytest.fixture
def reached(halves):
    """A function that trains a pruned network a little: the trainer, and its outcome."""

    def reach(pruned, **options):
        images = load_images("cifar10", "train").first(64)
        trainer = Trainer(pruned, RECIPE, images=images, device="cpu", precision="float32", **options)
        run(trainer.train_work())
        steps = []
        outcome = run(outcome_work(trainer, images=halves), steps.append)
        assert [step.what for step in steps] == [f"measuring on {half}" for half in halves for _ in range(2)]
        assert [step.share for step in steps] == sorted(step.share for step in steps)
        return trainer, outcome

    return reach


@pytest.mark.parametrize(
    ("schedule", "coupling"), [("hard", "independent"), ("soft", "coupled"), ("finetune", "inner")]
)
def test_what_is_written_evaluates_to_what_the_record_says(resnet20, reached, halves, tmp_path, schedule, coupling):
    trainer, outcome = reached(resnet20.prune(0.3, coupling=coupling), schedule=schedule)
    paths = write_outcome(outcome, tmp_path)
    assert sorted(path.name for path in paths) == sorted(path.name for path in tmp_path.iterdir())
    record = json.loads((tmp_path / "resnet20_cifar10.json").read_text())
    weights = tmp_path / record["file"]
    assert record["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    network = Network.load("resnet20", weights)
    assert network.fingerprint == record["fingerprint"]
    pruned = network.prune(Plan.from_json((tmp_path / "plan.json").read_bytes()))
    assert all(np.array_equal(mask, trainer.masks[layer]) for layer, mask in pruned.keep_masks.items())
    assert pruned.cost.macs == record["macs"]
    for half, images in halves.items():
        measurement = evaluate(pruned, images, CPU)
        assert abs(measurement.num_correct - record["accuracy"][half]["correct"]) <= 1  # another order of rounding
    both = record["accuracy"]["choose"]["correct"] + record["accuracy"]["sealed"]["correct"]
    assert record["accuracy"]["all"] == {"correct": both, "images": 240, "accuracy": both / 240}
    assert (record["recipe"], record["schedule"]) == (str(RECIPE), schedule)
    assert record["trained_on"] == "cifar10 train 64"
    assert [epoch["number"] for epoch in record["curve"]] == [1]


def test_a_dense_run_leaves_no_plan(resnet20, reached, halves, tmp_path):
    _, outcome = reached(resnet20.prune(0.0), schedule="hard", scratch=True)
    assert {path.name for path in write_outcome(outcome, tmp_path)} == {
        "resnet20_cifar10.safetensors",
        "resnet20_cifar10.json",
    }
    assert outcome.pruned.cost.macs == resnet20.dense_cost.macs
    network = Network.load("resnet20", tmp_path / "resnet20_cifar10.safetensors")
    with torch.no_grad():
        right = network.module(halves["choose"].normalised(0, COUNT)).argmax(1) == halves["choose"].labels
    assert abs(int(right.sum()) - outcome.num_correct["choose"]) <= 1


def test_a_compact_run_is_counted_as_it_was_trained(resnet20, reached, halves):
    trainer, outcome = reached(resnet20.prune(0.5, coupling="inner"))
    module = trainer.module.eval()
    with torch.no_grad():
        right = module(halves["sealed"].normalised(0, COUNT)).argmax(1) == halves["sealed"].labels
    assert abs(int(right.sum()) - outcome.num_correct["sealed"]) <= 1
    assert outcome.num_images == {"choose": COUNT, "sealed": COUNT, "all": 2 * COUNT}
    assert outcome.num_correct["all"] == outcome.num_correct["choose"] + outcome.num_correct["sealed"]


def test_a_network_and_images_of_ones_own(tmp_path):
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(8, 2),
    )  # fmt: skip
    labels = np.arange(64) % 2
    noise = np.random.RandomState(0).randint(0, 60, (64, 9, 9, 3))
    images = ImageSet.from_arrays((noise + 150 * labels[:, None, None, None]).astype(np.uint8), labels)
    network = Network.from_module(module, (3, 9, 9), name="mine")
    recipe = Recipe(epochs=10, learning_rate=0.05, batch=16)
    trainer = Trainer(network.prune(0.25), recipe, images=images, watched=images, device="cpu", precision="float32")
    run(trainer.train_work())
    outcome = run(outcome_work(trainer, images={"mine": images}))
    assert outcome.num_correct == {"mine": 64, "all": 64}
    assert [path.name for path in write_outcome(outcome, tmp_path)] == ["mine.safetensors", "mine.json", "plan.json"]


def test_a_folder_that_cannot_be_written(resnet20, reached, tmp_path):
    _, outcome = reached(resnet20.prune(0.0), schedule="hard")
    (tmp_path / "file").write_text("")
    with pytest.raises(FpgmError, match="cannot write"):
        write_outcome(outcome, tmp_path / "file" / "below")
