"""The registry of recovery methods: its order, what a method of one's own may do, and what one is made of."""

from dataclasses import replace

import pytest
import torch

from fpgm_core import FpgmError, recover
from fpgm_core.data import load_images
from fpgm_core.evaluation import measure_work
from fpgm_core.pruning import PrunedNetwork, RecoveryStep
from fpgm_core.recovery import (
    NUM_IMAGES,
    RECOVERY_METHODS,
    RecoveryMethod,
    get_recovery_method,
    ladder,
    register_recovery_method,
    unregister_recovery_method,
)
from fpgm_core.runtime.progress import Progress, run


def louder_work(pruned, images, context, *, by=2.0):
    yield Progress(0, what="turning it up")
    bias = pruned.network.module.get_parameter("fc.bias")
    return pruned.with_tensors({"fc.bias": bias * by}, RecoveryStep("louder", details={"by": by}))


LOUDER = RecoveryMethod("louder", "Louder", "The last layer's bias is doubled.", louder_work)


@pytest.fixture
def louder():
    register_recovery_method(LOUDER)
    yield LOUDER
    unregister_recovery_method("louder")


def test_the_ladder_is_what_takes_seconds():
    assert tuple(RECOVERY_METHODS) == ("as_is", "merged", "recalibrated", "repaired", "fine_tuned")
    assert ladder() == ("as_is", "merged", "recalibrated", "repaired")
    assert [name for name, method in RECOVERY_METHODS.items() if method.needs_images] == [
        "recalibrated", "repaired", "fine_tuned",
    ]  # fmt: skip


def test_a_method_of_ones_own_is_applied_and_measured(resnet20, louder):
    pruned = resnet20.prune(0.3, coupling="inner")
    found = recover(pruned, "louder", device="cpu", by=3.0)
    assert (found.method, found.recovery[-1].details) == ("louder", {"by": 3.0})
    assert torch.equal(found.compact().fc.bias, 3 * resnet20.module.fc.bias)
    assert pruned.recovery == ()
    assert pruned.tensors == {}
    images = load_images("cifar10", "choose").first(50)
    assert run(measure_work(pruned, images, method="louder")).method == "louder"
    assert "louder" in ladder()


def test_the_librarys_own_methods_stay_and_ones_own_are_replaced_and_taken_out(louder):
    with pytest.raises(FpgmError, match="'repaired' is the library's own"):
        register_recovery_method(replace(LOUDER, name="repaired"))
    with pytest.raises(FpgmError, match="no recovery method 'repaired' was registered"):
        unregister_recovery_method("repaired")
    again = register_recovery_method(replace(LOUDER, title="Louder still"))
    assert get_recovery_method("louder") is again
    unregister_recovery_method("louder")
    with pytest.raises(FpgmError, match="no recovery method 'louder' was registered"):
        unregister_recovery_method("louder")
    with pytest.raises(FpgmError, match="unknown rung 'louder'"):
        get_recovery_method("louder")
    register_recovery_method(LOUDER)  # for the fixture


@pytest.mark.parametrize("coupling", ["inner", "independent"])
def test_recalibrated_is_the_masked_network_recalibrated(resnet20, coupling):
    pruned, training = resnet20.prune(0.4, coupling=coupling), load_images("cifar10", "train").first(300)
    found = recover(pruned, "recalibrated", training, device="cpu", num_images=256)
    assert (found.recovered_on, found.recovery[-1].images) == (256, training.name)
    assert recover(pruned, "recalibrated", training, device="cpu").recovered_on == min(300, NUM_IMAGES)
    x = training.normalised(0, 20)
    with torch.inference_mode():
        dense, masked, compact = resnet20.module(x), found.masked()(x), found.compact()(x)
    assert isinstance(found, PrunedNetwork)
    assert float((masked - compact).abs().max()) <= 1e-4 * float(dense.abs().max())


def test_rungs_can_follow_each_other(resnet20):
    training = load_images("cifar10", "train").first(128)
    found = recover(recover(resnet20.prune(0.3), "merged"), "recalibrated", training, device="cpu")
    assert [step.method for step in found.recovery] == ["merged", "recalibrated"]
    assert found.method == "recalibrated"
