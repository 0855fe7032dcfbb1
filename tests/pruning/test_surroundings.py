"""Networks that are parts of others: torchvision's detectors, pruned in their backbones, their heads as they are."""

import pytest
import torch
from networks import wrap
from torch import nn

from fpgm_core import COUPLINGS, FpgmError, Network
from fpgm_core.pruning import verify
from fpgm_core.pruning.proof import randomised
from fpgm_core.runtime.torchvision_import import import_torchvision

DETECTORS = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": 64,
    "retinanet_resnet50_fpn": 64,
    "ssdlite320_mobilenet_v3_large": 320,
    "fcos_resnet50_fpn": 64,
    "maskrcnn_resnet50_fpn": 64,
    "keypointrcnn_resnet50_fpn": 64,
    "ssd300_vgg16": 300,
}
SEGMENTERS = ("lraspp_mobilenet_v3_large", "fcn_resnet50", "deeplabv3_mobilenet_v3_large")


def built(kind, name):
    models = getattr(import_torchvision("torchvision.models"), kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return getattr(models, name)(weights=None, weights_backbone=None).eval()


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_is_pruned_in_its_backbone_and_its_heads_are_locked(name):
    side = DETECTORS[name]
    module = built("detection", name)
    network = Network.from_module(module, (3, side, side), trained=False)
    assert all(layer.name in dict(module.backbone.named_modules()) for layer in network.layers)
    pruned = network.prune(0.3, coupling="coupled", criterion="l1_norm")
    proof = verify(randomised(pruned), num_random=2)  # every map of features is compared
    assert proof.holds, proof.problem
    assert pruned.cost.macs < 0.65 * network.dense_cost.macs
    whole = pruned.whole()
    heads = [n for n, _ in module.named_parameters() if not n.startswith("backbone.")]
    own, others = dict(whole.named_parameters()), dict(module.named_parameters())
    assert heads
    assert all(torch.equal(own[name], others[name]) for name in heads)
    maps = {key: value.shape for key, value in module.backbone(torch.zeros(1, 3, side, side)).items()}
    assert {key: value.shape for key, value in whole.backbone(torch.zeros(1, 3, side, side)).items()} == maps


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_segmenter_is_pruned_up_to_its_answers(name):
    network = Network.from_module(built("segmentation", name), (3, 64, 64), trained=False)
    fixed = {layer for layer, why in network.refusals("coupled").items() if "weigh" not in why}
    assert fixed <= {"classifier.4", "classifier.low_classifier", "classifier.high_classifier"}
    for coupling in COUPLINGS:
        proof = verify(randomised(network.prune(0.3, coupling=coupling, criterion="l1_norm")), num_random=2)
        assert proof.holds, proof.problem


class Headed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        y = self.head(self.body(x))
        return y[y > 0]  # which no graph follows


def test_a_part_of_ones_own():
    module = wrap(Headed(), (3, 8, 8)).module
    network = Network.from_module(module, (3, 8, 8), part="body")
    assert [unit.name for unit in network.units("coupled")] == ["0"]
    pruned = network.prune(0.5, coupling="coupled")
    whole, x = pruned.whole(), torch.randn(2, 3, 8, 8)
    assert whole.body.get_submodule("0").out_channels == 4
    assert module.body[0].out_channels == 8
    assert torch.equal(whole(x), whole.head(pruned.compact()(x))[whole.head(pruned.compact()(x)) > 0])


@pytest.mark.parametrize("part", ["neck", ""])
def test_a_part_that_is_not_there_is_refused(part):
    with pytest.raises(FpgmError, match=r"has no part .*; name one of its modules"):
        Network.from_module(Headed(), (3, 8, 8), part=part)


def test_a_frozen_norm_is_a_norm():
    frozen = import_torchvision("torchvision.ops.misc").FrozenBatchNorm2d
    torch.manual_seed(0)
    norms = [frozen(8), frozen(8)]
    for norm in norms:
        for buffer in norm._buffers.values():
            buffer.uniform_(0.5, 1.5)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), norms[0], nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False), norms[1], nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    network = Network.from_module(module, (3, 8, 8))
    assert [unit.name for unit in network.units("inner")] == ["0", "3"]
    pruned = network.prune(0.5, coupling="inner")
    proof = verify(pruned)
    assert proof.holds, proof.problem
    assert proof.tells
