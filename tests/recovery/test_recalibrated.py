"""Recalibration: running statistics against a cumulative average by hand."""

import copy

import pytest
import torch
from torch import nn

from fpgm_core import recover
from fpgm_core.data import ImageSet, load_images
from fpgm_core.recovery import BATCH, batch_norms_of, dithered, recalibrate


class Net(nn.Module):
    """Convolution, norm, ReLU, convolution, norm."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5)

    def forward(self, x):
        return self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))).mean((2, 3))


@pytest.fixture
def net():
    torch.manual_seed(0)
    module = Net()
    for norm in batch_norms_of(module):
        norm.running_mean.fill_(7.0)
        norm.running_var.fill_(9.0)
        norm.weight.data.uniform_(0.5, 2)
    return module.eval().requires_grad_(False)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (300, 8, 8, 3), dtype=torch.uint8, generator=generator)
    return ImageSet("made by a test", pixels, torch.zeros(300, dtype=torch.long), (0.5,) * 3, (0.25,) * 3, ("a",))


def by_hand(net, images):
    """Mean of batch means and of unbiased batch variances, equal weight a batch; float64."""
    net = copy.deepcopy(net).double()
    sums = {"bn1": [], "bn2": []}
    for begin in range(0, len(images), BATCH):
        x = images.normalised(begin, min(begin + BATCH, len(images))).double()
        for conv, norm in ((net.conv1, "bn1"), (net.conv2, "bn2")):
            y = conv(x)
            mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3), unbiased=True)
            sums[norm].append((mean, variance))
            biased = y.var((0, 2, 3), unbiased=False)
            module = getattr(net, norm)
            shape = (1, -1, 1, 1)
            normalised = (y - mean.view(shape)) / (biased.view(shape) + module.eps).sqrt()
            x = torch.relu(normalised * module.weight.view(shape) + module.bias.view(shape))
    return {name: [torch.stack(part).mean(0) for part in zip(*pairs, strict=True)] for name, pairs in sums.items()}


@pytest.mark.parametrize(("count", "seen"), [(1, [128, 256, 300]), (2, [256, 300]), (5, [300])])
def test_statistics_are_the_cumulative_average(net, images, threads, count, seen):
    expected = by_hand(net, images)
    threads(count)
    assert list(recalibrate(net, images)) == seen
    for name, (mean, variance) in expected.items():
        norm = getattr(net, name)
        torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var.double(), variance, rtol=1e-4, atol=1e-5)


def test_stopping_early_leaves_the_average_so_far(net, images, one_core):
    expected = by_hand(net, images.first(128))
    steps = recalibrate(net, images)
    assert next(steps) == 128
    steps.close()
    assert not any(module.training for module in net.modules())
    torch.testing.assert_close(net.bn2.running_mean.double(), expected["bn2"][0], rtol=1e-4, atol=1e-5)


def test_nothing_but_statistics_changes(net, images):
    before = copy.deepcopy(net.state_dict())
    list(recalibrate(net, images))
    changed = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    kinds = ("running_mean", "running_var", "num_batches_tracked")
    assert changed == {f"{norm}.{kind}" for norm in ("bn1", "bn2") for kind in kinds}


def test_the_number_of_cores_changes_nothing(net, images, threads):
    other = copy.deepcopy(net)
    for module, count in ((net, 1), (other, 3)):
        threads(count)
        list(recalibrate(module, images))
    for one, two in zip(net.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_repeating_it_gives_the_same(net, images):
    other = copy.deepcopy(net)
    list(recalibrate(net, images))
    for _ in range(2):
        list(recalibrate(other, images))
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), other.buffers(), strict=True))


def test_a_network_without_norms_is_skipped(images):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert batch_norms_of(net) == []
    assert list(recalibrate(net, images)) == []


def test_norms_without_statistics_are_left_out():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False), nn.BatchNorm1d(3))
    assert batch_norms_of(net) == [net[0]]


def test_a_failing_pass_leaves_eval_mode(net, images):
    net.conv2.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("no memory")))
    with pytest.raises(RuntimeError, match="no memory"):
        list(recalibrate(net, images))
    assert not any(module.training for module in net.modules())


@pytest.mark.parametrize("turns", [1, 2, 8, 64])
def test_dithering_averages_to_the_number(turns):
    numbers = torch.cat([torch.randn(999, generator=torch.Generator().manual_seed(2)), torch.tensor([0.0, 1.0, -2.5])])
    rounded = torch.stack([dithered(numbers, turn) for turn in range(turns)]).double()
    assert torch.equal(rounded.float(), rounded.bfloat16().float())
    apart = 2.0 ** (numbers.abs().clamp_min(1e-30).log2().floor() - 7)  # of two bfloat16 numbers around each
    assert ((rounded - numbers).abs() < apart).all()
    assert ((rounded.mean(0) - numbers).abs() <= apart / turns).all()
    assert (rounded[:, -3:] == numbers[-3:]).all()


def test_in_bfloat16_the_statistics_are_float32s(images):
    """Rounded weights alone are more than four times farther from it."""
    torch.manual_seed(0)
    nets = [Net().eval().requires_grad_(False)]
    nets += [copy.deepcopy(nets[0]) for _ in range(2)]
    for module in nets[2].modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data, module.bias.data = module.weight.bfloat16().float(), module.bias.bfloat16().float()
    many = ImageSet("many", images.pixels.repeat(7, 1, 1, 1)[: 16 * BATCH], torch.zeros(16 * BATCH, dtype=torch.long),
                    images.mean, images.std, images.class_names)  # fmt: skip
    for net, dtype in zip(nets, (torch.float32, torch.bfloat16, torch.float32), strict=True):
        list(recalibrate(net, many, dtype))

    def distance(net):
        off = [
            ((norm.running_mean - true.running_mean) / true.running_var.sqrt()).abs().max()
            for norm, true in zip(batch_norms_of(net), batch_norms_of(nets[0]), strict=True)
        ]
        return max(off)

    assert 0 < distance(nets[1]) < 0.0015
    assert distance(nets[2]) > 4 * distance(nets[1])


def test_repeating_it_in_bfloat16_gives_the_same(net, images, threads):
    other = copy.deepcopy(net)
    for module, count in ((net, 1), (other, 3)):
        threads(count)
        list(recalibrate(module, images, torch.bfloat16))
    for one, two in zip(net.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("coupling", ["independent", "coupled"])
def test_a_recalibrated_network_carries_the_statistics_that_it_is_measured_with(resnet20, coupling):
    training = load_images("cifar10", "train").first(300)
    pruned = resnet20.prune(0.5, coupling=coupling)
    recalibrated = recover(pruned, "recalibrated", training, device="cpu")
    by_hand = pruned.compact()
    list(recalibrate(by_hand, training))
    x = training.normalised(0, 20)
    with torch.no_grad():
        wanted = by_hand(x)
        assert float((wanted - pruned.compact()(x)).abs().max()) > 1
        for form in (recalibrated.compact(), recalibrated.masked(), recalibrated.prepared):
            torch.testing.assert_close(form(x), wanted, rtol=1e-3, atol=1e-3)
