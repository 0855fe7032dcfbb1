"""The calibration pass: columns against unfold, moments against numpy, the file that keeps them."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fpgm_core import FpgmError, Network
from fpgm_core.calibration import CalibrationConfig, calibrate, calibrate_work, consumers, with_ridge
from fpgm_core.calibration.patches import as_matrices, outputs_at, patches, positions
from fpgm_core.data import ImageSet, load_images
from fpgm_core.runtime.cache import clear_caches
from fpgm_core.runtime.progress import Progress, run

FEW = CalibrationConfig(num_images=60, positions=8)


@pytest.fixture(scope="module")
def training():
    return load_images("cifar10", "train").first(400)


def made(count=24, side=32):
    pixels = torch.randint(
        0, 256, (count, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )
    return ImageSet("made by a test", pixels, torch.zeros(count, dtype=torch.long), (0.5,) * 3, (0.25,) * 3, ("a",))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 4, 3, padding=1),
        nn.Conv2d(6, 4, 3, stride=2),
        nn.Conv2d(6, 4, (2, 3), stride=(3, 1), padding=(1, 0)),
        nn.Conv2d(6, 4, (1, 5), padding=(0, 2), dilation=(1, 2)),
        nn.Conv2d(6, 4, 3, padding="same", dilation=2),
        nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(6, 6, 3, padding=1, groups=3),
        nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6),
    ],
    ids=str,
)
def test_weights_times_columns_are_the_output(conv):
    x = torch.randn(3, 6, 9, 11, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = conv(x)
    at = torch.arange(y[0, 0].numel()).expand(3, -1)
    matrices = as_matrices(conv.weight, conv.groups)
    found = torch.einsum("sgp,gnp->sgn", patches(conv, x, at=at), matrices).flatten(1) + conv.bias.detach()
    torch.testing.assert_close(found, outputs_at(conv, y, at=at), rtol=1e-4, atol=1e-5)


def test_channels_are_taken_out_of_the_columns():
    conv = nn.Conv2d(6, 4, 3, padding=1)
    x, at = torch.randn(2, 6, 5, 5), torch.tensor([[0, 7, 24], [3, 3, 12]])
    some = patches(conv, x, at=at, channels=torch.tensor([1, 4]))
    torch.testing.assert_close(some[:, 0], patches(conv, x, at=at).reshape(6, 6, 9)[:, [1, 4]].flatten(1))


def test_a_linear_layer_reads_rows():
    linear = nn.Linear(5, 3)
    x = torch.randn(2, 4, 4, 5)
    at = torch.tensor([[0, 15], [6, 6]])
    found = patches(linear, x, at=at)[:, 0]
    torch.testing.assert_close(found, torch.stack([x[0, 0, 0], x[0, 3, 3], x[1, 1, 2], x[1, 1, 2]]))
    torch.testing.assert_close(outputs_at(linear, linear(x), at=at), linear(found))


def test_positions_depend_on_the_image_not_on_how_many(resnet20):
    site = consumers(resnet20)[3]
    many, few = positions(site, 50, count=7, seed=0), positions(site, 20, count=7, seed=0)
    assert torch.equal(many[:20], few)
    assert not torch.equal(many, positions(site, 50, count=7, seed=1))
    assert int(many.max()) < site.cost_per_weight
    assert torch.equal(positions(site, 2, count=5000, seed=0)[1], torch.arange(site.cost_per_weight))


def by_hand(net, images, site, config):
    """All columns of a consumer, by a hook and torch's unfold; mean and covariance by numpy."""
    seen = []
    layer = net.module.get_submodule(site.name)
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        net.module(images.normalised(0, len(images)))
    handle.remove()
    x = seen[0]
    if isinstance(layer, nn.Linear):
        rows = x.double().numpy()
    else:
        columns = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride).double().numpy()
        at = positions(site, len(images), count=config.positions, seed=config.seed).numpy()
        rows = np.concatenate([columns[i][:, at[i]].T for i in range(len(images))])
    return rows.mean(0), np.cov(rows.T, bias=True), len(rows)


@pytest.mark.parametrize("name", ["layer1.0.conv2", "layer2.0.conv1", "layer3.2.conv2", "fc"])
def test_moments_by_hand(resnet20, training, name):
    images = training.first(60)
    found = calibrate(resnet20, training, config=FEW, use_cache=False).of(name)
    site = next(site for site in consumers(resnet20) if site.name == name)
    mean, covariance, count = by_hand(resnet20, images, site, FEW)
    assert found.samples == count
    np.testing.assert_allclose(found.mean[0], mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.covariance[0], covariance, rtol=1e-3, atol=1e-4 * covariance.max())
    torch.testing.assert_close(found.covariance, found.covariance.transpose(1, 2))


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_batches_and_cores_change_roundings_only(resnet20, training, threads, batch):
    reference = calibrate(resnet20, training, config=FEW, use_cache=False)
    threads(1 + batch % 3)
    found = calibrate(resnet20, training, config=FEW, use_cache=False, batch=batch)
    for name, one in found.layers.items():
        scale = float(reference.of(name).covariance.abs().max())
        torch.testing.assert_close(one.covariance, reference.of(name).covariance, rtol=1e-4, atol=2e-6 * scale)
        torch.testing.assert_close(one.mean, reference.of(name).mean, rtol=1e-4, atol=1e-5)


def steps_of(network, images):
    """How many steps a calibration takes: none where it is remembered or kept."""
    return len(list(calibrate_work(network, images, config=FEW)))


