"""The trainer: SGD by hand, masks that hold, runs that resume to the same curve, what is handed out."""

import copy
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fpgm_core import FpgmError, Network
from fpgm_core.data import load_images
from fpgm_core.graph import live_sources
from fpgm_core.pruning import RecoveryStep
from fpgm_core.runtime.progress import run
from fpgm_core.training import SCHEDULES, Recipe, Run, Trainer, augment, batch_loss, draw_crops

SHORT = Recipe(epochs=2, learning_rate=0.02, batch=32)


@pytest.fixture(scope="module")
def images():
    return load_images("cifar10", "train").first(96)


@pytest.fixture
def train(resnet20, images):
    """A function that makes a trainer; half of every inner unit is pruned unless it is told otherwise."""
    watched = load_images("cifar10", "choose").first(100)

    def build(pruned=None, recipe=SHORT, **options):
        pruned = resnet20.prune(0.5, coupling="inner") if pruned is None else pruned
        options = {"images": images, "watched": watched, "device": "cpu", "precision": "float32", **options}
        return Trainer(pruned, recipe, **options)

    return build


def finished(trainer):
    """The run of a trainer that has trained to its end."""
    run(trainer.train_work())
    return trainer.run


def until_epochs(trainer, count):
    """Train until so many epochs are done."""
    next(step for step in trainer.train_work() if len(step.partial.epochs) == count)


