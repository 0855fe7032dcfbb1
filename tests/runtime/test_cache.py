"""One budget for all caches of a device: bounded, shared, least recently used first, and safe between threads."""

import random
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from fpgm_core.errors import FpgmError
from fpgm_core.runtime.cache import Cache, CacheBudget, budget_of, cache_report, clear_caches, limit_of, size_of
from fpgm_core.runtime.limits import configured_bytes


def value(kilobytes):
    return torch.zeros(kilobytes << 10, dtype=torch.uint8)


def test_the_least_recently_used_goes_whichever_cache_it_is_in():
    budget = CacheBudget(100 << 10)
    first, second = Cache("first", budget=budget), Cache("second", budget=budget)
    first.put("a", value(30))
    second.put("a", value(30))
    first.put("b", value(30))
    assert first.get("a") is not None  # now the most recently used
    first.put("c", value(20))
    assert second.get("a") is None
    assert [first.get(key) is not None for key in "abc"] == [True, True, True]
    assert budget.bytes <= budget.limit


def test_a_budget_that_becomes_smaller_keeps_what_was_used_last():
    budget = CacheBudget(100 << 10)
    cache = Cache("any", budget=budget)
    for key in "abc":
        cache.put(key, value(20))
    assert cache.get("a") is not None  # now the most recently used
    budget.resize(50 << 10)
    assert [cache.get(key) is not None for key in "abc"] == [True, False, True]
    assert budget.bytes <= budget.limit == 50 << 10
    cache.put("d", value(40))
    assert [cache.get(key) is not None for key in "acd"] == [False, False, True]
    budget.resize(30 << 10)
    assert budget.bytes == 0


def test_one_name_is_one_cache_and_another_is_another():
    budget = CacheBudget(1 << 20)
    Cache("first", budget=budget).put("key", "mine")
    assert Cache("first", budget=budget).get("key") == "mine"
    assert Cache("second", budget=budget).get("key") is None
    Cache("second", budget=budget).put("key", "other")
    Cache("first", budget=budget).clear()
    assert Cache("first", budget=budget).get("key") is None
    assert Cache("second", budget=budget).get("key") == "other"


def test_what_alone_is_too_large_is_not_held_and_drives_nothing_out():
    cache = Cache("cache", budget=CacheBudget(100 << 10))
    assert cache.put("small", value(50))
    assert not cache.put("large", value(101))
    assert cache.get("large") is None
    assert cache.get("small") is not None
    assert len(cache.get_or_make("large", lambda: value(101))) == 101 << 10
    assert not cache.put("small", value(101))  # what was there is another value now, and not the one asked for
    assert cache.get("small") is None


def test_what_just_fits_is_held_and_counts_whichever_way_it_came():
    whole = CacheBudget(1 << 20)
    Cache("cache", budget=whole).get_or_make("key", lambda: value(10))
    made = whole.bytes
    Cache("cache", budget=whole).put("key", value(10))
    assert whole.bytes == made > 10 << 10
    assert Cache("cache", budget=CacheBudget(made)).put("key", value(10))
    assert not Cache("cache", budget=CacheBudget(made - 1)).put("key", value(10))


def test_without_a_setting_caches_take_two_gibibytes(monkeypatch):
    monkeypatch.delenv("FPGM_CACHE_BYTES", raising=False)
    assert limit_of() == 2 << 30


def test_values_of_no_bytes_are_bounded_as_well():
    cache = Cache("cache", budget=CacheBudget(100 << 10))
    for key in range(10_000):
        cache.put(key, True)
    assert cache_entries(cache) <= 200


def cache_entries(cache):
    return cache.budget.report()[cache.name].entries


def test_a_value_is_made_once():
    cache, made = Cache("cache", budget=CacheBudget(1 << 20)), []
    for _ in range(3):
        assert cache.get_or_make("key", lambda: made.append(1) or "value") == "value"
    assert made == [1]


