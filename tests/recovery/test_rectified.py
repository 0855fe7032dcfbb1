"""Layers that meet a rectifier: fitted to what it lets through, and nearer to that than least squares."""

import numpy as np
import pytest
import torch
from test_refit import ALL, images, kept, network
from torch import nn
from torch.nn import functional as F
from toys import Toy, conv, head

from fpgm_core.recovery import rectified, refit_work
from fpgm_core.recovery.drift import sum_behind
from fpgm_core.recovery.rectified import Fit, Rectifier, Samples, System, rectifier_behind
from fpgm_core.runtime.progress import run

KEEP = np.array([True, False, True, True, False, True, False, True])


def alive(norm):
    """A norm that does something."""
    norm.running_mean.normal_(0, 0.3)
    norm.running_var.uniform_(0.05, 0.2)
    norm.weight.data.uniform_(-1.5, 1.5)
    norm.bias.data.normal_(0, 0.5)


def made(name):
    """A network in which a refitted layer meets a rectifier, and where its value comes out."""
    torch.manual_seed(2)
    layers = {"one": conv(3, 8), "two": conv(8, 8, bias=False), "bn": nn.BatchNorm2d(8), "fc": nn.Linear(8, 5)}

    def forward(net, x):
        stream = F.relu(net.one(x))
        branch = net.bn(net.two(stream))
        if name == "sum":
            return head(net, F.relu(branch + stream))
        return head(net, F.relu6(branch) if name == "relu6" else F.relu(branch))

    net = network(Toy(forward, **layers))
    alive(net.module.bn)
    return net


def behind_the_rectifier(net, name, tensors=None):
    pruned = kept(net, {"one": KEEP}, tensors)
    module = net.module if tensors is None else pruned.masked()
    seen = []
    with torch.no_grad():
        handle = module.get_submodule("fc").register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
        module(images().normalised(0, 40))
        handle.remove()
    return seen[0]


@pytest.mark.parametrize("name", ["relu", "relu6", "sum"])
def test_what_comes_through_is_nearer_than_by_least_squares(name, monkeypatch):
    net, errors = made(name), list[float]()
    for rounds in (0, rectified.ROUNDS):
        monkeypatch.setattr(rectified, "ROUNDS", rounds)
        tensors = run(refit_work(kept(net, {"one": KEEP}), images(), config=ALL))
        tensors = {one: tensor for one, tensor in tensors.items() if not one.startswith("fc")}
        apart = behind_the_rectifier(net, name, tensors) - behind_the_rectifier(net, name)
        errors.append(float(apart.square().mean()))
    assert errors[1] < 0.9 * errors[0]


def test_what_is_not_let_through_is_free():
    """One output that only ever meets the closed side: it stays below, and what it is there does not matter."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 200, 4, generator=generator)
    true = torch.tensor([[[1.0, -2.0, 0.5, 0.0]]])
    y = x @ true.transpose(1, 2)
    y = torch.where(y > 0, y, 5 * y)  # what nobody sees is far from any fit
    gram = (x - x.mean(1, keepdim=True)).double()
    factor = torch.linalg.cholesky(gram.transpose(1, 2) @ gram / 200)
    system = System(factor, torch.zeros(1, 1, 4, dtype=torch.float64), x.double().mean(1))
    yx = (y - y.mean(1, keepdim=True)).double().transpose(1, 2) @ gram / 200
    first = system.solve(yx, y.double().mean(1))
    fit = Rectifier(None, 0.0, float("inf")).fitted(nn.Module(), torch.arange(1), system, [Samples(x, y)], first)

    def seen(one: Fit):
        return (x.double() @ one.weight.transpose(1, 2) + one.offset).clamp_min(0)

    wanted = y.double().clamp_min(0)
    assert (seen(fit) - wanted).square().mean() < 0.5 * (seen(first) - wanted).square().mean()


def test_what_a_layer_meets_is_found():
    for name, limits in (("relu", (0, float("inf"))), ("relu6", (0, 6)), ("sum", (0, float("inf")))):
        net = made(name)
        node = next(one for one in net.flow.graph.graph.nodes if one.target == "two")
        onto = sum_behind(net.module, net.flow, node, [])
        assert (onto is not None) == (name == "sum")
        found = rectifier_behind(net.module, node, onto)
        assert (found.norm, found.low, found.high) == ("bn", *limits)
    last = next(one for one in net.flow.graph.graph.nodes if one.target == "fc")
    assert rectifier_behind(net.module, last, None) is None