@pytest.mark.parametrize("nesterov", [True, False])
def test_a_step_is_sgd_with_momentum_and_decay(train, images, nesterov):
    recipe = replace(SHORT, epochs=100, augmented=False, decay="step", nesterov=nesterov)  # one rate in the first epoch
    trainer = train(recipe=recipe)
    twin = copy.deepcopy(trainer.module).train()
    velocity = [torch.zeros_like(p) for p in twin.parameters()]
    for chosen in trainer.order(0).split(32):
        batch = images.take(chosen, "a batch")
        loss = nn.functional.cross_entropy(twin(batch.normalised(0, len(batch))), batch.labels)
        gradients = torch.autograd.grad(loss, list(twin.parameters()))
        with torch.no_grad():
            for parameter, v, gradient in zip(twin.parameters(), velocity, gradients, strict=True):
                gradient = gradient + 5e-4 * parameter
                v.mul_(0.9).add_(gradient)
                parameter -= 0.02 * (gradient + 0.9 * v if nesterov else v)
    until_epochs(trainer, 1)
    for (name, ours), theirs in zip(trainer.module.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=5e-5, msg=name)  # roundings grow from step to step


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_learns_and_ends_pruned(resnet20, train, schedule):
    trainer = train(recipe=replace(SHORT, epochs=4), schedule=schedule)
    epochs = finished(trainer).epochs
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4]
    if schedule != "rescored":  # which prunes more and more
        assert epochs[-1].loss < epochs[0].loss
    compact = trainer.reached().compact()
    assert sum(p.numel() for p in compact.parameters()) == resnet20.prune(0.5, coupling="inner").cost.params
    assert compact(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_is_handed_out_is_what_was_trained(resnet20, train, images, schedule):
    trainer = train(schedule=schedule)
    reached = run(trainer.train_work())
    x = images.normalised(0, 16)
    with torch.no_grad():
        trained = copy.deepcopy(trainer.module).eval()(x)
        close = {"rtol": 1e-4, "atol": 1e-4 * float(trained.abs().max())}
        torch.testing.assert_close(reached.compact()(x), reached.masked()(x), **close)
        if schedule != "soft":  # whose norms still act on what is zeroed
            torch.testing.assert_close(reached.compact()(x), trained, **close)
    masks = resnet20.keep_masks(reached.plan)
    assert all(np.array_equal(masks[layer], trainer.masks[layer]) for layer in masks)
    (step,) = reached.recovery
    assert (step.method, step.num_images, step.images) == ("fine_tuned", 96, "cifar10 train")
    assert (step.details["schedule"], step.details["epochs"], step.details["recipe"]["batch"]) == (schedule, 2, 32)


@pytest.mark.parametrize("schedule", ["finetune", "hard"])
def test_what_was_handed_out_does_not_change_when_training_goes_on(train, schedule):
    trainer = train(schedule=schedule)
    until_epochs(trainer, 1)
    early = trainer.reached()
    before = {name: tensor.clone() for name, tensor in early.tensors.items()}
    finished(trainer)
    assert all(torch.equal(early.tensors[name], tensor) for name, tensor in before.items())
    assert any(not torch.equal(trainer.reached().tensors[name], tensor) for name, tensor in before.items())
    assert early.recovery[-1].details["epochs"] == 1


@pytest.mark.parametrize("schedule", ["hard", "rescored"])
def test_held_filters_are_zero_after_every_step(resnet20, train, schedule):
    trainer = train(recipe=replace(SHORT, epochs=3), schedule=schedule)
    for _ in trainer.train_work():
        live = live_sources(resnet20.flow, trainer.masks)
        for layer in resnet20.flow.convs:
            dead = ~live[layer.filter_offset : layer.filter_offset + layer.outputs]
            assert not trainer.module.get_submodule(layer.name).weight[torch.from_numpy(dead)].any()
    assert any(not mask.all() for mask in trainer.masks.values())


def test_soft_pruning_lets_filters_regrow_between_epochs(train):
    trainer = train(recipe=replace(SHORT, epochs=1, batch=4), schedule="soft")  # batches enough to look in between
    weight = trainer.module.get_submodule("layer1.0.conv1").weight
    regrown = []
    for step in trainer.train_work():
        dead = torch.from_numpy(~trainer.masks["layer1.0.conv1"])
        regrown.append((step.partial.share, bool(weight[dead].any())))
    assert regrown[0] == (0, False)
    assert all(regrew for share, regrew in regrown if share)
    assert regrown[-1] == (0, False)
    assert len(regrown) == 4


def test_the_same_seed_gives_the_same_network(train):
    first, second, other = train(), train(), train(recipe=replace(SHORT, seed=1))
    curves = [[epoch.loss for epoch in finished(trainer).epochs] for trainer in (first, second, other)]
    assert curves[0] == curves[1] != curves[2]
    for a, b in zip(first.module.state_dict().values(), second.module.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_training_begins_with_replaced_tensors_and_the_filters_they_were_made_for(resnet20, train):
    pruned = resnet20.prune(0.5, coupling="inner")
    weight = resnet20.module.get_parameter("layer1.0.conv2.weight") * 0.5
    halved = pruned.with_tensors({"layer1.0.conv2.weight": weight}, RecoveryStep("repaired", 12, "some"))
    for schedule in SCHEDULES:
        trainer = train(halved, schedule=schedule)
        assert all(np.array_equal(trainer.masks[layer], mask) for layer, mask in pruned.keep_masks.items())
    begun = train(halved).module.get_parameter("layer1.0.conv2.weight")
    torch.testing.assert_close(begun, halved.compact().get_parameter("layer1.0.conv2.weight"))
    reached = run(train(halved, replace(SHORT, epochs=1)).train_work())
    assert [step.method for step in reached.recovery] == ["repaired", "fine_tuned"]


def test_stopping_keeps_what_was_reached(train):
    stop = threading.Event()
    trainer = train(recipe=replace(SHORT, epochs=50))
    steps = []

    def look(progress):
        steps.append(progress)
        if progress.partial.epochs:
            stop.set()

    reached = run(trainer.train_work(stop=stop), look)
    assert len(trainer.run.epochs) == reached.recovery[-1].details["epochs"] == 1
    assert [step.what for step in steps] == ["epoch 1 of 50", "epoch 2 of 50"]
    assert steps[-1].share == pytest.approx(1 / 50)
    assert steps[-1].seconds_left > 0


def test_the_loaded_network_is_not_touched(resnet20, train):
    before = [tensor.clone() for tensor in resnet20.module.state_dict().values()]
    for schedule in SCHEDULES:
        finished(train(recipe=replace(SHORT, epochs=1, distillation=0.5), schedule=schedule))
    assert all(torch.equal(a, b) for a, b in zip(before, resnet20.module.state_dict().values(), strict=True))
    assert not any(p.requires_grad for p in resnet20.module.parameters())


def test_from_scratch_starts_at_random_weights_of_the_seed(resnet20, train):
    first, again, other = (
        train(resnet20.prune(0.0), recipe=replace(SHORT, seed=seed), scratch=True).module.conv1.weight
        for seed in (0, 0, 7)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, resnet20.module.conv1.weight)


def test_from_scratch_nothing_is_left_of_what_was_recovered_before(resnet20, train, images):
    pruned = resnet20.prune(0.5, coupling="inner")
    recovered = pruned.with_tensors({"fc.bias": torch.zeros(10)}, RecoveryStep("repaired"))
    trainer = train(recovered, replace(SHORT, epochs=1), scratch=True)
    reached = run(trainer.train_work())
    assert [step.method for step in reached.recovery] == ["fine_tuned"]
    with torch.no_grad():
        x, trained = images.normalised(0, 8), copy.deepcopy(trainer.module).eval()
        torch.testing.assert_close(reached.compact()(x), trained(x), rtol=1e-4, atol=1e-4)


def test_distillation_by_hand():
    recipe = replace(SHORT, distillation=0.25, temperature=2.0)
    logits, guide, labels = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 3.0]]), torch.tensor([0])
    student, teacher = (logits / 2).softmax(1)[0], (guide / 2).softmax(1)[0]
    divergence = float((teacher * (teacher / student).log()).sum())
    hard = -float(logits.log_softmax(1)[0, 0])
    expected = 0.75 * hard + 0.25 * 4 * divergence
    assert float(batch_loss(logits, labels, recipe=recipe, teacher_logits=guide)) == pytest.approx(expected, rel=1e-5)
    assert float(batch_loss(logits, labels, recipe=recipe)) == pytest.approx(hard, rel=1e-5)


