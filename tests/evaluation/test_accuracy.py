"""The evaluator against a plain loop, and what it promises about its measurements."""

import copy
import dataclasses
import threading

import pytest
import torch
from torch import nn

from fpgm_core import COUPLINGS, EvaluationConfig, FpgmError, ImageSet, Network, evaluate
from fpgm_core.data import SPLITS, load_images
from fpgm_core.evaluation import PREVIEW_IMAGES, measure_work, paired_change, wilson
from fpgm_core.graph import trace_flow
from fpgm_core.inference import Chain, Classifier, PrefixCache, reset_batches
from fpgm_core.inference.fusing import FusedConv2d
from fpgm_core.models import get_model_info
from fpgm_core.recovery import recalibrate
from fpgm_core.recovery.recalibrated import EARLY_IMAGES
from fpgm_core.runtime.cache import clear_caches
from fpgm_core.runtime.device import reset_lost_devices
from fpgm_core.runtime.progress import run

CPU = EvaluationConfig(device="cpu", precision="float32")


@pytest.fixture(scope="module")
def net(resnet20):
    return resnet20


@pytest.fixture(scope="module")
def choose():
    return load_images("cifar10", "choose")


@pytest.fixture(scope="module")
def few():
    """Recalibration on 384 images instead of 2,000."""
    return load_images("cifar10", "train").first(384)


def measured(pruned, images, config=CPU, **options):
    """The exact measurement, of a network that is recovered first."""
    return run(measure_work(pruned, images, config=config, preview=False, **options))


def partials(pruned, images, config=CPU, **options):
    """What every step of measuring had to show, None where nothing, and the result last."""
    shown = []
    result = run(measure_work(pruned, images, config=config, **options), lambda step: shown.append(step.partial))
    return [*shown, result]


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
def test_the_recorded_accuracy_is_reproduced(net, choose):
    recorded = get_model_info("resnet20").record["accuracy"]["choose"]
    found = evaluate(net.prune(), choose, CPU)
    assert found.num_images == recorded["images"] == 5000
    assert abs(found.num_correct - recorded["correct"]) <= 2  # sums may round otherwise elsewhere


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", ["resnet20", "resnet56", "mobilenetv2_cifar"])
def test_dense_accuracy_is_a_plain_loops_and_fits_the_record(net, name, split):
    network, images = net if name == "resnet20" else Network.load(name), load_images("cifar10", split).first(100)
    found = evaluate(network.prune(), images, CPU)
    assert found.num_dense_correct == found.num_correct == int(right(network.module, images).sum())
    recorded = get_model_info(name).record["accuracy"][split]["accuracy"]
    assert abs(found.accuracy.value - recorded) <= 4 * (recorded * (1 - recorded) / 100) ** 0.5


@pytest.mark.parametrize(
    ("criterion", "coupling"), [("fpgm", "independent"), ("l2_norm", "inner"), ("random", "inner"), ("fpgm", "coupled")]
)
@pytest.mark.parametrize(("count", "seen"), [(1, [100, 200, 250]), (2, [200, 250]), (3, [250])])
def test_running_counts_equal_a_plain_loop(net, choose, criterion, coupling, threads, count, seen):
    threads(count)
    pruned, images = net.prune(0.3, criterion=criterion, coupling=coupling), choose.first(250)
    shown = partials(pruned, images)
    masked, dense = right(pruned.masked(), images), right(net.module, images)
    assert [found.num_images for found in shown] == seen
    for found in shown:
        n = found.num_images
        counts = (int(masked[:n].sum()), int(dense[:n].sum()), int((masked & dense)[:n].sum()))
        assert (found.num_correct, found.num_dense_correct, found.num_both_correct) == counts
        assert (found.method, found.recovery_images, found.num_total) == ("as_is", 0, 250)
        assert (found.device, found.precision) == ("cpu", "float32")
    assert 0 < shown[-1].num_correct < shown[-1].num_dense_correct


def test_recalibrated_counts_equal_a_plain_loop(net, choose, few):
    pruned, images = net.prune(0.4, coupling="inner"), choose.first(200)
    found = measured(pruned, images, method="recalibrated", training=few)
    masked = pruned.masked()
    list(recalibrate(masked, few))
    assert (found.method, found.recovery_images) == ("recalibrated", 384)
    assert found.num_correct == int(right(masked, images).sum())
    assert found.num_correct > int(right(pruned.masked(), images).sum())  # it makes a pruned network usable


