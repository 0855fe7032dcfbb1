"""The command line, in process; every result one JSON object, every complaint one line."""

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from fpgm_core import CRITERIA, Network, Plan, SelectionOptions
from fpgm_core.data import load_images
from fpgm_core.pruning import Proof
from fpgm_core.runtime.progress import Progress
from fpgm_core.timing import RUNTIMES, available_runtimes
from fpgm_core.timing.attribution import REASONS

EVALUATE = {
    "model", "criterion", "coupling", "recalibrated", "split", "images", "correct", "accuracy", "accuracy_low",
    "accuracy_high", "dense_accuracy", "macs", "dense_macs", "params", "dense_params", "device", "precision", "batch",
    "seconds",
}  # fmt: skip
LAYER = {
    "name", "filters", "shape", "macs", "l2_min", "l2_max", "l2_mean", "l2_std", "spearman_l2_fpgm", "medoid",
    "nearest_to_median",
}  # fmt: skip
PROOF = {
    "model", "weights", "fingerprint", "criterion", "coupling", "randomised", "max_abs_difference", "logit_scale",
    "masked_dense_difference", "same_top1", "images", "random_images", "macs", "counted_macs", "params",
    "counted_params", "holds", "tells",
}  # fmt: skip
LATENCY = {
    "batch", "runs", "device", "threads", "dense_ms", "compact_ms", "dense_peak_bytes", "compact_peak_bytes",
    "speed_up", "runtime", "version", "processor", "dense_ms_low", "dense_ms_high", "dense_spread", "compact_ms_low",
    "compact_ms_high", "compact_spread", "ratio", "ratio_low", "ratio_high", "verdict", "busy", "conditions",
}  # fmt: skip
PRUNED = {"pruned_l2", "pruned_fpgm", "overlap"}
BRIEF = ["--runs", "6", "--seconds", "0.01"]
QUICK = ["--images", "50", "--no-recalibrate", "--device", "cpu", "--precision", "float32"]


@pytest.fixture
def result(run):
    """The JSON object a command prints, and nothing else on stdout."""

    def call(*arguments):
        status, out, err = run(*arguments, "--json")
        assert (status, err) == (0, "")
        assert out.endswith("}\n")
        assert out.count("\n") == 1
        return json.loads(out)

    return call


@pytest.fixture(scope="module")
def net(resnet20):
    return resnet20


def test_models(result):
    rows = {row["name"]: row for row in result("models")["models"]}
    assert {"resnet20", "resnet32", "resnet56", "resnet110", "vgg16_bn_cifar", "resnet50", "mobilenet_v2"} <= set(rows)
    assert rows["resnet20"]["bundled"]
    assert rows["resnet20"]["accuracy"]["all"] == pytest.approx(0.9155)
    assert not rows["resnet110"]["bundled"]
    assert rows["resnet50"]["input_shape"] == [3, 224, 224]


def test_layers_by_hand(result, net):
    found = result("layers", "resnet20")
    assert [row["name"] for row in found["layers"]] == [layer.name for layer in net.layers]
    for row in found["layers"]:
        assert set(row) >= LAYER
        assert not PRUNED & set(row)
        weight = net.module.get_submodule(row["name"]).weight.double()
        flat = weight.flatten(1).numpy()
        norms = np.sqrt((flat**2).sum(1))
        sums = np.sqrt(((flat[:, None] - flat[None]) ** 2).sum(2)).sum(1)
        assert row["shape"] == list(weight.shape)
        assert row["filters"] == len(weight)
        assert (row["l2_min"], row["l2_max"]) == pytest.approx((norms.min(), norms.max()))
        assert (row["l2_mean"], row["l2_std"]) == pytest.approx((norms.mean(), np.std(norms, ddof=0)))
        assert row["spearman_l2_fpgm"] == pytest.approx(spearmanr(norms, sums).statistic)
        assert row["medoid"] == sums.argmin()
        assert 0 <= row["nearest_to_median"] < row["filters"]
    macs = {layer.name: layer.macs for layer in net.dense_cost.layers}
    assert all(row["macs"] == macs[row["name"]] for row in found["layers"])


