"""The proof of equality: it holds for every family, coupling and rate, and it fails where something is wrong.

Weights are drawn at random first, so that no difference can hide. Small images: 64 x 64, Inception's 96 x 96.
"""

import copy
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from networks import wrap
from torch import nn
from torch.nn import functional as F
from toys import Toy, conv

from fpgm_core import COUPLINGS, FpgmError, Network
from fpgm_core.data import load_images
from fpgm_core.models import get_model_info
from fpgm_core.pruning import PrunedNetwork, compact_module, randomised, verify, verify_work
from fpgm_core.pruning.proof import randomised_module, tensors_in
from fpgm_core.runtime.progress import run

FAMILIES = (
    "alexnet", "vgg11_bn", "squeezenet1_1", "resnet18", "resnext50_32x4d", "wide_resnet50_2", "densenet121",
    "inception_v3", "googlenet", "shufflenet_v2_x0_5", "mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5",
    "efficientnet_b0", "regnet_y_400mf", "convnext_tiny", "resnet20", "resnet56", "vgg16_bn_cifar", "mobilenetv2_cifar",
)  # fmt: skip
RATES = (0.4, "mixed", 0.2, 0.7)  # mixed: another rate for every unit, and locks against the scores


@pytest.fixture(scope="module")
def randomised_network(network):
    """A function: a registry network drawn at random, by name."""
    return cache(lambda name: randomised(network(name).prune()).network)


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
            proofs[key] = verify(PrunedNetwork(randomised_network(name), plan, masks), num_random=4)
        return proofs[key]

    return prove


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", FAMILIES)
def test_masked_equals_compact_and_costs_what_was_counted(prove, name, coupling, rate):
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
    counter = FlopCountAnalysis(net.prune(plan).compact(), torch.zeros(1, *net.input_shape))
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    operators = counter.by_operator()
    assert operators["conv"] + operators["linear"] == net.cost(plan).macs  # 1 per MAC


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_trained_networks_name_the_same_class_for_every_image(thorough, name, coupling):
    network = Network.load(name)
    images = load_images("cifar10", "choose")
    images = images if thorough or name == "resnet20" else images.first(200)
    proof = verify(network.prune(0.4, coupling=coupling), images.normalised(0, len(images)))
    assert (proof.holds, proof.tells, proof.same_top1) == (True, True, True)
    assert (proof.images, proof.random_images) == (len(images) + 8, 8)


@pytest.mark.parametrize("name", [name for name in FAMILIES if get_model_info(name).dataset != "cifar10"])
def test_torchvision_networks_name_the_same_class_for_photographs(network, mixed, randomised_network, name):
    net, images = network(name), load_images("cifar10", "choose").normalised(0, 64)
    photographs = F.interpolate(images, size=net.input_shape[1:], mode="bilinear")
    pruned = net.prune(mixed(net, "coupled"))
    proof = verify(PrunedNetwork(randomised_network(name), pruned.plan, pruned.keep_masks), photographs)
    assert (proof.holds, proof.tells, proof.same_top1) == (True, True, True)
    assert proof.images == 64 + 8


def test_the_aligned_network_is_proved_by_its_own_cost(randomised_network):
    network = randomised_network("resnet20")
    pruned = network.prune(0.4, criterion="random")
    plain, aligned = verify(pruned), verify(pruned, aligned=True)
    assert (aligned.holds, aligned.tells, aligned.same_top1) == (True, True, True)
    assert plain.macs == pruned.cost.macs < aligned.macs == aligned.counted_macs
    assert plain.params == pruned.cost.params < aligned.params == aligned.counted_params


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
def test_a_wrong_compact_network_is_found_out(network, mixed, spoil):
    net = network("resnet20")
    pruned = net.prune(mixed(net, "inner"))
    wrong = pruned.compact()
    assert verify(pruned, forms=(pruned.masked(), wrong)).holds
    spoil(wrong)
    assert not verify(pruned, forms=(pruned.masked(), wrong)).holds


def test_a_compact_network_that_removed_less_is_found_out(network, mixed):
    net = network("resnet20")
    pruned = net.prune(mixed(net, "inner"))
    proof = verify(pruned, forms=(pruned.masked(), compact_module(net.module, net.flow, {})))
    assert not proof.holds
    assert proof.counted_macs > proof.macs
    assert proof.counted_params > proof.params


