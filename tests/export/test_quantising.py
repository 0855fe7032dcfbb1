"""Eight bits: what ONNX Runtime makes of a network and training images, and four files beside each other."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from fpgm_core import FpgmError, ImageSet, Network
from fpgm_core.data import load_images
from fpgm_core.export import (
    ARTEFACTS,
    FORMS,
    PAIRS,
    ExportConfig,
    Quantising,
    as_int8,
    change_told,
    export,
    judged_work,
    quantising_work,
)
from fpgm_core.runtime.progress import run
from fpgm_core.timing import Target, TimingConfig, as_onnx

QUICK = TimingConfig(runs=6, seconds=0.01)


@pytest.fixture(scope="module")
def dense(resnet20):
    """The dense ResNet-20 as ONNX."""
    return as_onnx(resnet20.prune(0.0).compact(), resnet20.input_shape)


@pytest.fixture(scope="module")
def eight(dense, training):
    """The same in eight bits."""
    return as_int8(dense, training)


def answered(content, images):
    """What a file answers, by onnxruntime alone: float32 (N, classes)."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images.normalised(0, len(images)).numpy()})[0]


def weights(content):
    """The tensors of more than 1,000 numbers in a file."""
    graph = onnx.load_from_string(content).graph
    return [numpy_helper.to_array(one) for one in graph.initializer if np.prod(one.dims) > 1000]


def test_aligned_files_have_fewer_gathers_and_answer_the_same(resnet20, training):
    pruned = resnet20.prune(0.4, coupling="independent")
    files = [
        run(quantising_work(pruned, training, images={}, targets=(), aligned=aligned)).files
        for aligned in (False, True)
    ]
    gathers = [
        sum(node.op_type == "Gather" for node in onnx.load_from_string(one["pruned"]).graph.node) for one in files
    ]
    assert gathers[1] < gathers[0]
    few = training.first(8)
    plain, aligned = (answered(one["pruned"], few) for one in files)
    assert np.allclose(plain, aligned, atol=1e-4)
    assert all(np.isfinite(answered(one["pruned_int8"], few)).all() for one in files)


def test_every_convolution_and_the_classifier_are_in_eight_bits(dense, eight):
    model = onnx.load_from_string(eight)
    onnx.checker.check_model(model)
    kinds = [node.op_type for node in model.graph.node]
    assert {"QuantizeLinear", "DequantizeLinear"} <= set(kinds)
    assert {tensor.dtype for tensor in weights(dense)} == {np.dtype("float32")}
    assert {tensor.dtype for tensor in weights(eight)} == {np.dtype("int8")}
    assert max(int(np.abs(tensor.astype(int)).max()) for tensor in weights(eight)) <= 64  # seven bits: no overflow
    assert len(eight) < len(dense) / 3
    (images,), (logits,) = model.graph.input, model.graph.output
    assert (images.name, logits.name, bool(images.type.tensor_type.shape.dim[0].dim_param)) == (
        "images",
        "logits",
        True,
    )


def test_weights_have_a_scale_for_every_filter(eight):
    model = onnx.load_from_string(eight)
    tensors = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    scales = [
        tensors[node.input[1]] for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors and tensors[node.input[0]].ndim == 4
    ]  # fmt: skip
    assert len(scales) == 19
    assert all(scale.shape in ((16,), (32,), (64,)) for scale in scales)
    assert all(len(np.unique(scale)) > 1 for scale in scales)


def test_it_loses_little_and_answers_nearly_as_before(dense, eight):
    images = load_images("cifar10", "choose").first(500)
    before, after = answered(dense, images), answered(eight, images)
    assert (before.argmax(1) == after.argmax(1)).mean() > 0.97
    assert 1e-3 < np.abs(after - before).max() / np.abs(before).max() < 0.2


def test_the_same_images_give_the_same_bytes_and_others_other_ranges(dense, training, eight):
    assert as_int8(dense, training) == eight
    dim = ImageSet.from_arrays(
        np.zeros((16, 32, 32, 3), np.uint8), np.zeros(16, int), mean=training.mean, std=training.std, name="black"
    )
    assert as_int8(dense, dim) != eight


def test_the_artefact_says_what_changes_against_float32(half, halves, training):
    artefacts = [ARTEFACTS["int8"]]
    config = ExportConfig(artefacts=artefacts, batches=(1,), timing=QUICK, runtimes=("pytorch",), training=training)
    found = export(half, images=halves, config=config)
    (entry,) = found.manifest["artefacts"]
    assert not found.manifest["skipped"]
    assert set(entry["measured"]["latency_ms"]) == {"1"}
    for split, images in halves.items():
        right = answered(found.files["compact.int8.onnx"], images).argmax(1) == images.labels.numpy()
        with torch.inference_mode():
            float32 = half.compact()(images.normalised(0, len(images))).argmax(1) == images.labels
        measured = entry["measured"][split]
        assert measured["correct"] == right.sum()
        assert measured["change"] == pytest.approx((right.sum() - int(float32.sum())) / len(images))
        assert measured["change_low"] <= measured["change"] <= measured["change_high"]