def test_layers_with_a_rate(result, net):
    for row in result("layers", "resnet20", "--rate", "0.4")["layers"]:
        assert set(row) >= LAYER | PRUNED
        count = {16: 6, 32: 12, 64: 25}[row["filters"]]
        unit = net.unit_of(row["name"], "independent")
        for name, criterion in (("pruned_l2", "l2_norm"), ("pruned_fpgm", "fpgm")):
            lowest = np.argsort(net.scores(unit, criterion), kind="stable")[:count]
            assert row[name] == sorted(lowest.tolist())
        assert row["overlap"] == pytest.approx(len(set(row["pruned_l2"]) & set(row["pruned_fpgm"])) / count)


@pytest.mark.parametrize("rate", ["0", "0.01"])
def test_overlap_is_null_where_nothing_is_pruned(result, rate):
    rows = result("layers", "resnet20", "--rate", rate)["layers"]
    assert {(row["overlap"], *row["pruned_l2"], *row["pruned_fpgm"]) for row in rows} == {(None,)}


def test_layers_of_a_network_without_weights(run):
    status, out, err = run("layers", "resnet110", "--json")
    assert status == 0
    assert not json.loads(out)["trained"]
    assert err.startswith("note: resnet110 has no trained weights here")
    assert err.count("\n") == 1


@pytest.mark.parametrize("criterion", [name for name, record in CRITERIA.items() if record.needs == "weights"])
def test_evaluate(result, net, criterion):
    found = result("evaluate", "resnet20", "--rate", "0.4", "--criterion", criterion, *QUICK)
    cost = net.cost(net.plan(0.4, criterion=criterion))
    assert set(found) >= EVALUATE
    assert (found["model"], found["criterion"], found["coupling"]) == ("resnet20", criterion, "independent")
    assert (found["recalibrated"], found["split"], found["images"]) == (False, "choose", 50)
    assert found["accuracy"] == found["correct"] / 50
    assert 0 <= found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"] <= 1
    assert found["change"] == pytest.approx(found["accuracy"] - found["dense_accuracy"])
    assert (found["macs"], found["params"]) == (cost.macs, cost.params)
    assert (found["dense_macs"], found["dense_params"]) == (40_551_040, 269_722)
    assert (found["device"], found["precision"]) == ("cpu", "float32")
    assert found["seconds"] > 0


def test_the_number_in_the_readme(result):
    assert result("evaluate", "resnet20", "--rate", "0.4", *QUICK)["macs"] == 19_126_720


def test_evaluate_recalibrates_unless_told_not_to(result, few_images):
    found = result("evaluate", "resnet20", "--rate", "0.3", *[word for word in QUICK if word != "--no-recalibrate"])
    assert (found["recalibrated"], found["recalibration_images"]) == (True, 256)


@pytest.mark.parametrize("split", ["sealed", "all"])
def test_evaluate_on_another_split(result, split):
    assert result("evaluate", "resnet20", "--rate", "0", "--split", split, *QUICK)["split"] == split


def test_a_plan_from_a_file_says_everything(result, net, tmp_path):
    plan = net.plan({"layer1.0.conv1": 0.5}, criterion="l1_norm", coupling="inner")
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json(indent=2))
    found = result("evaluate", "resnet20", "--plan", path, *QUICK)
    assert (found["criterion"], found["coupling"], found["macs"]) == ("l1_norm", "inner", net.cost(plan).macs)


def test_options_reach_the_criterion(result, net):
    for words, options in ((["--seed", 7], SelectionOptions(seed=7)), ([], SelectionOptions())):
        found = result("evaluate", "resnet20", "--rate", "0.4", "--criterion", "random", *words, *QUICK)
        assert found["options"]["seed"] == options.seed
        assert found["macs"] == net.cost(net.plan(0.4, criterion="random", options=options)).macs


def test_counts_are_rounded_up_to_a_multiple(result, net):
    found = result("evaluate", "resnet20", "--rate", "0.4", "--round-to", "8", *QUICK)
    plan = net.plan(0.4, options=SelectionOptions(round_to=8))
    assert found["options"]["round_to"] == 8
    assert found["macs"] == net.cost(plan).macs > net.cost(net.plan(0.4)).macs
    assert {int(mask.sum()) for mask in net.keep_masks(plan).values()} == {16, 24, 40}


