"""Masked networks: removed channels exactly zero, the dense network untouched."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fpgm_core import COUPLINGS, CRITERIA
from fpgm_core.data import load_images
from fpgm_core.pruning import live_sources, masked_module, overlay
from fpgm_core.pruning.flow import ALWAYS
from fpgm_core.repair import recalibrate

NETWORKS = ("resnet20", "vgg16_bn_cifar", "resnet18", "resnext50_32x4d", "mobilenet_v2")


def images(prunable, count=2, seed=0):
    return torch.randn(count, *prunable.loaded.info.input_shape, generator=torch.Generator().manual_seed(seed))


def bits(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(state, other):
    return state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)


def not_silent(module, prunable, masks):
    """The places, by name, where a channel that only removed filters write is not exactly zero."""
    live, found = live_sources(prunable.flow, masks), []
    checked = 0

    def look(name, reads, read_input):
        def hook(layer, inputs, output):
            nonlocal checked
            tensor = inputs[0] if read_input else output
            dead = ~live[reads].any(0) & (reads > ALWAYS).any(0)
            checked += int(dead.sum())
            if tensor[:, torch.from_numpy(dead)].any():
                found.append(name)

        return module.get_submodule(name).register_forward_hook(hook)

    handles = [look(site.name, site.reads, True) for site in prunable.flow.sites]  # after the activation
    handles += [look(norm.name, norm.reads, False) for norm in prunable.flow.norms]  # after the norm
    module(images(prunable))
    for handle in handles:
        handle.remove()
    assert checked, "the plan removes nothing that anybody reads: the test would prove nothing"
    return found


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_removed_channels_are_exactly_zero(network, mixed, name, coupling):
    prunable = network(name)
    plan = mixed(prunable, coupling)
    masks = prunable.keep_masks(plan)
    assert not_silent(prunable.masked(plan), prunable, masks) == []


def test_a_norm_without_scale_and_shift_is_silent_too(wrap):
    layers = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16, affine=False), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU()
    prunable = wrap(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)))
    masks = prunable.keep_masks(prunable.plan(0.5))
    assert not_silent(masked_module(prunable.module, prunable.flow, masks), prunable, masks) == []


def test_zeroing_the_convolution_alone_is_not_enough(network, mixed):
    prunable = network("resnet20")  # what the official training code does: the norm still emits a constant
    masks = prunable.keep_masks(mixed(prunable, "inner"))
    halfway = copy.deepcopy(prunable.module)
    for name, mask in masks.items():
        halfway.get_submodule(name).weight.data[torch.from_numpy(~mask)] = 0
    assert not_silent(halfway, prunable, masks)


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2"])
def test_nothing_of_a_removed_filter_is_left(network, mixed, name, coupling):
    prunable = network(name)
    masks = prunable.keep_masks(mixed(prunable, coupling))
    expected = masked_module(prunable.module, prunable.flow, masks)(images(prunable))
    garbled = copy.deepcopy(prunable.module)
    generator = torch.Generator().manual_seed(3)
    for layer, mask in masks.items():
        gone = torch.from_numpy(~mask)
        garbled.get_submodule(layer).weight.data[gone] = 1e3
        norm = garbled.get_submodule(next(norm.name for norm in prunable.flow.norms if norm.after == layer))
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            tensor.data[gone] = 1e3 * torch.randn(int(gone.sum()), generator=generator)
    assert torch.equal(masked_module(garbled, prunable.flow, masks)(images(prunable)), expected)
    assert not torch.allclose(garbled(images(prunable)), prunable.module(images(prunable)))


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_pruned_equals_dense_exactly(network, name, coupling):
    prunable = network(name)
    x = images(prunable)
    assert torch.equal(prunable.masked(prunable.plan(coupling=coupling))(x), prunable.module(x))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_dense_network_is_not_touched(network, criterion):
    prunable = network("resnet20")
    before = bits(prunable.module)
    plan = prunable.plan(0.5, criterion=criterion)
    prunable.masked(plan)(images(prunable))
    prunable.compact(plan)(images(prunable))
    assert same(bits(prunable.module), before)


def spoil_norms(view):
    for _ in recalibrate(view, load_images("cifar10", "train").first(8)):
        pass


def spoil_dtype(view):
    view.to(torch.float64)


def spoil_layout(view):
    view.to(memory_format=torch.channels_last)


def spoil_mode(view):
    view.train()
    view(torch.randn(4, 3, 32, 32))


def spoil_values(view):
    for norm in (m for m in view.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.reset_running_stats()


def spoil_structure(view):
    view.layer1 = nn.Identity()
    view.conv1.weight = nn.Parameter(torch.zeros(16, 3, 3, 3))
    view.conv1.stride = (2, 2)


@pytest.mark.parametrize(
    "spoil",
    [spoil_norms, spoil_dtype, spoil_layout, spoil_mode, spoil_values, spoil_structure],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("form", ["overlay", "masked", "compact"])
def test_a_view_can_be_changed_without_the_original_noticing(network, form, spoil):
    prunable = network("resnet20")
    before, x = bits(prunable.module), images(prunable)
    answer = prunable.module(x)
    plan = prunable.plan(0.3)
    view = overlay(prunable.module, {}) if form == "overlay" else getattr(prunable, form)(plan)
    spoil(view)
    assert same(bits(prunable.module), before)
    assert not any(module.training for module in prunable.module.modules())
    assert all(p.is_contiguous() for p in prunable.module.parameters())
    assert torch.equal(prunable.module(x), answer)


def test_hooks_on_a_view_stay_on_the_view(network):
    prunable = network("resnet20")
    view, seen = overlay(prunable.module, {}), []
    view.conv1.register_forward_hook(lambda *_: seen.append(1))
    view.conv1.register_forward_pre_hook(lambda *_: seen.append(1))
    prunable.module(images(prunable))
    assert seen == []
    view(images(prunable))
    assert seen == [1, 1]


def test_an_overlay_shares_what_it_does_not_replace(network):
    prunable = network("resnet20")
    view = overlay(prunable.module, {"conv1.weight": torch.zeros(16, 3, 3, 3)})
    assert view.fc.weight.data_ptr() == prunable.module.fc.weight.data_ptr()
    assert not view.conv1.weight.any()
    assert not view.fc.weight.requires_grad


def test_masks_prune_what_they_say(network):
    prunable = network("resnet20")
    masks = {"layer1.0.conv1": np.arange(16) % 2 == 0}
    weight = masked_module(prunable.module, prunable.flow, masks).layer1[0].conv1.weight
    assert [bool(row.any()) for row in weight] == masks["layer1.0.conv1"].tolist()
    assert torch.equal(weight[::2], prunable.module.layer1[0].conv1.weight[::2])
