"""The forms of a sum whose streams kept different channels: all compute the same, and each is another form."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fpgm_core.pruning import randomised
from fpgm_core.runtime.progress import run
from fpgm_core.timing import Target, TimingConfig
from fpgm_core.timing.placing import PLACINGS, placings, placings_work


@pytest.fixture(scope="module")
def forms(resnet20):
    """Of ResNet-20 under an independent plan, with norms and biases drawn anew."""
    return placings(randomised(resnet20.prune(0.4)))


def calls(module):
    return Counter(node.target for node in module.graph.nodes if node.op == "call_function")


def test_they_compute_the_same(forms, resnet20):
    images = torch.randn(3, *resnet20.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answers = {name: module(images) for name, module in forms.items()}
    assert set(answers) == set(PLACINGS)
    scale = answers["gathered"].abs().max()
    for name, answer in answers.items():
        assert (answer - answers["gathered"]).abs().max() <= 1e-4 * scale, name


def test_each_places_in_its_own_way(forms):
    plain = calls(forms["gathered"])
    assert plain[torch.index_select] > 5
    assert calls(forms["scattered"])[torch.index_add] > 5
    assert calls(forms["zero_written"])[torch.index_select] == plain[torch.index_select]
    assert calls(forms["zero_written"])[F.pad] < plain[F.pad]
    assert calls(forms["carried"])[torch.index_select] < plain[torch.index_select]
    widths = {
        name: {key: one.out_channels for key, one in module.named_modules() if isinstance(one, nn.Conv2d)}
        for name, module in forms.items()
    }
    more = {name: [found[key] - widths["gathered"][key] for key in found] for name, found in widths.items()}
    assert set(more["zero_written"]) == {0, 1}
    assert set(more["scattered"]) == {0}
    assert min(more["carried"]) == 0 < 1 < max(more["carried"])


def test_they_take_turns_with_the_dense_network(resnet20):
    work = placings_work(resnet20.prune(0.4), target=Target(threads=1), config=TimingConfig(runs=6, seconds=0.01))
    assert set(run(work).seconds) == {*PLACINGS, "dense"}