@pytest.mark.parametrize(
    ("coupling", "form"), [("independent", []), ("inner", []), ("coupled", []), ("independent", ["--aligned"])]
)
def test_verify(result, net, coupling, form):
    found = result("verify", "resnet20", "--rate", "0.4", "--coupling", coupling, "--images", "8", *form)
    pruned = net.prune(0.4, coupling=coupling)
    cost = pruned.compact_cost(aligned=bool(form))
    assert found["aligned"] is bool(form)
    assert (cost.macs > pruned.cost.macs) is bool(form)
    assert set(found) >= PROOF
    assert (found["model"], found["coupling"], found["randomised"]) == ("resnet20", coupling, False)
    assert found["holds"]
    assert found["tells"]
    assert found["same_top1"]
    assert 0 <= found["max_abs_difference"] <= 1e-4 * found["logit_scale"] < found["masked_dense_difference"]
    assert found["macs"] == found["counted_macs"] == cost.macs
    assert found["params"] == found["counted_params"] == cost.params
    assert found["images"] == 8 + found["random_images"]


def test_verify_randomised_sharpens_what_untrained_weights_hide(run):
    words = ["verify", "resnet32", "--rate", "0.4", "--coupling", "inner", "--images", "2", "--json"]
    plain, sharp = (json.loads(run(*words, *more)[1]) for more in ([], ["--randomise"]))
    assert (plain["randomised"], sharp["randomised"]) == (False, True)
    assert plain["holds"]
    assert sharp["holds"]
    assert sharp["tells"]
    assert plain["logit_scale"] != sharp["logit_scale"]
    assert plain["macs"] == sharp["macs"]


@pytest.mark.parametrize("change", [{"max_abs_difference": 1.0}, {"counted_macs": 101}, {"counted_params": 51}])
def test_verify_ends_with_1_where_the_proof_fails(run, monkeypatch, change):
    good = Proof(
        max_abs_difference=1e-6, logit_scale=20.0, masked_dense_difference=5.0, same_top1=True, images=10,
        random_images=8, macs=100, counted_macs=100, params=50, counted_params=50,
    )  # fmt: skip
    assert good.holds

    def proves(pruned, images, *, aligned):
        yield Progress(0.5)
        return replace(good, **change)

    monkeypatch.setattr("fpgm_core.cli.evaluate.verify_work", proves)
    status, out, err = run("verify", "resnet20", "--rate", "0.4", "--images", "2")
    assert (status, err) == (1, "")
    assert out.startswith("UNEQUAL")
    status, out, err = run("verify", "resnet20", "--rate", "0.4", "--images", "2", "--json")
    assert (status, err) == (1, "")
    assert json.loads(out)["holds"] is False


def test_verify_says_where_nothing_was_put_to_the_test(run):
    status, out, _ = run("verify", "resnet20", "--rate", "0", "--images", "2")
    assert status == 0
    assert "too little to prove anything; try --randomise" in out


def test_latency(result, net):
    found = result("latency", "resnet20", "--rate", "0.5", "--coupling", "coupled", "--batch", "2", *BRIEF)
    assert (found["coupling"], found["dense_macs"]) == ("coupled", 40_551_040)
    assert found["macs"] == net.cost(net.plan(0.5, coupling="coupled")).macs
    (row,) = found["latency"]
    assert set(row) == LATENCY
    assert (row["runtime"], row["batch"]) == ("pytorch", 2)
    assert row["runs"] >= 6
    told = row["ratio_low"] > 1 or row["ratio_high"] < 1
    assert row["speed_up"] == (row["ratio"] if told else None)
    assert {one["runtime"] for one in found["untimed"]} == {name for name, one in RUNTIMES.items() if one.lacks()}
    assert 0 < row["compact_peak_bytes"] < row["dense_peak_bytes"]


def test_latency_of_the_aligned_network(run, result, net):
    pruned = net.prune(0.4)
    words = ["latency", "resnet20", "--rate", "0.4", "--aligned", "--batch", "1", *BRIEF]
    found, held = result(*words), pruned.compact_cost(aligned=True)
    assert (found["aligned"], found["macs"], found["compact_macs"]) == (True, pruned.cost.macs, held.macs)
    _, out, _ = run(*words)
    assert f"MACs are {net.dense_cost.macs / held.macs:.2f} times fewer" in out
    assert f"carries {held.macs:,} MACs and {held.params:,} parameters; the plan has {pruned.cost.macs:,} and" in out
    _, out, _ = run(*words, "--coupling", "inner")
    assert "nothing was to align" in out


