"""The engine: turns, warm-up, intervals by order statistics, when it ends, and what disturbs it."""

import os
import time

import numpy as np
import pytest
import torch
from scipy.stats import binom

from fpgm_core import FpgmError
from fpgm_core.evaluation import Interval
from fpgm_core.runtime.progress import run
from fpgm_core.timing import RUNTIMES, Lap, Target, TimingConfig, median_interval, ms_told, ratio_verdict, timings_work
from fpgm_core.timing.engine import held
from fpgm_core.timing.runtimes import Form, images_for
from fpgm_core.timing.turns import conditions_of, intervals_of, is_narrow, known_work, lap


@pytest.mark.parametrize("count", [6, 7, 8, 25, 71, 500])
def test_the_interval_is_the_narrowest_of_order_statistics_that_covers_95_percent(count):
    values = np.random.RandomState(count).permutation(np.arange(1.0, count + 1))
    found = median_interval(values)
    rank = int(found.low) - 1  # how many values lie below it
    assert (found.low, found.high) == (rank + 1, count - rank)
    assert 2 * binom.cdf(rank, count, 0.5) <= 0.05
    assert 2 * binom.cdf(rank + 1, count, 0.5) > 0.05
    assert found.value == np.median(values)


def test_the_interval_covers_the_median_of_skewed_times():
    draws = np.random.RandomState(0)
    hits = [
        one.low <= np.log(2) <= one.high for one in (median_interval(draws.exponential(size=21)) for _ in range(2000))
    ]
    assert 0.95 <= np.mean(hits) <= 0.985


def test_five_values_have_none():
    with pytest.raises(ValueError, match="5 values"):
        median_interval(np.ones(5))


@pytest.mark.parametrize(
    ("ratio", "busy", "verdict"),
    [
        ((1.5, 1.1, 2.0), True, "faster"),
        ((0.9, 0.8, 0.99), True, "slower"),
        ((1.5, 0.9, 2.0), False, "same"),
        ((1.5, 0.9, 2.0), True, "busy"),
        ((1.0, 0.99, 1.01), True, "same"),
        ((1.1, 1.0, 1.2), False, "same"),
    ],
)
def test_what_a_ratio_allows_to_say(ratio, busy, verdict):
    assert ratio_verdict(Interval(*ratio), busy, 0.02) == verdict


class Clock:
    """A stopwatch that says what a script says, and writes down what was asked of it."""

    def __init__(self, script):
        self.script, self.calls = script, []

    def __call__(self, work, number):
        if work is known_work:
            return Lap(1e-4)
        work()
        self.calls.append((self.name, number))
        return self.script(self.name, len(self.calls))

    def passes(self, *names):
        def named(name):
            def once():
                self.name = name

            return once

        return {name: named(name) for name in names}


def timed(clock, *names, own_thread=False, **options):
    config = TimingConfig(stopwatch=clock, **{"runs": 6, "seconds": 1e-9, **options})
    return run(timings_work(clock.passes(*names), threads=1, config=config, own_thread=own_thread))


def test_subjects_take_turns_in_both_orders_after_the_warm_up():
    clock = Clock(lambda name, call: Lap(0.01))
    timed(clock, "a", "b", "c")
    order = [name for name, _ in clock.calls]
    assert order[:9] == list("aaabbbccc")
    assert order[9:] == list("abccba" * 3)


def test_short_passes_are_timed_several_on_end_and_long_ones_alone():
    clock = Clock(lambda name, call: Lap(4e-5 * clock.calls[-1][1]))
    found = timed(clock, "short", "long")
    assert dict(clock.calls[6:]) == {"short": 5, "long": 5}
    assert found.ms("short").value == pytest.approx(0.04)
    clock = Clock(lambda name, call: Lap(0.01))
    timed(clock, "long")
    assert {number for _, number in clock.calls} == {1}


def test_it_ends_when_the_interval_is_narrow():
    steady = timed(Clock(lambda name, call: Lap(0.01)), "a", "b", seconds=60)
    assert steady.rounds == 6
    assert all(is_narrow(one, steady.width) for one in intervals_of(steady.seconds))
    draws = np.random.RandomState(0)
    loose = timed(Clock(lambda name, call: Lap(0.01 * draws.uniform(0.9, 1.1))), "a", "b", seconds=60, width=0.01)
    assert all(is_narrow(one, loose.width) for one in intervals_of(loose.seconds))
    assert loose.rounds > 50


