"""Parts of a network, one after another, against the whole."""

import pytest
import torch
from torch import nn
from torch.fx import symbolic_trace

from fpgm_core import COUPLINGS, Network
from fpgm_core.inference import segments

NETWORKS = {
    "resnet20": 9,
    "resnet56": 27,
    "vgg16_bn_cifar": 15,
    "mobilenetv2_cifar": 15,
    "resnet18": 9,
    "densenet121": 8,
    "shufflenet_v2_x1_0": 5,
    "mobilenet_v3_small": 10,
}  # fmt: skip  how many places there are at least


def run(parts, x):
    """Every part in turn; none may change what it is given."""
    for part in parts:
        given = x.clone()
        out = part(x)
        assert torch.equal(x, given)
        x = out
    return x


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_parts_one_after_another_are_the_whole(name, coupling):
    network = Network.load(name, "random" if name not in {"resnet20", "resnet56"} else None)
    module = network.prune(network.plan(0.4, coupling=coupling)).compact().eval()
    side = 32 if network.dataset == "cifar10" else 64
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = module(images)
        for most in (1, 2, 7, 1000):
            parts = segments(module, most)
            assert torch.equal(run(parts, images), whole)
            assert len(parts) == min(most, len(segments(module, 1000)))
    assert len(parts) > NETWORKS[name]


def test_parts_share_the_modules(resnet20):
    module = resnet20.prune(resnet20.plan(0.4)).compact()
    parts = segments(module, 5)
    assert {id(p) for part in parts for p in part.parameters()} == {id(p) for p in module.parameters()}
    assert [part.training for part in parts] == [module.training] * 5


def test_a_norm_stays_with_its_convolution(resnet20):
    for part in segments(resnet20.prune(resnet20.plan()).compact(), 1000):
        names = {name for name, _ in part.named_modules()}
        for norm in resnet20.flow.batch_norms:
            assert (norm.name in names) == (norm.after in names)


class Writes(nn.Module):
    """Convolutions with something between them that may write into the first one's result."""

    def __init__(self, between):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.between = between

    def forward(self, x):
        return self.two(self.between(self.one(x)))


@pytest.mark.parametrize(
    ("between", "parts"),
    [
        (nn.ReLU(), 2),  # behind the ReLU: only a convolution reads it
        (nn.ReLU(inplace=True), 2),
        (nn.Identity(), 2),
        (nn.BatchNorm2d(4), 2),
        (lambda x: x.add_(1), 2),
        (lambda x: x[:, :, ::2, ::2], 3),
        (lambda x: x[:, :, ::2, ::2].add_(1), 2),
    ],
)
def test_what_is_written_into_is_never_where_it_is_cut(between, parts):
    module = symbolic_trace(Writes(between))
    cut = segments(module, 1000)
    images = torch.randn(1, 3, 12, 12)
    expected = module(images)
    assert torch.equal(run(cut, images), expected)
    assert len(cut) == parts


def test_a_network_that_can_be_cut_nowhere_is_one_part():
    class Goes(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.two(torch.relu(self.one(x))) + x

    assert len(segments(symbolic_trace(Goes()), 10)) == 1
