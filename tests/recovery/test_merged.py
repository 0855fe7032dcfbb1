"""Merging without images: twins by a double loop, and networks in which nothing is lost."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toys import Toy, conv, head

from fpgm_core import Network
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.recovery import merged_tensors, recover, twins

SHAPE = (3, 8, 8)


def test_twins_by_hand():
    rng = np.random.RandomState(0)
    filters, biases = rng.normal(size=(9, 2, 3, 3)), rng.normal(size=9)
    keep = np.array([1, 1, 0, 1, 0, 1, 0, 1, 1], dtype=bool)
    found = twins(torch.from_numpy(filters), torch.from_numpy(biases), keep)
    for j in range(9):
        if keep[j]:
            assert (found.twin[j], found.scale[j]) == (-1, 0)
            continue
        size = {i: np.linalg.norm(filters[j]) / np.linalg.norm(filters[i]) for i in np.flatnonzero(keep)}
        worst = max(abs(biases[j] - size[i] * biases[i]) for i in size)
        distances = {}
        for i in size:
            cosine = (filters[j] * filters[i]).sum() / np.linalg.norm(filters[j]) / np.linalg.norm(filters[i])
            if cosine > 0:
                distances[i] = 0.85 * (1 - cosine) + 0.15 * abs(biases[j] - size[i] * biases[i]) / worst
        best = min(distances, key=distances.get)
        assert found.twin[j] == best
        assert found.scale[j] == pytest.approx(size[best])


def test_no_twin_points_the_other_way_or_is_zero():
    filters = torch.tensor([[1.0, 0], [-2.0, 0], [0.0, 0.0]])
    found = twins(filters, torch.zeros(3), np.array([False, True, True]))
    assert found.twin.tolist() == [-1, -1, -1]
    found = twins(torch.tensor([[1.0, 0], [0.0, 3.0]]), torch.zeros(2), np.array([False, True]))
    assert found.twin.tolist() == [-1, -1]  # nor one at right angles


def network(norm):
    torch.manual_seed(3)
    one, bn = conv(3, 6, bias=not norm), nn.BatchNorm2d(6) if norm else nn.Identity()
    with torch.no_grad():
        one.weight[4] = 2.5 * one.weight[1]
        if norm:
            for tensor in (bn.weight, bn.running_var):
                tensor.uniform_(0.5, 2)
            bn.bias.normal_()
            bn.running_mean.normal_()
            # The folded filter 4 is 2.5 a times filter 1, and so is its bias.
            a = (bn.weight[4] / (bn.running_var[4] + bn.eps).sqrt()) / (
                bn.weight[1] / (bn.running_var[1] + bn.eps).sqrt()
            )
            shift = bn.bias[1] - bn.running_mean[1] * bn.weight[1] / (bn.running_var[1] + bn.eps).sqrt()
            own = bn.running_mean[4] * bn.weight[4] / (bn.running_var[4] + bn.eps).sqrt()
            bn.bias[4] = 2.5 * a * shift + own
        else:
            one.bias[4] = 2.5 * one.bias[1]
    layers = {"one": one, "bn": bn, "two": conv(6, 4), "fc": nn.Linear(4, 5)}
    net = Toy(lambda net, x: head(net, net.two(F.max_pool2d(F.relu(net.bn(net.one(x))), 2))), **layers)
    return Network.from_module(net, SHAPE)


@pytest.mark.parametrize("norm", [False, True])
def test_a_scaled_twin_loses_nothing(norm):
    net = network(norm)
    merged = recover(PrunedNetwork(net, net.plan(), {"one": np.arange(6) != 4}), "merged")
    x = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(merged.masked()(x), net.module(x), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(merged.compact()(x), merged.masked()(x), rtol=1e-4, atol=1e-5)
    assert set(merged.tensors) == {"two.weight"}
    assert (merged.method, merged.recovered_on) == ("merged", 0)


def test_the_first_filter_stands_in_too():
    net = network(norm=False)
    with torch.no_grad():
        net.module.one.weight[4], net.module.one.bias[4] = 2 * net.module.one.weight[0], 2 * net.module.one.bias[0]
    merged = recover(PrunedNetwork(net, net.plan(), {"one": np.arange(6) != 4}), "merged")
    old = net.module.two.weight
    torch.testing.assert_close(merged.tensors["two.weight"][:, 0], old[:, 0] + 2 * old[:, 4])


def test_writers_of_a_sum_are_left_alone(resnet20):
    names = set(merged_tensors(resnet20.prune(0.4, coupling="independent")))
    alone = {
        "layer1.0.conv1.weight",
        "layer2.1.conv1.weight",
        "layer3.1.conv1.weight",
    }
    assert names == alone | {f"layer{s}.{b}.conv2.weight" for s in (1, 2, 3) for b in range(3)}


def test_nothing_pruned_is_nothing_merged(resnet20):
    assert merged_tensors(resnet20.prune()) == {}
