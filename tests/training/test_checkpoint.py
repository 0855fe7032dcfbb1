"""Checkpoints: a killed run resumes to the same curve, other runs' are refused, those of former versions are read."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fpgm_core import FpgmError
from fpgm_core.data import load_images
from fpgm_core.models import fingerprint
from fpgm_core.pruning import RecoveryStep
from fpgm_core.runtime.progress import run
from fpgm_core.training import Recipe, Trainer

RECIPE = Recipe(epochs=3, learning_rate=0.02, batch=32)
FILE, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"


@pytest.fixture
def train(resnet20):
    images, watched = load_images("cifar10", "train").first(96), load_images("cifar10", "choose").first(50)

    def build(pruned=None, recipe=RECIPE, **options):
        pruned = resnet20.prune(0.5, coupling="inner") if pruned is None else pruned
        return Trainer(pruned, recipe, images=images, watched=watched, device="cpu", precision="float32", **options)

    return build


@pytest.fixture
def repaired(resnet20):
    bias = {"fc.bias": torch.linspace(-1, 1, 10)}
    return resnet20.prune(0.5, coupling="inner").with_tensors(bias, RecoveryStep("repaired"))


def curve(trainer):
    run(trainer.train_work())
    return [(epoch.loss, epoch.correct, epoch.changed) for epoch in trainer.run.epochs]


def killed(trainer):
    """Train one epoch and a little of the next."""
    for step in trainer.train_work():
        if len(step.partial.epochs) == 1:
            return


@pytest.mark.parametrize(("schedule", "momentum"), [("finetune", 0.9), ("rescored", 0.9), ("finetune", 0.0)])
def test_a_killed_run_resumes_to_the_same_curve(train, tmp_path, schedule, momentum):
    recipe = replace(RECIPE, momentum=momentum)
    undisturbed = curve(train(recipe=recipe, schedule=schedule))
    killed(train(recipe=recipe, schedule=schedule, folder=tmp_path))
    resumed = train(recipe=recipe, schedule=schedule, folder=tmp_path)
    assert len(resumed.run.epochs) == 1
    assert curve(resumed) == undisturbed
    assert sorted(path.name for path in tmp_path.iterdir()) == [PREVIOUS, FILE]


def test_a_finished_run_is_not_trained_again(train, tmp_path):
    first = train(folder=tmp_path)
    reached = run(first.train_work())
    steps = []
    again = run(train(folder=tmp_path).train_work(), steps.append)
    assert len(steps) == 1
    assert steps[0].share == 1
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in reached.tensors.items())


def test_a_checkpoint_of_another_run_is_refused_and_stays(resnet20, train, repaired, tmp_path):
    killed(train(folder=tmp_path))
    before = (tmp_path / FILE).read_bytes()
    for options in (
        {"recipe": replace(RECIPE, epochs=4)},
        {"schedule": "hard"},
        {"pruned": resnet20.prune(0.4, coupling="inner")},
        {"pruned": repaired},
        {"scratch": True},
    ):
        with pytest.raises(FpgmError, match="of another run"):
            train(**options, folder=tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_a_damaged_checkpoint_is_refused(train, tmp_path):
    (tmp_path / FILE).write_bytes(b"not one")
    with pytest.raises(FpgmError, match=r"not a checkpoint of this tool.*move it away to begin anew"):
        train(folder=tmp_path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
def test_a_flipped_bit_is_noticed_and_the_last_good_checkpoint_is_named(train, tmp_path, share):
    for step in train(folder=tmp_path).train_work():
        if len(step.partial.epochs) == 2:
            break
    content = bytearray((tmp_path / FILE).read_bytes())
    content[int(share * len(content))] ^= 0x10
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(FpgmError, match=f"holds 1 epochs: move {PREVIOUS} into its place"):
        train(folder=tmp_path)
    (tmp_path / PREVIOUS).replace(tmp_path / FILE)
    assert len(train(folder=tmp_path).run.epochs) == 1


def as_formerly(path, **more):
    """Rewrite a checkpoint as former versions wrote it: with nothing said of its start but repaired tensors."""
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["run"])
    del about["identity"]["start"]
    about["identity"] |= more
    save_file(tensors, path, {"run": json.dumps(about)})


def test_a_checkpoint_of_a_former_version_resumes(train, repaired, tmp_path):
    killed(train(folder=tmp_path))
    as_formerly(tmp_path / FILE)
    assert len(train(folder=tmp_path).run.epochs) == 1
    as_formerly_repaired = tmp_path / "repaired"
    killed(train(repaired, folder=as_formerly_repaired))
    as_formerly(as_formerly_repaired / FILE, mended=fingerprint(repaired.tensors))
    assert len(train(repaired, folder=as_formerly_repaired).run.epochs) == 1
    with pytest.raises(FpgmError, match="of another run"):
        train(folder=as_formerly_repaired)