@pytest.mark.parametrize("off", [float("nan"), float("inf")])
def test_answers_that_are_no_numbers_stop_everything(half, training, off):
    record = ARTEFACTS["int8"]
    broken = replace(record, reload=lambda files: lambda images: record.reload(files)(images) * off)
    with pytest.raises(FpgmError, match="nothing is exported"):
        export(half, measured=False, config=ExportConfig(artefacts=[broken], training=training))


def left_out(pruned, **given):
    found = export(pruned, measured=False, config=ExportConfig(artefacts=[ARTEFACTS["int8"]], **given))
    (left,) = found.manifest["skipped"]
    return left["reason"]


def test_without_training_images_it_is_left_out_with_the_reason(half):
    assert "calibrated on training images, and there are none of cifar10 here" in left_out(half)


def test_random_weights_and_images_of_another_shape_are_left_out_with_the_reason(training):
    network = Network.load("resnet20", "random")
    assert "calibrated on trained weights: " in left_out(network.prune(0.5, coupling="coupled"), training=training)
    small = ImageSet.from_arrays(np.zeros((4, 8, 8, 3), np.uint8), np.arange(4))
    trained = Network.load("resnet20")
    assert "resnet20 reads 3 x 32 x 32" in left_out(trained.prune(0.5, coupling="coupled"), training=small)


def test_what_onnxruntime_cannot_read_is_refused_by_name(training):
    with pytest.raises(FpgmError, match=r"ONNX Runtime cannot quantise this network .*use the float32 file"):
        as_int8(b"no network", training)


def made(**right):
    """Four files of known sizes, with known answers on choose."""
    sizes = dict(zip(FORMS, (400, 100, 200, 50), strict=True))
    return Quantising({name: bytes(size) for name, size in sizes.items()}, {"choose": right})


def test_the_table_says_sizes_accuracies_and_paired_changes():
    dense = np.arange(100) < 90
    worse, same = dense & (np.arange(100) >= 20), dense.copy()
    same[[0, 95]] = False, True
    found = made(dense=dense, dense_int8=same, pruned=worse, pruned_int8=worse)
    assert found.accuracy("pruned", "choose").value == 0.7
    assert found.change("pruned", "dense", "choose").value == pytest.approx(-0.2)
    assert found.bytes_share("pruned_int8", "dense") == 0.125
    rows = found.to_dict()
    assert [row["form"] for row in rows["forms"]] == list(FORMS)
    assert [(row["form"], row["against"]) for row in rows["pairs"]] == list(PAIRS)
    told = {pair: change_told(row["change"]["choose"]) for pair, row in zip(PAIRS, rows["pairs"], strict=True)}
    assert told["dense_int8", "dense"].startswith("no difference found [−")
    assert told["pruned", "dense"].startswith("−20.00 [−")
    assert told["pruned_int8", "pruned"].startswith("no difference found")


@pytest.fixture(scope="module")
def four(half, halves, training):
    """All four, measured on choose alone."""
    images, targets = {"choose": halves["choose"]}, [Target("onnxruntime", 2, 1)]
    return run(quantising_work(half, training, images=images, targets=targets, timing=QUICK))


def test_every_file_is_measured_by_itself_and_timed_in_turns(four, halves, resnet20, half):
    assert list(four.files) == list(FORMS)
    images = halves["choose"]
    for form, content in four.files.items():
        right = answered(content, images).argmax(1) == images.labels.numpy()
        assert (four.right["choose"][form] == right).all()
    x = images.normalised(0, 64)
    for form, pruned in (("dense", resnet20.prune(0.0)), ("pruned", half)):
        with torch.inference_mode():
            logits = pruned.compact()(x).numpy()
        np.testing.assert_allclose(answered(four.files[form], images.first(64)), logits, atol=1e-3)
    (timings,) = four.timings.values()
    assert set(timings.seconds) == set(FORMS)
    for row in four.to_dict()["pairs"]:
        (speed,) = row["speed"]
        assert (speed["batch"], speed["ratio_low"] <= speed["ratio"] <= speed["ratio_high"]) == (2, True)
        assert (speed["speed_up"] is None) == (speed["verdict"] not in ("faster", "slower"))


def test_sealed_is_looked_at_where_it_is_asked_for(four, halves):
    assert set(four.right) == {"choose"}
    both = run(judged_work(four, {"sealed": halves["sealed"]}))
    assert set(both.right) == {"choose", "sealed"}
    assert set(both.to_dict()["forms"][0]["accuracy"]) == {"choose", "sealed"}
    assert both.timings == four.timings


def test_a_plan_that_prunes_nothing_has_nothing_to_compare(resnet20, training):
    with pytest.raises(FpgmError, match="prunes nothing"):
        run(quantising_work(resnet20.prune(0.0), training, images={}, targets=[]))