def test_two_threads_that_make_the_same_value_share_the_first():
    cache, both = Cache("cache", budget=CacheBudget(1 << 20)), threading.Barrier(2, timeout=30)
    found = []

    def make():
        both.wait()
        return object()

    threads = [threading.Thread(target=lambda: found.append(cache.get_or_make("key", make))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] is found[1]


def test_many_threads_never_exceed_the_budget_nor_read_what_was_not_put():
    budget, wrong = CacheBudget(64 << 10), []

    def work(seed):
        draw, cache = random.Random(seed), Cache(f"cache {seed % 2}", budget=budget)
        for _ in range(2000):
            key = draw.randrange(40)
            if draw.random() < 0.5:
                cache.put(key, (cache.name, key, np.zeros(draw.randrange(8000), np.uint8)))
            else:
                found = cache.get(key)
                if found is not None and found[:2] != (cache.name, key):
                    wrong.append(found)
            if budget.bytes > budget.limit:
                wrong.append(budget.bytes)
            if draw.random() < 0.01:
                cache.clear()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    report = budget.report()
    assert sum(use.bytes for use in report.values()) == budget.bytes


@dataclass
class Pair:
    left: object
    right: object


def test_sizes_are_those_of_the_arrays_each_once():
    tensor, array = torch.zeros(100), np.zeros(50)
    assert size_of(tensor) == size_of(tensor[:1]) == size_of([tensor, tensor[3:]]) == 400
    assert size_of(array[:3]) == size_of({"a": array, "b": array[1:]}) == 400
    assert size_of(Pair(tensor, (array, b"abc"))) == 803
    module = nn.BatchNorm2d(10)
    assert size_of(module) == 4 * 4 * 10 + 8
    assert size_of([object(), 3, None, Pair]) == 0


def test_the_report_names_every_cache_and_uses_nothing():
    clear_caches()
    Cache("first").put(1, value(10))
    Cache("second").put(1, value(20))
    Cache("second").put(2, value(20))
    report = cache_report()["cpu"]
    assert {name: use.entries for name, use in report.items()} == {"first": 1, "second": 2}
    assert 40 << 10 <= report["second"].bytes < 42 << 10
    assert Cache("second").bytes == report["second"].bytes
    clear_caches(torch.device("cpu"))
    assert not cache_report()["cpu"]
    budget = CacheBudget(25 << 10)
    cache = Cache("cache", budget=budget)
    cache.put("old", value(10))
    cache.put("new", value(10))
    budget.report()
    cache.put("newest", value(10))
    assert cache.get("old") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 7), ("0", 0), ("500000000", 500_000_000), ("512M", 512 << 20), (" 2g ", 2 << 30), ("3GB", 3 << 30)],
)
def test_limits_are_read_from_the_environment(monkeypatch, text, expected):
    monkeypatch.setenv("FPGM_CACHE_BYTES", text)
    assert configured_bytes("FPGM_CACHE_BYTES", 7) == expected


@pytest.mark.parametrize("text", ["much", "-1", "1.5G", "1e9", "9" * 40, "٣"])
def test_a_limit_that_is_none_is_refused_with_its_name(monkeypatch, text):
    monkeypatch.setenv("FPGM_CACHE_BYTES", text)
    with pytest.raises(FpgmError, match="FPGM_CACHE_BYTES="):
        configured_bytes("FPGM_CACHE_BYTES", 7)


def test_the_process_has_the_budget_that_was_configured(monkeypatch):
    monkeypatch.setenv("FPGM_CACHE_BYTES", "3M")
    assert limit_of() == 3 << 20
    assert budget_of(torch.device("cpu")) is budget_of()
    assert Cache("any").budget is budget_of()


def test_a_budget_of_nothing_holds_nothing():
    cache = Cache("cache", budget=CacheBudget(0))
    assert cache.get_or_make("key", lambda: "value") == "value"
    assert not cache.put("key", "value")
    assert cache.get("key") is None
