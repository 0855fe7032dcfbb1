"""MACs and parameters against golden numbers, two public counters, and what autograd says is alive."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from toys import Toy, conv, head, run_cost

from fpgm_core import COUPLINGS, FpgmError, Network
from fpgm_core.graph import closed_form_cut, count_cost, trace_flow
from fpgm_core.runtime.torchvision_import import import_torchvision

CONV_MACS = {"resnet20": 40_550_400, "resnet32": 68_861_952, "resnet56": 125_485_056, "resnet110": 252_887_040}
PAPER = {"resnet20": (42.2, 54.0), "resnet32": (41.5, 53.2), "resnet56": (41.1, 52.6), "resnet110": (40.8, 52.3)}
PRUNED = ("resnet20", "resnet56", "vgg16_bn_cifar", "resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v2")
ALIVE = (
    "resnet20", "vgg16_bn_cifar", "resnet18", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
)  # fmt: skip


@pytest.fixture(scope="module")
def cifar():
    loaded = {name: Network.load(name) for name in CONV_MACS}
    return loaded.__getitem__


@pytest.mark.parametrize("name", CONV_MACS)
def test_dense_macs_of_the_cifar_resnets(cifar, name):
    cost = cifar(name).dense_cost
    linear = 64 * 10
    assert cost.macs == CONV_MACS[name] + linear
    assert cost.layers[-1].macs == linear
    assert cost.layers[0].macs == 3 * 16 * 9 * 32 * 32
    assert cost.params == sum(p.numel() for p in cifar(name).module.parameters())


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_closed_form_prints_the_papers_numbers(cifar, name):
    cuts = [round(100 * closed_form_cut(cifar(name).flow, rate), 1) for rate in (0.3, 0.4)]
    assert cuts == list(PAPER[name])
    assert closed_form_cut(cifar(name).flow, 0.0) == 0


@pytest.mark.parametrize("name", ["vgg16_bn_cifar", "resnet18", "mobilenet_v2"])
def test_other_networks_have_no_closed_form(network, name):
    with pytest.raises(FpgmError, match="CIFAR ResNets only"):
        closed_form_cut(network(name).flow, 0.3)


@pytest.mark.parametrize(("rate", "cut"), [(0.3, 39.4), (0.4, 52.9), (0.5, 67.0)])
def test_fpgm_cuts_what_the_method_says(cifar, rate, cut):
    """Measured once on other weights: which filters go decides how much of a stream two layers leave together."""
    net = cifar("resnet20")
    found = 100 * (1 - net.cost(net.plan(rate, criterion="fpgm")).macs / net.dense_cost.macs)
    assert found == pytest.approx(cut, abs=0.7)


def test_an_inner_cut_by_hand(cifar):
    net = cifar("resnet20")  # 40% of 16, 32, 64 is 6, 12, 25
    kept = {16: 10, 32: 20, 64: 39}
    expected = 3 * 16 * 9 * 1024 + 64 * 10
    streams = [16] * 3 + [32] * 3 + [64] * 3
    for before, width in zip([16, *streams], streams, strict=False):
        positions = (32 * 16 // width) ** 2
        expected += (before + width) * kept[width] * 9 * positions
    for coupling, criterion in (("inner", "fpgm"), ("inner", "l2_norm"), ("inner", "random")):
        assert net.cost(net.plan(0.4, criterion=criterion, coupling=coupling)).macs == expected


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", PRUNED)
def test_macs_are_the_nonzero_weights_times_positions(network, mixed, name, coupling):
    net = network(name)
    plan = mixed(net, coupling)
    masked, positions = net.prune(plan).masked(), {}
    for layer, module in masked.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(
                lambda _, __, output, layer=layer: positions.__setitem__(layer, output[0, 0].numel())
            )
    masked(torch.zeros(1, *net.input_shape))
    cost = net.cost(plan)
    by_layer = {name: int(masked.get_submodule(name).weight.count_nonzero()) * n for name, n in positions.items()}
    assert {layer.name: layer.macs for layer in cost.layers} == by_layer
    assert cost.macs == sum(by_layer.values()) < net.dense_cost.macs


def alive(network, masks, monkeypatch):
    """(MACs, parameters) counted without the flow: zero activations and zero gradients, found by running.

    Removed channels are silenced by hooks, activations never saturate (so that only a removed channel is
    constantly zero), and a filter is read where the output's gradient reaches it.
    """
    for name in ("relu", "hardtanh"):
        monkeypatch.setattr(F, name, lambda x, *args, **options: F.leaky_relu(x, 0.3))
    for name, smooth in (("hardswish", F.silu), ("hardsigmoid", torch.sigmoid)):
        monkeypatch.setattr(F, name, lambda x, *args, smooth=smooth, **options: smooth(x))
    names = {module: name for name, module in network.module.named_modules()}
    seen, handles, current = [], [], []

    def kept(module):
        return torch.tensor(masks.get(names[module], np.ones(module.weight.shape[0], dtype=bool)))

    def fed(module, entered):
        """Which filters read anything: a depthwise one whose channel is absent is dead, and silent."""
        groups = getattr(module, "groups", 1)
        each = entered.reshape(entered.shape[1], -1).any(1).reshape(groups, -1).any(1)
        return each.repeat_interleave(module.weight.shape[0] // groups)

    def hook(module, inputs, output):
        if isinstance(module, nn.Conv2d):
            current[:] = [kept(module) & fed(module, inputs[0])]
        if not isinstance(module, nn.Linear):
            output = output * current[0][None, :, None, None]
        output.retain_grad()
        seen.append((module, inputs[0], output))
        return output.clone()  # some networks add to it in place

    for module in names:
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)):
            handles.append(module.register_forward_hook(hook))
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, *network.input_shape, generator=generator).requires_grad_()
    logits = network.module(image)
    (logits * torch.randn(logits.shape, generator=generator)).sum().backward()
    for handle in handles:
        handle.remove()
    macs = params = 0
    for module, entered, left in seen:
        rows = left.grad.flatten(2).any(2)[0] if left.ndim == 4 else torch.ones(left.shape[1], dtype=torch.bool)
        if isinstance(module, nn.BatchNorm2d):
            params += 2 * int((rows & left.flatten(2).any(2)[0]).sum())
            continue
        groups = getattr(module, "groups", 1)
        inputs = entered.reshape(entered.shape[1], -1).any(1).reshape(groups, -1).sum(1)
        rows = rows & kept(module) & fed(module, entered)
        weights = int((rows.reshape(groups, -1).sum(1) * inputs).sum()) * module.weight[0, 0].numel()
        macs += weights * left[0, 0].numel()
        params += weights + (int(rows.sum()) if module.bias is not None else 0)
    return macs, params


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", ALIVE)
def test_cost_is_what_autograd_finds_alive(network, mixed, monkeypatch, name, coupling):
    net = network(name)
    plan = mixed(net, coupling, seed=1)
    cost = net.cost(plan)
    assert (cost.macs, cost.params) == alive(net, net.keep_masks(plan), monkeypatch)
    assert cost.macs < net.dense_cost.macs


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", [*PRUNED, "densenet121"])
def test_dense_macs_equal_fvcores(network, name):
    from fvcore.nn import FlopCountAnalysis

    net = network(name)
    counter = FlopCountAnalysis(net.module, torch.zeros(1, *net.input_shape))
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    operators = counter.by_operator()
    assert operators["conv"] + operators["linear"] == net.dense_cost.macs  # 1 per MAC


@pytest.mark.parametrize("name", [*PRUNED, "densenet121"])
def test_dense_macs_equal_pytorchs_counter(network, name):
    net = network(name)
    with FlopCounterMode(display=False) as counter:
        net.module(torch.zeros(1, *net.input_shape))
    assert counter.get_total_flops() == 2 * net.dense_cost.macs


@pytest.mark.parametrize(
    "name",
    [
        "alexnet", "vgg16_bn", "resnet18", "resnet50", "resnext50_32x4d", "densenet121", "squeezenet1_1", "mnasnet1_0",
        "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x1_0", "regnet_x_400mf",
    ],
)  # fmt: skip
def test_dense_cost_is_what_torchvision_publishes(name):
    models = import_torchvision("torchvision.models")
    device = "cpu" if name.startswith(("shufflenet", "regnet", "mobilenet_v3")) else "meta"
    with torch.device(device):  # no memory, no initialisation; some build themselves from numbers they compute
        module = models.get_model(name, weights=None).eval()
    cost = count_cost(trace_flow(module, (3, 224, 224)), {})
    published = models.get_model_weights(name).DEFAULT.meta
    assert round(cost.macs / 1e9, 3) == published["_ops"]
    assert cost.params == published["num_params"]


def test_params_of_a_pruned_network_by_hand(cifar):
    net = cifar("resnet20")
    cost = net.cost(net.plan({"layer1.0.conv1": 0.5}, coupling="inner"))  # 8 of 16 filters
    lost = 8 * 16 * 9 + 2 * 8 + 16 * 8 * 9  # their weights, their norm's scale and shift, the next one's inputs
    assert cost.params == net.dense_cost.params - lost


def test_cost_falls_as_the_rate_rises(cifar):
    net = cifar("resnet20")
    for coupling in COUPLINGS:
        costs = [net.cost(net.plan(rate, coupling=coupling)) for rate in (0, 0.1, 0.3, 0.5, 0.7, 0.9)]
        for which in ("macs", "params"):
            values = [getattr(cost, which) for cost in costs]
            assert values == sorted(set(values), reverse=True)


def test_the_mix_may_prune_less_than_fpgm_alone(cifar):
    net = cifar("resnet20")  # 40% mix of 16, 32, 64: 1 + 4, 3 + 9, 6 + 19
    plan = net.plan(0.4, criterion="fpgm_mix")
    pruned = {len(mask): int((~mask).sum()) for mask in net.keep_masks(plan).values()}
    assert pruned == {16: 5, 32: 12, 64: 25}


def attended(net, x):
    y = F.max_pool2d(torch.relu(net.a(x)), 2)
    v = y.flatten(2)
    weights = torch.softmax(torch.bmm(v.transpose(1, 2), v), -1)
    return head(net, net.b(y + torch.bmm(v, weights).view_as(y)))


def of_a_parameter(net, x):
    return head(net, net.b(F.conv2d(F.relu(net.a(x)), net.b.weight * 2)))


@pytest.mark.parametrize("forward", [attended, of_a_parameter])
def test_what_has_no_rule_is_charged_what_pytorchs_counter_finds(wrap, forward):
    network = wrap(Toy(forward, a=conv(3, 8), b=conv(8, 8), fc=nn.Linear(8, 5)), (3, 8, 8))
    cost = network.dense_cost
    assert cost.macs == run_cost(network.module, (3, 8, 8))[0]
    assert sum(cost.other_macs.values()) == {attended: 2 * 16 * 16 * 8, of_a_parameter: 8 * 8 * 9 * 36}[forward]
    assert sum(layer.share for layer in network.layers) < 1
    assert network.cost(network.plan(0.5)).other_macs == cost.other_macs


@pytest.mark.parametrize(("name", "macs"), [("vit_b_16", 17_563_828_224)])
def test_attention_is_counted(name, macs):
    with torch.device("meta"):
        module = import_torchvision("torchvision.models").get_model(name, weights=None).eval()
    assert count_cost(trace_flow(module, (3, 224, 224)), {}).macs == macs