def test_the_order_of_measurements(net, choose, few, one_core):
    shown = partials(net.prune(0.4), choose.first(350), method="recalibrated", training=few)
    states = [found.state if found else None for found in shown]
    first, running, last = states.index("provisional"), states.index("measuring"), len(states) - 1
    assert first < running < last == states.index("exact")
    assert states.count("provisional") == states.count("exact") == 1
    assert shown[first].num_images == shown[first].num_total == PREVIEW_IMAGES
    assert shown[first].recovery_images == EARLY_IMAGES
    assert [found.num_images for found in shown[running:]] == [100, 200, 300, 350]
    assert {(found.num_total, found.recovery_images) for found in shown[running:]} == {(350, 384)}
    seconds = [found.seconds for found in shown if found]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_progress_rises(net, choose, few, one_core):
    shares = []
    work = measure_work(net.prune(0.4), choose.first(350), method="recalibrated", training=few, config=CPU)
    run(work, lambda step: shares.append(step.share))
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] <= 1


def test_the_provisional_measurement_is_of_the_network_so_far(net, choose, few):
    pruned = net.prune(0.4, coupling="inner")
    shown = partials(pruned, choose.first(350), method="recalibrated", training=few)
    provisional = next(found for found in shown if found)
    masked = pruned.masked()
    list(recalibrate(masked, few.first(EARLY_IMAGES)))
    assert provisional.num_correct == int(right(masked, choose.first(250)).sum())


@pytest.mark.parametrize(
    ("images", "method", "preview"), [(200, "recalibrated", True), (350, "as_is", True), (350, "recalibrated", False)]
)
def test_no_provisional_measurement_where_it_would_not_help(net, choose, few, one_core, images, method, preview):
    shown = partials(net.prune(0.4), choose.first(images), method=method, training=few, preview=preview)
    assert {found.state for found in shown if found} == {"measuring", "exact"}


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_the_dense_plan_is_never_recalibrated_and_changes_nothing(net, choose, few, coupling):
    for found in partials(net.prune(coupling=coupling), choose.first(200), method="recalibrated", training=few):
        assert found is not None
        assert found.recovery_images == 0
        assert found.num_correct == found.num_dense_correct == found.num_both_correct
        assert found.change.value == 0
    assert found.accuracy == found.dense_accuracy


def test_a_rate_too_small_to_prune_anything_is_dense(net, choose, few):
    found = measured(net.prune(0.01), choose.first(100), method="recalibrated", training=few)
    assert (found.recovery_images, found.change.value) == (0, 0)


def test_intervals_and_the_paired_change(net, choose):
    found = evaluate(net.prune(0.2), choose.first(200), CPU)
    correct, dense, both = found.num_correct, found.num_dense_correct, found.num_both_correct
    assert found.accuracy == wilson(correct, 200)
    assert found.dense_accuracy == wilson(dense, 200)
    assert found.change == paired_change(both, correct - both, dense - both, 200 - correct - dense + both)
    assert found.change.value == pytest.approx((correct - dense) / 200)


def test_the_exact_measurement_says_which_images_were_right(net, choose, few, one_core):
    pruned, images = net.prune(0.3, coupling="inner"), choose.first(303)
    *running, exact = partials(pruned, images)
    answers = torch.from_numpy(exact.right)
    assert torch.equal(answers, right(pruned.masked(), images))
    assert int(answers.sum()) == exact.num_correct
    assert len(exact.answers) == 38  # bits
    assert [found.answers for found in running] == [None] * 3
    shown = partials(pruned, images, method="recalibrated", training=few)
    provisional = next(found for found in shown if found)
    assert (provisional.state, provisional.answers) == ("provisional", None)
    assert "answers" not in repr(exact)
    assert dataclasses.replace(exact, answers=None) == exact
    with pytest.raises(FpgmError, match="a measuring measurement does not say which images were right"):
        exact.against(running[0])


def test_measurements_can_be_compared_with_each_other(net, choose):
    images = choose.first(200)
    found, dense = evaluate(net.prune(0.3, coupling="inner"), images, CPU), evaluate(net.prune(), images, CPU)
    assert (int(dense.right.sum()), dense.num_correct) == (dense.num_dense_correct, found.num_dense_correct)
    assert found.against(dense) == found.change
    assert found.against(found).value == 0
    other = evaluate(net.prune(0.3, coupling="inner", criterion="l2_norm"), images, CPU)
    assert found.against(other).value == pytest.approx((found.num_correct - other.num_correct) / 200)
    assert other.against(found).value == -found.against(other).value
    with pytest.raises(FpgmError, match="200 and 100 images cannot be paired"):
        found.against(evaluate(net.prune(), choose.first(100), CPU))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_stopping_early_leaves_nothing_changed(net, choose, few, steps):
    before, pruned, images = bits(net.module), net.prune(0.4), choose.first(300)
    recalibrated = {"method": "recalibrated", "training": few}
    running = measure_work(pruned, images, config=CPU, **recalibrated)
    for _ in range(steps):
        next(running)
    running.close()
    assert next(running, "closed") == "closed"
    assert unchanged(net.module, before)
    assert not any(module.training for module in net.module.modules())
    assert all(norm.momentum == 0.1 for norm in net.module.modules() if isinstance(norm, nn.BatchNorm2d))
    again = measured(pruned, images, **recalibrated)
    fresh = measured(Network.load("resnet20").prune(pruned.plan), images, **recalibrated)
    assert again.num_correct == fresh.num_correct


