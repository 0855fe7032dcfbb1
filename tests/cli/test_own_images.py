"""Commands on images of one's own: the same `--data` for every one that measures, recovers or trains."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fpgm_core import Network
from fpgm_core.data import load_images

INNER = ["resnet20", "--rate", "0.4", "--coupling", "inner"]
CPU = ["--device", "cpu"]
BRIEF = ["--runtime", "pytorch", "--runs", "6", "--seconds", "0.01"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """60 of CIFAR-10's test images as a tree of class folders, and 40 training images beside it."""
    root = tmp_path_factory.mktemp("images")
    for place, split, count in (("val", "choose", 60), ("train", "train", 40)):
        images = load_images("cifar10", split)
        for number in range(count):
            folder = root / "both" / place / images.class_names[int(images.labels[number])]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images.pixels[number].numpy()).save(folder / f"{number:04}.png")
    return root / "both"


@pytest.fixture
def result(run):
    """A function that runs one command: its JSON, and what it said on stderr."""

    def call(*words):
        status, out, err = run(*words, "--json")
        assert status == 0, err
        return json.loads(out), err

    return call


def test_evaluate_counts_what_the_same_pixels_count(result, photographs, tmp_path):
    found, err = result("evaluate", *INNER, "--rung", "as_is", "--split", "all", "--data", photographs, *CPU)
    assert (found["images"], err) == (60, "")
    images = load_images("cifar10", "choose").first(60)
    np.savez(tmp_path / "same.npz", images=images.pixels.numpy(), labels=images.labels.numpy())
    again, err = result(
        "evaluate", *INNER, "--rung", "as_is", "--split", "all", "--data", tmp_path / "same.npz",
        "--train-data", photographs / "train", *CPU,
    )  # fmt: skip
    assert [again[key] for key in ("correct", "dense_accuracy")] == [
        found[key] for key in ("correct", "dense_accuracy")
    ]
    assert found["dense_accuracy"] > 0.8  # the folders' names are the classes' names, in the same order
    assert (found["top5"], found["dense_top5"]) == (None, None)


def test_training_images_are_halves_of_what_was_given_and_it_is_said_once(result, photographs):
    found, err = result("evaluate", *INNER, "--data", photographs / "val", *CPU)
    assert err.count("no training images beside val") == 1
    assert (found["images"], found["recalibration_images"]) == (15, 15)


@pytest.mark.parametrize(
    ("words", "check"),
    [
        (["repair", *INNER, "--images", "20"], lambda found: found["watched"] == 8),
        (["calibrate", "resnet20", "--images", "20"], lambda found: found["source"] == "both train"),
        (
            ["sensitivity", "resnet20", "--rate", "0.5", "--rung", "as_is"],
            lambda found: {point["images"] for point in found["points"]} == {30},
        ),
        (["verify", *INNER, "--images", "4"], lambda found: found["holds"]),
        (["damage", "resnet20", "--rate", "0.5", "--images", "20"], lambda found: found["units"]),
        (["evaluate", *INNER, "--criterion", "taylor", "--images", "9"], lambda found: found["images"] == 9),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_every_command_takes_them(result, photographs, words, check):
    found, err = result(*words, "--data", photographs)
    assert check(found)
    assert "class i is taken" not in err
    assert "do not decode" not in err


def test_export_is_measured_on_them(result, photographs, tmp_path):
    words = ["export", *INNER, "--rung", "as_is", "--only", "python", *BRIEF, "--out", tmp_path / "out"]
    found, _ = result(*words, "--data", photographs)
    (entry,) = found["artefacts"]
    assert [entry["measured"][half]["images"] for half in ("choose", "sealed")] == [30, 30]


def test_without_images_everything_but_accuracy_works_and_it_is_said_once(run, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file(Network.load("squeezenet1_1", "random").module.state_dict(), path)
    words = ["export", "squeezenet1_1", "--weights", path, "--rate", "0.4", "--coupling", "inner", "--only", "plan"]
    status, _, err = run(*words, *BRIEF, "--out", tmp_path / "out")
    assert (status, err) == (0, "note: no images of imagenet1k here, so no accuracy; --data gives some\n")


def test_training_on_them(result, photographs, tmp_path):
    words = [
        "recover",
        *INNER,
        "--recipe",
        "quick",
        "--epochs",
        "1",
        "--batch",
        "20",
        "--only",
        "plan",
        "--out",
        tmp_path,
    ]
    found, _ = result(*words, "--data", photographs, *CPU)
    assert set(found["choose"]) == {"dense", "recalibrated", "trained"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nowhere"], "no images at nowhere; give a folder of class folders"),
        (
            ["--data", "{tree}", "--preprocess", "crop=40"],
            "pictures come out as 3 x 40 x 40, and resnet20 reads 3 x 32",
        ),
        (["--data", "{tree}", "--preprocess", "size=1"], "preprocessing has resize, crop"),
        (["--data", "{tree}", "--images", "31"], "31 images asked of both choose, which has 30; ask for 1 to 30"),
        (["--data", "{tree}", "--images", "0"], "ask for 1 to 30"),
        (["--data", "hf:{tree}/nowhere"], "cannot open the data set"),
        (["--data", "cifar10"], "no complete CIFAR-10 under"),
        (["--data", "cifar100"], "no complete CIFAR-100 under"),
        (["--download"], "--download needs --data"),
        (["--data", "{many}"], "labels up to 11, and resnet20 has 10 outputs"),
    ],
)
def test_what_cannot_be_is_one_line(run, photographs, tmp_path, words, message):
    pytest.importorskip("datasets", exc_type=ImportError)
    images = load_images("cifar10", "choose").first(24)
    np.savez(tmp_path / "many.npz", images=images.pixels.numpy(), labels=np.arange(24) % 12)
    words = [word.format(tree=photographs, many=tmp_path / "many.npz") for word in words]
    status, out, err = run("evaluate", *INNER, "--rung", "as_is", *words)
    assert (status, out) == (2, "")
    assert message in err.splitlines()[-1]


@pytest.mark.thorough
def test_a_network_at_224_by_224_from_a_folder_to_an_export(result, write_tree, tmp_path):
    """Three photographs a class, called by their wnids; top-5; every step of the way."""
    path, data = tmp_path / "mine.safetensors", write_tree(classes=("n01440764", "n02123045", "n02391049"), count=8)
    save_file(Network.load("resnet18", "random").module.state_dict(), path)
    network = ["resnet18", "--weights", path, "--data", data]
    found, err = result("evaluate", *network, "--rate", "0.3", "--coupling", "inner", *CPU)
    assert (found["images"], found["recalibration_images"]) == (6, 6)
    assert found["top5"]["value"] >= found["accuracy"]
    assert "1,000 outputs" not in err  # the folders' names are ImageNet's
    assert result("repair", *network, "--rate", "0.3", "--coupling", "inner")[0]["watched"] == 1
    assert len(result("sensitivity", *network, "--rate", "0.5", "--rung", "as_is", *CPU)[0]["points"]) == 8
    words = ["--rate", "0.3", "--coupling", "inner", "--only", "python", *BRIEF, "--out", tmp_path / "out"]
    exported = result("export", *network, *words)[0]
    assert exported["proof"]["holds"]
    assert (
        exported["artefacts"][0]["measured"]["sealed"]["top5"]
        >= exported["artefacts"][0]["measured"]["sealed"]["accuracy"]
    )
    assert torch.cuda.is_available() or found["device"] == "cpu"