def test_a_masked_network_whose_norms_still_speak_is_found_out(network, mixed):
    net = network("resnet20")  # as the official training code leaves them
    pruned = net.prune(mixed(net, "inner"))
    halfway = copy.deepcopy(net.module)
    for name, mask in pruned.keep_masks.items():
        halfway.get_submodule(name).weight.data[torch.from_numpy(~mask)] = 0
    proof = verify(pruned, forms=(halfway, pruned.compact()))
    assert proof.tells
    assert not proof.holds


def test_nothing_pruned_holds_and_tells_nothing(network):
    net = network("resnet20")
    proof = verify(net.prune())
    assert (proof.holds, proof.tells, proof.masked_dense_difference) == (True, False, 0.0)
    assert (proof.macs, proof.params) == (net.dense_cost.macs, net.dense_cost.params)


def test_an_untrained_network_tells_little_until_it_is_randomised():
    network = Network.load("vgg16_bn_cifar", "random")  # its Linear layer's bias is all that is left
    pruned = network.prune(0.4, criterion="l2_norm")
    other = randomised(pruned)
    assert other.keep_masks is pruned.keep_masks
    before, after = verify(pruned), verify(other)
    assert after.tells
    assert after.masked_dense_difference / after.logit_scale > before.masked_dense_difference / before.logit_scale


def test_randomised_leaves_the_original_and_repeats(network):
    net = network("mobilenet_v3_small")
    before = [tensor.clone() for tensor in net.module.state_dict().values()]
    first, again = (randomised_module(net.module, net.input_shape) for _ in range(2))
    other = randomised_module(net.module, net.input_shape, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(net.module.state_dict().values(), before, strict=True))
    states = [module.state_dict() for module in (first, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["features.0.1.bias"], states[2]["features.0.1.bias"])


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 64, 1), nn.BatchNorm2d(64), nn.LayerNorm(64)
        self.layer_scale = nn.Parameter(torch.full((64,), 1e-6))
        self.of_the_batch = nn.BatchNorm2d(64, track_running_stats=False)

    def forward(self, x):
        y = self.of_the_batch(self.norm(self.conv(x)))
        return self.head(y.mean((2, 3))) * self.layer_scale


def test_what_is_drawn_at_random_is_of_an_ordinary_size_and_follows_the_network():
    torch.manual_seed(0)
    module = Scaled().train()
    module.norm.running_mean.fill_(1e3)  # of images that nobody has
    module.norm.running_var.fill_(1e6)
    module.norm.num_batches_tracked.fill_(100)
    drawn = randomised_module(module, (3, 32, 32))
    assert module.training
    assert not any(part.training for part in drawn.modules())
    for weights, low, high in (
        (drawn.norm.weight, 0.5, 1.5),
        (drawn.head.weight, 0.5, 1.5),
        (drawn.layer_scale, 0.1, 0.5),
    ):
        assert low <= weights.min() < low + 0.2 * (high - low)
        assert high - 0.2 * (high - low) < weights.max() <= high
    for bias in (drawn.conv.bias, drawn.norm.bias, drawn.head.bias):
        assert bias.std().item() == pytest.approx(0.2, rel=0.3)
        assert abs(bias.mean()) < 0.1
    variance = drawn.conv.weight.square().sum((1, 2, 3))  # of what it answers to images of noise
    apart = (drawn.norm.running_mean - drawn.conv.bias) / variance.sqrt()
    assert apart.std().item() == pytest.approx(0.3, rel=0.3)
    factor = drawn.norm.running_var / variance
    assert 0.6 < factor.min() < 0.8 < 1.3 < factor.max() < 1.5


def test_a_randomised_selection_belongs_to_its_own_network_and_keeps_nothing_prepared(network):
    pruned = network("resnet20").prune(0.4)
    drawn = randomised(replace(pruned, prepared=pruned.compact()))
    assert drawn.plan.fingerprint == drawn.network.fingerprint != pruned.plan.fingerprint
    assert drawn.prepared is None
    assert all(np.array_equal(mask, pruned.keep_masks[name]) for name, mask in drawn.keep_masks.items())


class Says(nn.Module):
    """Names the classes it is told, one for each image of a batch: of eight images, of others."""

    def __init__(self, eight, others):
        super().__init__()
        self.said = {8: torch.tensor(eight), 3: torch.tensor(others)}

    def forward(self, x):
        return F.one_hot(self.said.get(len(x), torch.zeros(len(x), dtype=int)), 10).float()


