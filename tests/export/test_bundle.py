"""What leaves together: proved, reloaded, true to its manifest; written whole or not at all."""

import copy
import errno
import hashlib
import io
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import load_model_from_string as load_onnx
from safetensors.torch import load
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fpgm_core import EvaluationConfig, FpgmError, ImageSet, Network, Plan, evaluate, recover
from fpgm_core.data import load_images
from fpgm_core.export import ARTEFACTS, MANIFEST, ExportConfig, export, export_work, networks, write_bundle, zip_bundle
from fpgm_core.pruning import RecoveryStep, randomised
from fpgm_core.runtime.progress import run
from fpgm_core.timing import RUNTIMES, TimingConfig, available_runtimes

FILES = {
    "plan.json", "plan.csv", "torch_ao.json", "compact.safetensors", "compact.py", "compact.pt2", "compact.onnx",
    "compact.int8.onnx", "manifest.json",
}  # fmt: skip
QUICK = TimingConfig(runs=6, seconds=0.01)
MISREAD = "torch_pruning"  # of option A's padded shortcuts Torch-Pruning makes something else


def only(*names, **more):
    """Make only some artefacts, where a test is about others' work; time them shortly, dense and compact in PyTorch."""
    options = {"batches": (1,), "timing": QUICK, "runtimes": ("pytorch",)} | more
    return ExportConfig(artefacts=[ARTEFACTS[name] for name in names], **options)


def manifest_of(bundle):
    return json.loads(bundle.files[MANIFEST])


def entries(bundle):
    return {entry["name"]: entry for entry in manifest_of(bundle)["artefacts"]}


def test_every_artefact_is_there_and_the_manifest_names_it(bundle):
    assert set(bundle.files) == FILES
    assert list(entries(bundle)) == [name for name in ARTEFACTS if name != MISREAD]
    named = [file["file"] for entry in entries(bundle).values() for file in entry["files"]]
    assert sorted([*named, MANIFEST]) == sorted(FILES)
    assert all(entry["title"] == ARTEFACTS[name].title for name, entry in entries(bundle).items())
    assert [skipped["name"] for skipped in manifest_of(bundle)["skipped"]] == [MISREAD]
    assert manifest_of(bundle) == json.loads(json.dumps(bundle.manifest))


