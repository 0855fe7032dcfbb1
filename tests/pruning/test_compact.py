"""Compact networks: the masked network's answers from tensors as small as what is left of it."""

import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toys import Toy, conv, head

from fpgm_core import COUPLINGS
from fpgm_core.inference import folded_module
from fpgm_core.pruning import counted_macs

NETWORKS = (
    "resnet20", "resnet56", "vgg16_bn_cifar", "resnet18", "resnet50", "resnext50_32x4d", "densenet121", "mobilenet_v2",
    "shufflenet_v2_x1_0",
)  # fmt: skip


def images(network, count=1):
    return torch.randn(count, *network.input_shape, generator=torch.Generator().manual_seed(0))


def distance(first, second):
    return float((first - second).abs().max())


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_compact_aligned_and_folded_equal_masked(network, mixed, name, coupling):
    net = network(name)
    plan, x = mixed(net, coupling), images(net)
    dense, masked, compact = net.module(x), net.prune(plan).masked()(x), net.prune(plan).compact()
    tolerance = 1e-4 * float(dense.abs().max())
    assert distance(masked, dense) > 100 * tolerance
    for form in (compact, net.prune(plan).compact(aligned=True)):
        assert distance(form(x), masked) <= tolerance
        assert distance(folded_module(form, net.flow)(x), masked) <= tolerance


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("criterion", ["fpgm_mix", "random"])
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_equal_at_every_rate(network, rate, criterion, coupling):
    net = network("resnet20")
    plan, x = net.plan(rate, criterion=criterion, coupling=coupling), images(net)
    dense, masked, compact = net.module(x), net.prune(plan).masked()(x), net.prune(plan).compact()
    tolerance = 1e-4 * float(dense.abs().max())
    assert distance(masked, dense) > 100 * tolerance
    assert distance(compact(x), masked) <= tolerance
    assert distance(folded_module(compact, net.flow)(x), masked) <= tolerance


def widths(module):
    return {name: m.out_channels for name, m in module.named_modules() if isinstance(m, nn.Conv2d)}


@pytest.mark.parametrize(("rate", "kept"), [(0.0, (16, 32, 64)), (0.4, (10, 20, 39)), (0.9, (2, 4, 7))])
def test_inner_widths_are_exactly_what_the_rate_keeps(network, rate, kept):
    net = network("resnet20")
    compact = net.prune(net.plan(rate, coupling="inner")).compact()
    for stage, (width, stream) in enumerate(zip(kept, (16, 32, 64), strict=True), start=1):
        for block in range(3):
            first, second = (compact.get_submodule(f"layer{stage}.{block}.conv{i}") for i in (1, 2))
            assert (first.out_channels, second.in_channels, second.out_channels) == (width, width, stream)
            assert first.weight.shape[0] == width == second.weight.shape[1]
            norm = compact.get_submodule(f"layer{stage}.{block}.bn1")
            assert {len(t) for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var)} == {width}
            assert norm.num_features == width
    assert compact.fc.in_features == 64


def test_coupled_narrows_the_stream_itself(network):
    net = network("resnet20")
    plan = net.plan(0.4, coupling="coupled")
    compact = net.prune(plan).compact()
    for name, width in widths(compact).items():
        assert width == {16: 10, 32: 20, 64: 39}[net.module.get_submodule(name).out_channels]
    # A stage's stream also carries what its padded shortcut brings from the stage before.
    assert 39 < compact.fc.in_features == net.cost(plan).layers[-1].live_inputs < 64


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_widths_are_the_live_filters_of_the_cost(network, mixed, coupling):
    net = network("mobilenet_v2")
    plan = mixed(net, coupling)
    expected = {layer.name: layer.kept for layer in net.cost(plan).layers if layer.name != "classifier.1"}
    assert widths(net.prune(plan).compact()) == expected


def test_aligned_writers_share_a_width_and_carry_zeros(network):
    net = network("resnet20")
    plan = net.plan(0.4, criterion="random")
    plain, aligned = net.prune(plan).compact(), net.prune(plan).compact(aligned=True)
    assert widths(plain)["layer1.1.conv2"] == 10
    stream = {widths(aligned)[name] for name in ("conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2")}
    assert len(stream) == 1
    assert stream.pop() > 10
    assert int(aligned.get_submodule("layer1.1.conv2").weight.flatten(1).any(1).sum()) == 10
    buffers = [sum("channels" in name for name in dict(form.named_buffers())) for form in (plain, aligned)]
    assert buffers[0] > buffers[1]  # nothing to place anew


