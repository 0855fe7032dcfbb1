"""Units: what one slider moves."""

import pytest

from fpgm_core import FpgmError
from fpgm_core.pruning import COUPLINGS, get_coupling, refusals, units

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


def test_inner_keeps_equal_groups(flow):
    left = refusals(flow("resnext50_32x4d"), "inner")
    assert "groups must stay of equal size" in left["layer1.0.conv1"]
    assert "groups must stay of equal size" in left["layer1.0.conv2"]


def test_inner_refuses_a_depthwise_partner_of_something_fixed(flow):
    left = refusals(flow("mobilenet_v3_small"), "inner")  # depthwise convolutions feed squeeze-and-excite: fixed
    moved = {name: reason for name, reason in left.items() if reason.startswith("it moves with")}
    assert moved
    assert all(reason.split()[3].rstrip(",") in left for reason in moved.values())


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2", "densenet121", "mobilenet_v3_small"])
def test_every_convolution_is_moved_once_or_refused_with_a_reason(flow, name, coupling):
    found, left = units(flow(name), coupling), refusals(flow(name), coupling)
    moved = [member for unit in found for member in unit.members]
    assert sorted([*moved, *left]) == sorted(site.name for site in flow(name).convs)
    assert all(left.values())
    order = [site.name for site in flow(name).convs]
    assert [unit.name for unit in found] == sorted((unit.name for unit in found), key=order.index)
    assert all(unit.name == min(unit.members, key=order.index) for unit in found)


def test_unknown_coupling_names_the_known_ones(flow):
    with pytest.raises(FpgmError, match="independent, inner"):
        units(flow("resnet20"), "outer")
    assert get_coupling("inner") is COUPLINGS["inner"]


def test_units_are_frozen(flow):
    unit = units(flow("resnet20"), "inner")[0]
    with pytest.raises(AttributeError):
        unit.size = 1