def test_it_is_kept_and_found_again(resnet20, training, own_home):
    first = calibrate(resnet20, training, config=FEW)
    (file,) = (own_home / "moments").iterdir()
    clear_caches()
    assert steps_of(resnet20, training) == 0
    again = calibrate(resnet20, training, config=FEW)
    assert again is not first
    assert again.fingerprint == first.fingerprint == resnet20.fingerprint
    assert (again.num_images, again.config) == (60, FEW)
    for name, one in first.layers.items():
        assert torch.equal(again.of(name).covariance.tril(), one.covariance.tril())
        assert torch.equal(again.of(name).mean, one.mean)
        assert again.of(name).samples == one.samples
    assert calibrate(resnet20, training, config=FEW) is again  # it stays in memory while there is room
    clear_caches()
    file.write_bytes(file.read_bytes()[:1000])  # damaged: made anew
    assert steps_of(resnet20, training) > 0
    assert {path.name for path in file.parent.iterdir()} == {file.name, f"{file.name}.damaged"}
    clear_caches()
    assert steps_of(resnet20, training) == 0


class Activated(nn.Module):
    """Networks of equal weights, to the last bit, that compute otherwise."""

    def __init__(self, activation):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 10)
        self.activation = activation

    def forward(self, x):
        return self.fc(self.activation(self.b(self.activation(self.a(x)))).mean((2, 3)))


@pytest.mark.parametrize("other", [partial(F.leaky_relu, negative_slope=0.9), nn.LeakyReLU(0.9), F.silu])
def test_equal_weights_of_another_forward_share_nothing(training, other):
    first, second = (
        Network.from_module(Activated(activation), (3, 32, 32), name="two") for activation in (nn.LeakyReLU(0.1), other)
    )
    assert first.fingerprint == second.fingerprint
    assert first.identity != second.identity
    truth = calibrate(second, training, config=FEW, use_cache=False).of("b").mean
    calibrate(first, training, config=FEW)
    assert torch.equal(calibrate(second, training, config=FEW).of("b").mean, truth)
    clear_caches()
    assert torch.equal(calibrate(second, training, config=FEW).of("b").mean, truth)


@pytest.mark.parametrize("other", [{"num_images": 61}, {"positions": 9}, {"seed": 1}])
def test_other_settings_are_other_files(resnet20, training, own_home, other):
    calibrate(resnet20, training, config=FEW)
    calibrate(resnet20, training, config=replace(FEW, **other))
    assert len(list((own_home / "moments").iterdir())) == 2


def test_other_images_of_one_name_share_nothing(resnet20, training):
    others = replace(training, pixels=255 - training.pixels)
    otherwise = replace(training, mean=(0.1, 0.2, 0.3))
    truths = [calibrate(resnet20, one, config=FEW, use_cache=False).of("fc").mean for one in (others, otherwise)]
    calibrate(resnet20, training, config=FEW)
    for one, truth in zip((others, otherwise), truths, strict=True):
        assert one.name == training.name
        assert torch.equal(calibrate(resnet20, one, config=FEW).of("fc").mean, truth)


def test_progress_and_cancel(resnet20, training, own_home, one_core):
    config = replace(FEW, num_images=300)
    work = calibrate_work(resnet20, training, config=config)
    assert next(work) == Progress(128, 300, "reading training images")
    work.close()
    assert not (own_home / "moments").exists()
    steps = []
    run(calibrate_work(resnet20, training, config=config, use_cache=False), steps.append)
    assert [step.done for step in steps] == [128, 256, 300]


@pytest.mark.parametrize("name", ["mobilenetv2_cifar", "vgg16_bn_cifar"])
def test_other_families(name):
    net = Network.load(name)
    found = calibrate(net, made(), config=CalibrationConfig(12, 4))
    assert set(found.layers) == {site.name for site in consumers(net)}
    for layer, one in found.layers.items():
        weight = net.module.get_submodule(layer).weight
        groups = getattr(net.module.get_submodule(layer), "groups", 1)
        assert one.covariance.shape == (groups, weight[0].numel(), weight[0].numel())
        assert bool((one.covariance.diagonal(dim1=1, dim2=2) >= -1e-6).all())


def test_a_layer_of_too_many_columns_is_left_out_with_the_reason(resnet20, training):
    found = calibrate(resnet20, training, config=FEW, most_columns=200)
    assert "layer1.0.conv1" in found.layers
    with pytest.raises(FpgmError, match=r"layer2\.0\.conv2 reads 288 columns"):
        found.of("layer2.0.conv2")
    with pytest.raises(FpgmError, match="no prunable channels"):
        found.of("conv1")
    assert "layer2.0.conv2" in calibrate(resnet20, training, config=FEW).layers  # of another file


def test_fewer_images_than_asked_for_are_all_read(resnet20):
    found = calibrate(resnet20, made(5), config=CalibrationConfig(60, 4), use_cache=False)
    assert (found.num_images, found.config.num_images) == (5, 60)


@pytest.mark.parametrize("wrong", [{"num_images": 0}, {"positions": 1.5}, {"seed": -1}, {"num_images": True}])
def test_settings_are_checked(wrong):
    with pytest.raises(FpgmError, match="whole number"):
        CalibrationConfig(**wrong)


def test_few_samples_and_dead_columns_are_singular_until_ridged(resnet20, training):
    found = calibrate(resnet20, training, config=CalibrationConfig(3, 4), use_cache=False).of("layer3.2.conv2")
    assert found.singular
    assert np.linalg.matrix_rank(found.covariance[0].numpy()) < found.columns
    assert float(torch.linalg.eigvalsh(found.ridged(1e-3)[0]).min()) > 0
    dead = torch.zeros(2, 3, 3)
    dead[0, 0, 0] = 4.0
    ridged = with_ridge(dead, 0.5)
    assert torch.equal(ridged[0].diagonal(), torch.tensor([6.0, 2.0, 2.0]))  # dead columns do not count in the mean
    assert torch.equal(ridged[1], torch.eye(3))
