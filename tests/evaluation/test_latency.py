"""Measured speed and memory: what is timed, and a hand formula for the bytes."""

import pytest
import torch
from torch import nn

from fpgm_core import COUPLINGS, FpgmError, Network
from fpgm_core.evaluation import Latency, Zeros, latency_work, measure_latency, zeros_work
from fpgm_core.evaluation.latency import peak_bytes, scatter_zeros
from fpgm_core.runtime.progress import run


def shares_and_result(work):
    shares = []
    result = run(work, lambda progress: shares.append(progress.share))
    return shares, result


def test_the_fields_are_what_was_measured(resnet20):
    found = measure_latency(resnet20.prune(0.4, coupling="coupled"), batch=2, runs=3, device="cpu")
    assert (found.batch, found.runs, found.device, found.threads) == (2, 3, "cpu", torch.get_num_threads())
    assert 0 < found.compact_ms < 1000
    assert 0 < found.dense_ms < 1000
    assert found.speed_up == found.dense_ms / found.compact_ms
    assert found.compact_peak_bytes < found.dense_peak_bytes


def test_the_times_are_medians_without_the_warm_up(resnet20):
    seconds = {16: iter([9.0] * 3 + [0.030, 0.010, 0.500]), 10: iter([9.0] * 3 + [0.004, 0.002, 0.003])}
    timed = []

    def clock(module, images):
        timed.append(module.conv1.weight.shape[0])
        assert images.shape == (4, 3, 32, 32)
        assert images.is_contiguous(memory_format=torch.channels_last)
        return next(seconds[timed[-1]])

    found = measure_latency(resnet20.prune(0.4), batch=4, runs=3, device="cpu", clock=clock)
    assert timed == [16, 10] * 6  # in turns, so that whatever else the machine does slows both
    assert (found.dense_ms, found.compact_ms) == (30.0, 3.0)
    assert found.speed_up == pytest.approx(10)


def test_progress_tells_how_far_it_is(resnet20):
    work = latency_work(resnet20.prune(0.4), runs=5, device="cpu", clock=lambda module, images: 1.0)
    shares, found = shares_and_result(work)
    assert shares == [i / 8 for i in range(8)]
    assert isinstance(found, Latency)
    assert found.batch == 1


@pytest.mark.parametrize(("batch", "runs"), [(0, 3), (-1, 3), (1, 0)])
def test_nothing_to_time_is_refused(resnet20, batch, runs):
    with pytest.raises(FpgmError, match=f"cannot time {runs} runs of {batch} images; give at least 1 of each"):
        measure_latency(resnet20.prune(0.4), batch=batch, runs=runs)


def conv_weights(module):
    return {name: m.weight for name, m in module.named_modules() if isinstance(m, nn.Conv2d)}


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_scattered_are_as_many_zeros_as_the_compact_network_lacks(resnet20, coupling):
    pruned = resnet20.prune(0.4, coupling=coupling)
    dense, compact = conv_weights(resnet20.module), conv_weights(pruned.compact())
    scattered = conv_weights(scatter_zeros(pruned))
    assert scattered.keys() == dense.keys()
    for name, weight in scattered.items():
        assert weight.shape == dense[name].shape
        gone = weight == 0
        assert int(gone.sum()) == dense[name].numel() - compact[name].numel()
        assert torch.equal(weight[~gone], dense[name][~gone])
        if gone.any():
            assert dense[name][gone].abs().max() <= dense[name][~gone].abs().min()
    assert not any((weight == 0).any() for weight in dense.values())


def test_zeros_scattered_and_by_filter_are_timed_in_turns(resnet20):
    timed = []

    def clock(module, images):
        weight = module.get_parameter("layer1.0.conv1.weight")
        timed.append((len(weight), bool((weight == 0).any())))
        return 0.001 * len(timed)

    pruned = resnet20.prune(0.4, coupling="inner")
    shares, found = shares_and_result(zeros_work(pruned, batch=2, runs=3, device="cpu", clock=clock))
    assert shares == [i / 6 for i in range(6)]
    assert timed == [(16, False), (16, True), (10, False)] * 6
    assert (found.dense_ms, found.scattered_ms, found.compact_ms) == pytest.approx((13, 14, 15))
    assert (found.batch, found.runs, found.device, found.threads) == (2, 3, "cpu", torch.get_num_threads())
    weights = [sum(w.numel() for w in conv_weights(form).values()) for form in (resnet20.module, pruned.compact())]
    assert found.share == (weights[0] - weights[1]) / weights[0]


