"""The evaluator against a plain loop, and what it promises about its figures."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from fpgm_core import COUPLINGS, EvaluationConfig, FpgmError, Network, evaluate, measure
from fpgm_core.data import SPLITS, load_images
from fpgm_core.evaluation import FIRST_FIGURE_IMAGES, paired_change, wilson
from fpgm_core.evaluation import accuracy as evaluator
from fpgm_core.graph import trace_flow
from fpgm_core.inference import Chain, PrefixCache
from fpgm_core.inference.fusing import FusedConv2d
from fpgm_core.recovery import FIRST_IMAGES, recalibrate
from fpgm_core.runtime import device

AS_IS = EvaluationConfig(images=200, rung="as_is", device="cpu", precision="float32")


@pytest.fixture(scope="module")
def net(resnet20):
    return resnet20


@pytest.fixture
def few(monkeypatch):
    """Recalibration on 384 images instead of 2,000."""
    monkeypatch.setattr(evaluator, "IMAGES", 384)


def right(module, images, size=64):
    """Which images a network classifies rightly: the loop everybody writes."""
    hits = []
    with torch.no_grad():
        for begin in range(0, len(images), size):
            x, y = images.normalised(begin, min(begin + size, len(images))), images.labels[begin : begin + size]
            hits += (module(x).argmax(1) == y).tolist()
    return torch.tensor(hits)


def bits(module):
    return [tensor.clone() for tensor in module.state_dict().values()]


def unchanged(module, before):
    return all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), before, strict=True))


@pytest.mark.thorough
def test_the_recorded_accuracy_is_reproduced(net):
    recorded = net.record["accuracy"]["choose"]
    figure = evaluate(net, net.plan(), EvaluationConfig(device="cpu", precision="float32"))
    assert figure.images == recorded["images"] == 5000
    assert abs(figure.correct - recorded["correct"]) <= 2  # sums may round otherwise elsewhere


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", ["resnet20", "resnet56", "mobilenetv2_cifar"])
def test_dense_accuracy_is_a_plain_loops_and_fits_the_record(net, name, split):
    network = net if name == "resnet20" else Network.load(name)
    figure = evaluate(network, network.plan(), dataclasses.replace(AS_IS, split=split, images=100))
    assert figure.dense_correct == int(right(network.module, load_images("cifar10", split).first(100)).sum())
    recorded = network.record["accuracy"][split]["accuracy"]
    assert abs(figure.accuracy.value - recorded) <= 4 * (recorded * (1 - recorded) / 100) ** 0.5


@pytest.mark.parametrize(
    ("criterion", "coupling"), [("fpgm", "independent"), ("l2_norm", "inner"), ("random", "inner"), ("fpgm", "coupled")]
)
@pytest.mark.parametrize(("count", "seen"), [(1, [100, 200, 250]), (2, [200, 250]), (3, [250])])
def test_running_counts_equal_a_plain_loop(net, criterion, coupling, threads, count, seen):
    threads(count)
    plan = net.plan(0.3, criterion=criterion, coupling=coupling)
    settings = dataclasses.replace(AS_IS, images=250)
    figures = [figure for figure in measure(net, plan, settings) if figure]
    images = load_images("cifar10", "choose").first(250)
    masked, dense = right(net.prune(plan).masked(), images), right(net.module, images)
    assert [figure.images for figure in figures] == seen
    for figure in figures:
        n = figure.images
        counts = (int(masked[:n].sum()), int(dense[:n].sum()), int((masked & dense)[:n].sum()))
        assert (figure.correct, figure.dense_correct, figure.both) == counts
        assert (figure.recalibration_images, figure.total, figure.device, figure.precision) == (
            0,
            250,
            "cpu",
            "float32",
        )
    assert 0 < figures[-1].correct < figures[-1].dense_correct


def test_recalibrated_counts_equal_a_plain_loop(net, few):
    plan = net.plan(0.4, coupling="inner")
    figure = evaluate(net, plan, dataclasses.replace(AS_IS, rung="recalibrated"))
    masked, images = net.prune(plan).masked(), load_images("cifar10", "choose").first(200)
    list(recalibrate(masked, load_images("cifar10", "train").first(384)))
    assert figure.recalibration_images == 384
    assert figure.correct == int(right(masked, images).sum())
    assert figure.correct > int(
        right(net.prune(plan).masked(), images).sum()
    )  # it is what makes a pruned network usable


def test_the_order_of_figures(net, few, one_core):
    settings = dataclasses.replace(AS_IS, images=350, rung="recalibrated")
    figures = list(measure(net, net.plan(0.4), settings))
    states = [figure.state if figure else None for figure in figures]
    first, running, last = states.index("provisional"), states.index("measuring"), len(states) - 1
    assert first < running < last == states.index("exact")
    assert states.count("provisional") == states.count("exact") == 1
    assert figures[first].images == figures[first].total == FIRST_FIGURE_IMAGES
    assert figures[first].recalibration_images == FIRST_IMAGES
    assert [figure.images for figure in figures[running:]] == [100, 200, 300, 350]
    assert {(figure.total, figure.recalibration_images) for figure in figures[running:]} == {(350, 384)}
    seconds = [figure.seconds for figure in figures if figure]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_the_provisional_figure_is_of_the_network_so_far(net, few):
    plan = net.plan(0.4, coupling="inner")
    settings = dataclasses.replace(AS_IS, images=350, rung="recalibrated")
    provisional = next(figure for figure in measure(net, plan, settings) if figure)
    masked = net.prune(plan).masked()
    list(recalibrate(masked, load_images("cifar10", "train").first(FIRST_IMAGES)))
    assert provisional.correct == int(right(masked, load_images("cifar10", "choose").first(250)).sum())


@pytest.mark.parametrize(
    ("images", "recalibrated", "first_figure"), [(200, True, True), (350, False, True), (350, True, False)]
)
def test_no_provisional_figure_where_it_would_not_help(net, few, one_core, images, recalibrated, first_figure):
    settings = dataclasses.replace(AS_IS, images=images, rung="recalibrated" if recalibrated else "as_is")
    figures = [figure for figure in measure(net, net.plan(0.4), settings, first_figure) if figure]
    assert {figure.state for figure in figures} == {"measuring", "exact"}


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_the_dense_plan_is_never_recalibrated_and_changes_nothing(net, coupling):
    plan = net.plan(coupling=coupling)
    for figure in measure(net, plan, dataclasses.replace(AS_IS, rung="recalibrated")):
        assert figure is not None
        assert figure.recalibration_images == 0
        assert figure.correct == figure.dense_correct == figure.both
        assert figure.change.value == 0
    assert figure.accuracy == figure.dense_accuracy


def test_a_rate_too_small_to_prune_anything_is_dense(net):
    figure = evaluate(net, net.plan(0.01), dataclasses.replace(AS_IS, images=100, rung="recalibrated"))
    assert (figure.recalibration_images, figure.change.value) == (0, 0)


def test_intervals_and_the_paired_change(net):
    figure = evaluate(net, net.plan(0.2), AS_IS)
    only_new, only_old = figure.correct - figure.both, figure.dense_correct - figure.both
    assert figure.accuracy == wilson(figure.correct, 200)
    assert figure.dense_accuracy == wilson(figure.dense_correct, 200)
    assert figure.change == paired_change(figure.both, only_new, only_old, 200 - figure.both - only_new - only_old)
    assert figure.change.value == pytest.approx((figure.correct - figure.dense_correct) / 200)


def test_the_exact_figure_says_which_images_were_right(net, few, one_core):
    plan, settings = net.plan(0.3, coupling="inner"), dataclasses.replace(AS_IS, images=303)
    *running, exact = [figure for figure in measure(net, plan, settings) if figure]
    hits = torch.from_numpy(exact.right)
    assert torch.equal(hits, right(net.prune(plan).masked(), load_images("cifar10", "choose").first(303)))
    assert int(hits.sum()) == exact.correct
    assert len(exact.hits) == 38  # bits
    assert [figure.hits for figure in running] == [None] * 3
    recalibrated = dataclasses.replace(settings, rung="recalibrated")
    provisional = next(figure for figure in measure(net, plan, recalibrated) if figure)
    assert (provisional.state, provisional.hits) == ("provisional", None)
    assert "hits" not in repr(exact)
    assert dataclasses.replace(exact, hits=None) == exact
    with pytest.raises(FpgmError, match="a measuring figure does not say which images were right"):
        exact.against(running[0])


def test_figures_can_be_compared_with_each_other(net):
    figure, dense = evaluate(net, net.plan(0.3, coupling="inner"), AS_IS), evaluate(net, net.plan(), AS_IS)
    assert (int(dense.right.sum()), dense.correct) == (dense.dense_correct, figure.dense_correct)
    assert figure.against(dense) == figure.change
    assert figure.against(figure).value == 0
    other = evaluate(net, net.plan(0.3, coupling="inner", criterion="l2_norm"), AS_IS)
    assert figure.against(other).value == pytest.approx((figure.correct - other.correct) / 200)
    assert other.against(figure).value == -figure.against(other).value
    with pytest.raises(FpgmError, match="200 and 100 images cannot be paired"):
        figure.against(evaluate(net, net.plan(), dataclasses.replace(AS_IS, images=100)))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_stopping_early_leaves_nothing_changed(net, few, steps):
    before, plan = bits(net.module), net.plan(0.4)
    settings = dataclasses.replace(AS_IS, images=300, rung="recalibrated")
    running = measure(net, plan, settings)
    for _ in range(steps):
        next(running)
    running.close()
    assert next(running, "closed") == "closed"
    assert unchanged(net.module, before)
    assert not any(module.training for module in net.module.modules())
    assert all(norm.momentum == 0.1 for norm in net.module.modules() if isinstance(norm, nn.BatchNorm2d))
    again = evaluate(net, plan, settings)
    assert again.correct == evaluate(Network.load("resnet20"), plan, settings).correct


def test_work_is_done_batch_by_batch(net, few, monkeypatch, one_core):
    sizes, honest = [], nn.Conv2d.forward
    assert net.dense_cost.macs  # traced before anybody looks: tracing runs the network too, on no data

    def noted(conv, x):
        if conv.in_channels == 3:
            sizes.append(len(x))
        return honest(conv, x)

    monkeypatch.setattr(nn.Conv2d, "forward", noted)
    running = measure(net, net.plan(0.4), dataclasses.replace(AS_IS, rung="recalibrated"))
    assert sizes == []
    for expected in ([128], [128, 128]):
        assert next(running) is None  # recalibration: nothing to show yet
        assert sizes == expected


def test_an_untrained_network_is_refused_at_once(net):
    untrained = Network(dataclasses.replace(net.loaded, trained=False, weights="random"))
    with pytest.raises(FpgmError, match="cannot evaluate: resnet20 has no trained weights"):
        measure(untrained, untrained.plan(0.4), AS_IS)


@pytest.mark.parametrize("images", [0, -1, 5001])
def test_more_images_than_there_are(net, images):
    with pytest.raises(FpgmError, match="ask for 1 to 5000"):
        next(measure(net, net.plan(0.4), dataclasses.replace(AS_IS, images=images)))


def test_whatever_is_wrong_is_said_before_the_first_figure(net, tmp_path):
    plan = net.plan(0.4)
    imagenet = Network(dataclasses.replace(net.loaded, info=dataclasses.replace(net.loaded.info, dataset="imagenet1k")))
    cases = [
        (net, dataclasses.replace(plan, fingerprint="0" * 64), AS_IS, "other weights"),
        (net, dataclasses.replace(plan, locked_out={"conv1": tuple(range(9))}), AS_IS, "raise the rate"),
        (net, plan, dataclasses.replace(AS_IS, device="tpu"), "unknown device"),
        (net, plan, dataclasses.replace(AS_IS, precision="float16"), "unknown precision"),
        (imagenet, plan, AS_IS, "no images of imagenet1k"),
    ]
    for network, asked, settings, message in cases:
        with pytest.raises(FpgmError, match=message):
            measure(network, asked, settings)
    with pytest.raises(FpgmError, match="no complete CIFAR-10"):
        next(measure(net, plan, dataclasses.replace(AS_IS, data_root=tmp_path)))


def test_images_are_read_when_they_are_needed(net, monkeypatch):
    """Not by whoever asks for a measurement, which may be a page that is being drawn."""
    read, honest = [], evaluator.load_images
    monkeypatch.setattr(evaluator, "load_images", lambda *which: read.append(which) or honest(*which))
    running = measure(net, net.plan(0.4), AS_IS)
    assert read == []
    next(running)
    assert read == [("cifar10", "choose", None)]


def test_an_unknown_split_is_refused():
    with pytest.raises(FpgmError, match="choose, sealed, all"):
        EvaluationConfig(split="train")


@pytest.mark.thorough
@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("rate", [0.2, 0.4])
@pytest.mark.parametrize("name", ["resnet20", "mobilenetv2_cifar"])
def test_recalibrated_in_bfloat16_the_count_is_within_5_in_10_000(name, rate, coupling):
    net = Network.load(name)
    plan = net.plan(rate, coupling=coupling)
    low, full = (
        evaluate(net, plan, EvaluationConfig(device="cpu", precision=precision))
        for precision in ("bfloat16", "float32")
    )
    assert abs(low.correct - full.correct) <= 5 * full.images / 10_000


@pytest.mark.parametrize(("rate", "coupling"), [(0.0, "inner"), (0.2, "independent"), (0.3, "coupled")])
def test_bfloat16_counts_what_float32_counts(net, rate, coupling):
    plan, settings = net.plan(rate, coupling=coupling), dataclasses.replace(AS_IS, images=300)
    low, full = (
        evaluate(net, plan, dataclasses.replace(settings, precision=precision)) for precision in ("bfloat16", "float32")
    )
    assert (low.precision, full.precision) == ("bfloat16", "float32")
    assert (low.correct, low.dense_correct, low.both) == (full.correct, full.dense_correct, full.both)


class MixesUp(nn.Module):
    """A network that in low precision takes its second best answer for its best wherever the two are close."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.asked = []

    def forward(self, x):
        low = torch.is_autocast_enabled("cpu")
        self.asked.append((len(x), low))
        with torch.autocast("cpu", enabled=False):
            logits = self.network(x)
        if low:
            best, classes = logits.topk(2, dim=1)
            close = best[:, 0] - best[:, 1] < 0.05 * logits.square().mean().sqrt()
            logits[close] = logits[close].scatter(1, classes[close], best[close].flip(1))
        return logits


