"""Units: what one slider moves."""

import pytest
from torch import nn

from fpgm_core import FpgmError
from fpgm_core.graph import COUPLINGS, get_coupling, refusals, units

CIFAR_BLOCKS = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(3)]


@pytest.fixture(scope="module")
def flow(network):
    return lambda name: network(name).flow


def test_independent_moves_every_convolution_by_itself(flow):
    found = units(flow("resnet20"), "independent")
    convs = ["conv1", *(f"{block}.conv{i}" for block in CIFAR_BLOCKS for i in (1, 2))]
    assert [unit.members for unit in found] == [(name,) for name in convs]
    assert [unit.size for unit in found] == [16] * 7 + [32] * 6 + [64] * 6


def test_inner_leaves_the_residual_stream_whole(flow):
    found = units(flow("resnet20"), "inner")
    assert [unit.name for unit in found] == [f"{block}.conv1" for block in CIFAR_BLOCKS]
    left = refusals(flow("resnet20"), "inner")
    assert set(left) == {"conv1", *(f"{block}.conv2" for block in CIFAR_BLOCKS)}
    assert all("residual sum" in reason for reason in left.values())


@pytest.mark.parametrize(("name", "independent", "inner"), [("resnet18", 20, 8), ("resnet50", 53, 33)])
def test_counts_of_torchvision_networks(flow, name, independent, inner):
    # resnet18: 8 blocks of 2, stem, 3 shortcuts; resnet50: 16 blocks of 3, stem, 4 shortcuts. inner: all but the last
    # convolution of a block, minus what shares its stream; resnet50's stem feeds a shortcut only, so it is free.
    assert len(units(flow(name), "independent")) == independent
    assert len(units(flow(name), "inner")) == inner


def test_inner_ties_a_depthwise_convolution_with_its_expansion(flow):
    found = {unit.name: unit for unit in units(flow("mobilenet_v2"), "inner")}
    assert found["features.2.conv.0.0"].members == ("features.2.conv.0.0", "features.2.conv.1.0")
    assert found["features.0.0"].members == ("features.0.0", "features.1.conv.0.0")
    tied = [unit for unit in found.values() if len(unit.members) == 2]
    assert len(tied) == 17  # every depthwise convolution of the network
    assert all(len(unit.members) == 1 for unit in units(flow("mobilenet_v2"), "independent"))


def test_coupled_moves_a_stages_stream_as_one(flow):
    found = {unit.name: unit.members for unit in units(flow("resnet20"), "coupled")}
    assert len(found) == 9 + 3  # the first convolution of each block, and a stream for each stage
    second = {stage: tuple(f"layer{stage}.{block}.conv2" for block in range(3)) for stage in (1, 2, 3)}
    assert found["conv1"] == ("conv1", *second[1])
    assert found["layer2.0.conv2"] == second[2]
    assert found["layer3.0.conv2"] == second[3]


def test_coupled_moves_streams_and_depthwise_partners(flow):
    found = {unit.name: unit.members for unit in units(flow("mobilenet_v2"), "coupled")}
    assert found["features.2.conv.2"] == ("features.2.conv.2", "features.3.conv.2")
    assert found["features.2.conv.0.0"] == ("features.2.conv.0.0", "features.2.conv.1.0")


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_a_grouped_convolution_and_its_writer_are_balanced(flow, coupling):
    found = {unit.name: unit for unit in units(flow("resnext50_32x4d"), coupling)}
    blocks = {name: found[name].blocks for name in ("layer1.0.conv1", "layer1.0.conv2", "conv1")}
    assert blocks == {"layer1.0.conv1": 32, "layer1.0.conv2": 32, "conv1": 1}
    assert sum(unit.blocks == 32 for unit in found.values()) == 2 * 16  # in every block
    assert all(unit.size % unit.blocks == 0 for unit in found.values())


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_squeeze_and_excite_is_followed(flow, coupling):
    moved = {member for unit in units(flow("mobilenet_v3_small"), coupling) for member in unit.members}
    left = refusals(flow("mobilenet_v3_small"), coupling)
    assert {"features.4.block.1.0", "features.4.block.2.fc1"} <= moved  # what is weighed, and the squeeze
    weighs = [name for name in left if name.endswith("fc2")]
    assert len(weighs) == 9
    assert left["features.4.block.2.fc2"] == (
        "its filters weigh the channels of features.4.block.1.0 one by one and leave with them"
    )


def test_convnext_keeps_its_streams_in_inner_alone(flow):
    """Its layer norms run over what is left; the streams, which sums fix, are one unit a stage in `coupled`."""
    found, left = units(flow("convnext_tiny"), "inner"), refusals(flow("convnext_tiny"), "inner")
    assert [unit.name.endswith("block.3") for unit in found] == [True] * 18
    assert [unit.size for unit in found] == [384] * 3 + [768] * 3 + [1536] * 9 + [3072] * 3
    assert "its channels meet others in a residual sum" in left["features.0.0"]
    coupled = units(flow("convnext_tiny"), "coupled")
    assert [unit.size for unit in coupled if len(unit.members) > 1] == [96, 192, 384, 768]
    assert not refusals(flow("convnext_tiny"), "coupled")
    assert not refusals(flow("convnext_tiny"), "independent")


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_what_moves_with_a_refused_layer_is_refused_too(wrap, coupling):
    layers = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.LocalResponseNorm(2), nn.Conv2d(8, 5, 1)
    left = wrap(nn.Sequential(*layers)).refusals(coupling)
    assert "LocalResponseNorm" in left["1"]
    assert left["0"] == f"it feeds 1, which is fixed: {left['1']}"


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize(
    "name", ["resnet20", "mobilenet_v2", "densenet121", "mobilenet_v3_small", "shufflenet_v2_x0_5"]
)
def test_every_convolution_is_moved_once_or_refused_with_a_reason(flow, name, coupling):
    found, left = units(flow(name), coupling), refusals(flow(name), coupling)
    moved = [member for unit in found for member in unit.members]
    assert sorted([*moved, *left]) == sorted(site.name for site in flow(name).convs)
    assert all(left.values())
    order = [site.name for site in flow(name).convs]
    assert [unit.name for unit in found] == sorted((unit.name for unit in found), key=order.index)
    assert all(unit.name == min(unit.members, key=order.index) for unit in found)


def test_unknown_coupling_names_the_known_ones(flow):
    with pytest.raises(FpgmError, match="independent, inner, coupled"):
        units(flow("resnet20"), "outer")
    assert get_coupling("inner") is COUPLINGS["inner"]


def test_units_are_frozen(flow):
    unit = units(flow("resnet20"), "inner")[0]
    with pytest.raises(AttributeError):
        unit.size = 1
