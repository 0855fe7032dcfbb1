"""Chains: what they remember is what they would compute, and no more than there is room for."""

import pytest
import torch
from torch import nn

from fpgm_core.data import Batch, load_images
from fpgm_core.inference import Chain, PrefixCache
from fpgm_core.inference import prefix_cache as chains
from fpgm_core.recovery import batch_norms_of, recalibrate
from fpgm_core.runtime.cache import CacheBudget


@pytest.fixture
def images():
    return load_images("cifar10", "train").first(300)


def network(seed=0):
    torch.manual_seed(seed)
    return [
        nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in ((3, 4), (4, 4), (4, 4))
    ] + [nn.Flatten()]


@pytest.fixture
def parts():
    return [part.eval() for part in network()]


def counted(parts):
    """How often each part ran, as they run."""
    counts = [0] * len(parts)

    def count(index):
        return lambda *_: counts.__setitem__(index, counts[index] + 1)

    for index, part in enumerate(parts):
        part.register_forward_pre_hook(count(index))
    return counts


def test_what_equal_parts_made_is_not_computed_again(parts, images):
    batch = Batch(images, 0, 20)
    first, notes = Chain.remembering(parts, "kind").run(batch, lambda part: id(part))
    counts = counted(parts)
    again = Chain.remembering(parts, "kind")
    value, same = again.run(batch, lambda part: id(part))
    assert torch.equal(value, first)
    assert same == notes == [id(part) for part in parts]
    assert counts == [0, 0, 0, 1]  # the last part's result is not kept: it is the answer
    assert torch.equal(again(batch.normalised()), first)
    assert counts == [1, 1, 1, 2]


@pytest.mark.parametrize("changed", range(3))
def test_what_comes_before_a_change_is_found_and_the_rest_computed(parts, images, changed):
    batch = Batch(images, 0, 20)
    plain = Chain(parts)
    counts = counted(parts)
    ran = []
    for _ in range(4):
        before = list(counts)
        value, _ = Chain.remembering(parts, "kind").run(batch)
        ran.append([now - then for now, then in zip(counts, before, strict=True)])
        assert torch.equal(value, plain(batch.normalised()))
        with torch.no_grad():
            parts[changed][0].weight += 0.1
    assert ran[0] == [1, 1, 1, 1]
    for one in ran[2:]:  # the second time, what is in front of the change is worth remembering
        assert one == [0] * changed + [1] * (4 - changed)


@pytest.mark.parametrize("what", ["running_mean", "running_var", "bias"])
def test_any_tensor_counts(parts, images, what):
    batch = Batch(images, 0, 20)
    Chain.remembering(parts, "kind").run(batch)
    with torch.no_grad():
        getattr(parts[0][1], what).add_(0.5)
    value, _ = Chain.remembering(parts, "kind").run(batch)
    assert torch.equal(value, Chain(parts)(batch.normalised()))


class Shifted(nn.Module):
    """Adds a buffer: whatever its shape is, equal numbers."""

    def __init__(self, *shape):
        super().__init__()
        self.register_buffer("shift", torch.arange(9.0).reshape(shape))

    def forward(self, x):
        return x[..., :9, :9] + self.shift


def test_equal_numbers_in_another_shape_are_told_apart(images):
    batch = Batch(images, 0, 20)
    for shift in (Shifted(1, 9), Shifted(9, 1)):
        value, _ = Chain.remembering([shift, nn.Flatten()], "kind").run(batch)
        assert torch.equal(value, shift(batch.normalised()).flatten(1))


def test_other_kinds_batches_and_images_are_told_apart(parts, images):
    others = load_images("cifar10", "choose").first(300)
    counts = counted(parts)
    asked = [("a", Batch(images, 0, 20)), ("a", Batch(images, 20, 40)), ("a", Batch(others, 0, 20)),
             ("b", Batch(images, 0, 20)), ("a", Batch(images, 0, 10))]  # fmt: skip
    for kind, batch in asked:
        value, _ = Chain.remembering(parts, kind).run(batch)
        assert len(value) == batch.end - batch.begin
    assert counts[0] == len(asked)


def test_a_chain_without_marks_remembers_nothing(parts, images):
    Chain(parts).run(Batch(images, 0, 20))
    assert PrefixCache.on(torch.device("cpu")).bytes == 0


class Doubling(nn.Module):
    """Writes into what it is called with, and says so."""

    overwrites_input = True

    def forward(self, x):
        return x.mul_(2)


@pytest.mark.parametrize("between", [nn.Identity(), nn.ReLU()])
def test_what_is_remembered_is_not_overwritten(parts, images, between):
    batch = Batch(images, 0, 20)
    once = 2 * Chain([parts[0], between])(batch.normalised())
    for last, times in ((Doubling(), 2), (nn.Identity(), 1), (nn.ReLU(), 1), (Doubling(), 2), (nn.Identity(), 1)):
        chain = Chain.remembering([parts[0], between, Doubling(), last, nn.Flatten()], "kind")
        value, _ = chain.run(batch)
        assert torch.equal(value, (times * once).flatten(1))


def entry(count):
    return chains._Entry(torch.zeros(count, dtype=torch.uint8), ())


def test_room_is_bounded_and_the_least_recently_used_goes():
    prefixes = PrefixCache(budget=CacheBudget(100_000))
    for key in "abcd":
        prefixes.put(key, entry(24_000), 0.1)
    assert prefixes.get("a")
    prefixes.put("e", entry(20_000), 0.1)
    assert [prefixes.get(key) is not None for key in "abcde"] == [True, False, True, True, True]
    full = prefixes.bytes
    assert 92_000 < full <= 100_000
    prefixes.put("a", entry(10_000), 0.1)  # in place of the one before
    assert prefixes.bytes == full - 14_000
    prefixes.clear()
    assert prefixes.bytes == 0
    assert prefixes.get("a") is None


def test_what_would_not_fit_as_a_whole_is_not_begun():
    prefixes = PrefixCache(budget=CacheBudget(80_000))
    assert not prefixes.put("a", entry(1000), 10.1)
    assert prefixes.bytes == 0
    assert prefixes.put("a", entry(1000), 10)
    assert prefixes.bytes > 1000


def test_what_is_worth_remembering():
    prefixes = PrefixCache()
    assert prefixes.worth(("a", "b", "c", "d", "e")) == {"d", "e"}
    assert prefixes.worth(("a", "b", "x", "y", "z")) == {"b", "y", "z"}
    assert prefixes.worth(("a", "b", "c", "v", "w")) == {"c", "v", "w"}
    assert prefixes.worth(("q", "b", "c", "v", "w")) == {"v", "w"}
    assert prefixes.worth(()) == frozenset()
    assert prefixes.worth(("q", "b", "c", "x", "y"), late=False) == {"c"}


def test_recalibration_with_a_memory_is_recalibration(parts, images):
    for changed in (2, 2, 1, 1, 0):
        with torch.no_grad():
            parts[changed][0].weight += 0.1
        plain = nn.Sequential(*network())
        plain.load_state_dict(nn.Sequential(*parts).state_dict())
        list(recalibrate(plain.eval(), images))
        assert list(recalibrate(Chain.remembering(parts, "training"), images))[-1] == 300
        for norm, expected in zip(batch_norms_of(nn.ModuleList(parts)), batch_norms_of(plain), strict=True):
            assert torch.equal(norm.running_mean, expected.running_mean)
            assert torch.equal(norm.running_var, expected.running_var)