def test_zeros_take_time(resnet20):
    found = run(zeros_work(resnet20.prune(0.5, coupling="inner"), runs=1, device="cpu"))
    assert isinstance(found, Zeros)
    assert min(found.dense_ms, found.scattered_ms, found.compact_ms) > 0
    with pytest.raises(FpgmError, match="give at least 1 of each"):
        next(zeros_work(resnet20.prune(0.5), batch=0))


def test_measuring_leaves_the_network_as_it_was(resnet20):
    before = [tensor.clone() for tensor in resnet20.module.state_dict().values()]
    measure_latency(resnet20.prune(0.4), runs=1, device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(resnet20.module.state_dict().values(), before, strict=True))
    assert resnet20.module.conv1.weight.is_contiguous()


class Chain(nn.Module):
    """Widths 3, 8, 16, 4 at 10 x 10, one after the other, without biases."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(i, o, 1, bias=False) for i, o in ((3, 8), (8, 16), (16, 4)))

    def forward(self, x):
        return self.c(self.b(self.a(x)))


@pytest.mark.parametrize("count", [1, 5])
def test_peak_bytes_by_hand(count):
    chain = Chain().eval()
    chain.register_buffer("there_too", torch.zeros(7))
    weights = 3 * 8 + 8 * 16 + 16 * 4 + 7
    # The most at once: what b reads and what it writes, since a caller's frame holds neither longer.
    activations = count * 10 * 10 * (8 + 16)
    images = torch.zeros(count, 3, 10, 10)
    assert peak_bytes(chain, images) == 4 * (weights + images.numel() + activations)


class Kept(Chain):
    """The same, but every activation is held until the end."""

    def forward(self, x):
        a = self.a(x)
        b = self.b(a)
        return self.c(b), a, b


def test_what_is_held_longer_counts():
    images = torch.zeros(2, 3, 10, 10)
    assert peak_bytes(Kept(), images) - peak_bytes(Chain(), images) == 4 * 2 * 100 * 4


def test_a_change_in_place_needs_no_memory():
    images = torch.zeros(1, 3, 10, 10)
    plain, in_place = (nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(inplace=flag)) for flag in (False, True))
    assert peak_bytes(plain, images) - peak_bytes(in_place, images) == 4 * 8 * 100


def test_weights_that_share_storage_count_once():
    tied = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.Conv2d(8, 8, 1, bias=False))
    images = torch.zeros(1, 8, 2, 2)
    apart = peak_bytes(tied, images)
    tied[1].weight = tied[0].weight
    assert apart - peak_bytes(tied, images) == 4 * 64


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_a_compact_network_holds_less(resnet20, coupling):
    images = torch.zeros(8, 3, 32, 32)
    peaks = [peak_bytes(resnet20.prune(rate, coupling=coupling).compact(), images) for rate in (0.0, 0.3, 0.6)]
    assert peaks == sorted(set(peaks), reverse=True)
    assert peaks[0] <= peak_bytes(resnet20.module, images)  # a traced network lets go of activations sooner


def test_a_compact_chain_by_hand(resnet20):
    module = Chain().eval().requires_grad_(False)
    network = Network.from_module(module, (3, 32, 32))
    found = measure_latency(network.prune(0.5), batch=1, runs=1, device="cpu")
    assert found.dense_peak_bytes == 4 * ((24 + 128 + 64) + 32 * 32 * (3 + 8 + 16))
    assert found.compact_peak_bytes == 4 * ((12 + 32 + 32) + 32 * 32 * (3 + 4 + 8))  # c writes the outputs: whole
