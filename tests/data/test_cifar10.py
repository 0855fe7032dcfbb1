"""The bundled CIFAR-10, its halves, and the same splits of the user's own copy."""

import gc
import hashlib
import pickle
import weakref

import numpy as np
import pytest
import torch

from fpgm_core.data import DATA, SPLITS, bundle, cifar10, load_images
from fpgm_core.errors import FpgmError
from fpgm_core.models import list_models

EVERY_SPLIT = {"choose": 5000, "sealed": 5000, "all": 10_000, "train": 5000}


def indices(split):
    return cifar10.bundled_index()[split].astype(int)


def per_class(labels):
    return np.bincount(labels, minlength=10).tolist()


@pytest.mark.parametrize(("split", "count"), EVERY_SPLIT.items())
def test_a_split_has_its_size_and_as_many_images_of_every_class(split, count):
    images = load_images("cifar10", split)
    assert images.pixels.shape == (count, 32, 32, 3)
    assert (images.pixels.dtype, images.labels.dtype) == (torch.uint8, torch.int64)
    assert per_class(images.labels) == [count // 10] * 10
    assert images.name == f"cifar10 {split}"
    assert len(images.class_names) == 10


def test_choose_and_sealed_share_no_image_and_make_up_the_test_set():
    choose, sealed = indices("choose"), indices("sealed")
    assert not set(choose) & set(sealed)
    assert sorted([*choose, *sealed]) == list(range(10_000))


@pytest.mark.parametrize("split", ["choose", "sealed"])
def test_a_half_is_the_test_set_in_the_recorded_order(split):
    half, whole = load_images("cifar10", split), load_images("cifar10", "all")
    order = torch.from_numpy(indices(split))
    assert torch.equal(half.pixels, whole.pixels[order])
    assert torch.equal(half.labels, whole.labels[order])


def test_the_first_images_of_a_half_are_a_fair_sample():
    for split in ("choose", "sealed"):
        assert min(per_class(load_images("cifar10", split).first(500).labels)) > 25, "of 50 expected"


def test_the_official_test_set_begins_with_a_cat_and_two_ships():
    images = load_images("cifar10", "all")
    assert [images.class_names[label] for label in images.labels[:4]] == ["cat", "ship", "ship", "airplane"]


def test_training_and_test_images_do_not_overlap():
    train, test = (load_images("cifar10", split).pixels.flatten(1).numpy() for split in ("train", "all"))
    digests = {hashlib.sha256(image.tobytes()).digest() for image in test}
    assert not any(hashlib.sha256(image.tobytes()).digest() in digests for image in train)


def test_channel_means_of_the_training_images_are_near_the_published_ones():
    images = load_images("cifar10", "train")
    scaled = images.pixels.double() / 255
    torch.testing.assert_close(scaled.mean((0, 1, 2)), torch.tensor(images.mean).double(), atol=0.002, rtol=0)
    torch.testing.assert_close(scaled.std((0, 1, 2)), torch.tensor(images.std).double(), atol=0.002, rtol=0)


def test_a_split_is_loaded_once():
    assert load_images("cifar10", "choose") is load_images("cifar10", "choose")


@pytest.mark.parametrize("dataset", DATA)
def test_an_unknown_split_is_refused_with_the_known_ones(dataset):
    with pytest.raises(FpgmError, match="unknown split 'test'; choose one of choose, sealed, all, train"):
        load_images(dataset, "test")


@pytest.mark.parametrize("dataset", DATA)
@pytest.mark.parametrize("split", SPLITS)
def test_every_data_set_has_every_split_and_a_network(dataset, split):
    record = DATA[dataset]
    images = load_images(dataset, split)
    networks = [info for info in list_models() if info.dataset == record.name == dataset]
    assert record.title
    assert networks
    assert {info.num_classes for info in networks} == {len(images.class_names)}
    assert {info.input_shape for info in networks} == {tuple(images.normalised(0, 1).shape[1:])}


def test_a_data_set_that_is_not_here_is_an_error_that_says_which_are():
    with pytest.raises(FpgmError, match=r"no images of imagenet1k here.*CIFAR-10"):
        load_images("imagenet1k", "choose")


def numbered(count):
    """Images that tell their own index: its two bytes are the red and the green of every pixel, blue is 7."""
    pixels = np.empty((count, 3, 32, 32), np.uint8)
    pixels[:, 0] = (np.arange(count) // 256)[:, None, None]
    pixels[:, 1] = (np.arange(count) % 256)[:, None, None]
    pixels[:, 2] = 7
    return pixels


def numbers(images):
    return images.pixels[:, 5, 9, 0].long() * 256 + images.pixels[:, 5, 9, 1].long()


@pytest.fixture
def own_copy(tmp_path):
    """A copy of CIFAR-10 as torchvision keeps it: 10,000 numbered test images, labels 0 to 9 in turn."""
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    batch = {"data": numbered(10_000).reshape(10_000, -1), "labels": [i % 10 for i in range(10_000)]}
    contents = {"test_batch": batch, "batches.meta": {"label_names": list(cifar10.CLASSES)}}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return folder.parent


def test_the_users_own_copy_has_the_same_images_in_the_same_order(own_copy):
    whole = load_images("cifar10", "all", own_copy)
    assert numbers(whole).tolist() == list(range(10_000))
    assert set(whole.pixels[..., 2].unique().tolist()) == {7}, "channels last, blue last"
    for split in ("choose", "sealed"):
        half = load_images("cifar10", split, own_copy)
        assert numbers(half).tolist() == indices(split).tolist()
        assert torch.equal(half.labels, numbers(half) % 10)


def test_a_damaged_copy_is_refused_with_what_to_do(own_copy):
    (own_copy / "cifar-10-batches-py" / "test_batch").write_bytes(b"damaged")
    with pytest.raises(FpgmError, match=r"no complete CIFAR-10 under .*unpack cifar-10-python.tar.gz there"):
        load_images("cifar10", "choose", own_copy)


def test_a_missing_copy_is_refused_and_looked_for_again(tmp_path):
    for _ in range(2):
        with pytest.raises(FpgmError, match="no complete CIFAR-10 under"):
            load_images("cifar10", "train", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_users_training_images_begin_with_the_bundled_ones():
    order = cifar10.training_order()
    assert order[:5000].tolist() == indices("train").tolist()
    assert sorted(order.tolist()) == list(range(50_000))
    assert order[5000:].tolist() != sorted(order[5000:].tolist())


def test_a_mosaic_is_undone_exactly():
    images = np.random.RandomState(0).randint(0, 256, (12, 32, 32, 3)).astype(np.uint8)
    picture = bundle.mosaic(images, columns=4)
    assert picture.shape == (96, 128, 3)
    assert np.array_equal(picture[32:64, 64:96], images[6]), "row 1, column 2 of four"
    assert np.array_equal(bundle.unmosaic(picture), images)


def test_the_halves_and_the_sample_are_remade_from_the_labels_alone():
    labels = cifar10.bundled_index()["test_labels"]
    for remade, split in zip(bundle.stratified_halves(labels), ("choose", "sealed"), strict=True):
        assert np.array_equal(remade, indices(split))


@pytest.mark.parametrize("members", [[7, 4, 9], [2, 2, 5]])
def test_halves_and_samples_are_stratified_and_disjoint(members):
    labels = np.repeat([0, 1, 2], members)
    first, second = bundle.stratified_halves(labels, seed=3)
    assert sorted([*first, *second]) == list(range(len(labels)))
    for half in (first, second):  # every class is split evenly, and so is the whole
        assert all(abs(2 * n - count) <= 1 for n, count in zip(np.bincount(labels[half]), members, strict=True))
    assert abs(len(first) - len(second)) <= 1
    sample = bundle.stratified_sample(labels, per_class=1, seed=3)
    assert sorted(labels[sample]) == [0, 1, 2]


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """CIFAR-10 as an .npz, zip-compressed: every pixel of image i is i modulo 251."""

    def write(**changed):
        arrays = {}
        for part, size in (("train", 50_000), ("test", 10_000)):
            numbers_of = (np.arange(size) % 251).astype(np.uint8)
            arrays[f"{part}_images"] = np.broadcast_to(numbers_of[:, None, None, None], (size, 32, 32, 3))
            arrays[f"{part}_labels"] = (np.arange(size) % 10).astype(np.uint8)
        np.savez_compressed(tmp_path / "cifar10.npz", **{**arrays, **changed})
        return tmp_path / "cifar10.npz"

    return write


@pytest.mark.parametrize(
    ("train", "test", "whole"),
    [(50_000, 10_000, True), (10_000, 10_000, False), (50_000, 50_000, False), (50_000, None, False)],
)
def test_a_whole_copy_is_known_by_its_sizes(tmp_path, train, test, whole):
    path, sizes = tmp_path / "cifar10.npz", {"train_labels": train, "test_labels": test}
    np.savez_compressed(path, **{name: np.zeros(size, np.uint8) for name, size in sizes.items() if size is not None})
    assert DATA["cifar10"].is_copy(path) is whole
    assert not DATA["cifar10"].is_copy(tmp_path / "none.npz")
    assert not DATA["cifar10"].is_copy(tmp_path)


def test_an_archive_has_the_same_images_in_the_same_order(archive):
    path = archive()
    sealed = load_images("cifar10", "sealed", path)
    assert sealed.pixels[:, 0, 0, 0].tolist() == (indices("sealed") % 251).tolist()
    assert sealed.labels.tolist() == (indices("sealed") % 10).tolist()
    train = load_images("cifar10", "train", path)
    assert len(train) == 50_000
    assert train.pixels[:5000, 31, 31, 2].tolist() == (indices("train") % 251).tolist()


def test_ones_own_copy_is_let_go_of(archive):
    images = load_images("cifar10", "sealed", archive())
    assert load_images("cifar10", "sealed", archive()) is images
    reference = weakref.ref(images)
    del images
    gc.collect()
    assert reference() is None


def test_an_archive_of_something_else_is_refused(archive, tmp_path):
    path = archive(test_images=np.zeros((10, 32, 32, 3), np.uint8))
    with pytest.raises(FpgmError, match=r"is not CIFAR-10: its test images are uint8 \(10, 32, 32, 3\); it holds"):
        load_images("cifar10", "choose", path)
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    (tmp_path / "broken.npz").write_bytes(b"PK broken")
    for name in ("other.npz", "broken.npz", "missing.npz"):
        with pytest.raises(FpgmError, match=f"{name} is not CIFAR-10 as an"):
            load_images("cifar10", "train", tmp_path / name)


def test_an_archive_is_never_unpickled(archive):
    path = archive(train_labels=np.array([{"not": "numbers"}] * 3, dtype=object))
    with pytest.raises(FpgmError, match=r"is not CIFAR-10 as an \.npz"):
        load_images("cifar10", "train", path)
