"""Repair in closed form: against numpy's least squares, masked against compact, and what it does on ResNet-20."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toys import Toy, conv, head

from fpgm_core import COUPLINGS, EvaluationConfig, FpgmError, Network
from fpgm_core.calibration import CalibrationConfig
from fpgm_core.data import ImageSet, load_images
from fpgm_core.evaluation import measure_work
from fpgm_core.graph import overlay, trace_flow
from fpgm_core.pruning import PrunedNetwork, RecoveryStep
from fpgm_core.recovery import (
    RECOVERY_METHODS,
    batch_norms_of,
    images_that_fit,
    ladder,
    recalibrate,
    recover,
    refit_work,
    repaired_work,
)
from fpgm_core.recovery.drift import sum_behind
from fpgm_core.recovery.interpreter import Walk, bytes_an_image
from fpgm_core.recovery.refit import PairSums
from fpgm_core.runtime.progress import Progress, run

SHAPE = (3, 8, 8)
ALL = CalibrationConfig(num_images=40, positions=64)  # every position of an 8 x 8 image


def images(count=50, side=8):
    pixels = torch.randint(
        0, 256, (count, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5)
    )
    return ImageSet("made by a test", pixels, torch.zeros(count, dtype=torch.long), (0.5,) * 3, (0.25,) * 3, ("a",))


def pooled(net, x):
    """Logits without a rectifier in front: what is fitted is least squares and nothing else."""
    return net.fc(x.mean((2, 3)))


def network(net):
    return Network.from_module(net, SHAPE)


def kept(net, masks, tensors=None):
    """A network of which `masks` are kept, repaired with `tensors` where there are some."""
    pruned = PrunedNetwork(net, net.plan(), masks)
    return pruned if tensors is None else pruned.with_tensors(tensors, RecoveryStep("repaired"))


@pytest.fixture
def plain():
    torch.manual_seed(0)
    return network(
        Toy(lambda net, x: pooled(net, net.two(F.relu(net.one(x)))), one=conv(3, 6), two=conv(6, 4), fc=nn.Linear(4, 5))
    )


@pytest.fixture
def normed():
    torch.manual_seed(1)
    layers = {"one": conv(3, 6, bias=False), "bn": nn.BatchNorm2d(6), "two": conv(6, 4, bias=False)}
    return network(
        Toy(
            lambda net, x: pooled(net, net.bn2(net.two(F.relu(net.bn(net.one(x)))))),
            **layers,
            bn2=nn.BatchNorm2d(4),
            fc=nn.Linear(4, 5),
        )
    )


def refitted(net, masks, pictures, config=ALL, **options):
    return run(refit_work(kept(net, masks), pictures, config=config, **options))


def columns(module, x):
    return F.unfold(x, 3, padding=1).transpose(1, 2).flatten(0, 1).double().numpy()


def test_the_first_refit_is_numpys_least_squares(plain):
    """Ridge towards W as rows sqrt(n r) I with targets sqrt(n r) W, below the centred samples."""
    keep = np.array([True, False, True, True, False, True])
    pictures = images()
    tensors = refitted(plain, {"one": keep}, pictures)
    with torch.no_grad():
        x = F.relu(plain.module.one(pictures.normalised(0, 40)))
        y = plain.module.two(x).flatten(2).transpose(1, 2).flatten(0, 1).double().numpy()
    inputs = columns(plain.module, x[:, keep])
    weight = plain.module.two.weight[:, keep].flatten(1).double().numpy()
    centred, wanted = inputs - inputs.mean(0), y - y.mean(0)
    ridge = 1e-3 * (centred**2).mean(0).mean()  # 2,560 samples of 36 columns are enough
    pull = np.sqrt(len(inputs) * ridge) * np.eye(inputs.shape[1])
    solution, *_ = np.linalg.lstsq(np.vstack([centred, pull]), np.vstack([wanted, pull @ weight.T]), rcond=None)
    found = tensors["two.weight"]
    np.testing.assert_allclose(found[:, keep].flatten(1), solution.T, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(tensors["two.bias"], y.mean(0) - inputs.mean(0) @ solution, rtol=1e-3, atol=1e-4)
    assert torch.equal(found[:, ~keep], plain.module.two.weight[:, ~keep] * 0)


def test_without_a_bias_the_norm_behind_takes_the_mean(normed):
    """The mean of what the norm gets, less its running mean, stays what it was in the dense network."""
    keep = np.array([True, True, False, True, False, True])
    pictures = images()
    tensors = refitted(normed, {"one": keep}, pictures)
    x = pictures.normalised(0, 40)
    with torch.no_grad():
        dense = normed.module.two(F.relu(normed.module.bn(normed.module.one(x)))).mean((0, 2, 3))
        hidden = F.relu(normed.module.bn(normed.module.one(x))) * torch.from_numpy(keep)[:, None, None]
        made = F.conv2d(hidden, tensors["two.weight"], padding=1).mean((0, 2, 3))
    shift = normed.module.bn2.running_mean - tensors["bn2.running_mean"]
    torch.testing.assert_close(made + shift, dense, rtol=1e-3, atol=1e-4)
    assert set(tensors) == {"two.weight", "bn2.running_mean", "fc.weight", "fc.bias"}


def test_a_branch_makes_good_what_its_stream_has_lost():
    """The layer is fitted to what its norm must be given so that the sum is the dense network's (He et al., 2017)."""
    torch.manual_seed(3)
    layers = {"one": conv(3, 6), "two": conv(6, 6, bias=False), "bn": nn.BatchNorm2d(6), "fc": nn.Linear(6, 5)}

    def forward(net, x):
        stream = F.relu(net.one(x))
        return pooled(net, net.bn(net.two(stream)) + stream)

    net = network(Toy(forward, **layers))
    norm = net.module.bn
    norm.running_mean.normal_(0, 0.3)
    norm.running_var.uniform_(0.5, 1.5)
    norm.weight.data.uniform_(0.5, 1.5)
    keep, pictures = np.array([True, False, True, True, False, True]), images()
    tensors = refitted(net, {"one": keep}, pictures)
    with torch.no_grad():
        stream = F.relu(net.module.one(pictures.normalised(0, 40)))
        left = stream * torch.from_numpy(keep)[:, None, None]
        scale = (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None]
        y = net.module.two(stream) + (stream - left) / scale
        y = y.flatten(2).transpose(1, 2).flatten(0, 1).double().numpy()
    inputs = columns(net.module, left[:, keep])
    weight = net.module.two.weight[:, keep].detach().flatten(1).double().numpy()
    centred, wanted = inputs - inputs.mean(0), y - y.mean(0)
    ridge = 1e-3 * (centred**2).mean(0).mean()
    pull = np.sqrt(len(inputs) * ridge) * np.eye(inputs.shape[1])
    solution, *_ = np.linalg.lstsq(np.vstack([centred, pull]), np.vstack([wanted, pull @ weight.T]), rcond=None)
    np.testing.assert_allclose(tensors["two.weight"][:, keep].flatten(1), solution.T, rtol=2e-3, atol=1e-4)


