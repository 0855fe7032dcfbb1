"""Top-5 beside top-1: counted as by sorting, in both precisions."""

import numpy as np
import pytest
import torch
from torch import nn

from fpgm_core import EvaluationConfig, FpgmError, ImageSet, Network, evaluate
from fpgm_core.data import load_images
from fpgm_core.inference import TOP
from fpgm_core.inference.classifier import ranks_in


def test_ranks_are_the_places_in_a_stable_sort():
    rng = np.random.RandomState(0)
    logits = torch.tensor(rng.randint(0, 6, (200, 12)), dtype=torch.float32)  # many ties
    labels = torch.tensor(rng.randint(0, 12, 200))
    order = logits.sort(dim=1, descending=True, stable=True).indices
    places = (order == labels[:, None]).int().argmax(1)
    assert ranks_in(logits, labels).tolist() == places.clamp(max=TOP).tolist()
    assert ((ranks_in(logits, labels) == 0) == (logits.argmax(1) == labels)).all()
    few, classes = logits[:, :10], labels.clamp(max=9)
    assert set(ranks_in(few, classes).tolist()) == {0, TOP}
    assert ((ranks_in(few, classes) == 0) == (few.argmax(1) == classes)).all()


@pytest.mark.parametrize("where", ["own", "other", "all"])
def test_what_is_no_number_is_wrong(where):
    logits = torch.zeros(1, 12)
    logits[0, 3] = 1
    logits[0, {"own": 3, "other": 5, "all": slice(None)}[where]] = torch.nan
    assert ranks_in(logits, torch.tensor([3])).item() > 0


class ManyClasses(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 16, 3, 2), nn.Conv2d(16, 16, 3, 2), nn.Linear(16, classes)

    def forward(self, x):
        return self.fc(torch.relu(self.b(torch.relu(self.a(x)))).mean((2, 3)))


@pytest.fixture(scope="module")
def images():
    photographs = load_images("cifar10", "choose").first(300)
    labels = np.random.RandomState(1).randint(0, 40, 300)
    return ImageSet.from_arrays(photographs.pixels, labels, mean=photographs.mean, std=photographs.std)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_top5_is_what_topk_says(images, precision):
    torch.manual_seed(0)
    network = Network.from_module(ManyClasses(40), (3, 32, 32))
    pruned = network.prune(0.4, coupling="coupled")
    found = evaluate(pruned, images, EvaluationConfig(device="cpu", precision=precision))
    x = images.normalised(0, 300)
    with torch.no_grad():
        for module, counted, first in (
            (pruned.masked(), found.num_correct_top5, found.num_correct),
            (network.module, found.num_dense_correct_top5, found.num_dense_correct),
        ):
            logits = module(x)
            assert counted == int((logits.topk(5).indices == images.labels[:, None]).any(1).sum())
            assert first == int((logits.argmax(1) == images.labels).sum())
    assert found.top5.value == found.num_correct_top5 / 300
    assert found.top5.low < found.top5.value < found.top5.high
    assert 0 < found.dense_top5.value < 1


def test_ten_classes_have_no_top5(images, resnet20):
    found = evaluate(resnet20.prune(0.2), load_images("cifar10", "choose").first(20))
    assert (found.top5, found.dense_top5, found.num_correct_top5) == (None, None, None)
    with pytest.raises(FpgmError, match="labels up to 39"):
        evaluate(resnet20.prune(0.2), images)
