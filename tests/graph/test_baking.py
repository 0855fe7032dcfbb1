"""Weights that hooks or parametrisations make are ordinary parameters in a Network; the given module stays."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from toys import run_cost

from fpgm_core import Network
from fpgm_core.pruning import verify

SHAPE = (3, 8, 8)


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


MAKERS = {
    "weight_norm": nn.utils.weight_norm,
    "spectral_norm": nn.utils.spectral_norm,
    "structured masks": lambda layer: prune.ln_structured(layer, "weight", 0.5, 2, 0),
    "masks of weight and bias": lambda layer: [prune.l1_unstructured(layer, name, 0.5) for name in ("weight", "bias")],
    "parametrised weight_norm": parametrizations.weight_norm,
    "parametrised spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "a parametrisation of one's own": lambda layer: nn.utils.parametrize.register_parametrization(
        layer, "weight", Doubled()
    ),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("maker", MAKERS)
def test_what_makes_a_weight_is_baked_in(maker):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1)
    module, x = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 5)).eval(), torch.randn(3, *SHAPE)
    MAKERS[maker](module[2])
    with torch.no_grad():
        answer, names = module(x), set(module.state_dict())
        network = Network.from_module(module, SHAPE)
        torch.testing.assert_close(network.module(x), answer)
        assert torch.equal(module(x), answer)  # and what was given is what it was
    assert set(module.state_dict()) == names
    assert {f"2.{kind}" for kind in ("weight", "bias")} == {n for n in network.module.state_dict() if n[0] == "2"}
    assert [unit.name for unit in network.units("independent")] == ["0", "2", "4"]
    assert network.dense_cost.macs == run_cost(network.module, SHAPE)[0]
    proof = verify(network.prune(0.5))
    assert proof.holds, proof.problem


def test_hooks_of_ones_own_are_refused_where_they_are():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    module[2].register_forward_hook(lambda layer, inputs, output: output + 1)
    network = Network.from_module(nn.Sequential(module, nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(32, 5)), SHAPE)
    refusals = network.refusals("coupled")
    assert set(refusals) == {"0.0"}
    assert refusals["0.0"] == "its channels enter 0.2 (Conv2d), whose hooks removal does not follow"
