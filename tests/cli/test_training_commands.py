"""train, recover and reproduce, in process, on a few images."""

import json
import sys
from types import SimpleNamespace

import pytest

from fpgm_core import EvaluationConfig, Network, Plan, evaluate, recover
from fpgm_core.data import load_images

SHORT = ["--epochs", "1", "--device", "cpu", "--precision", "float32"]
FEW_ARTEFACTS = ["--only", "plan", "--only", "python", "--runtime", "pytorch", "--runs", 6, "--seconds", 0.01]


@pytest.fixture(autouse=True)
def few(few_images):
    few_images(64)


@pytest.fixture
def result(run):
    def call(*arguments):
        status, out, err = run(*arguments, "--json")
        assert status == 0, err
        return json.loads(out)

    return call


def test_train_from_scratch_leaves_weights_that_load(result, tmp_path):
    found = result("train", "resnet20", "--recipe", "quick", "--seed", 3, *SHORT, "--out", tmp_path)
    assert found["recipe"].startswith("1 epoch; SGD, Nesterov momentum 0.9; batch 250; learning rate 0.4, one_cycle")
    assert found["recipe"].endswith("seed 3")
    assert found["files"] == ["resnet20_cifar10.safetensors", "resnet20_cifar10.json"]
    assert found["macs"] == found["dense_macs"]
    network = Network.load("resnet20", tmp_path / "resnet20_cifar10.safetensors")
    assert network.fingerprint != Network.load("resnet20").fingerprint


def test_train_goes_on_from_its_folder_and_refuses_another_runs(run, result, tmp_path):
    first = result("train", "resnet20", "--rate", 0.4, *SHORT, "--out", tmp_path)
    status, _, err = run("train", "resnet20", "--rate", 0.4, *SHORT, "--out", tmp_path)
    assert status == 0
    assert "epoch 1 of 1" in err  # what was reached before is told, nothing is trained again
    assert result("train", "resnet20", "--rate", 0.4, *SHORT, "--out", tmp_path)["seconds"] == first["seconds"]
    status, _, err = run("train", "resnet20", "--rate", 0.3, *SHORT, "--out", tmp_path)
    assert status == 2
    assert "is of another run" in err


@pytest.mark.parametrize("schedule", ["hard", "rescored", "soft"])
def test_train_while_pruning_leaves_a_plan_for_its_weights(result, tmp_path, schedule):
    words = ["--rate", 0.2, "--criterion", "fpgm_mix", "--from-weights", "--schedule", schedule, *SHORT]
    found = result("train", "resnet20", *words, "--out", tmp_path)
    assert found["schedule"] == schedule
    assert "plan.json" in found["files"]
    evaluated = result(
        "evaluate", "resnet20", "--weights", tmp_path / "resnet20_cifar10.safetensors", "--plan",
        tmp_path / "plan.json", "--no-recalibrate", "--device", "cpu", "--precision", "float32",
    )  # fmt: skip
    assert evaluated["correct"] == found["accuracy"]["choose"]["correct"]
    assert evaluated["macs"] == found["macs"] < found["dense_macs"]
    if schedule == "hard":  # the others prune after their one epoch, and nothing mends that
        assert found["accuracy"]["all"]["accuracy"] > 0.4


@pytest.mark.parametrize("schedule", ["finetune", "rescored"])
def test_recover_trains_measures_and_exports(result, tmp_path, schedule):
    words = ["--rate", 0.5, "--coupling", "inner", "--distillation", 0.5, "--schedule", schedule, *SHORT]
    found = result("recover", "resnet20", *words, *FEW_ARTEFACTS, "--out", tmp_path)
    for half in ("choose", "sealed"):
        assert set(found[half]) == {"dense", "recalibrated", "trained"}
        lost = found[half]["dense"] - found[half]["recalibrated"]
        gained = found[half]["trained"] - found[half]["recalibrated"]
        assert found["won_back"][half] == pytest.approx(gained / lost)
    manifest = json.loads((tmp_path / "export" / "manifest.json").read_text())
    assert manifest["rung"] == "fine_tuned"
    assert [step["method"] for step in manifest["recovery"]] == ["recalibrated"] * (schedule == "finetune") + [
        "fine_tuned"
    ]
    assert manifest["macs"] == found["macs"]
    assert "distillation 0.5" in found["recipe"]
    network = Network.load("resnet20")
    plan = Plan.from_json((tmp_path / "export" / "plan.json").read_bytes())
    assert network.prune(plan).cost.macs == found["macs"]
    python = next(entry for entry in manifest["artefacts"] if entry["name"] == "python")["measured"]
    for half in ("choose", "sealed"):
        assert abs(python[half]["accuracy"] - found[half]["trained"]) <= 1 / 64  # another order of rounding


