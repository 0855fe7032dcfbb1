"""Data sets as objects, and archives: every kind gives the same image set."""

import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset

from fpgm_core import FpgmError, ImageSet
from fpgm_core.data import Preprocessing, load_images, open_dataset, open_images
from fpgm_core.data.cifar_files import CIFAR10, CIFAR100
from fpgm_core.runtime.progress import run

AS_THEY_ARE = Preprocessing(mean=(0.5,) * 3, std=(0.2,) * 3)


@pytest.fixture(scope="module")
def photographs():
    return load_images("cifar10", "sealed").first(12)


class Items(Dataset):
    """Items of any form, with whatever else a data set has."""

    def __init__(self, items, **more):
        self.items = items
        vars(self).update(more)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def forms(images):
    """The same images as data sets hold them."""
    pixels, labels = images.pixels, images.labels.tolist()
    floats = pixels.permute(0, 3, 1, 2) / 255
    return {
        "pictures": Items([(Image.fromarray(p.numpy()), label) for p, label in zip(pixels, labels, strict=True)]),
        "arrays": Items(list(zip(pixels.numpy(), labels, strict=True))),
        "channels first": Items(list(zip(pixels.permute(0, 3, 1, 2), labels, strict=True))),
        "floats": Items(list(zip(floats, labels, strict=True))),
        "mappings": Items([{"image": p.numpy(), "label": y} for p, y in zip(pixels, labels, strict=True)]),
        "tensors": TensorDataset(floats, images.labels),
        "with targets": Items(
            list(zip(pixels.numpy(), labels, strict=True)), targets=labels, classes=list("abcdefghij")
        ),
        "a subset": Subset(Items([(pixels.numpy()[0], 1), *zip(pixels.numpy(), labels, strict=True)]), range(1, 13)),
    }


@pytest.mark.parametrize(
    "form", ["pictures", "arrays", "channels first", "floats", "mappings", "tensors", "with targets", "a subset"]
)
def test_every_form_of_data_set_gives_the_same_images(photographs, form):
    found = ImageSet.from_dataset(forms(photographs)[form], preprocessing=AS_THEY_ARE, name="mine")
    assert torch.equal(found.pixels, photographs.pixels)
    assert torch.equal(found.labels, photographs.labels)
    assert (found.name, found.mean) == ("mine", AS_THEY_ARE.mean)


def test_labels_are_known_before_reading_where_the_data_set_keeps_them(photographs):
    kept = open_dataset(forms(photographs)["with targets"])
    assert kept.labels.tolist() == photographs.labels.tolist()
    assert kept.class_names == tuple("abcdefghij")
    assert open_dataset(Subset(forms(photographs)["with targets"], [3, 1])).labels.tolist() == [
        int(photographs.labels[3]), int(photographs.labels[1]),
    ]  # fmt: skip
    changed = Items(list(zip(photographs.pixels, [0] * 12, strict=True)), targets=[1] * 12, target_transform=int)
    assert open_dataset(changed).labels is None
    with pytest.raises(FpgmError, match="only known once all images are read"):
        open_dataset(changed).halves()


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (iter(()), "give a map-style Dataset"),
        (Items([]), "is empty"),
        (Items([np.zeros((4, 4, 3), np.uint8)]), r"give \(image, label\)"),
        (Items([(np.zeros((4, 4, 3), np.uint8), [0, 1])]), r"give \(image, label\)"),
        (Items([(np.zeros((4, 4, 3), np.uint8), 0.5)]), "the label 0.5"),
        (Items([(np.zeros((4, 4, 3), np.uint8), -1)]), "labels from -1"),
        (Items([(torch.randn(3, 4, 4) * 9, 0)]), "leave Normalize out"),
        (Items([(np.zeros((4, 4, 5), np.uint8), 0)]), "give PIL pictures"),
        (Items([(np.zeros((4, 4, 3), np.int32), 0)]), "give uint8"),
    ],
)
def test_other_data_sets_are_refused(dataset, message):
    with pytest.raises(FpgmError, match=message):
        ImageSet.from_dataset(dataset, preprocessing=AS_THEY_ARE)


def test_class_names_that_are_too_few(photographs):
    with pytest.raises(FpgmError, match="and 2 class names"):
        ImageSet.from_dataset(forms(photographs)["arrays"], preprocessing=AS_THEY_ARE, class_names=["a", "b"])


def test_hugging_face_data_sets(photographs, tmp_path):
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    features = datasets.Features(
        {
            "img": datasets.Image(),
            "note": datasets.Value("string"),
            "label": datasets.ClassLabel(names=list("abcdefghij")),
        }
    )

    def encoded(pixels):
        file = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(file, "PNG")
        return {"bytes": file.getvalue(), "path": None}

    rows = {
        "img": [encoded(pixels) for pixels in photographs.pixels],
        "note": ["x"] * 12,
        "label": photographs.labels.tolist(),
    }
    made = datasets.Dataset.from_dict(rows, features=features)
    found = ImageSet.from_dataset(made, preprocessing=AS_THEY_ARE)
    assert torch.equal(found.pixels, photographs.pixels)
    assert torch.equal(found.labels, photographs.labels)
    assert found.class_names == tuple("abcdefghij")
    datasets.DatasetDict({"train": made, "test": made.select(range(6))}).save_to_disk(tmp_path / "saved")
    splits = open_images(f"hf:{tmp_path / 'saved'}")
    assert (len(splits.choose), len(splits.sealed), len(splits.train), splits.notice) == (3, 3, 12, None)
    with pytest.raises(FpgmError, match="the columns note, label; it needs one of images"):
        open_dataset(made.remove_columns("img"))
    with pytest.raises(FpgmError, match="cannot open the data set"):
        open_images(f"hf:{tmp_path / 'nowhere' / 'at' / 'all'}")


