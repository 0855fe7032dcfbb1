"""Trees of images: which folder is which class, what does not decode, what is kept, how they are split."""

import os

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from fpgm_core import FpgmError, ImageSet
from fpgm_core.data import Preprocessing, class_misfit, open_folder, open_images
from fpgm_core.data.classes import imagenet_wnids
from fpgm_core.data.folders import SUFFIXES
from fpgm_core.runtime.progress import run
from fpgm_core.runtime.torchvision_import import import_torchvision

SMALL = Preprocessing(resize=24, crop=(16, 16), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))


def test_a_tree_is_read_as_torchvisions_imagefolder_reads_it(write_tree):
    root = write_tree()
    found = ImageSet.from_folder(root, preprocessing=SMALL)
    datasets, transforms = (import_torchvision(f"torchvision.{name}") for name in ("datasets", "transforms"))
    expected = datasets.ImageFolder(root, transforms.Compose([transforms.Resize(24), transforms.CenterCrop(16)]))
    assert found.class_names == tuple(expected.classes)
    assert found.labels.tolist() == expected.targets
    assert (found.mean, found.std, found.notes, found.unread) == (SMALL.mean, SMALL.std, (), ())
    for pixels, (picture, _) in zip(found.pixels, expected, strict=True):
        assert np.array_equal(pixels.numpy(), np.asarray(picture))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_usual_kind_of_file_is_read(write_tree, suffix):
    root = write_tree(classes=("cat",), count=2, suffix=suffix.replace(".pgm", ".ppm"))
    for path in (root / "cat").iterdir():
        path.rename(path.with_suffix(suffix))
    found = ImageSet.from_folder(root, preprocessing=SMALL)
    assert (len(found), found.unread) == (2, ())