class Normed(nn.LayerNorm):
    """A layer norm over the channels of images."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def a_stream_that_is_normed():
    def forward(net, x):
        x = net.a(x)
        return head(net, net.c(net.n(x)) + x)

    return Toy(forward, a=conv(3, 8), n=Normed(8), c=conv(8, 8), fc=nn.Linear(8, 5))


def a_stream_read_filter_by_filter():
    def forward(net, x):
        x = F.relu(net.a(x))
        return head(net, net.b(net.d(x)) + net.c(x) + x)

    layers = {"a": conv(3, 8), "d": conv(8, 8, groups=8), "b": conv(8, 8), "c": conv(8, 8), "fc": nn.Linear(8, 5)}
    return Toy(forward, **layers)


def a_sum_of_a_depthwise_layer():
    layers = {"a": conv(3, 8), "d": conv(8, 8, groups=8), "c": conv(3, 8), "fc": nn.Linear(8, 5)}
    return Toy(lambda net, x: head(net, net.d(F.relu(net.a(x))) + net.c(x)), **layers)


@pytest.mark.parametrize("coupling", ["independent", "coupled"])
@pytest.mark.parametrize(
    ("make", "whole"),
    [
        (a_stream_that_is_normed, {"a"}),  # its statistics run over what is there, zeros too
        (a_stream_read_filter_by_filter, {"a", "d"}),
        (a_sum_of_a_depthwise_layer, {"a", "d"}),
    ],
)
def test_writers_whose_channels_a_reader_counts_carry_no_zeros(wrap, make, whole, coupling):
    torch.manual_seed(0)
    net = wrap(make())
    pruned, x = net.prune(0.5, coupling=coupling, criterion="random"), images(net, 2)
    plain, aligned = pruned.compact(), pruned.compact(aligned=True)
    dense, masked = net.module(x), pruned.masked()(x)
    assert distance(masked, dense) > 1e-2 * float(dense.abs().max())
    assert distance(aligned(x), masked) <= 1e-4 * float(dense.abs().max())
    assert all(widths(aligned)[name] == widths(plain)[name] for name in whole)
    if coupling == "independent":
        assert widths(aligned)["c"] > widths(plain)["c"]


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize(
    "name", ["resnet20", *(pytest.param(name, marks=pytest.mark.thorough) for name in NETWORKS[1:])]
)
def test_aligned_costs_what_is_counted_and_more_only_where_writers_kept_different_channels(
    network, mixed, name, coupling
):
    net = network(name)
    pruned = net.prune(mixed(net, coupling))
    aligned, cost = pruned.compact(aligned=True), pruned.compact_cost(aligned=True)
    params = sum(parameter.numel() for parameter in aligned.parameters())
    assert (counted_macs(aligned, net.input_shape), params) == (cost.macs, cost.params)
    assert pruned.can_align == (cost.macs > pruned.cost.macs) == (aligned.code != pruned.compact().code)
    assert pruned.compact_cost() == pruned.cost


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2", "shufflenet_v2_x1_0", "mobilenet_v3_small"])
def test_nothing_pruned_equals_dense(network, name, coupling):
    net = network(name)
    compact, x = net.prune(net.plan(coupling=coupling)).compact(), images(net)
    dense = net.module(x)
    assert distance(compact(x), dense) <= 1e-6 * float(dense.abs().max())
    assert compact.state_dict().keys() >= dict(net.module.named_parameters()).keys()
    assert all(torch.equal(p, net.module.get_parameter(n)) for n, p in compact.named_parameters())


def storages(module):
    return {tensor.untyped_storage().data_ptr() for tensor in module.state_dict().values()}


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_a_compact_network_has_storage_of_its_own(network, rate):
    net = network("resnet20")
    plan, x = net.plan(rate), images(net)
    compact, answer = net.prune(plan).compact(), net.module(x)
    assert not storages(compact) & storages(net.module)
    for tensor in compact.state_dict().values():
        tensor.zero_()
    assert torch.equal(net.module(x), answer)
    assert not torch.equal(compact(x), net.prune(plan).compact()(x))


def saved(module):
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    return file.getvalue()


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_its_file_is_smaller_and_reads_back(network, coupling):
    net = network("vgg16_bn_cifar")
    plan, x = net.plan(0.5, coupling=coupling), images(net)
    compact = net.prune(plan).compact()
    assert len(saved(compact)) < 0.3 * len(saved(net.module))  # half the rows of half the columns
    other = net.prune(net.plan(0.5, criterion="random", coupling=coupling)).compact()
    assert not torch.equal(other(x), compact(x))
    other.load_state_dict(torch.load(io.BytesIO(saved(compact)), weights_only=True))
    assert torch.equal(other(x), compact(x))


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_a_training_step_lowers_the_loss(network, coupling):
    net = network("resnet20")
    compact = net.prune(net.plan(0.4, coupling=coupling)).compact().train().requires_grad_(True)
    x, labels = images(net, 8), torch.arange(8)
    optimizer = torch.optim.SGD(compact.parameters(), 0.001)
    losses = []
    for _ in range(2):
        loss = F.cross_entropy(compact(x), labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in compact.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]


def test_two_compact_networks_of_one_plan_are_the_same(network):
    net = network("shufflenet_v2_x1_0")
    plan, x = net.plan(0.3, criterion="random"), images(net)
    first, second = net.prune(plan).compact(), net.prune(plan).compact()
    assert first.code == second.code
    assert first.state_dict().keys() == second.state_dict().keys()
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert torch.equal(first(x), second(x))


def test_the_mode_is_the_originals(network):
    net = network("resnet20")
    compact = net.prune(net.plan(0.4)).compact()
    assert not any(module.training for module in compact.modules())


def test_folding_removes_every_norm_behind_a_convolution(network):
    net = network("resnet20")
    folded = folded_module(net.module, net.flow)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert all(module.bias is not None for module in folded.modules() if isinstance(module, nn.Conv2d))
    x = images(net)
    assert distance(folded(x), net.module(x)) <= 1e-4 * float(net.module(x).abs().max())


def test_folding_leaves_norms_before_convolutions_alone(network):
    folded = folded_module(network("densenet121").module, network("densenet121").flow)
    left = [name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert "features.denseblock1.denselayer1.norm1" in left
    assert "features.norm0" not in left


def test_folding_is_by_hand_what_the_norm_computes(network):
    net = network("resnet20")
    conv, bn = net.module.conv1, net.module.bn1
    folded = folded_module(net.module, net.flow).conv1
    scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
    torch.testing.assert_close(folded.weight.double(), conv.weight.double() * scale[:, None, None, None])
    torch.testing.assert_close(folded.bias.double(), bn.bias.double() - bn.running_mean.double() * scale)