def test_latency_says_why(run, result):
    words = ["latency", "resnet20", "--rate", "0.5", "--coupling", "coupled", "--batch", "1", "--why", *BRIEF]
    (why,) = result(*words)["why"]
    assert (why["runtime"], why["batch"]) == ("pytorch", 1)
    assert len(why["layers"]) == 20
    assert set(why["reasons"]) <= set(REASONS)
    _, out, _ = run(*words)
    assert "its MACs promise" in out
    assert "layer3.2.conv2" in out


def test_latency_of_several_batches(result):
    words = ["--rate", "0.5", "--batch", "1", "--batch", "3", "--device", "cpu", *BRIEF]
    rows = result("latency", "resnet20", *words)["latency"]
    assert [(row["batch"], row["device"]) for row in rows] == [(1, "cpu"), (3, "cpu")]


def test_latency_in_every_runtime(result):
    words = ["--rate", "0.5", "--coupling", "coupled", "--batch", "1", "--threads", "1", "--runtime", "all", *BRIEF]
    rows = result("latency", "resnet20", *words)["latency"]
    assert [(row["runtime"], row["threads"]) for row in rows] == [(name, 1) for name in available_runtimes()]
    assert all((row["dense_peak_bytes"] is None) == (row["runtime"] != "pytorch") for row in rows)


def test_latency_for_people_names_the_conditions(run):
    status, out, _ = run("latency", "resnet20", "--rate", "0.5", "--batch", "1", *BRIEF)
    assert status == 0
    assert re.search(r"PyTorch, eager, cpu, \d+ threads, batch 1: dense [\d.]+ ms \[", out)
    assert re.search(r"(busy|quiet): a known piece of work waited \d+% of its time", out)
    assert re.search(r"(times as fast( \(slower\))?|no difference found|too busy to say) \[", out)


def test_sensitivity(run, result, net):
    words = ["sensitivity", "resnet20", "--rate", "0.9", "--rate", "0.5", "--images", "50", "--no-recalibrate"]
    found = result(*words)
    units = [unit.name for unit in net.units("inner")]
    assert (found["coupling"], found["criterion"], found["recalibrated"]) == ("inner", "fpgm", False)
    assert [(point["unit"], point["rate"]) for point in found["points"]] == [(u, r) for u in units for r in (0.5, 0.9)]
    for point in found["points"]:
        assert point["change"] == pytest.approx((point["correct"] - point["dense_correct"]) / 50)
        assert point["change_low"] <= point["change"] <= point["change_high"]
    status, out, _ = run(*words)
    assert status == 0
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["50%", "90%"]
    assert rows[1] == [units[0], *(f"{point['change'] * 100:.1f}" for point in found["points"][:2])]
    assert len(rows) == len(units) + 2


def test_a_plan_of_what_units_bear_alone(run, result, net, tmp_path):
    words = ["sensitivity", "resnet20", "--rate", "0.9", "--rate", "0.5", "--images", "50", "--no-recalibrate"]
    found = result(*words, "--within", "10", "--out", tmp_path / "plan.json")
    plan = Plan.from_json((tmp_path / "plan.json").read_text())
    assert (plan, found["macs"]) == (Plan.from_json(json.dumps(found["plan"])), net.cost(plan).macs)
    lost = {(point["unit"], point["rate"]): -point["change"] for point in found["points"]}
    for unit in net.units("inner"):
        half, most = (lost[unit.name, rate] <= 0.1 for rate in (0.5, 0.9))
        assert plan.rate(unit.name) == (0.9 if half and most else 0.5 if half else 0.0)
    _, out, _ = run(*words, "--within", "10")
    assert f"together they cut {1 - found['macs'] / net.dense_cost.macs:.1%} of the MACs" in out


FEW_ARTEFACTS = ["--only", "plan", "--only", "torch_pruning", "--only", "python", "--runtime", "pytorch", *BRIEF]


@pytest.fixture
def few_images(monkeypatch):
    """The first 256 images of every split."""
    monkeypatch.setattr("fpgm_core.cli.images.load_images", lambda *which: load_images(*which).first(256))