def test_a_sum_whose_other_part_is_refitted_later_waits_for_that():
    """A stream's own convolution comes after the branch: it is the one that makes good."""
    torch.manual_seed(4)
    layers = {"one": conv(3, 6), "two": conv(6, 4), "short": conv(6, 4, 1), "fc": nn.Linear(4, 5)}

    def forward(net, x):
        x = F.relu(net.one(x))
        branch = net.two(x)
        return head(net, branch + net.short(x))

    net = network(Toy(forward, **layers))
    nodes = {str(node.target): node for node in net.flow.graph.graph.nodes}
    assert sum_behind(net.module, net.flow, nodes["two"], [nodes["short"], nodes["fc"]]) is None
    found = sum_behind(net.module, net.flow, nodes["short"], [nodes["fc"]])
    assert found is not None
    assert found.other is nodes["two"]
    assert found.norm is None
    assert sum_behind(net.module, net.flow, nodes["one"], []) is None


def test_a_filter_that_the_others_make_up_costs_nothing(plain):
    """Two equal filters: without one of them, the refitted network answers as the dense one."""
    with torch.no_grad():
        plain.module.one.weight[4], plain.module.one.bias[4] = plain.module.one.weight[1], plain.module.one.bias[1]
    keep = np.arange(6) != 4
    pictures = images()
    masks = {"one": keep}
    repaired = kept(plain, masks, refitted(plain, masks, pictures, ridge=1e-7))
    x = pictures.normalised(0, 50)
    with torch.no_grad():
        dense, pruned = plain.module(x), kept(plain, masks).masked()(x)
        torch.testing.assert_close(repaired.masked()(x), dense, rtol=1e-3, atol=1e-3)
    assert float((pruned - dense).abs().max()) > 0.05