@pytest.mark.parametrize(
    ("eight", "others"),
    [
        ([1, 0, 1, 2, 3, 4, 0, 1], [2, 1, 2]),
        ([0, 1, 2, 3, 4, 0, 1, 3], [2, 1, 2]),
        ([0, 1, 2, 3, 4, 0, 1, 2], [2, 1, 1]),
    ],
)
def test_the_same_classes_are_those_of_every_image_in_every_batch(network, eight, others):
    pruned, images = network("resnet20").prune(0.4), torch.randn(3, 3, 32, 32)
    masked = Says([0, 1, 2, 3, 4, 0, 1, 2], [2, 1, 2])
    assert verify(pruned, images, forms=(masked, masked)).same_top1
    assert not verify(pruned, images, forms=(masked, Says(eight, others))).same_top1


def test_a_network_that_draws_draws_the_same_in_every_form_and_moves_nobodys_generator(network):
    class Draws(nn.Module):
        def forward(self, x):
            return torch.randn(len(x), 10)

    torch.manual_seed(5)
    before = torch.get_rng_state()
    pruned = network("resnet20").prune(0.4)
    proof = verify(pruned, forms=(Draws(), Draws()))
    assert proof.equal
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert verify(pruned, forms=(Draws(), Draws())) == proof, "whatever was drawn before"


def test_numbers_of_every_kind_are_compared_and_what_is_no_tensor_is_left_out():
    answer = {"boxes": [torch.tensor([1, 2]), (torch.tensor([True]), None)], "name": "a", "score": torch.ones(2)}
    found = tensors_in(answer)
    assert [tensor.tolist() for tensor in found] == [[1, 2], [1], [1, 1]]
    assert all(tensor.is_floating_point() for tensor in found)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_answers_that_are_not_finite_are_refused(network, value):
    net = network("resnet20")
    module = copy.deepcopy(net.module)
    module.fc.bias.data[3] = value
    with pytest.raises(FpgmError, match="not finite numbers; check its weights"):
        verify(net.with_module(module).prune(0.4))


def test_the_greatest_of_every_batch_counts(network):
    net = network("resnet20")
    pruned = net.prune(0.4)
    loud = 10 * torch.randn(50, *net.input_shape, generator=torch.Generator().manual_seed(1))  # a batch of its own
    black = torch.zeros_like(loud[:1])  # the last
    alone, both = verify(pruned, loud), verify(pruned, torch.cat([loud, black]))
    for figure in ("logit_scale", "max_abs_difference", "masked_dense_difference"):
        assert getattr(both, figure) == getattr(alone, figure) > 0
    assert (both.images, both.random_images, both.same_top1) == (8 + 51, 8, True)
    masked, compact = pruned.masked(), pruned.compact()
    compact.fc.bias.data[masked(black).argmin()] += 1e6  # which it names for every image now
    assert not verify(pruned, torch.cat([loud, black]), forms=(masked, compact)).same_top1


def test_masks_that_leave_nothing_are_refused(network):
    net = network("resnet20")
    masks = {unit.name: np.zeros(unit.size, dtype=bool) for unit in net.units("independent")}
    with pytest.raises(FpgmError, match=r"nothing is left .* lower them"):
        verify(PrunedNetwork(net, net.plan(), masks))


def test_progress_tells_how_far_it_is(network):
    images, shares = torch.randn(120, 3, 32, 32, generator=torch.Generator().manual_seed(0)), []
    proof = run(verify_work(network("resnet20").prune(0.4), images), lambda step: shares.append(step.share))
    assert shares == [0, 0.25, 0.5, 0.75]  # random ones, then fifty at a time
    assert (proof.images, proof.random_images) == (128, 8)


def test_unequal_and_miscounted_are_two_messages(network):
    proof = verify(network("resnet20").prune(0.4))
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
        lambda first, second: (first, second[:, 0]),  # one number an image: no classes
    ],
)
def test_every_tensor_of_several_outputs_is_compared(several):
    layers = {"a": conv(3, 8), "b": conv(8, 8), "fc": nn.Linear(8, 5), "aux": nn.Linear(8, 3)}

    def forward(net, x):
        y = F.relu(net.b(F.relu(net.a(x)))).mean((2, 3))
        return several(net.fc(y), net.aux(y) * 100)

    net = wrap(Toy(forward, **layers), (3, 8, 8))
    pruned, x = net.prune(0.5, coupling="coupled"), torch.randn(4, 3, 8, 8)
    proof = verify(pruned, x)
    assert proof.holds, proof.problem
    assert proof.logit_scale >= float(tensors_in(net.module(x))[1].abs().max())  # the second's, which is larger
    assert len(tensors_in(pruned.compact()(x))) == 2
