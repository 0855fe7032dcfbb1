"""An image set: the first n, in order, normalised as the formula says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fpgm_core.data import DataInfo, ImageSet, load_images, register_data, sample_images, unregister_data
from fpgm_core.data.sources import from_pixels
from fpgm_core.errors import FpgmError

MEAN, STD = (0.5, 0.25, 0.1), (0.2, 0.5, 1.0)


def images(count=10):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 4, 5, 3), dtype=torch.uint8, generator=generator)
    return ImageSet("some images", pixels, torch.arange(count), MEAN, STD, ("a", "b"))


def by_hand(pixels):
    planes = [(pixels[..., c].double() / 255 - MEAN[c]) / STD[c] for c in range(3)]
    return torch.stack(planes, dim=1)


def test_normalised_is_pixel_over_255_minus_mean_over_std():
    data = images()
    normalised = data.normalised(2, 7)
    assert normalised.dtype == torch.float32
    assert normalised.shape == (5, 3, 4, 5)
    torch.testing.assert_close(normalised.double(), by_hand(data.pixels[2:7]), rtol=1e-6, atol=1e-6)


@given(st.integers(1, 12), st.integers(0, 9))
def test_batches_cover_every_image_once_and_in_order(size, start):
    data = images()
    batches = list(data.batches(size, start))
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(start, 10))
    assert [len(x) for x, _ in batches] == [len(labels) for _, labels in batches]
    assert all(len(x) == size for x, _ in batches[:-1])
    torch.testing.assert_close(torch.cat([x for x, _ in batches]), data.normalised(start, 10), rtol=0, atol=0)


@given(st.integers(1, 10))
def test_first_is_a_prefix_and_leaves_the_rest_alone(count):
    data = images()
    first = data.first(count)
    assert len(first) == count
    assert torch.equal(first.pixels, data.pixels[:count])
    assert torch.equal(first.labels, data.labels[:count])
    assert (first.name, first.mean, first.std, first.class_names) == (data.name, MEAN, STD, ("a", "b"))
    assert len(data) == 10


@pytest.mark.parametrize("count", [-1, 0, 11])
def test_more_images_than_there_are_is_an_error(count):
    with pytest.raises(FpgmError, match=f"{count} images asked of some images, which has 10; ask for 1 to 10"):
        images().first(count)


def test_moved_images_stay_uint8():
    moved = images().to(torch.device("meta"))
    assert (moved.pixels.device.type, moved.labels.device.type) == ("meta", "meta")
    assert (moved.pixels.dtype, moved.labels.dtype) == (torch.uint8, torch.int64)


def test_images_come_from_arrays_and_split_into_stratified_halves():
    pixels = np.random.RandomState(0).randint(0, 256, (30, 6, 5, 3), dtype=np.uint8)
    images = ImageSet.from_arrays(
        pixels, np.arange(30) % 3, mean=MEAN, std=STD, class_names=("a", "b", "c"), name="mine"
    )
    choose, sealed = images.halves(seed=1)
    assert len(choose) == len(sealed) == 15
    assert np.bincount(choose.labels).tolist() == np.bincount(sealed.labels).tolist() == [5, 5, 5]
    assert {p.numpy().tobytes() for p in choose.pixels}.isdisjoint(p.numpy().tobytes() for p in sealed.pixels)
    assert (choose.name, sealed.name) == ("mine choose", "mine sealed")
    assert torch.equal(images.halves(seed=1)[0].pixels, choose.pixels)
    assert not torch.equal(images.halves(seed=2)[0].pixels, choose.pixels)


@pytest.mark.parametrize("members", [(90, 9, 1), (10, 10, 10), (1, 60)])
def test_every_beginning_of_a_shuffled_source_has_the_classes_in_like_shares(members):
    labels = np.repeat(np.arange(len(members)), members)
    shuffled = from_pixels("some", np.zeros((len(labels), 1, 1, 3), np.uint8), labels).shuffled("shuffled")
    taken = labels[shuffled.indices]
    assert np.bincount(taken).tolist() == list(members)
    assert shuffled.indices.tolist() != sorted(shuffled.indices.tolist())
    for n in range(1, len(labels) + 1):
        shares = np.bincount(taken[:n], minlength=len(members))
        assert np.abs(shares - n * np.array(members) / len(labels)).max() < len(members)


def test_arrays_alone_are_images_in_0_to_1_whose_classes_are_numbers():
    pixels = np.random.RandomState(0).randint(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    found = ImageSet.from_arrays(pixels, [0, 2, 1, 2])
    assert (found.class_names, found.name, found.highest_label) == (("0", "1", "2"), "images", 2)
    torch.testing.assert_close(found.normalised(0, 4), torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixels": np.zeros((4, 8, 8, 3), np.float32)}, "give uint8"),
        ({"pixels": np.zeros((4, 8, 8), np.uint8)}, "give uint8"),
        ({"labels": np.zeros(3, int)}, "one an image"),
        ({"labels": np.zeros(4, np.float32)}, "whole numbers"),
        ({"labels": np.zeros(4, bool)}, "whole numbers"),
        ({"labels": np.array([0, 1, 2, -1])}, "from -1 to 2"),
        ({"labels": np.array([0, 1, 2, 3]), "class_names": ("a", "b")}, "2 classes"),
        ({"mean": (0.5,), "std": (0.5,)}, "one a channel"),
        ({"std": (0.5, 0.0, 0.5)}, "above 0"),
    ],
)
def test_arrays_that_are_no_images_are_refused(change, message):
    given = {"pixels": np.zeros((4, 8, 8, 3), np.uint8), "labels": np.zeros(4, int)} | change
    with pytest.raises(FpgmError, match=message):
        ImageSet.from_arrays(given.pop("pixels"), given.pop("labels"), **given)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 48, 48), (5, 32, 32)])
def test_samples_have_the_networks_shape_whatever_images_there_are(shape):
    samples = sample_images("", shape, 4)
    assert samples.shape == (4, *shape)
    assert samples.std() > 0.1


def test_few_images_are_samples_again_and_again():
    few = load_images("cifar10", "choose").first(3)
    register_data(DataInfo("few", "Few", lambda split, root, download: few))
    try:
        samples = sample_images("few", (3, 32, 32), 7)
    finally:
        unregister_data("few")
    assert torch.equal(samples[:3], few.normalised(0, 3))
    assert torch.equal(samples[3:6], samples[:3])
    assert torch.equal(samples[6], samples[0])


def test_a_digest_is_of_the_images_and_not_of_how_they_were_taken():
    choose = load_images("cifar10", "choose")
    first = choose.first(20)
    assert first.digest == choose.at_most(20).digest != choose.first(21).digest
    taken = choose.take(range(20), "taken")
    assert taken.serial != first.serial
    assert taken.digest == first.digest
    assert choose.at_most(len(choose) + 1) is choose


def test_a_digest_changes_with_all_that_results_depend_on():
    one = ImageSet("one", images().pixels, torch.arange(10) % 2, MEAN, STD, ("a", "b"))
    others = [
        replace(one, pixels=one.pixels ^ 1),
        replace(one, pixels=one.pixels.reshape(10, 5, 4, 3)),
        replace(one, labels=1 - one.labels),
        replace(one, mean=(0.5, 0.25, 0.2)),
        replace(one, std=(0.2, 0.5, 0.9)),
        one.last(9),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 1 + len(others)
    assert replace(one, name="another").digest == one.digest


def test_caches_know_the_first_images_and_copies_by_the_number_of_the_whole():
    some = images()
    assert some.first(3).serial == some.at_most(4).serial == some.to(torch.device("meta")).serial == some.serial
    others = [images(), some.last(3), some.take([0, 1], "two"), *some.halves()]
    assert len({some.serial, *(other.serial for other in others)}) == 1 + len(others)