def test_close_answers_are_asked_again(net, monkeypatch, one_core):
    plan, images = net.plan(0.4), load_images("cifar10", "choose").first(250)
    network = MixesUp(net.prune(plan).compact())
    chain = Chain([network])
    truth = right(net.prune(plan).masked(), images)

    def hits():
        return evaluator._Runner.create(net, EvaluationConfig(device="cpu", precision="bfloat16")).hits(
            chain, images, 0, 250
        )

    assert torch.equal(hits(), truth)
    (asked, first), (again, second) = network.asked
    assert (asked, first, second) == (250, True, False)
    assert 0 < again < 125  # the doubtful ones alone
    monkeypatch.setattr(evaluator, "_DOUBT", 0.0)
    assert not torch.equal(hits(), truth)  # without asking again it would be wrong
    assert len(network.asked) == 3


class WithoutNorms(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Linear(16, 10)

    def forward(self, x):
        return self.fc(torch.relu(self.b(torch.relu(self.a(x)))).mean((2, 3)))


def test_a_network_without_norms_skips_recalibration(net, one_core):
    torch.manual_seed(0)
    module = WithoutNorms().eval().requires_grad_(False)
    network = Network.from_module(module, (3, 32, 32), name="resnet20", dataset="cifar10")
    figures = list(measure(network, network.plan(0.5), dataclasses.replace(AS_IS, rung="recalibrated")))
    assert [figure.recalibration_images for figure in figures] == [0, 0]


def test_dense_answers_are_kept_apart_by_weights(net):
    other = copy.deepcopy(net.module)
    other.fc.bias.data[3] = 100.0  # everything is a cat
    network = Network(dataclasses.replace(net.loaded, module=other, fingerprint="cats"))
    assert evaluate(net, net.plan(), AS_IS).dense_accuracy.value > 0.85
    cats = load_images("cifar10", "choose").first(200).labels == 3
    assert evaluate(network, network.plan(), AS_IS).dense_correct == int(cats.sum())


def test_a_network_can_be_opened_while_another_is_measured(resnet20):
    """torch.fx patches module calls for the whole process while it traces."""
    import threading

    stop, problems = threading.Event(), []

    def trace():
        while not stop.is_set():
            try:
                trace_flow(resnet20.module, (3, 32, 32))
            except Exception as error:
                problems.append(error)

    tracer = threading.Thread(target=trace)
    tracer.start()
    try:
        figure = evaluate(resnet20, resnet20.plan(0.2), EvaluationConfig(images=300, rung="as_is"))
    finally:
        stop.set()
        tracer.join()
    assert not problems
    assert figure.state == "exact"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_what_is_remembered_of_earlier_plans_changes_no_figure(net, few, coupling, precision):
    settings = EvaluationConfig(images=300, device="cpu", precision=precision)
    plan = net.plan(0.4, coupling=coupling)
    units = [unit.name for unit in net.units(coupling)]
    told = []
    for unit, rate in ((units[-1], 0.6), (units[-1], 0.2), (units[-4], 0.3), (units[-4], 0.5), (units[0], 0.2)):
        plan = plan.with_rates({unit: rate})
        told.append((plan, [facts(figure) for figure in measure(net, plan, settings)]))
    for asked, figures in told:
        PrefixCache.on(torch.device("cpu")).clear()
        assert [facts(figure) for figure in measure(net, asked, settings)] == figures


def facts(figure):
    return figure and dataclasses.replace(figure, seconds=0)


@pytest.mark.parametrize("late", [True, False])
def test_a_late_unit_moved_again_leaves_the_layers_before_it_alone(net, few, monkeypatch, late):
    seen = set()
    plan, settings = net.plan(0.4, coupling="inner"), dataclasses.replace(AS_IS, rung="recalibrated")
    list(measure(net, plan, settings, late=late))

    def noting(honest):
        def noted(conv, x, *other):
            seen.add(tuple(x.shape[1::2]))
            return honest(conv, x, *other)

        return noted

    for kind in (nn.Conv2d, FusedConv2d):  # recalibration runs the one, classification the other
        monkeypatch.setattr(kind, "forward", noting(kind.forward))
    evaluate(net, plan.with_rates({"layer3.2.conv1": 0.7}), settings)
    assert (seen == {(64, 8), (20, 8)}) == late  # the last block alone, where what it is given was remembered


@pytest.fixture
def short_of_memory(monkeypatch):
    """A device that holds no more than so many images at once."""

    def short(most):
        honest = FusedConv2d.forward

        def forward(conv, x, other=None):
            if len(x) > most:
                raise torch.OutOfMemoryError("out of memory")
            return honest(conv, x, other)

        monkeypatch.setattr(FusedConv2d, "forward", forward)

    monkeypatch.setattr(evaluator, "_LARGEST", dict(evaluator.BATCH))
    return short


def test_batches_are_halved_until_they_fit_and_it_is_said(short_of_memory):
    net = Network.load("resnet20")
    expected = evaluate(net, net.plan(0.4), AS_IS)
    evaluator._DENSE.clear()
    assert (expected.batch, expected.short_of_memory) == (100, False)
    short_of_memory(30)
    figure = evaluate(net, net.plan(0.4), AS_IS)
    assert (figure.batch, figure.short_of_memory) == (25, True)
    assert (figure.correct, figure.dense_correct, figure.both) == (
        expected.correct, expected.dense_correct, expected.both,
    )  # fmt: skip


def test_no_memory_at_all_is_said(net, short_of_memory):
    short_of_memory(0)
    with pytest.raises(FpgmError, match="no memory for a single image; close what else uses it"):
        evaluate(net, net.plan(0.4), AS_IS)


@pytest.fixture
def failing_gpu(monkeypatch):
    """A GPU that fails as soon as it is to hold a network."""
    honest = evaluator.placed

    def placed(module, device):
        if device.type == "cuda":
            raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be ...")
        return honest(module, device)

    monkeypatch.setattr(evaluator, "placed", placed)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    monkeypatch.setattr(device, "_LOST", [])


def test_a_gpu_that_fails_is_left_and_it_is_said(failing_gpu, net):
    settings = dataclasses.replace(AS_IS, device="auto")
    figure = evaluate(net, net.plan(0.3), settings)
    expected = evaluate(net, net.plan(0.3), AS_IS)
    assert (figure.device, figure.lost, figure.correct) == ("cpu", ("cuda",), expected.correct)
    assert evaluate(net, net.plan(0.2), settings).lost == ("cuda",)  # later ones go to the CPU at once


def test_a_gpu_that_was_asked_for_and_fails_is_an_error(failing_gpu, net):
    with pytest.raises(FpgmError, match=r"the cuda device failed \(CUDA error: unspecified launch failure\); choose"):
        evaluate(net, net.plan(0.3), dataclasses.replace(AS_IS, device="cuda"))
