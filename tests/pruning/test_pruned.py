"""Pruned networks: their forms, what recovery replaces, and their file."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save

from fpgm_core import FpgmError
from fpgm_core.graph import COUPLINGS
from fpgm_core.pruning import PrunedNetwork, RecoveryStep


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_a_compact_state_goes_back_into_dense_shapes(network, images, coupling):
    pruned = network("mobilenetv2_cifar").prune(0.4, coupling=coupling)
    compact = pruned.compact()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*compact.parameters(), *compact.buffers()):
            if tensor.is_floating_point():
                tensor.mul_(torch.empty(tensor.shape).uniform_(0.8, 1.2, generator=generator))
    trained = pruned.with_compact_state(compact, RecoveryStep("fine_tuned"))
    with torch.no_grad():
        wanted, before = compact(images), pruned.compact()(images)
        for form in (trained.compact(), trained.masked()):
            torch.testing.assert_close(form(images), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    assert float((wanted - before).abs().max()) > 0.01 * float(wanted.abs().max())
    assert (trained.method, pruned.method) == ("fine_tuned", "as_is")


@pytest.mark.parametrize("aligned", [False, True])
def test_norm_statistics_of_a_compact_form_go_back(network, images, aligned):
    pruned = network("resnet20").prune(0.5, coupling="independent")
    compact = pruned.compact(aligned=aligned)
    for module in compact.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean += 0.3
            module.running_var *= 1.3
    step = RecoveryStep("recalibrated", 8, "some")
    recalibrated = pruned.with_norm_statistics(compact, step, **({"aligned": True} if aligned else {}))
    with torch.no_grad():
        wanted = compact(images)
        torch.testing.assert_close(recalibrated.compact()(images), wanted, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(recalibrated.masked()(images), wanted, rtol=1e-4, atol=1e-3)
    assert recalibrated.recovered_on == 8


def test_a_saved_pruned_network_comes_back_the_same(network, images, tmp_path):
    net = network("resnet20")
    pruned = net.prune(0.5, coupling="inner", criterion="l1_norm")
    weight = net.module.get_parameter("layer1.0.conv2.weight") * 0.5
    step = RecoveryStep("repaired", 12, "some images", {"ridge": 1e-3, "watched": {"repaired": 3}}, "a notice")
    pruned = pruned.with_tensors({"layer1.0.conv2.weight": weight}, step)
    pruned.save(tmp_path / "pruned.safetensors")
    again = PrunedNetwork.load(tmp_path / "pruned.safetensors", net)
    assert (again.plan, again.recovery, again.cost.macs) == (pruned.plan, pruned.recovery, pruned.cost.macs)
    assert (again.method, again.recovered_on, again.notice) == ("repaired", 12, "a notice")
    assert (net.prune(0.5).method, net.prune(0.5).recovered_on, net.prune(0.5).notice) == ("as_is", 0, None)
    assert all(np.array_equal(again.keep_masks[name], mask) for name, mask in pruned.keep_masks.items())
    assert torch.equal(again.compact()(images), pruned.compact()(images))


def test_a_file_for_other_weights_or_of_anything_else_is_refused(network, resnet20, tmp_path):
    path = tmp_path / "pruned.safetensors"
    network("resnet20").prune(0.5).save(path)
    mended = dataclasses.replace(network("resnet20").prune(0.5).plan, model="resnet20", fingerprint="0" * 64)
    assert mended.fingerprint != resnet20.fingerprint
    with pytest.raises(FpgmError, match="not resnet20"):
        PrunedNetwork.load(path, resnet20)
    content = path.read_bytes()
    for damaged in (b"", content[:100], b"\xff" * 64, content[:-4]):
        path.write_bytes(damaged)
        with pytest.raises(FpgmError, match="not a saved pruned network"):
            PrunedNetwork.load(path, network("resnet20"))
    with pytest.raises(FpgmError, match="check the path"):
        PrunedNetwork.load(tmp_path / "none.safetensors", resnet20)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "not a saved pruned network"),
        ({"other": "{}"}, "not a saved pruned network"),
        ({"pruned_network": "{"}, "not a saved pruned network"),
        ({"pruned_network": "[" * 100_000}, "not a saved pruned network"),
        ({"pruned_network": "[]"}, "another version"),
        ({"pruned_network": '{"format_version": 0}'}, "another version"),
        ({"pruned_network": '{"format_version": 1}'}, "incomplete header"),
        ({"pruned_network": '{"format_version": 1, "plan": {}, "recovery": []}'}, "the plan has no"),
    ],
)
def test_a_header_that_says_something_else_is_refused(resnet20, tmp_path, header, message):
    path = tmp_path / "pruned.safetensors"
    path.write_bytes(save({"mask/conv1": torch.ones(16, dtype=torch.uint8)}, header))
    with pytest.raises(FpgmError, match=message):
        PrunedNetwork.load(path, resnet20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask/conv1": torch.ones(15, dtype=torch.uint8)}, "masks in .* are not of resnet20's layers"),
        ({"mask/more": torch.ones(16, dtype=torch.uint8)}, "masks in .* are not of resnet20's layers"),
        ({"tensor/conv1.weight": torch.ones(16, 3, 3)}, "replaces conv1.weight, which resnet20 does not have in that"),
        ({"tensor/conv9.weight": torch.ones(3)}, "replaces conv9.weight, which resnet20 does not have in that shape"),
        ({"tensor/fc.bias": torch.full((10,), float("nan"))}, "holds values that are not finite in fc.bias"),
    ],
)
def test_masks_and_tensors_of_another_form_are_refused(resnet20, tmp_path, change, message):
    path, pruned = tmp_path / "pruned.safetensors", resnet20.prune(0.5)
    masks = {f"mask/{name}": torch.from_numpy(mask.astype(np.uint8)) for name, mask in pruned.keep_masks.items()}
    header = json.dumps({"format_version": 1, "plan": pruned.plan.to_dict(), "recovery": []})
    path.write_bytes(save(masks, {"pruned_network": header}))
    assert PrunedNetwork.load(path, resnet20).digest == pruned.digest
    path.write_bytes(save(masks | change, {"pruned_network": header}))
    with pytest.raises(FpgmError, match=message):
        PrunedNetwork.load(path, resnet20)


def test_a_network_that_is_no_part_of_another_is_whole_when_compact(network, images):
    pruned = network("resnet20").prune(0.5, coupling="inner")
    assert torch.equal(pruned.whole()(images), pruned.compact()(images))


def test_a_plan_a_rate_and_rates_by_unit_prune_alike(resnet20):
    plan = resnet20.plan({"layer1.0.conv1": 0.5}, coupling="inner", criterion="l2_norm")
    by_plan = resnet20.prune(plan)
    by_rates = resnet20.prune({"layer1.0.conv1": 0.5}, coupling="inner", criterion="l2_norm")
    assert by_plan.plan == by_rates.plan
    assert by_plan.cost == by_rates.cost == resnet20.cost(plan)
    assert resnet20.prune(0.0).prunes_nothing
    assert not by_plan.prunes_nothing
