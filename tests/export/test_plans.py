"""Plans in other tools' forms: the table by hand, and the other two read back by the tools they are for."""

import copy
import csv
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from fpgm_core import FpgmError, Network, Plan, SelectionOptions
from fpgm_core.export import plan_csv, torch_ao_config, torch_pruning_ratios
from fpgm_core.export.plans import as_json
from fpgm_core.graph import Unit


def uneven(network, coupling, **fields):
    """Another rate for every unit, and for every tenth none."""
    rates = {unit.name: (i * 7 % 10) / 11 for i, unit in enumerate(network.units(coupling))}
    return network.plan(rates, coupling=coupling, **fields)


def kept(network, plan):
    """Filters kept, by layer; layers that the plan does not move keep all."""
    masks = network.keep_masks(plan)
    return {layer.name: int(masks[layer.name].sum()) if layer.name in masks else layer.filters
            for layer in network.layers}  # fmt: skip


def rows(network, plan):
    return list(csv.reader(io.StringIO(plan_csv(network, plan))))


def test_the_table_by_hand(resnet20):
    plan = resnet20.plan({"conv1": 0.2, "layer2.1.conv1": 0.05}, locked_out={"conv1": (11, 2, 5)})
    header, *lines = rows(resnet20, plan)
    assert header == ["unit", "layer", "rate", "filters", "pruned", "kept", "pruned_filters"]
    assert lines[0] == ["conv1", "conv1", "0.2", "16", "3", "13", "2 5 11"]
    assert lines[1] == ["layer1.0.conv1", "layer1.0.conv1", "0.0", "16", "0", "16", ""]
    assert [line[1] for line in lines] == [layer.name for layer in resnet20.layers]
    (moved,) = [line for line in lines if line[0] == "layer2.1.conv1"]
    assert moved[2:6] == ["0.05", "32", "1", "31"]


def test_the_table_names_the_layers_that_move_together(resnet20):
    plan = resnet20.plan({"conv1": 0.2}, coupling="coupled", locked_out={"conv1": (11, 2, 5)})
    together = [line for line in rows(resnet20, plan)[1:] if line[0] == "conv1"]
    assert [line[1] for line in together] == ["conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2"]
    assert {tuple(line[2:]) for line in together} == {("0.2", "16", "3", "13", "2 5 11")}


def test_the_table_says_the_rounded_counts(resnet20):
    plan = resnet20.plan(0.4, options=SelectionOptions(round_to=8))
    assert {(line[3], line[4], line[5]) for line in rows(resnet20, plan)[1:]} == {
        ("16", "0", "16"), ("32", "8", "24"), ("64", "24", "40"),
    }  # fmt: skip


def test_a_table_of_a_plan_for_other_weights_is_refused(resnet20):
    with pytest.raises(FpgmError, match="other weights"):
        plan_csv(resnet20, Plan("resnet20", "0" * 64))


def stub(sizes_and_counts):
    """What `torch_pruning_ratios` reads of a network: units of given sizes, pruned by given counts."""
    units = {Unit(f"{n}/{count}", (f"{n}/{count}",), n): count for n, count in sizes_and_counts}
    return SimpleNamespace(
        check=lambda plan: None, units=lambda coupling: tuple(units), count_pruned=lambda plan, unit: units[unit]
    )


@given(n=st.integers(1, 2048))
@example(n=24)
@example(n=2048)
@example(n=1536)
def test_torch_prunings_rounding_gives_every_count_back(n):
    ratios = torch_pruning_ratios(stub((n, count) for count in range(n)), Plan("m", "f", coupling="inner"))
    assert len(ratios) == n
    for name, ratio in ratios.items():
        count = int(name.partition("/")[2])
        assert 0 <= ratio < 1
        assert n - int(n * (1 - ratio)) == count, name


def test_the_plain_share_would_prune_one_too_many():
    assert 24 - int(24 * (1 - 10 / 24)) == 11  # why half a filter is taken off: 10 were asked
    assert torch_pruning_ratios(stub([(24, 10)]), Plan("m", "f", coupling="inner")) == {"24/10": 9.5 / 24}


@pytest.mark.parametrize(
    ("name", "coupling"),
    [
        ("resnet18", "coupled"),
        ("resnet18", "inner"),
        ("vgg16_bn_cifar", "coupled"),
        ("vgg16_bn_cifar", "inner"),
        ("resnext50_32x4d", "coupled"),  # groups of equal size
        ("mobilenet_v2", "inner"),  # depthwise layers follow
    ],
)
def test_torch_pruning_prunes_as_many_filters_of_every_layer(name, coupling):
    tp = pytest.importorskip("torch_pruning")
    network = Network.load(name)
    plan = uneven(network, coupling)
    ratios = json.loads(as_json(torch_pruning_ratios(network, plan)))
    model = copy.deepcopy(network.module).requires_grad_(True)
    images = torch.zeros(1, *network.input_shape)
    pruner = tp.pruner.BasePruner(
        model,
        images,
        importance=tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.0,
        pruning_ratio_dict={model.get_submodule(layer): ratio for layer, ratio in ratios.items()},
    )
    pruner.step()
    left = {layer: m.out_channels for layer, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    assert left == kept(network, plan)
    assert left != kept(network, network.plan(coupling=coupling))
    assert model(images).shape == (1, network.num_classes)


def test_torch_pruning_cannot_follow_an_independent_plan(resnet20):
    with pytest.raises(FpgmError, match=r"moves layers that share channels together.* choose coupling"):
        torch_pruning_ratios(resnet20, resnet20.plan(0.4))


def read_by_torch_ao(network, plan):
    """The filters torch.ao's FPGMPruner keeps, by layer that it prunes at all."""
    from torch.ao.pruning._experimental.pruner.FPGM_pruner import FPGMPruner

    model = copy.deepcopy(network.module).requires_grad_(True)
    pruner = FPGMPruner()
    pruner.prepare(model, json.loads(as_json(torch_ao_config(network, plan))))
    pruner.enable_mask_update = True
    pruner.step()
    layers = ((layer.name, model.get_submodule(layer.name)) for layer in network.layers)
    return {name: m.parametrizations.weight[0].mask.numpy() for name, m in layers if hasattr(m, "parametrizations")}


@pytest.mark.parametrize("criterion", ["fpgm", "l2_norm"])
@pytest.mark.parametrize("coupling", ["independent", "inner", "coupled"])
def test_torch_ao_prunes_as_many_filters_of_every_layer(resnet20, coupling, criterion):
    plan = uneven(resnet20, coupling, criterion=criterion)
    found = read_by_torch_ao(resnet20, plan)
    masks = {layer: mask for layer, mask in resnet20.keep_masks(plan).items() if not mask.all()}
    assert {layer: mask.sum() for layer, mask in found.items()} == {layer: mask.sum() for layer, mask in masks.items()}
    if (coupling, criterion) == ("independent", "fpgm"):
        assert all(np.array_equal(found[layer], masks[layer]) for layer in masks)


def test_torch_ao_needs_no_line_for_what_stays_whole(resnet20):
    assert torch_ao_config(resnet20, resnet20.plan()) == []
    (line,) = torch_ao_config(resnet20, resnet20.plan({"layer1.1.conv2": 0.4}))
    assert line == {"tensor_fqn": "layer1.1.conv2.weight", "sparsity_level": 6 / 16}
