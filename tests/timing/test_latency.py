"""Measured speed and memory: what is timed, what may be said of it, and a hand formula for the bytes."""

from itertools import cycle

import pytest
import torch
from torch import nn

from fpgm_core import COUPLINGS, FpgmError, Network
from fpgm_core.runtime.progress import run
from fpgm_core.timing import (
    Lap,
    Latency,
    Target,
    TimingConfig,
    Zeros,
    latency_work,
    measure_latency,
    peak_bytes,
    scatter_zeros,
    zeros_work,
)
from fpgm_core.timing.turns import known_work

QUICK = TimingConfig(runs=6, seconds=0.01)


def shares_and_result(work):
    shares = []
    result = run(work, lambda progress: shares.append(progress.share))
    return shares, result


def by_turn(*seconds, runs=6, known=(1e-4,)):
    """A configuration whose clock says these seconds, subject by subject, over and over; passes are not run."""
    warm_up, rounds = iter([9.0] * 3 * len(seconds)), {}
    order = cycle([*range(len(seconds)), *reversed(range(len(seconds)))])

    def stopwatch(work, number):
        if work is known_work:
            return Lap(known[len(rounds) and rounds[0] % len(known)])
        first = next(warm_up, None)
        if first is not None:
            return Lap(first)
        place = next(order)
        rounds[place] = rounds.get(place, -1) + 1
        return Lap(seconds[place][rounds[place] % len(seconds[place])])

    return TimingConfig(runs=runs, seconds=1e-9, stopwatch=stopwatch, load=lambda: None)


def test_the_fields_are_what_was_measured(resnet20):
    target = Target(batch=2)
    found = measure_latency(resnet20.prune(0.4, coupling="coupled"), target=target, config=QUICK)
    assert (target.runtime, target.device, target.threads) == ("pytorch", "cpu", torch.get_num_threads())
    told = found.to_dict()
    assert {name: told[name] for name in ("runtime", "batch", "device", "threads")} == {
        "runtime": "pytorch", "batch": 2, "device": "cpu", "threads": torch.get_num_threads(),
    }  # fmt: skip
    assert told["runs"] >= 6
    for form in ("dense", "compact"):
        assert 0 < told[f"{form}_ms_low"] <= told[f"{form}_ms"] <= told[f"{form}_ms_high"] < 5000
    assert told["ratio_low"] <= told["ratio"] <= told["ratio_high"]
    assert 0 < found.compact_peak_bytes < found.dense_peak_bytes


def test_times_are_medians_without_the_warm_up(resnet20):
    config = by_turn([0.03, 0.01, 0.5, 0.03, 0.03, 0.01], [0.004, 0.002, 0.003, 0.003, 0.003, 0.003])
    found = measure_latency(resnet20.prune(0.4), config=config)
    assert (found.dense.value, found.compact.value) == pytest.approx((30.0, 3.0))
    assert (found.dense.low, found.dense.high) == pytest.approx((10.0, 500.0))
    assert found.ratio.value == pytest.approx((7.5 + 10) / 2)  # of each round: 7.5, 5, 167, 10, 10, 3.3
    assert found.timings.rounds == 6


@pytest.mark.parametrize(
    ("dense", "verdict", "words"),
    [
        ([0.020, 0.021, 0.019, 0.022, 0.020, 0.020], "faster", "2.00 times as fast [1.90, 2.20]"),
        ([0.005, 0.005, 0.005, 0.006, 0.005, 0.004], "slower", "0.50 times as fast (slower) [0.40, 0.60]"),
        ([0.009, 0.011, 0.010, 0.010, 0.012, 0.010], "same", "no difference found [0.90, 1.20]"),
    ],
)
def test_a_speed_up_whose_interval_includes_1_is_not_told(resnet20, dense, verdict, words):
    found = measure_latency(resnet20.prune(0.4), config=by_turn(dense, [0.01]))
    assert (found.verdict, found.told) == (verdict, words)
    assert found.to_dict()["speed_up"] == (None if verdict == "same" else found.ratio.value)
    assert found.to_dict()["ratio"] == found.ratio.value


def test_a_busy_machine_cannot_say_that_there_is_no_difference(resnet20):
    dense = [0.009, 0.011, 0.010, 0.010, 0.012, 0.010]
    found = measure_latency(resnet20.prune(0.4), config=by_turn(dense, [0.01], known=[1e-4, 1e-4, 3e-4]))
    assert found.timings.conditions.spread == pytest.approx(1.5)
    assert (found.verdict, found.told) == ("busy", "the machine was too busy to say [0.90, 1.20]")
    assert found.to_dict()["busy"] is True
    assert found.to_dict()["speed_up"] is None


def test_progress_tells_how_far_it_is(resnet20):
    shares, found = shares_and_result(latency_work(resnet20.prune(0.4), config=by_turn([0.01], [0.01])))
    assert shares == sorted(shares)
    assert 0 == shares[0] < shares[-1] < 1
    assert isinstance(found, Latency)


@pytest.mark.parametrize("config", [{"runs": 5}, {"runs": 0}, {"width": 0.0}, {"seconds": -1.0}])
def test_nothing_to_time_is_refused(config):
    with pytest.raises(FpgmError, match=r"give at least 6|give positive numbers"):
        TimingConfig(**config)


@pytest.mark.parametrize("target", [{"batch": 0}, {"threads": 0}, {"batch": -1}])
def test_nowhere_to_time_is_refused(target):
    with pytest.raises(FpgmError, match="give at least 1 of each"):
        Target(**target)


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
    pruned = resnet20.prune(0.4, coupling="inner")
    config = by_turn([0.013], [0.014], [0.015])
    found = run(zeros_work(pruned, target=Target(batch=2), config=config))
    assert (found.dense_ms, found.scattered_ms, found.compact_ms) == pytest.approx((13, 14, 15))
    assert (found.batch, found.runs, found.device, found.threads) == (2, 6, "cpu", torch.get_num_threads())
    weights = [sum(w.numel() for w in conv_weights(form).values()) for form in (resnet20.module, pruned.compact())]
    assert found.share == (weights[0] - weights[1]) / weights[0]


def test_zeros_take_time(resnet20):
    found = run(zeros_work(resnet20.prune(0.5, coupling="inner"), config=QUICK))
    assert isinstance(found, Zeros)
    assert min(found.dense_ms, found.scattered_ms, found.compact_ms) > 0


def test_measuring_leaves_the_network_as_it_was(resnet20):
    before = [tensor.clone() for tensor in resnet20.module.state_dict().values()]
    measure_latency(resnet20.prune(0.4), config=QUICK)
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
    found = measure_latency(network.prune(0.5), config=QUICK)
    assert found.dense_peak_bytes == 4 * ((24 + 128 + 64) + 32 * 32 * (3 + 8 + 16))
    assert found.compact_peak_bytes == 4 * ((12 + 32 + 32) + 32 * 32 * (3 + 4 + 8))  # c writes the outputs: whole