@pytest.mark.parametrize("size", [1, 7, 50])
def test_batches_change_roundings_only(normed, size):
    keep = {"one": np.array([True, True, False, True, False, True])}
    reference = refitted(normed, keep, images())
    found = refitted(normed, keep, images(), batch=size)
    assert found.keys() == reference.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, reference[name], rtol=1e-3, atol=1e-4)


def test_fewer_samples_than_columns_stay_near_the_old_weights(plain):
    keep = {"one": np.array([True, False, True, True, False, True])}
    tensors = refitted(plain, keep, images(), CalibrationConfig(num_images=1, positions=3))
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    moved = (tensors["two.weight"] - plain.module.two.weight)[:, keep["one"]].norm()
    assert float(moved) < 2 * float(plain.module.two.weight.norm())


def test_dead_channels_keep_their_weights(plain):
    with torch.no_grad():
        plain.module.one.weight[2], plain.module.one.bias[2] = 0, -1.0  # behind the ReLU always zero
    tensors = refitted(plain, {"one": np.arange(6) != 0}, images())
    torch.testing.assert_close(tensors["two.weight"][:, 2], plain.module.two.weight[:, 2])


def test_nothing_pruned_is_nothing_replaced(plain):
    assert refitted(plain, {"one": np.ones(6, dtype=bool)}, images()) == {}


def test_grouped_and_depthwise_layers():
    torch.manual_seed(2)
    net = network(
        Toy(
            lambda net, x: head(net, net.three(F.relu(net.deep(F.relu(net.two(F.relu(net.one(x)))))))),
            one=conv(3, 8), two=conv(8, 8, groups=2), deep=conv(8, 8, groups=8), three=conv(8, 4, 1),
            fc=nn.Linear(4, 5),
        )
    )  # fmt: skip
    pruned = net.prune(0.5, coupling="inner")
    tensors = refitted(net, pruned.keep_masks, images())
    assert {"two.weight", "three.weight"} <= set(tensors)
    assert "deep.weight" not in tensors
    repaired = pruned.with_tensors(tensors, RecoveryStep("repaired"))
    x = images().normalised(0, 20)
    with torch.no_grad():
        dense, one, two = net.module(x), repaired.masked()(x), repaired.compact()(x)
        before = pruned.masked()(x)
    assert float((one - two).abs().max()) <= 1e-4 * float(dense.abs().max())
    assert float((one - dense).square().mean()) < 0.5 * float((before - dense).square().mean())