def test_export(result, net, tmp_path, few_images):
    found = result(
        "export", "resnet20", "--rate", "0.5", "--coupling", "coupled", "--out", tmp_path / "out", *FEW_ARTEFACTS
    )
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert found == {"out": str(tmp_path / "out"), **manifest}
    assert manifest["macs"] == net.cost(net.plan(0.5, coupling="coupled")).macs
    assert manifest["recalibrated"] is True
    named = {file["file"]: file for entry in manifest["artefacts"] for file in entry["files"]}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*named, "manifest.json"}
    for name, file in named.items():
        content = (tmp_path / "out" / name).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_export_for_people_names_files_and_what_was_left_out(run, tmp_path, few_images):
    status, out, err = run(
        "export", "resnet20", "--rate", "0.4", "--no-recalibrate", "--out", tmp_path / "out", *FEW_ARTEFACTS
    )
    assert (status, err) == (0, "")
    assert out.startswith(f"4 files in {tmp_path / 'out'}:")
    for name in ("plan.json", "compact.py", "compact.safetensors"):
        assert name in out
    assert "left out: torch_pruning: Torch-Pruning always moves layers that share channels together" in out
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["recalibrated"] is False


def test_an_aligned_export_tells_both_costs(run, net, tmp_path, few_images):
    words = ["--no-recalibrate", "--aligned", "--out", tmp_path / "out", *FEW_ARTEFACTS]
    status, out, _ = run("export", "resnet20", "--rate", "0.4", *words)
    assert status == 0
    pruned = net.prune(0.4)
    held = pruned.compact_cost(aligned=True)
    assert f"carries {held.macs:,} MACs and {held.params:,} parameters; the plan has {pruned.cost.macs:,} and" in out
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["aligned"], manifest["macs"], manifest["compact_macs"]) == (True, pruned.cost.macs, held.macs)


def test_quantise_puts_pruning_beside_quantising(result, few_images):
    words = ["quantise", "resnet20", "--rate", "0.4", "--coupling", "coupled", "--rung", "as_is"]
    words += ["--runs", "6", "--seconds", "0.01", "--batch", "1"]
    found = result(*words, "--threads", "1")
    assert [row["form"] for row in found["forms"]] == ["dense", "dense_int8", "pruned", "pruned_int8"]
    sizes = [row["bytes"] for row in found["forms"]]
    assert sizes[1] < sizes[0] / 3
    assert sizes[3] < sizes[2] < sizes[0]
    for row in found["forms"]:
        assert set(row["accuracy"]) == {"choose", "sealed"}
    told = {(row["form"], row["against"]): row for row in found["pairs"]}
    assert told["dense_int8", "dense"]["change"]["choose"]["value"] > -0.05
    assert (found["rung"], found["timed"][0]["runtime"], found["timed"][0]["batch"]) == ("as_is", "onnxruntime", 1)


def test_quantise_says_why_it_cannot(run):
    complains(run("quantise", "resnet110", "--rate", "0.4"), "calibrated on trained weights")
    complains(run("quantise", "resnet20", "--rate", "0"), "prunes nothing")


def test_export_into_a_place_that_cannot_be(run, tmp_path, few_images):
    (tmp_path / "file").write_text("mine")
    outcome = run(
        "export", "resnet20", "--rate", "0.4", "--no-recalibrate", "--out", tmp_path / "file" / "out", *FEW_ARTEFACTS
    )
    complains(outcome, "cannot write into", "choose another folder")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["models"], ["resnet20", "bundled, 91.55%", "no bundled weights"]),
        (["layers", "resnet20", "--rate", "0.4"], ["layer3.2.conv2", "overlap", "medoid"]),
        (["evaluate", "resnet20", "--rate", "0.4", *QUICK], ["accuracy", "paired", "52.8% cut", "50 images of choose"]),
    ],
)
def test_without_json_people_can_read_it(run, arguments, words):
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    assert all(word in out for word in words)