def test_sizes_and_hashes_are_true(bundle):
    for entry in entries(bundle).values():
        for file in entry["files"]:
            content = bundle.files[file["file"]]
            assert file["bytes"] == len(content)
            assert file["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_manifest_says_what_it_is_an_export_of(half, halves, bundle):
    found, cost = manifest_of(bundle), half.cost
    assert (found["model"], found["fingerprint"], found["trained"]) == ("resnet20", half.plan.fingerprint, True)
    assert (found["criterion"], found["coupling"], found["recalibrated"]) == ("fpgm", "coupled", False)
    assert (found["rung"], found["recovery"]) == ("as_is", [])
    assert (found["macs"], found["params"]) == (cost.macs, cost.params)
    assert (found["dense_macs"], found["dense_params"]) == (40_551_040, 269_722)
    images = halves["choose"]
    assert found["normalisation"] == {"mean": list(images.mean), "std": list(images.std)}
    assert found["measured"]["latency"] == []
    assert found["measured"]["torch"] == torch.__version__


def test_the_manifest_has_the_keys_that_it_always_had(bundle):
    assert set(manifest_of(bundle)) >= {
        "format_version", "model", "fingerprint", "trained", "criterion", "coupling", "rung", "recalibrated", "macs",
        "dense_macs", "params", "dense_params", "normalisation", "artefacts", "skipped", "proof", "measured",
    }  # fmt: skip
    assert manifest_of(bundle)["format_version"] == 1


def test_the_proof_holds_and_tells(half, bundle):
    proof, cost = bundle.proof, half.cost
    assert proof.holds
    assert proof.tells
    assert proof.images == 8 + 64
    assert (proof.counted_macs, proof.counted_params) == (cost.macs, cost.params)
    assert manifest_of(bundle)["proof"]["holds"] is True
    assert manifest_of(bundle)["proof"]["max_abs_difference"] == proof.max_abs_difference


def test_what_holds_a_network_says_its_cost_and_that_it_answers_equally(half, bundle):
    cost = half.cost
    for name, entry in entries(bundle).items():
        assert ("measured" in entry) == (ARTEFACTS[name].reload is not None)
        if ARTEFACTS[name].reload is not None:
            assert (entry["macs"], entry["params"]) == (cost.macs, cost.params)
            assert set(entry["measured"]) == {"max_abs_difference", "logit_scale"}  # not measured: no accuracy, no time
            difference = entry["measured"]["max_abs_difference"] / entry["measured"]["logit_scale"]
            assert 0 <= difference <= 1e-4 if ARTEFACTS[name].exact else 1e-4 < difference < 0.2


def test_the_plan_comes_back_equal(half, bundle):
    assert Plan.from_json(bundle.files["plan.json"]) == half.plan


def test_the_same_plan_and_weights_give_the_same_bytes(half, halves, training, bundle):
    again = export(half, images=halves, measured=False, config=ExportConfig(training=training))
    assert {name for name in FILES if again.files[name] != bundle.files[name]} == set()
    assert zip_bundle(again) == zip_bundle(bundle)


def test_progress_is_told_in_words_and_never_runs_backwards(half, halves):
    steps = []
    bundle = run(export_work(half, images=halves, config=only("plan", "python")), steps.append)
    assert set(bundle.files) == {"plan.json", "compact.py", "compact.safetensors", MANIFEST}
    shares = [step.share for step in steps]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    python = ARTEFACTS["python"].title
    assert list(dict.fromkeys(step.what for step in steps)) == [
        "comparing the compact network with the masked one",
        f"writing {ARTEFACTS['plan'].title}",
        f"writing {python}",
        f"reloading {python}",
        f"comparing {python}",
        f"measuring {python} on choose",
        f"measuring {python} on sealed",
        "timing the files on batches of 1",
        f"timing batches of 1 in {RUNTIMES['pytorch'].title}",
    ]


def test_an_independent_plan_is_exported_without_what_cannot_follow_it(resnet20):
    found = export(resnet20.prune(0.4), measured=False, config=only("torch_pruning", "torch_ao"))
    assert set(found.files) == {"torch_ao.json", MANIFEST}
    (left,) = manifest_of(found)["skipped"]
    assert left["name"] == "torch_pruning"
    assert "moves layers that share channels together" in left["reason"]


@pytest.fixture(scope="module")
def residual():
    """A residual network of one's own, pruned so that the two that write its sum keep different channels."""
    torch.manual_seed(0)
    return randomised(Network.from_module(Foreign(), (1, 12, 10)).prune(0.4, criterion="random"))


@pytest.fixture(scope="module")
def aligned(residual):
    """Its aligned export in every form that holds the network exactly."""
    return export(residual, measured=False, config=only("python", "pt2", "onnx", aligned=True))


def run_cost(module, shape):
    """Multiply-adds of one image by PyTorch's own counter, and parameters."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, *shape))
    return counter.get_total_flops() // 2, sum(p.numel() for p in module.parameters())


def test_an_aligned_export_places_nothing_and_answers_as_the_masked_network(residual, aligned):
    plain = export(residual, measured=False, config=only("python", "onnx"))
    x = torch.randn(9, 1, 12, 10, generator=torch.Generator().manual_seed(5))
    wanted, files = residual.masked()(x), aligned.files
    onnx = networks.reload_onnx(files)
    for reloaded in (networks.reload_python(files), networks.reload_pt2(files), onnx):
        torch.testing.assert_close(reloaded(x), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    assert "index_select" in plain.files["compact.py"].decode()
    assert "index_select" not in files["compact.py"].decode()
    gathers = [{node.op_type for node in load_onnx(one.files["compact.onnx"]).graph.node} for one in (plain, aligned)]
    assert ["Gather" in kinds for kinds in gathers] == [True, False]


def test_an_aligned_export_says_what_it_really_costs_and_what_the_plan_does(residual, aligned):
    manifest, cost = manifest_of(aligned), residual.cost
    macs, params = run_cost(networks.reload_python(aligned.files), (1, 12, 10))
    assert macs > cost.macs
    assert (manifest["aligned"], manifest["compact_macs"], manifest["compact_params"]) == (True, macs, params)
    assert (manifest["macs"], manifest["params"]) == (cost.macs, cost.params)
    assert {(entry["macs"], entry["params"]) for entry in manifest["artefacts"]} == {(macs, params)}
    assert (aligned.proof.holds, aligned.proof.tells, aligned.proof.macs) == (True, True, macs)
    said = aligned.files["compact.py"].decode()
    dense = residual.network.dense_cost.macs
    assert f"{1 - cost.macs / dense:.1%} of the multiply-adds pruned." in said
    assert f"it has {1 - macs / dense:.1%} fewer multiply-adds than the dense one." in said


def test_an_export_is_aligned_only_where_that_is_asked_for(bundle, half):
    found, cost = manifest_of(bundle), half.cost
    assert (found["aligned"], found["compact_macs"], found["compact_params"]) == (False, cost.macs, cost.params)
    assert "Aligned" not in bundle.files["compact.py"].decode()


def test_an_aligned_network_that_carries_something_else_than_zeros_stops_everything(residual):
    honest = residual.compact

    class Wrong(type(residual)):
        def compact(self, *, aligned=False):
            module = honest(aligned=aligned)
            if aligned:
                weight = module.get_submodule("outer").weight.data
                weight[~weight.flatten(1).any(1)] = 0.5
            return module

    wrong = Wrong(residual.network, residual.plan, residual.keep_masks)
    assert export(wrong, measured=False, config=only("python")).proof.holds
    with pytest.raises(FpgmError, match="differs from the masked one"):
        export(wrong, measured=False, config=only("python", aligned=True))


@pytest.mark.thorough
def test_the_accuracy_of_an_aligned_file_is_that_of_the_pruned_network(resnet20, halves):
    pruned = recover(resnet20.prune(0.2), "recalibrated", images=load_images("cifar10", "train").first(256))
    config = only("python", aligned=True)
    manifest = manifest_of(export(pruned, images={"choose": halves["choose"]}, config=config))
    facts = manifest["artefacts"][0]["measured"]
    measurement = evaluate(pruned, halves["choose"], EvaluationConfig(device="cpu", precision="float32"))
    assert abs(facts["choose"]["correct"] - measurement.num_correct) <= 1
    assert [row["runtime"] for row in manifest["measured"]["latency"]] == ["pytorch"]
    assert manifest["compact_macs"] > manifest["macs"]


def test_a_layer_that_cannot_be_written_down_is_left_out_with_the_reason(half):
    def make(pruned, module):  # with a container in place of its first layer
        changed = copy.deepcopy(module)
        changed.add_module("conv1", nn.Sequential(changed.get_submodule("conv1")))
        return ARTEFACTS["python"].make(pruned, changed)

    artefacts = [ARTEFACTS["plan"], replace(ARTEFACTS["python"], make=make)]
    found = export(half, measured=False, config=ExportConfig(artefacts=artefacts))
    assert set(found.files) == {"plan.json", MANIFEST}
    (left,) = manifest_of(found)["skipped"]
    assert left["name"] == "python"
    assert "conv1 (Sequential) cannot be written down; export it as .pt2 or ONNX" in left["reason"]


def refused(work):
    """What work yields before it raises, and what it raises."""
    steps = []
    with pytest.raises(FpgmError) as raised:
        run(work, steps.append)
    return steps, str(raised.value)


def test_a_proof_that_fails_stops_everything(half, halves):
    honest = half.compact

    class Wrong(type(half)):
        def compact(self, *, aligned=False):
            module = honest(aligned=aligned)
            module.get_submodule("fc").bias.data += 0.7
            return module

    wrong = Wrong(half.network, half.plan, half.keep_masks)
    steps, told = refused(export_work(wrong, images=halves, measured=False))
    assert {step.what for step in steps} == {"comparing the compact network with the masked one"}
    assert "differs from the masked one by 0.7" in told
    assert "not exported" in told


def test_a_cost_that_is_not_what_was_counted_stops_everything(half, halves):
    wrong = replace(half)
    wrong.__dict__["cost"] = replace(half.cost, macs=half.cost.macs + 1)
    steps, told = refused(export_work(wrong, images=halves, measured=False))
    assert {step.what for step in steps} == {"comparing the compact network with the masked one"}
    assert "not exported" in told


@pytest.mark.parametrize(
    "off", [lambda logits: logits * 1.01, lambda logits: logits * float("nan"), lambda logits: logits.flip(1)]
)
def test_a_file_that_answers_otherwise_stops_everything(half, halves, off, tmp_path):
    wrong = replace(ARTEFACTS["python"], reload=lambda files: lambda images: off(networks.reload_python(files)(images)))
    config = ExportConfig(artefacts=[wrong])
    steps, told = refused(export_work(half, tmp_path / "out", images=halves, measured=False, config=config))
    assert steps
    assert "reloaded, differs by" in told
    assert "nothing is exported" in told
    assert not (tmp_path / "out").exists()


def test_images_of_another_shape_are_refused(half):
    images = ImageSet.from_arrays(np.zeros((4, 8, 8, 3), np.uint8), np.arange(4), name="small ones")
    with pytest.raises(
        FpgmError, match=r"small ones has images of shape \(3, 8, 8\), and resnet20 reads \(3, 32, 32\)"
    ):
        export(half, images={"mine": images})


def test_what_was_recovered_is_exported_and_said(half, bundle):
    training = load_images("cifar10", "train")
    pruned = recover(half, "recalibrated", images=training, num_images=256, device="cpu")
    found = export(pruned, measured=False, config=only("python"))
    manifest = manifest_of(found)
    assert (manifest["rung"], manifest["recalibrated"]) == ("recalibrated", True)
    (step,) = manifest["recovery"]
    assert (step["method"], step["num_images"], step["images"]) == ("recalibrated", 256, "cifar10 train")
    fresh, as_is = (load(files[networks.WEIGHTS]) for files in (found.files, bundle.files))
    changed = {name.rpartition(".")[2] for name in fresh if not torch.equal(fresh[name], as_is[name])}
    assert changed == {"running_mean", "running_var"}
    assert all(not torch.equal(fresh[name], as_is[name]) for name in fresh if name.endswith("running_var"))


def test_the_proof_is_against_the_true_dense_network(resnet20, half):
    """A network repaired to death moves the answers, although it equals itself."""
    weight = torch.zeros_like(resnet20.module.get_parameter("fc.weight"))
    pruned = resnet20.prune(0.0).with_tensors({"fc.weight": weight}, RecoveryStep("repaired"))
    proof = export(pruned, measured=False, config=only("plan")).proof
    assert proof.holds
    assert proof.tells
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        moved = (resnet20.module(images) - pruned.masked()(images)).abs().max()
    assert proof.masked_dense_difference >= float(moved) > 1


def test_random_weights_are_not_scored(halves):
    network = Network.load("resnet32")
    found = export(network.prune(0.5, coupling="coupled"), images=halves, config=only("python"))
    assert manifest_of(found)["trained"] is False
    measured = entries(found)["python"]["measured"]
    assert not {"choose", "sealed"} & set(measured)
    assert set(measured["latency_ms"]) == {"1"}
    assert [row["batch"] for row in manifest_of(found)["measured"]["latency"]] == [1]


def test_dense_and_compact_are_timed_in_every_runtime(halves):
    pruned = Network.from_module(Foreign(), (1, 12, 10)).prune(0.4, coupling="coupled")
    rows = manifest_of(export(pruned, config=only("python", runtimes=None)))["measured"]["latency"]
    assert [(row["runtime"], row["batch"]) for row in rows] == [(name, 1) for name in available_runtimes()]
    for row in rows:
        told = row["ratio_low"] > 1 or row["ratio_high"] < 1
        assert row["speed_up"] == (row["ratio"] if told else None)
        assert {"threads", "dense_spread", "compact_spread", "busy", "version", "processor"} <= set(row)


def test_a_runtime_that_is_not_here_is_named_with_the_reason(resnet20):
    found = manifest_of(export(resnet20.prune(0.5, coupling="coupled"), config=only("plan")))
    untimed = {row["runtime"]: row["reason"] for row in found["measured"]["untimed"]}
    assert set(untimed) == {name for name, record in RUNTIMES.items() if record.lacks()}
    assert [row["runtime"] for row in found["measured"]["latency"]] == ["pytorch"]
    if not torch.cuda.is_available():
        assert untimed["tensorrt"] == "there is no NVIDIA GPU"


def test_the_accuracy_of_a_file_is_that_of_the_pruned_network(half, halves):
    pruned = recover(half, "recalibrated", images=load_images("cifar10", "train").first(256), device="cpu")
    found = entries(export(pruned, images=halves, config=only("python", "onnx")))
    for split, images in halves.items():
        measurement = evaluate(pruned, images, EvaluationConfig(device="cpu", precision="float32"))
        for name in ("python", "onnx"):
            facts = found[name]["measured"][split]
            assert abs(facts["correct"] - measurement.num_correct) <= 1  # another order of rounding
            assert (facts["images"], facts["accuracy"]) == (256, facts["correct"] / 256)
            assert facts["accuracy_low"] < facts["accuracy"] < facts["accuracy_high"]
        assert all(time > 0 for time in found["onnx"]["measured"]["latency_ms"].values())


class Foreign(nn.Module):
    """A residual network that this project has never seen, with images of its own."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 10, 3, padding=1), nn.BatchNorm2d(10)
        self.inner, self.outer = nn.Conv2d(10, 12, 3, padding=1), nn.Conv2d(12, 10, 3, padding=1)
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.outer(torch.relu(self.inner(x))))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("coupling", ["inner", "coupled"])
def test_a_network_of_ones_own_leaves_in_every_form_and_comes_back_the_same(tmp_path, coupling):
    torch.manual_seed(0)
    rng = np.random.RandomState(0)
    images = ImageSet.from_arrays(
        rng.randint(0, 256, (90, 12, 10, 1), dtype=np.uint8), np.arange(90) % 3, mean=(0.4,), std=(0.2,), name="mine"
    )
    pruned = Network.from_module(Foreign(), (1, 12, 10)).prune(0.4, coupling=coupling)
    choose, sealed = images.halves(seed=3)
    recovered = recover(pruned, "recalibrated", images=choose, device="cpu")
    config = ExportConfig(batches=(1, 2), timing=QUICK, runtimes=("pytorch",), training=choose)
    bundle = export(recovered, tmp_path / "out", images={"choose": choose, "sealed": sealed}, config=config)
    assert {path.name for path in (tmp_path / "out").iterdir()} - {"torch_pruning.json"} == FILES

    x = images.normalised(0, 90)
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    session = onnxruntime.InferenceSession(files["compact.onnx"], providers=["CPUExecutionProvider"])
    program = torch.export.load(io.BytesIO(files["compact.pt2"])).module()
    built = {}
    exec(compile(files["compact.py"], "compact.py", "exec"), built)
    with torch.no_grad():
        wanted = recovered.masked()(x)
        answers = [
            built["load"](tmp_path / "out" / "compact.safetensors")(x),
            program(x),
            torch.from_numpy(session.run(None, {"images": x.contiguous().numpy()})[0]),
        ]
    for logits in answers:
        torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    manifest = json.loads(files[MANIFEST])
    assert manifest["normalisation"] == {"mean": [0.4], "std": [0.2]}
    right = int((wanted.argmax(1) == images.labels).sum())
    for name in ("python", "pt2", "onnx"):
        measured = entries(bundle)[name]["measured"]
        assert abs(measured["choose"]["correct"] + measured["sealed"]["correct"] - right) <= 1
    assert Plan.from_json(files["plan.json"]) == pruned.plan


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