def test_work_is_done_batch_by_batch(net, choose, few, monkeypatch, one_core):
    sizes, honest = [], nn.Conv2d.forward
    assert net.dense_cost.macs  # traced before anybody looks: tracing runs the network too, on no data

    def noted(conv, x):
        if conv.in_channels == 3:
            sizes.append(len(x))
        return honest(conv, x)

    monkeypatch.setattr(nn.Conv2d, "forward", noted)
    running = measure_work(net.prune(0.4), choose.first(200), method="recalibrated", training=few, config=CPU)
    assert sizes == []
    for expected in ([128], [128, 128]):
        assert next(running).partial is None  # recalibration: nothing to show yet
        assert sizes == expected


def test_an_untrained_network_is_refused_at_once(choose):
    untrained = Network.load("resnet20", "random")
    with pytest.raises(FpgmError, match="cannot evaluate: resnet20 has no trained weights"):
        measure_work(untrained.prune(0.4), choose, config=CPU)


def test_whatever_is_wrong_is_said_before_the_first_measurement(net, choose):
    pruned = net.prune(0.4)
    beyond = ImageSet.from_arrays(choose.pixels[:4], [3, 9, 10, 0], mean=choose.mean, std=choose.std)
    cases = [
        (choose, {"config": dataclasses.replace(CPU, device="tpu")}, "unknown device"),
        (choose, {"config": dataclasses.replace(CPU, precision="float16")}, "unknown precision"),
        (choose, {"method": "fixed"}, "choose one of as_is, merged, recalibrated, repaired"),
        (choose, {"method": "recalibrated"}, "recalibrated reads training images; give some"),
        (beyond, {}, "labels up to 10, and resnet20 has 10 classes"),
    ]
    for images, options, message in cases:
        with pytest.raises(FpgmError, match=message):
            measure_work(pruned, images, **options)
    for plan, message in (
        (dataclasses.replace(pruned.plan, fingerprint="0" * 64), "other weights"),
        (dataclasses.replace(pruned.plan, locked_out={"conv1": tuple(range(9))}), "raise the rate"),
    ):
        with pytest.raises(FpgmError, match=message):
            net.prune(plan)


@pytest.mark.thorough
@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("rate", [0.2, 0.4])
@pytest.mark.parametrize("name", ["resnet20", "mobilenetv2_cifar"])
def test_recalibrated_in_bfloat16_the_count_is_float32s_within_a_thousandth(choose, name, rate, coupling):
    pruned, training = Network.load(name).prune(rate, coupling=coupling), load_images("cifar10", "train")
    low, full = (
        measured(pruned, choose, EvaluationConfig("cpu", precision), method="recalibrated", training=training)
        for precision in ("bfloat16", "float32")
    )
    # Statistics measured in bfloat16 differ by rounding, which hardware decides: up to 6 in 10,000 were seen.
    assert abs(low.num_correct - full.num_correct) <= full.num_images / 1000


def counts(found):
    return found.num_correct, found.num_dense_correct, found.num_both_correct


@pytest.mark.parametrize(("rate", "coupling"), [(0.0, "inner"), (0.2, "independent"), (0.3, "coupled")])
def test_bfloat16_counts_what_float32_counts(net, choose, rate, coupling):
    pruned, images = net.prune(rate, coupling=coupling), choose.first(300)
    low, full = (evaluate(pruned, images, EvaluationConfig("cpu", name)) for name in ("bfloat16", "float32"))
    assert (low.precision, full.precision) == ("bfloat16", "float32")
    assert counts(low) == counts(full)


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


def test_close_answers_are_reevaluated_in_float32(net, choose, one_core):
    pruned, images = net.prune(0.4), choose.first(250)
    network = MixesUp(pruned.compact())
    chain = Chain([network])
    truth = right(pruned.masked(), images)

    def answers(**options):
        return Classifier(torch.device("cpu"), torch.bfloat16, **options).ranks(chain, images, 0, 250) == 0

    assert torch.equal(answers(), truth)
    (asked, first), (again, second) = network.asked
    assert (asked, first, second) == (250, True, False)
    assert 0 < again < 125  # the doubtful ones alone
    assert not torch.equal(answers(doubt=0.0), truth)  # without re-evaluation it would be wrong
    assert len(network.asked) == 3


