"""The proof of equality: it holds for every family, coupling and rate, and it fails where something is wrong.

Weights are drawn at random first, so that no difference can hide. Small images: 64 x 64, Inception's 96 x 96.
"""

import copy
import os
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from networks import wrap
from torch import nn
from torch.nn import functional as F
from toys import Toy, conv

from fpgm_core import COUPLINGS, FpgmError, Network, load_model
from fpgm_core.data import load_images
from fpgm_core.models import get_model_info
from fpgm_core.pruning import compact_module, randomised, verify, verify_steps
from fpgm_core.pruning import proof as verification
from fpgm_core.pruning.proof import tensors_in

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
FAMILIES = (
    "alexnet", "vgg11_bn", "squeezenet1_1", "resnet18", "resnext50_32x4d", "wide_resnet50_2", "densenet121",
    "inception_v3", "googlenet", "shufflenet_v2_x0_5", "mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5",
    "efficientnet_b0", "regnet_y_400mf", "convnext_tiny", "resnet20", "resnet56", "vgg16_bn_cifar", "mobilenetv2_cifar",
)  # fmt: skip
RATES = (0.4, "mixed", 0.2, 0.7)  # mixed: another rate for every unit, and locks against the scores


@pytest.fixture(scope="module")
def randomised_network(network):
    return cache(lambda name: randomised(network(name).module, network(name).input_shape))


