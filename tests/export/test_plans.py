"""Plans in other tools' forms: the table by hand, and the other two read back by the tools they are for."""

import copy
import csv
import io
import json

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from networks import load
from torch import nn

from fpgm_core import FpgmError, Plan, SelectionOptions
from fpgm_core.export import ARTEFACTS, ExportConfig, export, plan_csv, torch_ao_config, torch_pruning_ratios
from fpgm_core.export.plans import as_json
from fpgm_core.export.torch_pruning import ratios_of
from fpgm_core.graph import Unit
from fpgm_core.runtime.torchvision_import import import_torchvision


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


def counts_of(sizes_and_counts):
    """Units of given sizes, pruned by given counts."""
    return {Unit(f"{n}/{count}", (f"{n}/{count}",), n): count for n, count in sizes_and_counts}


@given(n=st.integers(1, 2048))
@example(n=24)
@example(n=2048)
@example(n=1536)
def test_torch_prunings_rounding_gives_every_count_back(n):
    ratios = ratios_of(counts_of((n, count) for count in range(n)))
    assert len(ratios) == n
    for name, ratio in ratios.items():
        count = int(name.partition("/")[2])
        assert 0 <= ratio < 1
        assert n - int(n * (1 - ratio)) == count, name


def test_the_plain_share_would_prune_one_too_many():
    assert 24 - int(24 * (1 - 10 / 24)) == 11  # why half a filter is taken off: 10 were asked
    assert ratios_of(counts_of([(24, 10)])) == {"24/10": 9.5 / 24}


def read_by_torch_pruning(network, ratios):
    """The filters that Torch-Pruning keeps, by layer, reading the file as it is written."""
    import_torchvision("torchvision.models")
    tp = pytest.importorskip("torch_pruning")
    model = copy.deepcopy(network.module).requires_grad_(True)
    images = torch.zeros(1, *network.input_shape)
    tp.pruner.BasePruner(
        model,
        images,
        importance=tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.0,
        pruning_ratio_dict={model.get_submodule(layer): ratio for layer, ratio in json.loads(as_json(ratios)).items()},
    ).step()
    assert model(images).shape == (1, network.num_classes)
    return {name: m.out_channels for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}


READ_ALIKE = [
    ("resnet18", "coupled"),
    ("resnet18", "inner"),
    ("vgg16_bn_cifar", "coupled"),
    ("vgg16_bn_cifar", "inner"),
    ("resnext50_32x4d", "coupled"),  # groups of equal size
    ("mobilenet_v2", "inner"),  # depthwise layers follow
    ("mobilenet_v3_small", "coupled"),  # squeeze-and-excite
    ("squeezenet1_1", "coupled"),  # concatenation
    ("googlenet", "coupled"),
    ("densenet121", "coupled"),
    ("regnet_y_400mf", "coupled"),
    ("efficientnet_b0", "inner"),
    ("mnasnet0_5", "coupled"),
]


@pytest.mark.parametrize(("name", "coupling"), READ_ALIKE)
def test_torch_pruning_prunes_as_many_filters_of_every_layer(name, coupling):
    network = load(name)
    plan = uneven(network, coupling)
    ratios = torch_pruning_ratios(network, plan)
    left = read_by_torch_pruning(network, ratios)
    moved = kept(network, plan)
    assert {layer: left[layer] for layer in network.keep_masks(plan)} == {
        layer: moved[layer] for layer in network.keep_masks(plan)
    }
    assert left != kept(network, network.plan(coupling=coupling))
    assert torch_pruning_ratios(network, plan, tried=False) == ratios  # decided by the graph alone


@pytest.mark.parametrize(
    ("name", "coupling", "why"),
    [
        ("resnet20", "coupled", "channels of zeros are added"),  # option A's shortcuts
        ("shufflenet_v2_x0_5", "coupled", "split, chosen or put in another order"),
        ("shufflenet_v2_x0_5", "inner", "split, chosen or put in another order"),
    ],
)
def test_what_torch_pruning_prunes_otherwise_is_not_written(name, coupling, why):
    pytest.importorskip("torch_pruning")
    network = load(name)
    plan = uneven(network, coupling)
    with pytest.raises(FpgmError, match=r"Torch-Pruning (would keep|cannot prune)"):
        torch_pruning_ratios(network, plan)
    with pytest.raises(FpgmError, match=why):
        torch_pruning_ratios(network, plan, tried=False)
    files = export(network.prune(plan), measured=False, config=ExportConfig(artefacts=(ARTEFACTS["torch_pruning"],)))
    assert "torch_pruning.json" not in files.files


def test_what_the_graph_cannot_tell_is_written_where_trying_shows_it():
    """Inner plans leave option A's streams alone: Torch-Pruning prunes the same counts, which only trying tells."""
    pytest.importorskip("torch_pruning")
    network = load("resnet20")
    plan = uneven(network, "inner")
    left = read_by_torch_pruning(network, torch_pruning_ratios(network, plan))
    assert left == kept(network, plan)
    with pytest.raises(FpgmError, match="pip install torch-pruning"):
        torch_pruning_ratios(network, plan, tried=False)


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
