"""Narrow and folded networks: the masked network's answers with less arithmetic."""

import pytest
import torch
from torch import nn

from fpgm_core import COUPLINGS
from fpgm_core.pruning import folded_module

NETWORKS = (
    "resnet20", "resnet56", "vgg16_bn_cifar", "resnet18", "resnet50", "resnext50_32x4d", "densenet121", "mobilenet_v2",
    "shufflenet_v2_x1_0",
)  # fmt: skip


def images(prunable):
    return torch.randn(1, *prunable.loaded.info.input_shape, generator=torch.Generator().manual_seed(0))


def distance(first, second):
    return float((first - second).abs().max())


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_compact_and_folded_equal_masked(network, mixed, name, coupling):
    prunable = network(name)
    plan, x = mixed(prunable, coupling), images(prunable)
    dense, masked, compact = prunable.module(x), prunable.masked(plan)(x), prunable.compact(plan)
    tolerance = 1e-4 * float(dense.abs().max())
    assert distance(masked, dense) > 100 * tolerance
    assert distance(compact(x), masked) <= tolerance
    assert distance(folded_module(compact, prunable.flow)(x), masked) <= tolerance


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("criterion", ["fpgm_mix", "random"])
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_equal_at_every_rate(network, rate, criterion, coupling):
    prunable = network("resnet20")
    plan, x = prunable.plan(rate, criterion=criterion, coupling=coupling), images(prunable)
    dense, masked, compact = prunable.module(x), prunable.masked(plan)(x), prunable.compact(plan)
    tolerance = 1e-4 * float(dense.abs().max())
    assert distance(masked, dense) > 100 * tolerance
    assert distance(folded_module(compact, prunable.flow)(x), masked) <= tolerance


@pytest.mark.parametrize(("rate", "width"), [(0.0, 16), (0.4, 16), (0.5, 8), (0.9, 8)])
def test_widths_are_multiples_of_eight(network, rate, width):
    prunable = network("resnet20")  # 16 filters: 10 kept fill two vectors of eight, 8 one
    compact = prunable.compact(prunable.plan(rate, coupling="inner"))
    assert compact.layer1[0].conv1.weight.shape == (width, 16, 3, 3)
    assert compact.layer1[0].bn1.running_var.shape == (width,)
    assert compact.layer1[0].conv2.weight.shape == (16, width, 3, 3)


def test_the_residual_stream_stays_wide(network):
    prunable = network("resnet20")
    compact = prunable.compact(prunable.plan(0.9, coupling="independent"))
    assert compact.conv1.weight.shape[0] == 16
    assert compact.layer3[2].conv2.weight.shape[0] == 64


def test_a_compact_network_runs_fewer_multiply_adds(network):
    prunable = network("vgg16_bn_cifar")
    plan = prunable.plan(0.5, coupling="inner")  # 64 to 512 filters halve to multiples of eight exactly
    weights = sum(m.weight.numel() for m in prunable.compact(plan).modules() if isinstance(m, (nn.Conv2d, nn.Linear)))
    costs = [layer.macs for layer in prunable.cost(plan).layers]
    positions = [site.cost_per_weight for site in prunable.flow.sites]
    assert weights == sum(macs // count for macs, count in zip(costs, positions, strict=True))


def test_folding_removes_every_norm_behind_a_convolution(network):
    prunable = network("resnet20")
    folded = folded_module(prunable.module, prunable.flow)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert all(module.bias is not None for module in folded.modules() if isinstance(module, nn.Conv2d))
    x = images(prunable)
    assert distance(folded(x), prunable.module(x)) <= 1e-4 * float(prunable.module(x).abs().max())


def test_folding_leaves_norms_before_convolutions_alone(network):
    folded = folded_module(network("densenet121").module, network("densenet121").flow)
    left = [name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert "features.denseblock1.denselayer1.norm1" in left
    assert "features.norm0" not in left


def test_folding_is_by_hand_what_the_norm_computes(network):
    prunable = network("resnet20")
    conv, bn = prunable.module.conv1, prunable.module.bn1
    folded = folded_module(prunable.module, prunable.flow).conv1
    scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
    torch.testing.assert_close(folded.weight.double(), conv.weight.double() * scale[:, None, None, None])
    torch.testing.assert_close(folded.bias.double(), bn.bias.double() - bn.running_mean.double() * scale)