def test_recover_measures_what_training_began_with(result, tmp_path):
    words = ["--rate", 0.5, "--coupling", "inner", *SHORT, *FEW_ARTEFACTS, "--out", tmp_path]
    found = result("recover", "resnet20", *words, "--from-repaired", "--learning-rate", 1e-6)
    images = load_images("cifar10", "train").first(64)
    pruned = Network.load("resnet20").prune(0.5, coupling="inner")
    repaired = recover(pruned, "repaired", images, device="cpu")
    choose, config = load_images("cifar10", "choose").first(64), EvaluationConfig(device="cpu", precision="float32")
    assert found["choose"]["repaired"] == evaluate(repaired, choose, config).accuracy.value
    assert found["choose"]["dense"] == evaluate(repaired, choose, config).dense_accuracy.value
    manifest = json.loads((tmp_path / "export" / "manifest.json").read_text())
    assert [step["method"] for step in manifest["recovery"]][-1] == "fine_tuned"
    assert manifest["recovery"][0]["num_images"] == repaired.recovery[0].num_images


def test_recover_of_a_plan_file_takes_a_seed_of_its_own(result, run, tmp_path):
    network = Network.load("resnet20")
    path = tmp_path / "plan.json"
    path.write_text(network.plan({"layer3.0.conv1": 0.5}).to_json())
    words = ["recover", "resnet20", "--plan", path, "--seed", 7, *SHORT, *FEW_ARTEFACTS]
    found = result(*words, "--out", tmp_path / "run")
    assert found["recipe"].endswith("seed 7")
    status, _, err = run("recover", "resnet20", "--plan", path, "--coupling", "inner", *SHORT, "--out", tmp_path / "b")
    assert (status, "the plan says its own coupling" in err) == (2, True)


def test_reproduce_writes_a_table_and_goes_on_with_it(result, run, tmp_path):
    words = ["reproduce", "table1", "--nets", "resnet20", "--rates", 0.4, "--seeds", 0, *SHORT, "--out", tmp_path]
    found = result(*words)
    assert [row["kind"] for row in found["results"]] == ["dense", "fpgm", "fpgm_mix"]
    text = (tmp_path / "table1.md").read_text()
    assert "| resnet20 | dense | 0% | 1 | 1 |" in text
    assert "92.20 ± 0.18" in text
    assert json.loads((tmp_path / "table1.json").read_text()) == found
    status, out, err = run(*words)
    assert (status, out.strip()) == (0, text.strip())
    assert "epoch" not in err  # nothing was trained again


def test_every_field_of_a_recipe_is_an_option(result, tmp_path):
    words = [
        "--epochs", 1, "--learning-rate", 0.01, "--decay", "cosine", "--warm-up", 1, "--momentum", 0.5,
        "--no-nesterov", "--weight-decay", 0.001, "--no-decay-norms", "--batch", 32, "--label-smoothing", 0.1,
        "--no-augmented", "--device", "cpu", "--precision", "float32", "--out", tmp_path,
    ]  # fmt: skip
    assert result("train", "resnet20", *words)["recipe"] == (
        "1 epoch; SGD, momentum 0.5; batch 32; learning rate 0.01, cosine, 1 epochs at a tenth; weight decay 0.001 on "
        "convolutions and Linear only; label smoothing 0.1; no augmentation; seed 0"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "resnet20", "--download"], "--download needs --data"),
        (["train", "resnet20", "--epochs", "0"], "epochs 0 is not from 1"),
        (["train", "resnet20", "--decay", "magic"], "unknown decay 'magic'"),
        (["train", "resnet18"], "no images of imagenet1k here"),
        (["recover", "resnet32", "--rate", "0.3"], "nothing to fine-tune"),
        (["train", "resnet32", "--distillation", "0.5"], "nobody to learn from"),
    ],
)
def test_what_cannot_be_is_one_line(run, tmp_path, words, told):
    status, out, err = run(*words, "--out", tmp_path / "out")
    assert (status, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1


def test_tensorboard_gets_every_epoch(result, tmp_path, monkeypatch):
    logged = []

    class Board:
        def __init__(self, folder):
            assert folder == str(tmp_path / "board")

        def add_scalar(self, name, value, step):
            logged.append((name, step))

        def close(self):
            logged.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Board))
    result("train", "resnet20", *SHORT, "--out", tmp_path / "out", "--tensorboard", tmp_path / "board")
    assert ("loss", 1) in logged
    assert ("accuracy/choose", 1) in logged
    assert logged[-1] == "closed"


def test_without_tensorboard_the_fix_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    status, _, err = run("train", "resnet20", *SHORT, "--out", tmp_path / "out", "--tensorboard", tmp_path / "board")
    assert status == 2
    assert "pip install tensorboard" in err