def test_a_walk_is_the_network(resnet20):
    pictures = load_images("cifar10", "train").normalised(0, 6)
    walk = Walk(overlay(resnet20.module, {}), resnet20.flow, torch.device("cpu"), num_batches=2)
    nodes = list(resnet20.flow.graph.graph.nodes)
    with torch.inference_mode():
        for number in range(2):
            walk.begin(number, pictures[3 * number : 3 * number + 3])
        for place in range(0, len(nodes), 9):
            for number in range(2):
                assert len(walk.up_to(number, place)) <= 4  # what is read no more is let go
        expected = resnet20.module(pictures)
        found = torch.cat([walk.up_to(number, len(nodes))[nodes[-1]] for number in range(2)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_what_a_walk_holds_is_bounded(resnet20):
    stream = 4 * 16 * 32 * 32
    assert 2 * stream <= bytes_an_image(resnet20.flow) <= 4 * stream
    assert images_that_fit(resnet20, 1500) == 1500
    memory = 100 * 2 * bytes_an_image(resnet20.flow)
    assert images_that_fit(resnet20, 1500, memory=memory) == 100
    assert images_that_fit(resnet20, 1500, memory=1) == 1


def test_sums_do_not_depend_on_how_samples_arrive():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 30, 5, generator=generator), torch.randn(2, 30, 3, generator=generator)
    whole, parts = PairSums(), PairSums()
    whole.add(*PairSums.of(x, y))
    for at in range(0, 30, 7):
        parts.add(*PairSums.of(x[:, at : at + 7], y[:, at : at + 7]))
    old = torch.zeros(2, 3, 5, dtype=torch.float64)
    for one, other in zip(whole.solve(old, 1e-3, True), parts.solve(old, 1e-3, True), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shift", [0.0, 3e3])
def test_large_means_change_no_weight(shift):
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(1, 400, 6, generator=generator), torch.randn(1, 400, 2, generator=generator)
    parts = PairSums()
    for at in range(0, 400, 50):
        parts.add(*PairSums.of(x[:, at : at + 50] + shift, y[:, at : at + 50]))
    fitted, _ = parts.solve(torch.zeros(1, 2, 6, dtype=torch.float64), 0.0, True)
    centred = (x - x.mean(1, keepdim=True)).double()[0], (y - y.mean(1, keepdim=True)).double()[0]
    expected = np.linalg.lstsq(*(one.numpy() for one in centred), rcond=None)[0].T
    np.testing.assert_allclose(fitted[0].numpy(), expected, atol=1e-3)


def test_an_input_that_never_changes_leaves_the_weights_and_moves_the_offset():
    x, y = torch.full((1, 8, 5), 0.37), torch.full((1, 8, 2), 1.5)
    sums, old = PairSums(), torch.ones(1, 2, 5, dtype=torch.float64)
    for _ in range(3):
        sums.add(*PairSums.of(x, y))
    fitted, offset = sums.solve(old, 1e-3, True)
    torch.testing.assert_close(fitted, old, rtol=0, atol=0.05)
    torch.testing.assert_close(fitted @ x[0, 0].double() + offset.view(1, 2), y[:, 0].double())


@pytest.mark.parametrize(("samples", "times"), [(12, 15), (60, 3), (180, 1), (400, 1)])
def test_under_thirty_samples_a_column_the_ridge_rises_in_proportion(samples, times):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(1, samples, 6, generator=generator)
    y, old = torch.randn(1, samples, 2, generator=generator), torch.randn(1, 2, 6, generator=generator).double()
    sums = PairSums()
    sums.add(*PairSums.of(x, y))
    fitted, _ = sums.solve(old, 0.1, True)
    centred, wanted = ((one - one.mean(1, keepdim=True)).double()[0] for one in (x, y))
    gram = centred.T @ centred / samples
    ridge = 0.1 * times * gram.diagonal().mean()
    expected = torch.linalg.solve(gram + ridge * torch.eye(6), centred.T @ wanted / samples + ridge * old[0].T).T
    torch.testing.assert_close(fitted[0], expected, rtol=1e-4, atol=1e-5)


QUICK = CalibrationConfig(num_images=200, positions=12)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_masked_and_compact_answer_alike(resnet20, coupling):
    pruned = resnet20.prune(0.5, coupling=coupling)
    training = load_images("cifar10", "train").first(600)
    repaired = recover(pruned, "repaired", training, device="cpu", config=QUICK)
    (step,) = repaired.recovery
    assert (step.method, step.num_images, step.images, step.notice) == ("repaired", 200, training.name, None)
    assert step.details["watched"] == 120
    assert step.details["right"]["repaired"] > step.details["right"]["recalibrated"] + 10
    x = load_images("cifar10", "choose").normalised(0, 60)
    with torch.inference_mode():
        dense, masked, compact = resnet20.module(x), repaired.masked()(x), repaired.compact()(x)
    assert float((masked - compact).abs().max()) <= 1e-4 * float(dense.abs().max())
    again = run(repaired_work(pruned, training, config=QUICK), pytest.fail)  # remembered: there is nothing to do
    assert again.recovery == repaired.recovery
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in repaired.tensors.items())


def test_the_watched_images_are_the_last_and_counted_by_a_plain_loop(resnet20):
    pruned, training = resnet20.prune(0.4, coupling="inner"), load_images("cifar10", "train").first(200)
    repaired = recover(pruned, "repaired", training, device="cpu", config=CalibrationConfig(160, 24))
    assert repaired.method == "repaired"
    recalibrated = pruned.masked()
    list(recalibrate(recalibrated, training))
    x, labels = training.normalised(160, 200), training.labels[160:]
    with torch.inference_mode():
        counts = {
            name: int((module(x).argmax(1) == labels).sum())
            for name, module in (("repaired", repaired.masked()), ("recalibrated", recalibrated))
        }
    assert repaired.recovery[-1].details["right"] == counts


def test_a_repair_that_does_worse_is_given_up_and_says_so(resnet20):
    """Training images whose labels are what the recalibrated network says: no other is right about as many."""
    pruned, training = resnet20.prune(0.5, coupling="inner"), load_images("cifar10", "train").first(200)
    by_hand = pruned.masked()
    list(recalibrate(by_hand, training))
    with torch.inference_mode():
        logits = by_hand(training.normalised(0, 200))
    labels = logits.argmax(1)
    config = CalibrationConfig(40, 4)
    found = recover(pruned, "repaired", dataclasses.replace(training, labels=labels), device="cpu", config=config)
    (step,) = found.recovery
    assert (found.method, step.num_images, step.details["watched"]) == ("recalibrated", 200, 40)
    assert step.details["right"]["repaired"] < step.details["right"]["recalibrated"] == 40
    assert f"right about {step.details['right']['repaired']} of 40 held-out training images" in found.notice
    assert {name.rpartition(".")[2] for name in found.tensors} == {"running_mean", "running_var"}
    for one, other in zip(batch_norms_of(found.masked()), batch_norms_of(by_hand), strict=True):
        live = other.weight != 0  # what statistics a removed channel has does not matter
        torch.testing.assert_close(one.running_var[live], other.running_var[live], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one.running_mean, other.running_mean, rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(found.masked()(training.normalised(0, 200)), logits, rtol=1e-3, atol=1e-3)


def test_too_few_images_are_refused(plain):
    pruned = kept(plain, {"one": np.arange(6) != 0})
    with pytest.raises(FpgmError, match=r"repair needs images to fit to and others to watch, and .* has 1"):
        recover(pruned, "repaired", images(1))
    with pytest.raises(FpgmError, match="repaired reads training images; give some"):
        recover(pruned, "repaired")


def test_progress_rises_and_it_can_be_stopped(resnet20):
    pruned, few = resnet20.prune(0.35, coupling="inner"), load_images("cifar10", "train").first(100)
    shares = []
    last = run(repaired_work(pruned, few, config=CalibrationConfig(20, 2)), lambda step: shares.append(step.share))
    assert isinstance(last, PrunedNetwork)
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] <= 1
    work = repaired_work(pruned, few, config=CalibrationConfig(21, 2))
    next(work)
    work.close()
    again = repaired_work(pruned, few, config=CalibrationConfig(21, 2))
    assert isinstance(next(again), Progress)  # nothing half is remembered


@pytest.mark.parametrize("method", ladder())
def test_every_rung_is_measured(resnet20, method):
    training, choose = load_images("cifar10", "train").first(700), load_images("cifar10", "choose").first(300)
    config = EvaluationConfig(device="cpu", precision="float32")
    pruned = resnet20.prune(0.4, coupling="inner")
    found = run(measure_work(pruned, choose, method=method, training=training, config=config))
    assert found.method == method
    assert (found.recovery_images > 0) == RECOVERY_METHODS[method].needs_images
    low = {"as_is": 0, "merged": 130, "recalibrated": 190, "repaired": 230}[method]
    assert found.num_correct >= low


def test_an_unknown_rung_is_refused(plain):
    with pytest.raises(FpgmError, match="choose one of as_is, merged, recalibrated, repaired"):
        recover(plain.prune(), "fixed")


def test_toys_trace(plain):
    assert trace_flow(plain.module, SHAPE).size == 11
