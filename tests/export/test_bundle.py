"""What leaves together: proved, reloaded, true to its manifest; written whole or not at all."""

import errno
import hashlib
import io
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from fpgm_core import EvaluationConfig, FpgmError, Network, Plan, evaluate
from fpgm_core.data import load_images
from fpgm_core.evaluation import accuracy as evaluator
from fpgm_core.export import ARTEFACTS, Bundle, export, export_steps, networks, write_bundle, zip_bundle
from fpgm_core.export import bundle as room
from fpgm_core.export.bundle import MANIFEST, Progress

FILES = {
    "plan.json", "plan.csv", "torch_pruning.json", "torch_ao.json", "compact.safetensors", "compact.py", "compact.pt2",
    "compact.onnx", "manifest.json",
}  # fmt: skip


@pytest.fixture
def only(monkeypatch):
    """Leave only some artefacts, where a test is about others' work."""

    def leave(*names):
        monkeypatch.setattr(room, "ARTEFACTS", {name: ARTEFACTS[name] for name in names})

    return leave


def manifest_of(bundle):
    return json.loads(bundle.files[MANIFEST])


def entries(bundle):
    return {entry["name"]: entry for entry in manifest_of(bundle)["artefacts"]}


def test_every_artefact_is_there_and_the_manifest_names_it(bundle):
    assert set(bundle.files) == FILES
    assert list(entries(bundle)) == list(ARTEFACTS)
    named = [file["file"] for entry in entries(bundle).values() for file in entry["files"]]
    assert sorted([*named, MANIFEST]) == sorted(FILES)
    assert all(entry["title"] == ARTEFACTS[name].title for name, entry in entries(bundle).items())
    assert manifest_of(bundle)["skipped"] == []
    assert manifest_of(bundle) == json.loads(json.dumps(bundle.manifest))