def complains(outcome, *words):
    status, out, err = outcome
    assert (status, out) == (2, "")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["evaluate", "resnet21", "--rate", "0.4"], "did you mean resnet"),
        (["layers", "zzz"], "lists them"),
        (["evaluate", "resnet20", "--rate", "1.2"], "1.2"),
        (["evaluate", "resnet20", "--rate", "nan"], "nan"),
        (["evaluate", "resnet20", "--rate", "-0.1"], "0.1"),
        (["evaluate", "resnet20", "--rate", "half"], "'half' is not a number from 0 to 1"),
        (["layers", "resnet20", "--rate", "40%"], "40%"),
        (["evaluate", "resnet20", "--rate", "0.4", "--criterion", "l3"], "l1_norm, l2_norm, fpgm"),
        (["evaluate", "resnet20", "--rate", "0.4", "--coupling", "outer"], "independent, inner"),
        (["evaluate", "resnet20", "--rate", "0.4", "--seed", "-1"], "seed -1"),
        (["evaluate", "resnet20", "--rate", "0.4", "--mix-share", "2"], "mix_share 2.0"),
        (["evaluate", "resnet20", "--rate", "0.4", "--split", "train"], "invalid choice: 'train'"),
        (["evaluate", "resnet20", "--rate", "0.4", "--images", "5001"], "ask for 1 to 5000"),
        (["evaluate", "resnet20", "--rate", "0.4", "--images", "0"], "ask for 1 to 5000"),
        (["evaluate", "resnet20", "--rate", "0.4", "--images", "many"], "invalid int value"),
        (
            ["evaluate", "resnet20", "--rate", "0.4", "--data", "nowhere"],
            "no images at nowhere; give a folder of class folders",
        ),
        (["evaluate", "resnet20", "--rate", "0.4", "--weights", "nowhere.pt"], "nowhere.pt"),
        (["evaluate", "resnet20", "--rate", "0.4", "--weights", "DEFAULT"], "no checkpoint at DEFAULT"),
        (["evaluate", "resnet110", "--rate", "0.4"], "resnet110 has no trained weights"),
        (["evaluate", "resnet20", "--rate", "0.4", "--weights", "random"], "no accuracy can be measured"),
        (["evaluate", "resnet20"], "one of the arguments --rate --plan is required"),
        (["evaluate", "resnet20", "--rate", "0.4", "--plan", "p.json"], "not allowed with"),
        (["evaluate", "resnet20", "--plan", "nowhere.json"], "nowhere.json"),
        (["evaluate", "resnet20", "--rate", "0.4", "--round-to", "0"], "round_to"),
        (["verify", "resnet20", "--rate", "0.4", "--coupling", "outer"], "independent, inner"),
        (["verify", "resnet20", "--plan", "nowhere.json"], "nowhere.json"),
        (["verify", "resnet20", "--rate", "0.4", "--images", "0"], "ask for 1 or more"),
        (["verify", "resnet20", "--rate", "2"], "rate 2.0"),
        (["verify", "resnet20"], "one of the arguments --rate --plan is required"),
        (["latency", "resnet20", "--rate", "0.4", "--batch", "0"], "at least 1"),
        (["latency", "resnet20", "--rate", "0.4", "--runs", "5"], "at least 6"),
        (["latency", "resnet20", "--rate", "0.4", "--threads", "0"], "at least 1"),
        (["latency", "resnet20", "--rate", "0.4", "--runtime", "tensorrt"], "TensorRT, by ONNX Runtime is not avail"),
        (["latency", "resnet21", "--rate", "0.4"], "did you mean resnet"),
        (["sensitivity", "resnet20", "--rate", "1.2"], "1.2"),
        (["sensitivity", "resnet20", "--within", "101"], "number of points from 0 to 100"),
        (["sensitivity", "resnet20", "--within", "much"], "number of points from 0 to 100"),
        (["sensitivity", "resnet20", "--out", "plan.json"], "--out is for the plan that --within makes"),
        (["sensitivity", "resnet20", "--images", "0"], "ask for 1 to 5000"),
        (["sensitivity", "resnet110"], "resnet110 has no trained weights"),
        (["export", "resnet20", "--rate", "0.4"], "--out"),
        (["export", "resnet20", "--rate", "0.4", "--criterion", "l3", "--out", "nowhere"], "l1_norm, l2_norm, fpgm"),
        (["prune"], "invalid choice: 'prune'"),
        ([], "command"),
    ],
)
def test_bad_input_is_one_line(run, arguments, word):
    complains(run(*arguments), word)
    if arguments:
        complains(run(*arguments, "--json"), word)