def test_a_missing_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(FpgmError, match=r"datasets is not installed; pip install 'fpgm-explorer\[hf\]'"):
        open_images("hf:somebody/something")


@pytest.mark.parametrize("names", [("images", "labels"), ("x_test", "y_test"), ("test_images", "test_labels")])
def test_an_archive(photographs, tmp_path, names):
    pixels, labels = photographs.pixels.numpy(), photographs.labels.numpy()
    more = {"class_names": np.array(photographs.class_names)} if names[0] == "images" else {}
    np.savez(tmp_path / "mine.npz", **{names[0]: pixels, names[1]: labels}, **more)
    splits = open_images(tmp_path / "mine.npz")
    whole = run(splits.split("all").load_work(AS_THEY_ARE))
    assert len(whole) == 9
    assert splits.choose.class_names == (photographs.class_names if more else None)
    assert {p.numpy().tobytes() for p in whole.pixels} < {p.tobytes() for p in pixels}
    np.savez(
        tmp_path / "mine.npz", **{names[0]: pixels, names[1]: labels}, x_train=pixels[:5], y_train=labels[:5, None]
    )
    splits = open_images(tmp_path / "mine.npz")
    assert (len(splits.choose), len(splits.train), splits.notice) == (6, 5, None)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"other": np.zeros(3)}, "has other; an .npz of images holds"),
        ({"images": np.zeros((2, 4, 4, 3)), "labels": np.zeros(2, int)}, "has images float64"),
        ({"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.zeros(3, int)}, "has labels"),
        ({"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.array([None, {}])}, "pickled objects in labels"),
    ],
)
def test_archives_of_something_else(tmp_path, arrays, message):
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(FpgmError, match=message):
        open_images(tmp_path / "other.npz")


@pytest.mark.parametrize("what", ["nowhere", "file.txt"])
def test_what_holds_no_images(tmp_path, what):
    (tmp_path / "file.txt").write_text("text")
    ways = "give a folder of class folders, a zip of one, an .npz, cifar10, cifar100, or hf:NAME"
    with pytest.raises(FpgmError, match=ways):
        open_images(tmp_path / what)


def cifar_rows(count):
    """Images that tell their own index, as CIFAR's files have them: (count, 3072), red first."""
    rows = np.zeros((count, 3, 1024), np.uint8)
    rows[:, 0], rows[:, 1] = (np.arange(count) // 256)[:, None], (np.arange(count) % 256)[:, None]
    return rows.reshape(count, 3072)


@pytest.fixture(scope="module")
def cifar100(tmp_path_factory):
    """A copy of CIFAR-100's test images, in the Python version and in the binary one."""
    root = tmp_path_factory.mktemp("cifar")
    rows, labels = cifar_rows(10_000), np.arange(10_000) % 100
    for folder in (CIFAR100.folder, CIFAR100.binary_folder):
        (root / folder).mkdir()
    batch = {"data": rows, "fine_labels": labels.tolist(), "coarse_labels": [0] * 10_000}
    (root / CIFAR100.folder / "test").write_bytes(pickle.dumps(batch, protocol=2))
    names = {"fine_label_names": [f"class {number}" for number in range(100)]}
    (root / CIFAR100.folder / "meta").write_bytes(pickle.dumps(names, protocol=2))
    coarse = np.zeros((10_000, 1), np.uint8)
    content = np.concatenate([coarse, labels[:, None].astype(np.uint8), rows], axis=1)
    (root / CIFAR100.binary_folder / "test.bin").write_bytes(content.tobytes())
    return root


@pytest.mark.parametrize("folder", ["folder", "binary_folder"])
def test_cifar100_in_both_versions(cifar100, folder):
    place = cifar100 / getattr(CIFAR100, folder)
    pixels, labels = CIFAR100.read(place, "test")
    assert pixels.shape == (10_000, 32, 32, 3)
    assert (pixels[:, 3, 4, 0].astype(int) * 256 + pixels[:, 3, 4, 1]).tolist() == list(range(10_000))
    assert labels.tolist() == [number % 100 for number in range(10_000)]


def test_cifar_by_its_folder(cifar100):
    with pytest.raises(FpgmError, match=r"no complete CIFAR-100 under .*allow the download"):  # train is not there
        open_images(cifar100)
    assert CIFAR100.class_names(cifar100)[3] == "class 3"
    assert CIFAR10.folder_in(cifar100) is None


def test_cifar_that_is_not_here(own_home):
    with pytest.raises(
        FpgmError, match=r"no complete CIFAR-100 under .*home/data .*unpack cifar-100-python.tar.gz there"
    ):
        open_images("cifar100")


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Evil()),
        pickle.dumps({"data": Evil(), "labels": []}),
        pickle.dumps([1, 2]),
        pickle.dumps({"data": np.array([Evil()], dtype=object), "labels": [0]}, protocol=2),
        pickle.dumps({"data": np.zeros((10_000, 3072), np.uint8), "labels": [10] * 10_000}, protocol=2),
        b"\x80\x04garbage",
        b"",
    ],
)
def test_a_file_of_cifar_is_never_run(tmp_path, content):
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(FpgmError, match=r"no complete CIFAR-10 under .* \(test_batch is"):
        CIFAR10.read(tmp_path, "test")
