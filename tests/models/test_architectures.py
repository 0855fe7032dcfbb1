"""The CIFAR networks against published sizes and an independent forward pass."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fpgm_core.graph import dense_layers
from fpgm_core.models import cifar_models, get_model_info

# Parameters: counted by hand and in public reimplementations. MACs: the paper's networks, convolutions only.
SIZES = {
    "resnet20": (269_722, 40_550_400),
    "resnet32": (464_154, 68_861_952),
    "resnet56": (853_018, 125_485_056),
    "resnet110": (1_727_962, 252_887_040),
    "vgg16_bn_cifar": (14_724_042, 313_196_544),
    "mobilenetv2_cifar": (151_130, 12_857_344),  # by `mobilenet_by_hand`
}


@pytest.mark.parametrize("info", cifar_models(), ids=lambda info: info.name)
def test_parameters_and_convolution_macs_are_the_published_ones(info):
    module = info.build()
    parameters, macs = SIZES[info.name]
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters
    assert sum(layer.macs for layer in dense_layers(module, info.input_shape)) == macs


@pytest.mark.parametrize("depth", [20, 32, 56, 110])
def test_a_resnet_has_its_depth_in_weighted_layers_and_no_shortcut_parameters(depth):
    module = get_model_info(f"resnet{depth}").build()
    weighted = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == depth
    assert all(m.kernel_size == (3, 3) and m.bias is None for m in weighted if isinstance(m, nn.Conv2d))


def mobilenet_by_hand():
    """(parameters, convolution MACs), from the blocks line by line: expansion, in, out, input side, stride."""
    rows = (
        (1, 16, 16, 32, 1), (4, 16, 24, 32, 2), (4, 24, 24, 16, 1), (4, 24, 40, 16, 2), (4, 40, 40, 8, 1),
        (4, 40, 40, 8, 1), (4, 40, 64, 8, 1), (4, 64, 64, 8, 1), (4, 64, 64, 8, 1),
    )  # fmt: skip
    parameters, macs = 27 * 16 + 2 * 16 + 64 * 160 + 2 * 160 + 161 * 10, 27 * 16 * 32**2 + 64 * 160 * 8**2
    for expansion, inside, outside, side, stride in rows:
        hidden, after = expansion * inside, (side // stride) ** 2
        if expansion > 1:
            parameters += inside * hidden + 2 * hidden
            macs += inside * hidden * side**2
        parameters += 9 * hidden + 2 * hidden + hidden * outside + 2 * outside
        macs += 9 * hidden * after + hidden * outside * after
    return parameters, macs


def test_mobilenet_is_its_table():
    assert SIZES["mobilenetv2_cifar"] == mobilenet_by_hand()
    module = get_model_info("mobilenetv2_cifar").build().eval()
    depthwise = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert len(depthwise) == 9
    assert all(m.groups == m.in_channels == m.out_channels for m in depthwise)
    block = module.layer3[1]
    x = torch.randn(2, 40, 8, 8)
    with torch.no_grad():
        inner = F.relu6(block.bn2(block.depthwise(F.relu6(block.bn1(block.expand(x))))))
        assert torch.equal(block(x), block.bn3(block.project(inner)) + x)  # the last has no activation


def test_vgg16_has_configuration_d():
    module = get_model_info("vgg16_bn_cifar").build()
    widths = [m.out_channels for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert sum(isinstance(m, nn.MaxPool2d) for m in module.modules()) == 5


def normed(x, state, name):
    mean, var, weight, bias = (
        state[f"{name}.{part}"].reshape(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def resnet_by_hand(state, blocks, x):
    """He et al., section 4.2, written out from the state dict alone."""

    def conv(x, name, stride=1):
        return F.conv2d(x, state[f"{name}.weight"], stride=stride, padding=1)

    x = normed(conv(x, "conv1"), state, "bn1").relu()
    for stage in (1, 2, 3):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            out = normed(conv(x, f"{name}.conv1", stride), state, f"{name}.bn1").relu()
            out = normed(conv(out, f"{name}.conv2"), state, f"{name}.bn2")
            if stride == 2:
                x = F.avg_pool2d(x, 1, 2)
                x = torch.cat([x, torch.zeros_like(x)], dim=1)
            x = (out + x).relu()
    return x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


def test_resnet20_computes_what_the_paper_describes(resnet20):
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = resnet20.module(x)
    by_hand = resnet_by_hand({name: t.double() for name, t in resnet20.module.state_dict().items()}, 3, x.double())
    assert logits.abs().max() > 1
    torch.testing.assert_close(logits.double(), by_hand, rtol=1e-4, atol=1e-4)
