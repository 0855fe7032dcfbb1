"""The registry of recovery methods: its order, what a method of one's own may do, and what one is made of."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fpgm_core import FpgmError, Network, recover
from fpgm_core.data import load_images
from fpgm_core.evaluation import ContestConfig, EvaluationConfig, contest, known_contest, measure_work
from fpgm_core.pruning import PrunedNetwork, RecoveryStep
from fpgm_core.recovery import (
    NUM_IMAGES,
    RECOVERY_METHODS,
    RecoveryMethod,
    check_rung,
    get_recovery_method,
    ladder,
    refused_rungs,
    register_recovery_method,
    unregister_recovery_method,
    usual_rung,
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


class WithoutBatchNorms(nn.Module):
    """As AlexNet and ConvNeXt are; with chance's weights it is right about a tenth, whatever is done to it."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(3, 16, 3, 2), nn.Conv2d(16, 16, 3, 2), nn.GroupNorm(1, 16)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.b(torch.relu(self.a(x))))).mean((2, 3)))


@pytest.fixture(scope="module")
def without_batch_norms():
    torch.manual_seed(0)
    return Network.from_module(WithoutBatchNorms(), (3, 32, 32), name="plain", dataset="cifar10")


def test_a_ladder_without_batch_norms_lacks_one_rung_in_words(without_batch_norms, resnet20):
    assert ladder(resnet20) == ladder()
    assert (refused_rungs(resnet20), usual_rung(resnet20)) == ({}, "recalibrated")
    assert ladder(without_batch_norms) == ("as_is", "merged", "repaired")
    assert usual_rung(without_batch_norms) == "as_is"
    (reason,) = refused_rungs(without_batch_norms).values()
    assert reason == "plain has no batch normalisation whose statistics could be measured anew"
    assert check_rung(without_batch_norms, "repaired") == "repaired"
    with pytest.raises(FpgmError, match=r"so there is no rung recalibrated; choose one of as_is, merged, repaired"):
        check_rung(without_batch_norms, "recalibrated")
    with pytest.raises(FpgmError, match="unknown rung 'nothing'"):
        check_rung(without_batch_norms, "nothing")


def test_a_contest_without_batch_norms_leaves_the_rung_out(without_batch_norms):
    images, training = load_images("cifar10", "choose").first(20), load_images("cifar10", "train").first(40)
    rules = ContestConfig(criteria=("fpgm",), seeds=1, rungs=("as_is", "recalibrated"))
    found = contest(without_batch_norms, images, training, rules=rules, config=EvaluationConfig("cpu"))
    assert found.rungs == ("as_is",)
    assert known_contest(without_batch_norms, images, training, rules=rules, config=EvaluationConfig("cpu")) is not None
    with pytest.raises(FpgmError, match="at least one rung"):
        contest(without_batch_norms, images, training, rules=replace(rules, rungs=("recalibrated",)))


def test_a_repair_without_batch_norms_is_compared_with_the_network_as_it_is(without_batch_norms):
    pruned, training = without_batch_norms.prune(0.5, coupling="inner"), load_images("cifar10", "train").first(300)
    found = recover(pruned, "repaired", training, device="cpu")
    right = found.recovery[-1].details["right"]
    assert set(right) == {"repaired", "as_is"}
    assert found.method == ("repaired" if right["repaired"] >= right["as_is"] else "as_is")
    assert (found.recovery[-1].notice is None) is (found.method == "repaired")


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