def test_images_that_do_not_decode_are_named_and_left_out(write_tree):
    root = write_tree()
    (root / "cat" / "text.png").write_text("no picture")
    whole = (root / "dog" / "1.png").read_bytes()
    (root / "dog" / "1.png").write_bytes(whole[: len(whole) // 2])
    found = ImageSet.from_folder(root, preprocessing=SMALL)
    assert found.unread == ("cat/text.png", "dog/1.png")
    assert found.notes == ("2 of 13 images do not decode and are left out: cat/text.png, dog/1.png",)
    assert found.labels.tolist() == [0] * 4 + [1] * 3 + [2] * 4
    again = ImageSet.from_folder(root, preprocessing=SMALL)  # from disk
    assert (again.notes, again.digest) == (found.notes, found.digest)


def test_nothing_decodes(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.jpg").write_text("no picture")
    with pytest.raises(FpgmError, match=r"none of the 1 images of .* decodes; the first: cat/a.jpg"):
        ImageSet.from_folder(tmp_path, preprocessing=SMALL)


def test_no_other_program_is_run_on_a_picture_whatever_it_says_it_is(tmp_path, monkeypatch):
    """Pillow hands PostScript to Ghostscript, which runs it: this Ghostscript says that it was called."""
    called, program = tmp_path / "called", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {called}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # as in a new process
    root = tmp_path / "tree"
    (root / "cat").mkdir(parents=True)
    script = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) print\n%%EOF\n"
    for suffix in SUFFIXES:
        (root / "cat" / f"a{suffix}").write_text(script)
    with pytest.raises(FpgmError, match=r"none of the 9 images of .* decodes"):
        ImageSet.from_folder(root, preprocessing=SMALL)
    assert not called.exists()


@pytest.mark.parametrize("content", [None, "file", "empty"])
def test_what_is_no_tree_is_refused(tmp_path, content):
    place = tmp_path / "place"
    if content == "file":
        place.write_text("")
    if content == "empty":
        place.mkdir()
    with pytest.raises(FpgmError, match="one folder a class"):
        open_folder(place)


def test_imagenets_folders_are_in_imagenets_order(write_tree):
    wnids = imagenet_wnids()
    assert (len(wnids), wnids[0], wnids[-1], list(wnids)) == (1000, "n01440764", "n15075141", sorted(set(wnids)))
    source = open_folder(write_tree(classes=(wnids[7], wnids[999]), count=1))
    assert source.class_names == wnids
    assert source.labels.tolist() == [7, 999]


def test_class_names_say_which_folder_is_which_class(write_tree):
    root = write_tree()
    names = ("ape", "Frog", "dog ", "CAT")
    given = open_folder(root, class_names=names)
    assert given.labels.tolist() == [3] * 4 + [2] * 4 + [1] * 4
    assert given.class_names == names
    assert open_folder(root, known_classes=names).labels.tolist() == given.labels.tolist()
    assert open_folder(root, known_classes=("ape", "frog")).class_names == ("cat", "dog", "frog")  # they are others
    with pytest.raises(FpgmError, match=r"a folder 'cat', which is none of the 2 classes .*classes.txt"):
        open_folder(root, class_names=("dog", "frog"))
    (root / "classes.txt").write_text("frog\ndog\ncat\n")
    assert open_folder(root).labels.tolist() == [2] * 4 + [1] * 4 + [0] * 4
    (root / "classes.txt").write_text("frog\nFROG\n")
    with pytest.raises(FpgmError, match="one twice"):
        open_folder(root)


def test_folders_called_by_numbers_are_in_the_order_of_their_characters_and_it_is_said(write_tree):
    source = open_folder(write_tree(classes=("2", "10", "9"), count=1))
    assert source.class_names == ("10", "2", "9")
    assert "not of their numbers" in source.notes[0]
    assert not open_folder(write_tree("more", classes=("0", "1", "2"), count=1)).notes


@pytest.mark.parametrize(
    ("classes", "outputs", "names", "word"),
    [
        (("a", "b"), 3, None, "2 classes and the network 3 outputs"),
        (("a", "b"), 2, ("a", "c"), "a class 'b' where the network has 'c'"),
        (("a_b", "C"), 2, ("A b", "c"), None),
        (("0", "1"), 2, ("0", "1"), None),
        (("a", "b"), None, None, None),
    ],
)
def test_classes_that_do_not_match_are_told(classes, outputs, names, word):
    found = class_misfit(classes, outputs, names)
    assert (word in found) if word else found is None


def test_decoded_images_are_kept_until_the_tree_changes(write_tree, own_home):
    root = write_tree()
    first = ImageSet.from_folder(root, preprocessing=SMALL)
    (kept,) = (own_home / "images").iterdir()
    before = kept.stat().st_mtime_ns
    work = open_folder(root).load_work(SMALL)
    assert len(list(work)) == 1  # nothing to decode
    assert run(open_folder(root).load_work(SMALL)).digest == first.digest
    assert kept.stat().st_mtime_ns != before  # used now
    os.utime(root / "cat" / "0.png", ns=(1, 1))
    ImageSet.from_folder(root, preprocessing=SMALL)
    ImageSet.from_folder(root, preprocessing=SMALL.changed("crop=12"))
    assert len(list((own_home / "images").iterdir())) == 3


@pytest.mark.parametrize("damage", ["pixels", "end", "half", "nothing"])
def test_a_damaged_file_of_pixels_is_made_anew(write_tree, own_home, damage):
    root = write_tree()
    digest = ImageSet.from_folder(root, preprocessing=SMALL).digest
    (kept,) = (own_home / "images").iterdir()
    content = bytearray(kept.read_bytes())
    content[{"pixels": 10, "end": -30, "half": 0, "nothing": 0}[damage]] ^= 1
    kept.write_bytes(content[: len(content) // 2] if damage == "half" else b"" if damage == "nothing" else content)
    assert ImageSet.from_folder(root, preprocessing=SMALL).digest == digest


def test_kept_images_are_bounded_and_a_set_that_does_not_fit_is_sampled_by_class(write_tree, own_home, monkeypatch):
    trees = [write_tree(f"tree {number}") for number in range(3)]
    size = 12 * 16 * 16 * 3
    monkeypatch.setenv("FPGM_IMAGES_BYTES", str(2 * size + 4000))
    for tree in trees:
        ImageSet.from_folder(tree, preprocessing=SMALL)
    assert len(list((own_home / "images").iterdir())) == 2
    monkeypatch.setenv("FPGM_IMAGES_BYTES", str(size // 2))
    few = ImageSet.from_folder(trees[0], preprocessing=SMALL.changed("interpolation=bicubic"))
    assert np.bincount(few.labels).tolist() == [2, 2, 2]
    assert few.notes[0].startswith("6 of the 12 images of tree 0 are read: FPGM_IMAGES_BYTES")
    monkeypatch.setenv("FPGM_IMAGES_BYTES", "100")
    with pytest.raises(FpgmError, match="no room for a single image"):
        ImageSet.from_folder(trees[1], preprocessing=SMALL.changed("interpolation=bicubic"))


def test_large_sets_lie_in_files_and_leave_nothing_behind(write_tree, own_home, monkeypatch):
    monkeypatch.setenv("FPGM_IMAGES_IN_MEMORY", "1000")
    images = ImageSet.from_folder(write_tree(), preprocessing=SMALL)
    choose, sealed = images.halves(seed=1)
    assert len(list((own_home / "images").iterdir())) == 1  # the halves' files have no names
    assert torch.equal(choose.pixels, images.take(np.array(choose_order(images)), "x").pixels)
    assert len(choose) == len(sealed) == 6


def choose_order(images):
    from fpgm_core.data.images import stratified_halves

    return stratified_halves(images.labels.numpy(), seed=1)[0]


def test_images_of_different_sizes_need_a_crop(write_tree):
    with pytest.raises(FpgmError, match="give a preprocessing with resize and crop"):
        ImageSet.from_folder(write_tree(), preprocessing=Preprocessing(resize=20))


def test_a_network_that_nobody_said_anything_about(write_tree):
    with pytest.raises(FpgmError, match="nobody said how the pictures of photos are prepared"):
        ImageSet.from_folder(write_tree(), preprocessing=None)


def test_progress_says_how_many_and_how_long(write_tree):
    root = write_tree(count=40)
    steps = []
    run(open_folder(root).load_work(SMALL), steps.append)
    assert [step.share for step in steps] == sorted(step.share for step in steps)
    assert any(step.seconds_left is not None for step in steps)
    assert "of 120" in steps[1].what


def names_of(source):
    return {source.called(index) for index in source.indices.tolist()}


def test_a_plain_tree_is_split_into_choose_sealed_and_training_images_and_it_is_said(write_tree):
    splits = open_images(write_tree(count=8))
    parts = [splits.split(name) for name in ("choose", "sealed", "train")]
    assert [part.name for part in parts] == ["photos choose", "photos sealed", "photos train"]
    assert [len(part) for part in parts] == [6, 12, 6]
    assert [np.bincount(part.labels[part.indices]).tolist() for part in parts] == [[2] * 3, [4] * 3, [2] * 3]
    assert len(set.union(*map(names_of, parts))) == 24
    sealed = splits.sealed
    assert sealed.at_most(None) is sealed.at_most(12) is sealed.at_most(13) is sealed
    assert sealed.at_most(11).indices.tolist() == sealed.indices.tolist()[:11]
    assert splits.notice.startswith("no training images beside photos: 6 of its 24 images are trained on, 6 chosen on")
    assert names_of(splits.split("all")) == names_of(parts[0]) | names_of(parts[1])
    again = open_images(splits.choose.name and write_tree("photos2", count=8))
    assert again.choose.indices.tolist() == splits.choose.indices.tolist()
    with pytest.raises(FpgmError, match="choose one of choose, sealed, all, train"):
        splits.split("test")


def test_train_and_val_beside_each_other(write_tree):
    write_tree("data/train", count=6)
    root = write_tree("data/val", count=4).parent
    splits = open_images(root)
    assert (len(splits.choose), len(splits.sealed), len(splits.train), splits.notice) == (6, 6, 18, None)
    assert np.bincount(splits.train.labels[splits.train.first(9).indices]).tolist() == [3, 3, 3]
    other = write_tree("other", classes=("cat", "dog", "owl"))
    with pytest.raises(FpgmError, match=r"other and data hold other classes \(3 and 3; frog, owl\)"):
        open_images(root, other)
    more = write_tree("more", count=5)
    assert len(open_images(root, more).train) == 15
    (root / "train" / "owl").mkdir()
    Image.new("RGB", (40, 40)).save(root / "train" / "owl" / "a.png")
    (root / "train" / "ape").mkdir()
    Image.new("RGB", (40, 40)).save(root / "train" / "ape" / "a.png")
    splits = open_images(root)  # as the network saw them that was trained on train
    assert splits.choose.class_names == splits.train.class_names == ("ape", "cat", "dog", "frog", "owl")
    loaded = run(splits.split("all").load_work(SMALL))
    assert np.bincount(loaded.labels, minlength=5).tolist() == [0, 4, 4, 4, 0]
    assert {splits.choose.called(i)[:3]: int(splits.choose.labels[i]) for i in splits.choose.indices} == {
        "cat": 1, "dog": 2, "fro": 3
    }  # fmt: skip


def test_too_few_images_to_split(write_tree):
    with pytest.raises(FpgmError, match="must be 3 or more"):
        open_images(write_tree(classes=("cat", "dog"), count=1))