def test_it_ends_when_the_time_is_up_with_as_many_rounds_as_were_asked():
    draws = np.random.RandomState(0)
    found = timed(Clock(lambda name, call: Lap(draws.uniform(0.01, 1))), "a", "b", runs=9)
    assert found.rounds == 9
    assert not all(is_narrow(one, found.width) for one in intervals_of(found.seconds))


def test_shared_disturbance_is_not_in_the_ratio():
    slow = iter(np.repeat(np.random.RandomState(0).uniform(1, 5, 500), 2))
    clock = Clock(lambda name, call: Lap(0.01 * (2 if name == "a" else 1) * (1 if call <= 6 else next(slow))))
    found = timed(clock, "a", "b")
    assert found.ratio("a", "b").value == pytest.approx(2)
    assert found.ratio("a", "b").high - found.ratio("a", "b").low < 1e-9
    assert found.ms("a").high > 1.2 * found.ms("a").low


def test_rounds_in_which_the_thread_lost_its_processor_are_thrown_away():
    clock = Clock(lambda name, call: Lap(0.5, 0.1) if call % 4 == 0 else Lap(0.01, 1.0))
    kept = timed(clock, "a", own_thread=True, runs=12, seconds=60)
    assert kept.ms("a").high == pytest.approx(10)
    assert 0.15 < kept.conditions.disturbed < 0.35
    everything = timed(Clock(clock.script), "a", runs=12)
    assert everything.ms("a").high > 10
    assert everything.conditions.disturbed == 0


def test_what_makes_a_machine_busy():
    quiet = [Lap(1e-4)] * 10
    assert not conditions_of(quiet, 0.1, 0.0).busy
    assert conditions_of([*quiet, *[Lap(1e-3, 0.1)] * 2], 0.1, 0.0).busy
    assert conditions_of([Lap(1e-4), Lap(2e-4)] * 5, 0.1, 0.0).busy
    assert conditions_of(quiet, 0.1, 0.5).busy
    assert conditions_of(quiet, 3.0, 0.0).busy, "long passes wait where the known work, which is short, does not"
    assert "waited 0% of its time" in conditions_of(quiet, None, 0.0).told


def test_a_lap_tells_the_wall_from_the_processor():
    slept = lap(lambda: time.sleep(0.02))
    assert slept.seconds >= 0.02
    assert slept.had < 0.5
    assert lap(lambda: sum(range(200_000))).had > slept.had


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not hold threads to cores")
def test_threads_are_held_and_given_back():
    threads, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    with held(1):
        assert torch.get_num_threads() == 1
        assert len(os.sched_getaffinity(0)) == 1
    assert (torch.get_num_threads(), os.sched_getaffinity(0)) == (threads, cores)


# Runtimes


@pytest.mark.parametrize("name", RUNTIMES)
def test_every_runtime_computes_what_pytorch_does_or_says_why_not(name):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()).eval()
    target, images = Target(name, batch=2, threads=1), images_for((3, 8, 8), 2)
    reason = RUNTIMES[name].lacks()
    if reason:
        with pytest.raises(FpgmError, match=f"{RUNTIMES[name].title} is not available here: "):
            target.load(Form.of(module, (3, 8, 8)), images)
        return
    once = target.load(Form.of(module, (3, 8, 8)), images)
    once()
    identity = target.identity
    assert (identity["runtime"], identity["batch"], identity["threads"]) == (name, 2, 1)
    assert identity["version"]
    assert identity["processor"]
    found = run(timings_work({name: once}, threads=1, config=TimingConfig(runs=6, seconds=0.01)))
    assert found.ms(name).value > 0


def test_a_runtime_or_a_device_that_cannot_be_is_refused():
    with pytest.raises(FpgmError, match="unknown runtime 'abacus'; choose one of pytorch, onnxruntime"):
        Target("abacus")
    with pytest.raises(FpgmError, match="ONNX Runtime is not timed on cuda"):
        Target("onnxruntime", device="cuda")
    with pytest.raises(FpgmError, match="PyTorch does not read this form"):
        Target().load(Form.of_onnx(b""), images_for((3, 8, 8), 1))


def test_milliseconds_are_told_without_powers_of_ten():
    assert ms_told(1694.2, 406.4, 12345.6) == "1690 [406, 12300]"
    assert ms_told(0.05832, 0.0581, 0.0600, unit=" ms") == "0.0583 ms [0.0581, 0.06]"
