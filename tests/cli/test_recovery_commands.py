"""calibrate, repair, replaceability, damage, and rungs and criteria of data elsewhere on the command line."""

import json

import pytest

from fpgm_core.data import load_images

FEW = ["--images", "60", "--positions", "8", "--device", "cpu"]
INNER = ["resnet20", "--rate", "0.4", "--coupling", "inner"]


@pytest.fixture
def result(run):
    def call(*arguments):
        status, out, err = run(*arguments, "--json")
        assert (status, err) == (0, "")
        assert out.count("\n") == 1
        return json.loads(out)

    return call


@pytest.fixture
def small(monkeypatch):
    """Few training images wherever rungs and scores are made."""

    def few(name, split, root=None, download=False):
        return load_images(name, split, root).first(300)

    monkeypatch.setattr("fpgm_core.cli.images.load_images", few)


def test_calibrate(result, own_home):
    found = result("calibrate", "resnet20", *FEW)
    assert found["images"] == 60
    layers = {one["name"]: one for one in found["layers"]}
    assert layers["layer3.0.conv2"]["columns"] == 576
    assert layers["layer3.0.conv2"]["samples"] == 480
    assert layers["layer3.0.conv2"]["singular"]
    assert len(list((own_home / "moments").iterdir())) == 1


def test_repair(result):
    found = result("repair", *INNER, "--images", "200", "--positions", "16", "--device", "cpu")
    assert found["rung"] == "repaired"
    assert found["right"]["repaired"] > found["right"]["recalibrated"]
    assert found["watched"] == 1000
    assert "layer1.0.conv2.weight" in found["replaced"]
    assert found["macs"] < found["dense_macs"]


def test_replaceability(result, run):
    found = result("replaceability", "resnet20", *FEW)
    assert [one["name"] for one in found["layers"]][:2] == ["layer1.0.conv1", "layer1.1.conv1"]
    assert [question["name"] for question in found["questions"]] == ["cheap", "replaceable", "beyond_norm"]
    for one in found["layers"]:
        assert len(one["costs"]) == len(one["losses"]) == len(one["made_good"]) == one["filters"]
        for name, sign in (("cheap", 1), ("replaceable", -1), ("beyond_norm", 1)):
            finding = one["by_distance"][name]
            low, high = sorted((sign * finding["widened"]["low"], sign * finding["widened"]["high"]))
            assert finding["verdict"] == ("holds" if low > 0 else "reversed" if high < 0 else "undecided")
            assert finding["widened"]["low"] < finding["interval"]["low"] < finding["interval"]["high"]
    _, out, _ = run("replaceability", "resnet20", *FEW)
    for question in found["questions"]:
        said = next(line for line in out.splitlines() if line.startswith(question["asks"]))
        for word, count in question["verdicts"].items():
            assert (f"{word} in {count}" in said) == bool(count)
    parted = sum(one["by_distance"]["cheap"]["verdict"] != one["by_distance"]["replaceable"]["verdict"]
                 for one in found["layers"])  # fmt: skip
    assert f"their verdicts differ in {parted} of {len(found['layers'])} layers" in out
    assert "Holm" in out


def test_damage(result, run):
    found = result("damage", "resnet20", "--rate", "0.3", "--rate", "0.6", *FEW)
    assert found["rates"] == [0.3, 0.6]
    assert all(0 < one["loss"][0] < one["loss"][1] for one in found["units"])
    _, out, _ = run("damage", "resnet20", "--rate", "0.5", *FEW)
    assert "layer3.2.conv1" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["calibrate", "resnet50", "--weights", "random"], "nothing to learn from random weights"),
        (["calibrate", "resnet20", "--images", "0"], "images 0 is not a whole number"),
        (["repair", "resnet20", "--rate", "0"], "prunes nothing"),
        (["replaceability", "vgg11", "--weights", "random"], "random weights"),
        (["damage", "resnet20", "--study", "2"], "study at least 5"),
        (
            ["evaluate", "vgg11", "--weights", "random", "--rate", "0.5", "--criterion", "refit_cost"],
            "no trained weights",
        ),
        (["evaluate", "resnet20", "--rate", "0.5", "--criterion", "refit"], "refit_cost, refit_cost_greedy, bn_scale"),
        (["evaluate", "resnet20", "--rate", "0.5", "--rung", "as_is", "--no-recalibrate"], "not allowed with"),
        (["evaluate", "resnet20", "--rate", "0.5", "--rung", "mended"], "invalid choice"),
    ],
)
def test_bad_input_is_one_line(run, arguments, says):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) <= 2  # weights that are random are noted first


@pytest.mark.parametrize("rung", ["as_is", "merged", "repaired"])
def test_evaluate_on_a_rung(result, small, rung):
    found = result("evaluate", *INNER, "--rung", rung, "--images", "200", "--device", "cpu", "--precision", "float32")
    assert (found["rung"], found["recalibrated"]) == (rung, False)
    if rung == "as_is":
        same = result("evaluate", *INNER, "--no-recalibrate", "--images", "200", "--precision", "float32")
        assert same["correct"] == found["correct"]


@pytest.mark.parametrize("criterion", ["refit_cost", "bn_scale", "taylor"])
def test_evaluate_by_a_criterion_of_data(result, small, criterion):
    found = result("evaluate", *INNER, "--criterion", criterion, "--rung", "as_is", "--images", "100")
    assert found["criterion"] == criterion
    assert found["macs"] < found["dense_macs"]


def test_export_carries_repaired_weights(result, small, tmp_path):
    found = result(
        "export",
        *INNER,
        "--rung",
        "repaired",
        "--out",
        tmp_path / "out",
        "--only",
        "plan",
        "--only",
        "python",
        "--runs",
        "6",
        "--seconds",
        "0.01",
        "--runtime",
        "pytorch",
    )
    assert (found["rung"], found["recalibrated"]) == ("repaired", False)
    assert found["proof"]["holds"]
    measured = next(one for one in found["artefacts"] if one["name"] == "python")["measured"]
    again = result("evaluate", *INNER, "--rung", "repaired", "--precision", "float32", "--device", "cpu")
    assert measured["choose"]["correct"] == again["correct"]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["rung"] == "repaired"