def test_without_decay_norms_and_biases_feel_no_decay(train):
    """Against the same run without any decay, one step at a rate of which only the decay matters."""
    recipe = replace(SHORT, epochs=1, learning_rate=0.1, decay="step", momentum=0.0, batch=96)
    ends = []
    for changed in ({"weight_decay": 0.0}, {"weight_decay": 0.5, "decay_norms": False}, {"weight_decay": 0.5}):
        trainer = train(recipe=replace(recipe, **changed))
        finished(trainer)
        ends.append(dict(trainer.module.named_parameters()))
    plain, weights_only, everything = ends
    for name, parameter in plain.items():
        spared = torch.equal(parameter, weights_only[name])
        assert spared == (parameter.ndim == 1), name
        assert not torch.equal(parameter, everything[name]) or not parameter.any(), name


def test_random_weights_are_not_fine_tuned_and_teach_nobody(train):
    pruned = Network.load("resnet32").prune(0.3)
    with pytest.raises(FpgmError, match="nothing to fine-tune"):
        train(pruned)
    with pytest.raises(FpgmError, match="nobody to learn from"):
        train(pruned, replace(SHORT, distillation=0.5), schedule="hard", scratch=True)


def test_a_loss_that_is_no_number_ends_the_run_in_words(train):
    with pytest.raises(FpgmError, match="lower the learning rate"):
        finished(train(recipe=replace(SHORT, learning_rate=100.0, decay="step", epochs=20, batch=8)))


def test_nothing_needs_to_be_watched(train):
    epochs = finished(train(watched=None)).epochs
    assert [(epoch.correct, epoch.images, epoch.watched_accuracy) for epoch in epochs] == [(0, 0, None)] * 2


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
    assert trainer.run == Run(SHORT)
    assert trainer.run.seconds_left is None
    finished(trainer)
    assert trainer.run.done == 1
    assert trainer.run.seconds_left == pytest.approx(0)
    assert np.isfinite([epoch.seconds for epoch in trainer.run.epochs]).all()
    assert all(0 <= epoch.watched_accuracy == epoch.correct / 100 for epoch in trainer.run.epochs)
