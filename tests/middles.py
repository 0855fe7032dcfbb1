"""The middles of small networks, as people write them: what tests of the graph prune, by name or by the dozen."""

from dataclasses import dataclass, field

import torch
from networks import wrap
from torch import nn
from torch.nn import functional as F
from toys import Toy, conv

SHAPE = (3, 8, 8)


@dataclass
class Case:
    """`middle(net, y)`, the layers that it uses beside the outer ones, and those that `coupled` leaves whole."""

    middle: object
    layers: dict = field(default_factory=dict)
    refused: set = field(default_factory=set)


def network_of(case):
    torch.manual_seed(1)
    for part in (part for layer in case.layers.values() for part in layer.modules()):
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()  # drawn with this seed, not whenever the case was written down
    outer = {"a": conv(3, 8), "b": nn.LazyConv2d(8, 3, padding=1), "fc": nn.Linear(8, 5)}
    net = Toy(lambda net, x: net.fc(F.relu(net.b(case.middle(net, net.a(x)))).mean((2, 3))), **outer, **case.layers)
    net(torch.zeros(2, *SHAPE))  # makes the lazy one an ordinary one
    return wrap(net, SHAPE)


def images():
    return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