class WithoutNorms(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Linear(16, 10)

    def forward(self, x):
        return self.fc(torch.relu(self.b(torch.relu(self.a(x)))).mean((2, 3)))


def test_a_network_without_norms_skips_recalibration(choose, few, one_core):
    torch.manual_seed(0)
    network = Network.from_module(WithoutNorms(), (3, 32, 32))
    shown = partials(network.prune(0.5), choose.first(200), method="recalibrated", training=few)
    assert [found.recovery_images for found in shown] == [0, 0]


def test_dense_answers_are_kept_apart_by_weights(net, choose):
    images, other = choose.first(200), copy.deepcopy(net.module)
    other.fc.bias.data[3] = 100.0  # everything is a cat
    assert evaluate(net.prune(), images, CPU).dense_accuracy.value > 0.85
    cats = images.labels == 3
    assert evaluate(net.with_module(other).prune(), images, CPU).num_dense_correct == int(cats.sum())


def test_a_network_can_be_opened_while_another_is_measured(resnet20, choose):
    """torch.fx patches module calls for the whole process while it traces."""
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
        found = evaluate(resnet20.prune(0.2), choose.first(300))
    finally:
        stop.set()
        tracer.join()
    assert not problems
    assert found.state == "exact"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_what_is_remembered_of_earlier_plans_changes_no_measurement(net, choose, few, coupling, precision):
    def facts(plan):
        config = EvaluationConfig("cpu", precision)
        shown = partials(net.prune(plan), choose.first(300), config, method="recalibrated", training=few)
        return [found and (dataclasses.replace(found, seconds=0), found.answers) for found in shown]

    plan = net.plan(0.4, coupling=coupling)
    units = [unit.name for unit in net.units(coupling)]
    measured_before = []
    for unit, rate in ((units[-1], 0.6), (units[-1], 0.2), (units[-4], 0.3), (units[-4], 0.5), (units[0], 0.2)):
        plan = plan.with_rates({unit: rate})
        measured_before.append((plan, facts(plan)))
    for plan, expected in measured_before:
        PrefixCache.on(torch.device("cpu")).clear()
        assert facts(plan) == expected


@pytest.mark.parametrize("late", [True, False])
def test_a_late_unit_moved_again_leaves_the_layers_before_it_alone(net, choose, few, monkeypatch, late):
    seen, plan, images = set(), net.plan(0.4, coupling="inner"), choose.first(200)
    measured(net.prune(plan), images, method="recalibrated", training=few, remember_late=late)

    def noting(honest):
        def noted(conv, x, *other):
            seen.add(tuple(x.shape[1::2]))
            return honest(conv, x, *other)

        return noted

    moved = net.prune(plan.with_rates({"layer3.2.conv1": 0.7}))
    for kind in (nn.Conv2d, FusedConv2d):  # recalibration runs the one, classification the other
        monkeypatch.setattr(kind, "forward", noting(kind.forward))
    measured(moved, images, method="recalibrated", training=few)
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

    yield short
    reset_batches()


def test_batches_are_halved_until_they_fit_and_it_is_said(net, choose, short_of_memory):
    images = choose.first(200)
    expected = evaluate(net.prune(0.4), images, CPU)
    clear_caches()
    assert (expected.batch, expected.short_of_memory) == (100, False)
    short_of_memory(30)
    found = evaluate(net.prune(0.4), images, CPU)
    assert (found.batch, found.short_of_memory) == (25, True)
    assert counts(found) == counts(expected)
    reset_batches()
    assert Classifier(torch.device("cpu"), torch.float32).batch(images) == 100


def test_no_memory_at_all_is_said(net, choose, short_of_memory):
    short_of_memory(0)
    with pytest.raises(FpgmError, match="no memory for a single image; close what else uses it"):
        evaluate(net.prune(0.4), choose.first(200), CPU)


@pytest.fixture
def failing_gpu(monkeypatch):
    """A GPU that fails as soon as anything is to lie on it."""

    def current_device():
        raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be ...")

    monkeypatch.setattr(torch.cuda, "current_device", current_device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    yield
    reset_lost_devices()


def test_a_gpu_that_fails_is_left_and_it_is_said(failing_gpu, net, choose):
    images, auto = choose.first(200), dataclasses.replace(CPU, device="auto")
    found = evaluate(net.prune(0.3), images, auto)
    expected = evaluate(net.prune(0.3), images, CPU)
    assert (found.device, found.lost_devices, found.num_correct) == ("cpu", ("cuda",), expected.num_correct)
    assert evaluate(net.prune(0.2), images, auto).lost_devices == ("cuda",)  # later ones go to the CPU at once


def test_a_gpu_that_was_asked_for_and_fails_is_an_error(failing_gpu, net, choose):
    with pytest.raises(FpgmError, match=r"the cuda device failed \(CUDA error: unspecified launch failure\); choose"):
        evaluate(net.prune(0.3), choose.first(200), dataclasses.replace(CPU, device="cuda"))
