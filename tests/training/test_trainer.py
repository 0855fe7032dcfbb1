"""The trainer: SGD against torch's own, masks that hold, runs that resume to the same curve."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fpgm_core import FpgmError, Network
from fpgm_core.data import load_images
from fpgm_core.graph import live_sources
from fpgm_core.training import SCHEDULES, Recipe, Trainer, augment, draw_crops
from fpgm_core.training import trainer as trainer_module

SHORT = Recipe(epochs=2, learning_rate=0.02, batch=32)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(trainer_module, "_WATCHED", 100)
    monkeypatch.setattr(trainer_module, "IMAGES", 64)


@pytest.fixture(scope="module")
def images():
    return load_images("cifar10", "train").first(96)


@pytest.fixture
def train(resnet20, images):
    def build(plan=None, recipe=SHORT, schedule="finetune", **options):
        plan = plan or resnet20.plan(0.5, coupling="inner")
        return Trainer(resnet20, plan, recipe, schedule, images, device="cpu", precision="float32", **options)

    return build


def finished(trainer):
    *_, run = trainer.steps()
    return run


def test_a_step_is_torchs_sgd(train, images):
    recipe = replace(SHORT, epochs=100, augmented=False, decay="step")  # the first epoch at the peak
    trainer = train(recipe=recipe)
    twin = copy.deepcopy(trainer._module)
    optimiser = torch.optim.SGD(twin.parameters(), 0.02, 0.9, weight_decay=5e-4, nesterov=True)
    twin.train()
    for chosen in trainer._order(0).split(32):
        batch = torch.stack([images.normalised(int(i), int(i) + 1)[0] for i in chosen])
        nn.functional.cross_entropy(twin(batch), images.labels[chosen]).backward()
        optimiser.step()
        optimiser.zero_grad()
    next(run for run in trainer.steps() if run.epochs)
    for (name, ours), theirs in zip(trainer._module.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_learns_and_ends_pruned(resnet20, train, schedule):
    trainer = train(recipe=replace(SHORT, epochs=4), schedule=schedule)
    run = finished(trainer)
    assert [epoch.number for epoch in run.epochs] == [1, 2, 3, 4]
    if schedule != "rescored":  # which prunes more and more
        assert run.epochs[-1].loss < run.epochs[0].loss
    compact = trainer.compact()
    plan = resnet20.plan(0.5, coupling="inner")
    assert sum(p.numel() for p in compact.parameters()) == resnet20.cost(plan).params
    assert compact(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("schedule", ["hard", "rescored"])
def test_held_filters_are_zero_after_every_step(resnet20, train, schedule):
    trainer = train(recipe=replace(SHORT, epochs=3), schedule=schedule)
    for _ in trainer.steps():
        live = live_sources(resnet20.flow, trainer.masks)
        for site in resnet20.flow.convs:
            dead = ~live[site.filter_offset : site.filter_offset + site.outputs]
            assert not trainer._module.get_submodule(site.name).weight[torch.from_numpy(dead)].any()
    assert any(not mask.all() for mask in trainer.masks.values())


def test_soft_pruning_lets_filters_regrow_between_epochs(resnet20, train, images):
    trainer = train(recipe=replace(SHORT, epochs=1), schedule="soft")
    layer = "layer1.0.conv1"
    dead = torch.from_numpy(~trainer.masks[layer])
    weight = trainer._module.get_submodule(layer).weight
    assert not weight[dead].any()
    trainer._step(torch.arange(32), 0.1, torch.Generator().manual_seed(0), [])
    assert weight[dead].any()
    trainer._reselect(1.0)
    dead = torch.from_numpy(~trainer.masks[layer])
    assert not weight[dead].any()


def test_the_same_seed_gives_the_same_network(train):
    first, second, other = train(), train(), train(recipe=replace(SHORT, seed=1))
    curves = [[epoch.loss for epoch in finished(trainer).epochs] for trainer in (first, second, other)]
    assert curves[0] == curves[1] != curves[2]
    for a, b in zip(first._module.state_dict().values(), second._module.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("schedule", ["finetune", "rescored"])
def test_a_killed_run_resumes_to_the_same_curve(train, tmp_path, schedule):
    recipe = replace(SHORT, epochs=3)
    whole = finished(train(recipe=recipe, schedule=schedule))
    killed = train(recipe=recipe, schedule=schedule, folder=tmp_path)
    for run in killed.steps():
        if len(run.epochs) == 1:
            break
    resumed = train(recipe=recipe, schedule=schedule, folder=tmp_path)
    assert len(resumed.run.epochs) == 1
    curve = finished(resumed).epochs
    assert [(e.loss, e.correct) for e in curve] == [(e.loss, e.correct) for e in whole.epochs]
    assert not any(name.name.startswith(".") for name in tmp_path.iterdir())


def test_a_checkpoint_of_another_run_is_refused_and_stays(train, tmp_path):
    finished(train(recipe=replace(SHORT, epochs=1), folder=tmp_path))
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(FpgmError, match="of another run"):
        train(recipe=SHORT, folder=tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_a_damaged_checkpoint_is_refused(train, tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not one")
    with pytest.raises(FpgmError, match="not a checkpoint of this tool"):
        train(folder=tmp_path)


def test_the_loaded_network_is_not_touched(resnet20, train):
    before = [tensor.clone() for tensor in resnet20.module.state_dict().values()]
    for schedule in SCHEDULES:
        finished(train(recipe=replace(SHORT, epochs=1, distillation=0.5), schedule=schedule))
    assert all(torch.equal(a, b) for a, b in zip(before, resnet20.module.state_dict().values(), strict=True))
    assert not any(p.requires_grad for p in resnet20.module.parameters())


def test_from_scratch_starts_at_random_weights_of_the_seed(resnet20, train):
    first, second = train(scratch=True), train(scratch=True, recipe=replace(SHORT, seed=7))
    weights = [trainer._dense.conv1.weight for trainer in (first, second)]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], resnet20.module.conv1.weight)
    assert torch.equal(weights[0], train(scratch=True)._dense.conv1.weight)


def test_distillation_by_hand(train):
    trainer = train(recipe=replace(SHORT, distillation=0.25, temperature=2.0))
    logits, guide, labels = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 3.0]]), torch.tensor([0])
    student, teacher = (logits / 2).softmax(1)[0], (guide / 2).softmax(1)[0]
    divergence = float((teacher * (teacher / student).log()).sum())
    hard = -float(logits.log_softmax(1)[0, 0])
    expected = 0.75 * hard + 0.25 * 4 * divergence
    assert float(trainer._loss(logits, labels, guide)) == pytest.approx(expected, rel=1e-5)


def test_without_decay_norms_and_biases_feel_no_decay(train):
    """Against the same run without any decay, one step at a rate of which only the decay matters."""
    recipe = replace(SHORT, epochs=1, learning_rate=0.1, decay="step", momentum=0.0, nesterov=False, batch=96)
    ends = []
    for changed in ({"weight_decay": 0.0}, {"weight_decay": 0.5, "decay_norms": False}, {"weight_decay": 0.5}):
        trainer = train(recipe=replace(recipe, **changed))
        finished(trainer)
        ends.append(dict(trainer._module.named_parameters()))
    plain, weights_only, everything = ends
    for name, parameter in plain.items():
        spared = torch.equal(parameter, weights_only[name])
        assert spared == (parameter.ndim == 1), name
        assert not torch.equal(parameter, everything[name]) or not parameter.any(), name


def test_nobody_is_there_to_learn_from(images):
    network = Network.load("resnet32")
    with pytest.raises(FpgmError, match="nobody to learn from"):
        Trainer(network, network.plan(0.3), replace(SHORT, distillation=0.5), "hard", images, scratch=True)


def test_a_loss_that_is_no_number_ends_the_run_in_words(train, monkeypatch):
    monkeypatch.setattr(Trainer, "_loss", lambda self, logits, labels, guide: logits.sum() * float("nan"))
    with pytest.raises(FpgmError, match="lower the learning rate"):
        finished(train())


def test_augmented_images_are_crops_and_flips(images):
    batch = images.normalised(0, 16)
    crops_of_16 = draw_crops(16, torch.Generator().manual_seed(0))
    found = augment(batch, crops_of_16)
    assert found.shape == batch.shape
    moved = 0
    for image, result in zip(batch, found, strict=True):
        padded = nn.functional.pad(image, (4, 4, 4, 4))
        crops = [padded[:, y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
        matches = [torch.equal(result, crop) or torch.equal(result, crop.flip(2)) for crop in crops]
        assert any(matches)
        moved += not torch.equal(result, image)
    assert moved > 8
    assert torch.equal(found[3:5], augment(batch[3:5], [drawn[3:5] for drawn in crops_of_16]))


def test_how_far_a_run_is(train):
    trainer = train()
    assert trainer.run.seconds_left is None
    run = finished(trainer)
    assert run.done == 1
    assert run.seconds_left == pytest.approx(0)
    assert np.isfinite([epoch.seconds for epoch in run.epochs]).all()
