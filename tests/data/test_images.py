"""An image set: the first n, in order, normalised as the formula says."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fpgm_core.data import ImageSet
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
    assert (first.name, first.mean, first.std, first.classes) == (data.name, MEAN, STD, ("a", "b"))
    assert len(data) == 10


@pytest.mark.parametrize("count", [-1, 0, 11])
def test_more_images_than_there_are_is_an_error(count):
    with pytest.raises(FpgmError, match=f"{count} images asked of some images, which has 10; ask for 1 to 10"):
        images().first(count)


def test_moved_images_stay_uint8():
    moved = images().to(torch.device("meta"))
    assert (moved.pixels.device.type, moved.labels.device.type) == ("meta", "meta")
    assert (moved.pixels.dtype, moved.labels.dtype) == (torch.uint8, torch.int64)
