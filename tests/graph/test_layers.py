"""The convolutions of a network, in forward order, with their cost by hand formulas."""

import pytest
import torch
from torch import nn

from fpgm_core.graph import dense_layers, weights_of
from fpgm_core.models import fingerprint, list_models, load_model


class Toy(nn.Module):
    """Declared out of order, one convolution grouped, one used twice, one never."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Conv2d(8, 8, 3, padding=1)
        self.never = nn.Conv2d(8, 8, 3)
        self.first = nn.Conv2d(3, 8, 5, stride=2, padding=2)
        self.grouped = nn.Conv2d(8, 12, (1, 3), groups=4)
        self.fc = nn.Linear(12, 7)

    def forward(self, x):
        x = self.twice(self.twice(self.first(x)))
        return self.fc(self.grouped(x).mean((2, 3)))


def test_layers_are_the_convolutions_that_run_in_forward_order():
    first, twice, grouped = dense_layers(Toy(), (3, 16, 12))
    assert (first.name, twice.name, grouped.name) == ("first", "twice", "grouped")
    assert first.shape == (8, 3, 5, 5)
    assert grouped.shape == (12, 2, 1, 3)
    assert (first.groups, grouped.groups) == (1, 4)
    assert (first.filters, twice.filters, grouped.filters) == (8, 8, 12)
    assert (first.positions, twice.positions, grouped.positions) == (8 * 6, 8 * 6, 8 * 4)


def test_macs_are_positions_times_weights_and_shares_count_linear_layers_too():
    first, twice, grouped = dense_layers(Toy(), (3, 16, 12))
    macs = [8 * 6 * 8 * 3 * 25, 2 * 8 * 6 * 8 * 8 * 9, 8 * 4 * 12 * 2 * 3]
    assert [first.macs, twice.macs, grouped.macs] == macs
    total = sum(macs) + 12 * 7
    assert [first.share, twice.share, grouped.share] == pytest.approx([part / total for part in macs])


def test_looking_leaves_the_network_as_it_was():
    module = Toy().train()
    before = fingerprint(module.state_dict())
    dense_layers(module, (3, 16, 12))
    assert module.training
    assert fingerprint(module.state_dict()) == before
    assert not any(m._forward_hooks for m in module.modules())
    assert {parameter.device.type for parameter in module.parameters()} == {"cpu"}


def test_resnet20s_layers_by_hand(resnet20):
    layers = dense_layers(resnet20.module, (3, 32, 32))
    names = [f"layer{s}.{b}.conv{c}" for s in (1, 2, 3) for b in (0, 1, 2) for c in (1, 2)]
    assert [layer.name for layer in layers] == ["conv1", *names]
    widths = {"1": (16, 32), "2": (32, 16), "3": (64, 8)}
    for layer in layers[1:]:
        width, side = widths[layer.name[5]]
        inputs = width // 2 if layer.name in ("layer2.0.conv1", "layer3.0.conv1") else width
        assert layer.shape == (width, inputs, 3, 3)
        assert (layer.positions, layer.macs) == (side * side, side * side * width * inputs * 9)
    assert sum(layer.macs for layer in layers) == 40_550_400
    assert sum(layer.share for layer in layers) == pytest.approx(40_550_400 / (40_550_400 + 640))


def test_the_filters_are_the_convolutions_weight(resnet20):
    weight = weights_of(resnet20.module, "layer2.0.conv1")
    assert weight is resnet20.module.layer2[0].conv1.weight
    assert weight.shape == (32, 16, 3, 3)


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v2"])
def test_a_torchvision_networks_layers_are_its_convolutions(name):
    info = next(info for info in list_models() if info.name == name)
    module = load_model(name, "random").module
    layers = dense_layers(module, info.input_shape)
    shapes = {key: tuple(m.weight.shape) for key, m in module.named_modules() if isinstance(m, nn.Conv2d)}
    assert {layer.name: layer.shape for layer in layers} == shapes
    assert all(layer.macs == layer.positions * torch.Size(layer.shape).numel() for layer in layers)
    # Published multiply-adds of an image, in millions, convolutions and Linear layers.
    published = {"squeezenet1_1": 349, "shufflenet_v2_x0_5": 41, "mobilenet_v2": 300}[name]
    total = layers[0].macs / layers[0].share
    assert total / 1e6 == pytest.approx(published, rel=0.02)