@pytest.fixture(scope="module")
def prove(network, mixed, randomised_network):
    """A proof by network, coupling and rate; couplings that come to the same masks share it."""
    proofs = {}

    def prove(name, coupling, rate):
        net = network(name)
        plan = mixed(net, coupling) if rate == "mixed" else net.plan(rate, criterion="l2_norm", coupling=coupling)
        masks = net.keep_masks(plan)
        key = name, *((layer, mask.tobytes()) for layer, mask in masks.items())
        if key not in proofs:
            proofs[key] = verify(net, masks, None, randomised_network(name))
        return proofs[key]

    return prove


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", FAMILIES)
def test_masked_equals_compact_and_costs_what_was_counted(prove, monkeypatch, name, coupling, rate):
    monkeypatch.setattr(verification, "RANDOM_IMAGES", 4)
    proof = prove(name, coupling, rate)
    assert proof.max_abs_difference <= 1e-4 * proof.logit_scale
    assert proof.masked_dense_difference > 1e-2 * proof.logit_scale
    assert (proof.counted_macs, proof.counted_params) == (proof.macs, proof.params)
    assert (proof.holds, proof.tells, proof.same_top1) == (True, True, True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize(
    "name", ["resnet56", "squeezenet1_1", "resnext50_32x4d", "shufflenet_v2_x0_5", "mobilenet_v3_small"]
)
def test_fvcore_counts_the_same_in_the_compact_network(network, mixed, name, coupling):
    from fvcore.nn import FlopCountAnalysis

    net = network(name)
    plan = mixed(net, coupling)
    counter = FlopCountAnalysis(net.compact(plan), torch.zeros(1, *net.input_shape))
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    operators = counter.by_operator()
    assert operators["conv"] + operators["linear"] == net.cost(plan).macs  # 1 per MAC


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_trained_networks_name_the_same_class_for_every_image(name, coupling):
    network = Network.load(name)
    images = load_images("cifar10", "choose")
    images = images if THOROUGH or name == "resnet20" else images.first(200)
    proof = verify(network, network.keep_masks(network.plan(0.4, coupling=coupling)), images.normalised(0, len(images)))
    assert (proof.holds, proof.tells, proof.same_top1) == (True, True, True)
    assert (proof.images, proof.random_images) == (len(images) + 8, 8)


@pytest.mark.parametrize("name", [name for name in FAMILIES if get_model_info(name).dataset != "cifar10"])
def test_torchvision_networks_name_the_same_class_for_photographs(network, mixed, randomised_network, name):
    net, images = network(name), load_images("cifar10", "choose").normalised(0, 64)
    photographs = F.interpolate(images, size=net.input_shape[1:], mode="bilinear")
    masks = net.keep_masks(mixed(net, "coupled"))
    proof = verify(net, masks, photographs, randomised_network(name))
    assert (proof.holds, proof.tells, proof.same_top1) == (True, True, True)
    assert proof.images == 64 + 8


def first_filter(module):
    """The compact network with one filter of its first convolution gone silent."""
    module.conv1.weight.data[0] = 0


def swapped(module):
    """Two filters of a layer in each other's place."""
    weight = module.get_submodule("layer2.1.conv1").weight.data
    weight[[0, 1]] = weight[[1, 0]]


def norm_of_another(module):
    """A norm that kept the first channels' shifts instead of the kept ones'."""
    bias = module.get_submodule("layer1.0.bn1").bias.data
    bias.copy_(bias.roll(1))


def constant_channel(module):
    """A norm's shift where there should be none: what zeroing convolutions alone leaves behind."""
    module.get_submodule("layer3.2.bn2").bias.data[0] += 1


def extra_parameter(module):
    module.left_over = nn.Parameter(torch.zeros(1))


@pytest.mark.parametrize("spoil", [first_filter, swapped, norm_of_another, constant_channel, extra_parameter])
def test_a_wrong_compact_network_is_found_out(network, mixed, monkeypatch, spoil):
    net = network("resnet20")
    masks = net.keep_masks(mixed(net, "inner"))

    def wrong(*arguments):
        module = compact_module(*arguments)
        spoil(module)
        return module

    assert verify(net, masks).holds
    monkeypatch.setattr(verification, "compact_module", wrong)
    assert not verify(net, masks).holds


def test_a_compact_network_that_removed_less_is_found_out(network, mixed, monkeypatch):
    net = network("resnet20")
    masks = net.keep_masks(mixed(net, "inner"))
    monkeypatch.setattr(verification, "compact_module", lambda module, flow, _: compact_module(module, flow, {}))
    proof = verify(net, masks)
    assert not proof.holds
    assert proof.counted_macs > proof.macs
    assert proof.counted_params > proof.params


def test_a_masked_network_whose_norms_still_speak_is_found_out(network, mixed, monkeypatch):
    net = network("resnet20")  # as the official training code leaves them
    masks = net.keep_masks(mixed(net, "inner"))

    def halfway(module, flow, masks):
        view = copy.deepcopy(module)
        for name, mask in masks.items():
            view.get_submodule(name).weight.data[torch.from_numpy(~mask)] = 0
        return view

    monkeypatch.setattr(verification, "masked_module", halfway)
    proof = verify(net, masks)
    assert proof.tells
    assert not proof.holds


def test_nothing_pruned_holds_and_tells_nothing(network):
    net = network("resnet20")
    proof = verify(net, net.keep_masks(net.plan()))
    assert (proof.holds, proof.tells, proof.masked_dense_difference) == (True, False, 0.0)
    assert (proof.macs, proof.params) == (net.dense_cost.macs, net.dense_cost.params)


def test_an_untrained_network_tells_little_until_it_is_randomised():
    network = Network(load_model("vgg16_bn_cifar", "random"))  # its Linear layer's bias is all that is left
    masks = network.keep_masks(network.plan(0.4, criterion="l2_norm"))
    shape = network.input_shape
    before, after = verify(network, masks), verify(network, masks, None, randomised(network.module, shape))
    assert after.tells
    assert after.masked_dense_difference / after.logit_scale > before.masked_dense_difference / before.logit_scale


def test_randomised_leaves_the_original_and_repeats(network):
    net = network("mobilenet_v3_small")
    before = [tensor.clone() for tensor in net.module.state_dict().values()]
    first, again = (randomised(net.module, net.input_shape) for _ in range(2))
    other = randomised(net.module, net.input_shape, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(net.module.state_dict().values(), before, strict=True))
    states = [module.state_dict() for module in (first, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["features.0.1.bias"], states[2]["features.0.1.bias"])
    assert not any(module.training for module in first.modules())
    norms = [m for m in first.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.bias.count_nonzero() == norm.bias.numel() for norm in norms)
    assert all((norm.running_var > 0).all() for norm in norms)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_answers_that_are_not_finite_are_refused(network, value):
    net = network("resnet20")
    module = copy.deepcopy(net.module)
    module.fc.bias.data[3] = value
    with pytest.raises(FpgmError, match="not finite numbers; check its weights"):
        verify(net, net.keep_masks(net.plan(0.4)), None, module)


def test_masks_that_leave_nothing_are_refused(network):
    net = network("resnet20")
    masks = {unit.name: np.zeros(unit.size, dtype=bool) for unit in net.units("independent")}
    with pytest.raises(FpgmError, match=r"nothing is left .* lower them"):
        verify(net, masks)


def test_steps_tell_how_far_they_are(network):
    net = network("resnet20")
    images = torch.randn(120, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    *shares, proof = verify_steps(net, net.keep_masks(net.plan(0.4)), images)
    assert shares == [0, 0.25, 0.5, 0.75]  # random ones, then fifty at a time
    assert (proof.images, proof.random_images) == (128, 8)


def test_unequal_and_miscounted_are_two_messages(network):
    net = network("resnet20")
    proof = verify(net, net.keep_masks(net.plan(0.4)))
    assert (proof.equal, proof.counted, proof.problem) == (True, True, "")
    unequal = replace(proof, max_abs_difference=proof.logit_scale)
    assert (unequal.holds, unequal.equal, unequal.counted) == (False, False, True)
    assert unequal.problem.startswith("unequal: masked and compact answers differ by up to")
    miscounted = replace(proof, counted_macs=proof.macs + 1)
    assert (miscounted.holds, miscounted.equal, miscounted.counted) == (False, True, False)
    assert miscounted.problem.startswith(f"miscounted: {proof.macs:,} multiply-adds")


@dataclass
class Answer:
    first: torch.Tensor
    second: torch.Tensor


@pytest.mark.parametrize(
    "several",
    [
        lambda first, second: (first, second),
        lambda first, second: {"first": first, "more": [second]},
        lambda first, second: Answer(first=first, second=second),
    ],
)
def test_every_tensor_of_several_outputs_is_compared(several):
    layers = {"a": conv(3, 8), "b": conv(8, 8), "fc": nn.Linear(8, 5), "aux": nn.Linear(8, 3)}

    def forward(net, x):
        y = F.relu(net.b(F.relu(net.a(x)))).mean((2, 3))
        return several(net.fc(y), net.aux(y) * 100)

    net = wrap(Toy(forward, **layers), (3, 8, 8))
    masks, x = net.keep_masks(net.plan(0.5, coupling="coupled")), torch.randn(4, 3, 8, 8)
    proof = verify(net, masks, x)
    assert proof.holds, proof.problem
    assert proof.logit_scale >= float(tensors_in(net.module(x))[1].abs().max())  # the second's, which is larger
    assert len(tensors_in(compact_module(net.module, net.flow, masks)(x))) == 2
