"""Masked networks: removed channels exactly zero, the dense network untouched."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toys import Toy, close, conv, head, silenced

from fpgm_core import COUPLINGS, CRITERIA, FpgmError
from fpgm_core.data import load_images
from fpgm_core.graph import live_sources, overlay
from fpgm_core.graph.flow import ALWAYS
from fpgm_core.pruning import PrunedNetwork, masked_module
from fpgm_core.recovery import recalibrate

NETWORKS = ("resnet20", "vgg16_bn_cifar", "resnet18", "resnext50_32x4d", "mobilenet_v2")


def images(network, count=2, seed=0):
    return torch.randn(count, *network.input_shape, generator=torch.Generator().manual_seed(seed))


def bits(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(state, other):
    return state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)


def not_silent(module, network, masks):
    """The places, by name, where a channel that only removed filters write is not exactly zero."""
    live, found = live_sources(network.flow, masks), []
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

    handles = [look(site.name, site.reads, True) for site in network.flow.sites]  # after the activation
    handles += [look(norm.name, norm.reads, False) for norm in network.flow.batch_norms]  # after the norm
    module(images(network))
    for handle in handles:
        handle.remove()
    assert checked, "the plan removes nothing that anybody reads: the test would prove nothing"
    return found


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_removed_channels_are_exactly_zero(network, mixed, name, coupling):
    net = network(name)
    plan = mixed(net, coupling)
    masks = net.keep_masks(plan)
    assert not_silent(net.prune(plan).masked(), net, masks) == []


def test_a_norm_without_scale_and_shift_is_silent_too(wrap):
    layers = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16, affine=False), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU()
    network = wrap(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)))
    masks = network.keep_masks(network.plan(0.5))
    assert not_silent(masked_module(network.module, network.flow, masks), network, masks) == []


def test_more_classes_than_filters_keep_their_biases(wrap):
    network = wrap(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 30))
    )
    masked = network.prune(0.5, coupling="inner").masked()
    assert torch.equal(masked.get_parameter("4.bias"), network.module.get_parameter("4.bias"))
    assert masked.get_parameter("4.weight").any(0).sum() == 2


LOW = np.arange(8) < 4


def test_a_product_has_the_channels_that_any_writer_of_each_factor_has(wrap):
    def forward(net, x):
        return head(net, net.c((net.a(x) + net.b(x)) * net.d(x)))

    layers = {"a": conv(3, 8), "b": conv(3, 8, 1), "d": conv(3, 8), "c": conv(8, 4), "fc": nn.Linear(4, 5)}
    network, masks = wrap(Toy(forward, **layers)), {"a": LOW, "b": ~LOW, "d": np.arange(8) != 0}
    pruned, x = PrunedNetwork(network, network.plan(), masks), images(network)
    dense, expected = network.module(x), silenced(network, masks, x)
    for form in (pruned.masked(), pruned.compact()):
        assert close(form(x), expected, dense)
    assert {layer.name: layer.live_inputs for layer in pruned.cost.layers}["c"] == 7


def test_all_kept_filters_of_a_grouped_layer_stay_where_one_is_read(wrap):
    layers = {"a": conv(3, 8), "g": conv(8, 8, groups=2), "d": conv(3, 8), "c": conv(8, 4), "fc": nn.Linear(4, 5)}
    network = wrap(Toy(lambda net, x: head(net, net.c(net.g(F.relu(net.a(x))) * net.d(x))), **layers))
    pruned, x = PrunedNetwork(network, network.plan(), {"d": LOW}), images(network)
    dense, expected = network.module(x), silenced(network, {"d": LOW}, x)
    assert {layer.name: layer.kept for layer in pruned.cost.layers} == {"a": 8, "g": 8, "d": 4, "c": 4, "fc": 5}
    for form in (pruned.masked(), pruned.compact()):
        assert close(form(x), expected, dense)


def test_layers_that_share_their_weight_are_masked_each_by_its_own(wrap):
    layers = {"a": conv(3, 8), "b": conv(8, 8), "c": conv(8, 8), "fc": nn.Linear(8, 5)}
    toy = Toy(lambda net, x: head(net, net.c(F.relu(net.b(F.relu(net.a(x)))))), **layers)
    toy.c.weight = toy.b.weight
    network, masks = wrap(toy), {"a": np.arange(8) < 5, "b": np.arange(8) != 2, "c": ~LOW}
    pruned, x = PrunedNetwork(network, network.plan(), masks), images(network)
    dense, expected = network.module(x), silenced(network, masks, x)
    assert not_silent(masked_module(network.module, network.flow, masks), network, masks) == []
    for form in (pruned.masked(), pruned.compact()):
        assert close(form(x), expected, dense)


def test_an_output_that_nothing_reaches_is_refused(wrap):
    layers = {"a": conv(3, 8), "b": conv(3, 8), "out": conv(8, 5)}  # its filters are the outputs: no plan empties it
    network = wrap(Toy(lambda net, x: net.out(net.a(x) * net.b(x)), **layers))
    with pytest.raises(FpgmError, match="nothing is left that reaches out under these rates; lower them"):
        masked_module(network.module, network.flow, {"a": LOW, "b": ~LOW})


def test_zeroing_the_convolution_alone_is_not_enough(network, mixed):
    net = network("resnet20")  # what the official training code does: the norm still emits a constant
    masks = net.keep_masks(mixed(net, "inner"))
    halfway = copy.deepcopy(net.module)
    for name, mask in masks.items():
        halfway.get_submodule(name).weight.data[torch.from_numpy(~mask)] = 0
    assert not_silent(halfway, net, masks)


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2"])
def test_nothing_of_a_removed_filter_is_left(network, mixed, name, coupling):
    net = network(name)
    masks = net.keep_masks(mixed(net, coupling))
    expected = masked_module(net.module, net.flow, masks)(images(net))
    garbled = copy.deepcopy(net.module)
    generator = torch.Generator().manual_seed(3)
    for layer, mask in masks.items():
        gone = torch.from_numpy(~mask)
        garbled.get_submodule(layer).weight.data[gone] = 1e3
        norm = garbled.get_submodule(next(norm.name for norm in net.flow.batch_norms if norm.after == layer))
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            tensor.data[gone] = 1e3 * torch.randn(int(gone.sum()), generator=generator)
    assert torch.equal(masked_module(garbled, net.flow, masks)(images(net)), expected)
    assert not torch.allclose(garbled(images(net)), net.module(images(net)))


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_pruned_equals_dense_exactly(network, name, coupling):
    net = network(name)
    x = images(net)
    assert torch.equal(net.prune(net.plan(coupling=coupling)).masked()(x), net.module(x))


@pytest.mark.parametrize("criterion", [name for name, record in CRITERIA.items() if record.needs == "weights"])
def test_the_dense_network_is_not_touched(network, criterion):
    net = network("resnet20")
    before = bits(net.module)
    plan = net.plan(0.5, criterion=criterion)
    net.prune(plan).masked()(images(net))
    net.prune(plan).compact()(images(net))
    assert same(bits(net.module), before)


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
@pytest.mark.parametrize("form", ["overlay", "dense_shaped", "masked", "compact"])
def test_a_view_can_be_changed_without_the_original_noticing(network, form, spoil):
    net = network("resnet20")
    before, x = bits(net.module), images(net)
    answer = net.module(x)
    plan = net.plan(0.3)
    view = overlay(net.module, {}) if form == "overlay" else getattr(net.prune(plan), form)()
    spoil(view)
    assert same(bits(net.module), before)
    assert not any(module.training for module in net.module.modules())
    assert all(p.is_contiguous() for p in net.module.parameters())
    assert torch.equal(net.module(x), answer)


def test_hooks_on_a_view_stay_on_the_view(network):
    net = network("resnet20")
    view, seen = overlay(net.module, {}), []
    view.conv1.register_forward_hook(lambda *_: seen.append(1))
    view.conv1.register_forward_pre_hook(lambda *_: seen.append(1))
    net.module(images(net))
    assert seen == []
    view(images(net))
    assert seen == [1, 1]


def test_an_overlay_shares_what_it_does_not_replace(network):
    net = network("resnet20")
    view = overlay(net.module, {"conv1.weight": torch.zeros(16, 3, 3, 3)})
    assert view.fc.weight.data_ptr() == net.module.fc.weight.data_ptr()
    assert not view.conv1.weight.any()
    assert not view.fc.weight.requires_grad


def test_masks_prune_what_they_say(network):
    net = network("resnet20")
    masks = {"layer1.0.conv1": np.arange(16) % 2 == 0}
    weight = masked_module(net.module, net.flow, masks).layer1[0].conv1.weight
    assert [bool(row.any()) for row in weight] == masks["layer1.0.conv1"].tolist()
    assert torch.equal(weight[::2], net.module.layer1[0].conv1.weight[::2])