def test_a_device_that_is_not_there(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    complains(run("evaluate", "resnet20", "--rate", "0.4", "--device", "cuda"), "no cuda device here")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"model": "resnet56"}, "open that model"),
        ({"fingerprint": "0" * 64}, "other weights"),
        ({"rates": {"conv1": 1.2}}, "1.2"),
        ({"rates": {"conv9": 0.5}}, "no unit 'conv9'"),
        ({"criterion": "l3"}, "l3"),
        ({"format_version": 2}, "format_version 2"),
        ({"extra": 1}, "'extra'"),
        ({"locked_out": {"conv1": [99]}}, "no filter 99"),
        ({"model": "line\nbreak"}, "line break"),
    ],
)
def test_a_plan_that_does_not_fit(run, net, tmp_path, change, word):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(net.plan(0.4).to_dict() | change))
    complains(run("evaluate", "resnet20", "--plan", path, "--json"), word)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"{}"])
def test_a_broken_plan(run, tmp_path, content):
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    complains(run("evaluate", "resnet20", "--plan", path), "the plan")
    complains(run("evaluate", "resnet20", "--plan", tmp_path), "cannot read the plan")


@pytest.mark.parametrize(
    "extra", ["--criterion fpgm", "--coupling inner", "--seed 1", "--mix-share 0.5", "--round-to 8"]
)
def test_a_plan_and_its_contradiction(run, net, tmp_path, extra):
    path = tmp_path / "plan.json"
    path.write_text(net.plan(0.4).to_json())
    complains(run("evaluate", "resnet20", "--plan", path, *extra.split()), extra.split()[0])


@pytest.mark.parametrize("command", [["layers"], ["evaluate", "--rate", "0.4"]])
def test_weights_that_cannot_be_downloaded(run, monkeypatch, command):
    def unreachable(url, *args, **options):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    outcome = run(*command, "resnet18", "--weights", "DEFAULT")
    complains(outcome, "no network", "download https://download.pytorch.org/models/resnet18", "place it at")


def test_no_images_of_imagenet(run, monkeypatch, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "mine.safetensors"
    save_file(Network.load("squeezenet1_1", "random").module.state_dict(), path)
    complains(run("evaluate", "squeezenet1_1", "--rate", "0.4", "--weights", path), "no images of imagenet1k")


def test_a_rung_that_a_network_does_not_have(run, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "mine.safetensors"
    save_file(Network.load("alexnet", "random").module.state_dict(), path)
    outcome = run("export", "alexnet", "--weights", path, "--rate", "0.4", "--rung", "recalibrated", "--out", tmp_path)
    complains(outcome, "alexnet has no batch normalisation", "choose one of as_is, merged, repaired")


def test_the_model_is_a_place_or_an_option(run):
    (_, by_place, _), (_, by_option, _) = (
        run("layers", "resnet20", "--json"),
        run("layers", "--model", "resnet20", "--json"),
    )
    assert by_place == by_option
    complains(run("layers"), "model", "--model")
    complains(run("layers", "resnet20", "--model", "resnet56"), "not allowed with")


def test_images_of_another_size(run):
    macs = [
        sum(row["macs"] for row in json.loads(run("layers", "squeezenet1_1", "--json", *size)[1])["layers"])
        for size in ((), ("--input-size", "64"), ("--input-size", "64x96"))
    ]
    assert macs[0] > macs[2] > macs[1]
    for wrong in ("0", "64x", "64x64x3", "big", "-4", "99999"):
        complains(run("layers", "squeezenet1_1", f"--input-size={wrong}"), wrong, "write 64, or 64x96")


def test_models_by_pattern(run):
    _, out, _ = run("models", "torchvision/resnet?0", "--json")
    assert [row["name"] for row in json.loads(out)["models"]] == ["resnet50"]
    assert json.loads(out)["models"][0]["library"] == "torchvision"
    assert "timm/*" in run("models")[1]
    assert "no network is called like x*x" in run("models", "x*x")[1]


def test_as_a_program():
    def program(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "fpgm_core", *arguments], capture_output=True, text=True, check=False
        )

    done = program("evaluate", "resnet20", "--rate", "0.4", "--json", *QUICK)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(json.loads(done.stdout)) >= EVALUATE
    failed = program("evaluate", "resnet20", "--rate", "1.2")
    complains((failed.returncode, failed.stdout, failed.stderr), "1.2")
