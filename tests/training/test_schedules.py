"""Schedules: when the selection moves, and when it cannot."""

import copy

import numpy as np
import pytest
import torch

from fpgm_core import FpgmError
from fpgm_core.pruning import masked_module
from fpgm_core.training import SCHEDULES, get_schedule, masks_of


@pytest.fixture(scope="module")
def plan(resnet20):
    return resnet20.plan(0.4)


def disturbed(module, seed=0):
    """A copy with its weights moved, as an epoch of training would."""
    moved, generator = copy.deepcopy(module), torch.Generator().manual_seed(seed)
    for parameter in moved.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data += 0.5 * parameter.abs().mean() * noise * (parameter != 0)  # zeroed weights stay zero
    return moved


def count(masks):
    return sum(int((~mask).sum()) for mask in masks.values())


@pytest.mark.parametrize("coupling", ["independent", "coupled"])
def test_masks_of_the_loaded_weights_are_the_plans(resnet20, coupling):
    plan = resnet20.plan(0.4, coupling=coupling)
    found, expected = masks_of(resnet20, plan, module=resnet20.module), resnet20.keep_masks(plan)
    assert all(np.array_equal(found[layer], mask) for layer, mask in expected.items())


def test_the_hard_schedule_freezes_its_selection(resnet20, plan):
    hard = get_schedule("hard")
    first = hard.choose(resnet20, plan, module=resnet20.module, so_far=None, done=0.0)
    trained = disturbed(masked_module(resnet20.module, resnet20.flow, first))
    again = hard.choose(resnet20, plan, module=trained, so_far=first, done=0.1)
    assert all(np.array_equal(first[layer], mask) for layer, mask in again.items())
    # Without the zeros the same disturbance does move the selection, so freezing is their doing.
    free = hard.choose(resnet20, plan, module=disturbed(resnet20.module), so_far=first, done=0.1)
    assert any(not np.array_equal(first[layer], mask) for layer, mask in free.items())


def test_the_rescored_schedule_rises_to_the_rate_and_never_gives_back(resnet20, plan):
    rescored, masks, counts = get_schedule("rescored"), None, []
    for epoch in range(6):
        module = disturbed(resnet20.module, epoch)
        later = rescored.choose(resnet20, plan, module=module, so_far=masks, done=epoch / 8)
        if masks is not None:
            assert not any((~masks[layer] & later[layer]).any() for layer in masks)
        masks = later
        counts.append(count(masks))
    assert counts == sorted(counts)
    assert counts[0] == 0 < counts[1] < counts[4] == counts[5] == count(resnet20.keep_masks(plan))


def test_survivors_are_scored_among_themselves(resnet20, plan):
    gone = resnet20.keep_masks(resnet20.plan(0.3))
    zeroed = masked_module(resnet20.module, resnet20.flow, gone)
    found = masks_of(resnet20, plan, module=zeroed, gone=gone)
    # By hand: of the survivors those with the smallest sums of distances to the other survivors.
    layer = "layer3.0.conv2"
    weight = resnet20.module.get_submodule(layer).weight.double().flatten(1)
    weight = zeroed.get_submodule(layer).weight.double().flatten(1)
    alive = np.flatnonzero(gone[layer])
    sums = torch.cdist(weight[alive], weight[alive]).sum(1).numpy()
    extra = alive[np.argsort(sums, kind="stable")[: 25 - 19]]
    assert set(np.flatnonzero(~found[layer])) == {*np.flatnonzero(~gone[layer]), *extra}


def test_locks_hold_while_training(resnet20):
    plan = resnet20.plan(0.4).with_lock("conv1", 3, "in").with_lock("conv1", 5, "out")
    for name in SCHEDULES:
        masks = get_schedule(name).choose(resnet20, plan, module=disturbed(resnet20.module), so_far=None, done=1.0)
        assert masks["conv1"][3]
        assert not masks["conv1"][5]


def test_an_unknown_schedule_names_the_known_ones():
    with pytest.raises(FpgmError, match="finetune, hard, rescored, soft"):
        get_schedule("gentle")