def test_sizes_and_hashes_are_true(bundle):
    for entry in entries(bundle).values():
        for file in entry["files"]:
            content = bundle.files[file["file"]]
            assert file["bytes"] == len(content)
            assert file["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_manifest_says_what_it_is_an_export_of(resnet20, half, bundle):
    found, cost = manifest_of(bundle), resnet20.cost(half)
    assert (found["model"], found["fingerprint"], found["trained"]) == ("resnet20", half.fingerprint, True)
    assert (found["criterion"], found["coupling"], found["recalibrated"]) == ("fpgm", "coupled", False)
    assert found["rung"] == "as is"
    assert (found["macs"], found["params"]) == (cost.macs, cost.params)
    assert (found["dense_macs"], found["dense_params"]) == (40_551_040, 269_722)
    images = load_images("cifar10", "choose")
    assert found["normalisation"] == {"mean": list(images.mean), "std": list(images.std)}
    assert found["measured"]["latency"] == []
    assert found["measured"]["torch"] == torch.__version__


def test_the_proof_holds_and_tells(resnet20, half, bundle):
    proof, cost = bundle.proof, resnet20.cost(half)
    assert proof.holds
    assert proof.tells
    assert (proof.counted_macs, proof.counted_params) == (cost.macs, cost.params)
    assert manifest_of(bundle)["proof"]["holds"] is True
    assert manifest_of(bundle)["proof"]["max_abs_difference"] == proof.max_abs_difference


def test_what_holds_a_network_says_its_cost_and_that_it_answers_equally(resnet20, half, bundle):
    cost = resnet20.cost(half)
    for name, entry in entries(bundle).items():
        assert ("measured" in entry) == (ARTEFACTS[name].reload is not None)
        if ARTEFACTS[name].reload is not None:
            assert (entry["macs"], entry["params"]) == (cost.macs, cost.params)
            assert set(entry["measured"]) == {"max_abs_difference", "logit_scale"}  # not measured: no accuracy, no time
            assert 0 <= entry["measured"]["max_abs_difference"] <= 1e-4 * entry["measured"]["logit_scale"]


def test_the_plan_comes_back_equal(half, bundle):
    assert Plan.from_json(bundle.files["plan.json"]) == half


def test_the_same_plan_and_weights_give_the_same_bytes(resnet20, half, bundle):
    again = export(resnet20, half, rung="as_is", measured=False)
    assert {name for name in FILES if again.files[name] != bundle.files[name]} == set()
    assert zip_bundle(again) == zip_bundle(bundle)


def test_progress_is_told_in_words_and_shares(resnet20, half, only):
    only("plan", "python")
    *steps, last = export_steps(resnet20, half, rung="as_is", measured=False)
    assert isinstance(last, Bundle)
    assert all(isinstance(step, Progress) and step.doing and 0 <= step.share <= 1 for step in steps)
    doing = list(dict.fromkeys(step.doing for step in steps))
    assert doing[0] == "comparing the compact network with the masked one"
    assert doing[1:] == [
        f"writing {ARTEFACTS['plan'].title}",
        f"writing {ARTEFACTS['python'].title}",
        f"reloading {ARTEFACTS['python'].title}",
    ]


def test_an_independent_plan_is_exported_without_what_cannot_follow_it(resnet20, only):
    only("torch_pruning", "torch_ao")
    found = export(resnet20, resnet20.plan(0.4), rung="as_is", measured=False)
    assert set(found.files) == {"torch_ao.json", MANIFEST}
    (left,) = manifest_of(found)["skipped"]
    assert left["name"] == "torch_pruning"
    assert "moves layers that share channels together" in left["reason"]


def test_a_layer_that_cannot_be_written_down_is_left_out_with_the_reason(resnet20, half, only, monkeypatch):
    only("plan", "python")

    class Doubled(torch.nn.ReLU):  # not torch.nn's own
        pass

    honest = Network.compact

    def compact(self, plan, aligned=False):
        module = honest(self, plan, aligned)
        name = next(node.target for node in module.graph.nodes if node.op == "call_module")
        holder, layer = torch.nn.Sequential(module.get_submodule(name)), Doubled()
        module.add_module(name, holder.append(layer))
        module.graph.lint()
        module.recompile()
        return module

    monkeypatch.setattr(Network, "compact", compact)
    found = export(resnet20, half, rung="as_is", measured=False)
    assert set(found.files) == {"plan.json", MANIFEST}
    (left,) = manifest_of(found)["skipped"]
    assert left["name"] == "python"
    assert "conv1 (Sequential) cannot be written down; export it as .pt2 or ONNX" in left["reason"]


def drained(steps):
    """Everything steps yield until they raise."""
    seen = []
    with pytest.raises(FpgmError) as raised:
        seen.extend(iter_into(steps, seen))
    return seen, str(raised.value)


def iter_into(steps, seen):
    for step in steps:
        seen.append(step)
    return ()


def test_a_proof_that_fails_stops_everything(resnet20, half, bundle, monkeypatch):
    bad = replace(bundle.proof, max_abs_difference=0.7, logit_scale=20.0)
    assert not bad.holds
    monkeypatch.setattr(room, "verify_steps", lambda *given: iter([0.5, bad]))
    seen, told = drained(export_steps(resnet20, half, measured=False))
    assert seen == [Progress("comparing the compact network with the masked one", 0.5)]
    assert "differs from the masked one by 0.7" in told
    assert "not exported" in told


@pytest.mark.parametrize("name", ["counted_macs", "counted_params"])
def test_a_cost_that_is_not_what_was_counted_stops_everything(resnet20, half, bundle, monkeypatch, name):
    bad = replace(bundle.proof, **{name: getattr(bundle.proof, name) + 1})
    monkeypatch.setattr(room, "verify_steps", lambda *given: iter([bad]))
    assert drained(export_steps(resnet20, half, measured=False))[0] == []


@pytest.mark.parametrize(
    "off", [lambda logits: logits * 1.01, lambda logits: logits * float("nan"), lambda logits: logits.flip(1)]
)
def test_a_file_that_answers_otherwise_stops_everything(resnet20, half, only, monkeypatch, off):
    only("python")
    wrong = replace(ARTEFACTS["python"], reload=lambda files: lambda images: off(networks.reload_python(files)(images)))
    monkeypatch.setattr(room, "ARTEFACTS", {"python": wrong})
    seen, told = drained(export_steps(resnet20, half, rung="as_is", measured=False))
    assert not any(isinstance(step, Bundle) for step in seen)
    assert "reloaded, differs by" in told
    assert "nothing is exported" in told


@pytest.mark.parametrize("fields", [{"fingerprint": "0" * 64}, {"model": "resnet56"}, {"rates": {"conv9": 0.5}}])
def test_a_plan_that_does_not_fit_is_refused_at_once(resnet20, half, fields):
    assert drained(export_steps(resnet20, replace(half, **fields)))[0] == []


def test_a_recalibrated_export_carries_reestimated_norms_and_the_same_filters(
    resnet20, half, bundle, only, monkeypatch
):
    only("python")
    monkeypatch.setattr(room, "IMAGES", 256)
    found = export(resnet20, half, rung="recalibrated", measured=False)
    assert manifest_of(found)["recalibrated"] is True
    fresh, as_is = (load(files[networks.WEIGHTS]) for files in (found.files, bundle.files))
    changed = {name.rpartition(".")[2] for name in fresh if not torch.equal(fresh[name], as_is[name])}
    assert changed == {"running_mean", "running_var", "num_batches_tracked"}
    assert all(not torch.equal(fresh[name], as_is[name]) for name in fresh if name.endswith("running_var"))


def test_nothing_is_recalibrated_where_nothing_is_pruned(resnet20, only):
    only("python")
    found = export(resnet20, resnet20.plan(coupling="coupled"), rung="recalibrated", measured=False)
    assert manifest_of(found)["recalibrated"] is False
    state = load(found.files[networks.WEIGHTS])
    assert torch.equal(state["bn1.running_var"], resnet20.module.state_dict()["bn1.running_var"])


def test_random_weights_are_not_recalibrated_and_not_scored(only, monkeypatch):
    only("python")
    monkeypatch.setattr(room, "_TIMED_RUNS", 1)
    network = Network.load("resnet32")
    found = export(network, network.plan(0.5, coupling="coupled"), rung="recalibrated", measured=True)
    assert (manifest_of(found)["recalibrated"], manifest_of(found)["trained"]) == (False, False)
    measured = entries(found)["python"]["measured"]
    assert not {"choose", "sealed"} & set(measured)
    assert set(measured["latency_ms"]) == {"1", "64"}
    assert [row["batch"] for row in manifest_of(found)["measured"]["latency"]] == [1, 64]


def test_the_accuracy_of_a_file_is_the_plans_accuracy(resnet20, half, only, monkeypatch):
    only("python", "onnx")
    monkeypatch.setattr(room, "_TIMED_RUNS", 1)
    monkeypatch.setattr(room, "_TIMED_BATCHES", (1,))
    monkeypatch.setattr(room, "IMAGES", 256)
    monkeypatch.setattr(evaluator, "IMAGES", 256)
    monkeypatch.setattr(room, "load_images", lambda dataset, split: load_images(dataset, split).first(256))
    found = entries(export(resnet20, half))
    for split in ("choose", "sealed"):
        figure = evaluate(resnet20, half, EvaluationConfig(split, 256, device="cpu", precision="float32"))
        assert found["python"]["measured"][split] == {
            "correct": figure.correct,
            "images": 256,
            "accuracy": figure.accuracy.value,
            "accuracy_low": figure.accuracy.low,
            "accuracy_high": figure.accuracy.high,
        }
        assert abs(found["onnx"]["measured"][split]["correct"] - figure.correct) <= 1
        assert all(time > 0 for time in found["onnx"]["measured"]["latency_ms"].values())


def written(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_holds_every_file_whole(bundle, tmp_path):
    folder = tmp_path / "new" / "folder"
    write_bundle(bundle, folder)
    assert written(folder) == dict(bundle.files)
    assert list(folder.parent.iterdir()) == [folder]


def test_a_second_export_replaces_the_first_and_leaves_other_files(bundle, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "plan.json").write_text("old")
    write_bundle(bundle, tmp_path)
    assert written(tmp_path) == {**bundle.files, "notes.txt": b"mine"}


def full(*given, **named):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("good", [0, 3])
@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_what_was_there(bundle, tmp_path, monkeypatch, good, there):
    folder = tmp_path / "out"
    if there:
        folder.mkdir()
        (folder / "plan.json").write_text("old")
    honest, calls = Path.write_bytes, []

    def write(path, content):
        calls.append(path)
        return honest(path, content) if len(calls) <= good else full()

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(FpgmError, match=r"cannot write into .*out: No space left on device; free space or choose"):
        write_bundle(bundle, folder)
    assert len(calls) == good + 1
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if there else [])
    assert not there or written(folder) == {"plan.json": b"old"}


@pytest.mark.parametrize("good", [0, 3])
def test_a_folder_that_cannot_be_filled_leaves_what_was_there(bundle, tmp_path, monkeypatch, good):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "plan.json").write_text("old")
    (folder / "compact.py").write_text("old")
    honest, calls = os.replace, []

    def move(source, target):
        calls.append(target)
        return honest(source, target) if len(calls) != good + 1 else full()

    monkeypatch.setattr(os, "replace", move)
    with pytest.raises(FpgmError, match="No space left on device"):
        write_bundle(bundle, folder)
    monkeypatch.undo()
    assert written(folder) == {"plan.json": b"old", "compact.py": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_manifest_comes_last(bundle, tmp_path, monkeypatch):
    honest, order = os.replace, []

    def move(source, target):
        order.append(Path(target).name)
        return honest(source, target)

    monkeypatch.setattr(os, "replace", move)
    write_bundle(bundle, tmp_path / "out")
    assert order[-1] == MANIFEST


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_file_in_place_of_the_folder_is_told_and_kept(bundle, tmp_path, where):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FpgmError, match="file"):
        write_bundle(bundle, tmp_path / where)
    assert written(tmp_path) == {"file": b"mine"}


def test_the_zip_holds_the_same_files_and_is_the_same_every_time(bundle):
    content = zip_bundle(bundle)
    assert content == zip_bundle(bundle)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == dict(bundle.files)
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
