"""Where the time goes: nodes by the runtime's own profiler, layers beside each other, reasons by what they cost."""

import pytest
import torch
from torch import nn

from fpgm_core import FpgmError, Network
from fpgm_core.runtime.progress import run
from fpgm_core.timing import RUNTIMES, Target, forms_of
from fpgm_core.timing.attribution import REASONS, attribution_work
from fpgm_core.timing.profiles import profile_of
from fpgm_core.timing.runtimes import images_for

PROFILED = [name for name in ("pytorch", "onnxruntime") if not RUNTIMES[name].lacks()]


class Small(nn.Module):
    """A residual block between a stem and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = (nn.Conv2d(i, 16, 3, padding=1) for i in (3, 16, 16))
        self.norm, self.fc = nn.BatchNorm2d(16), nn.Linear(16, 4)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        return self.fc(torch.relu(x + self.b(torch.relu(self.a(x)))).mean((2, 3)))


@pytest.fixture(scope="module")
def small():
    return Network.from_module(Small(), (3, 12, 12), name="small", trained=False)


@pytest.mark.parametrize("runtime", PROFILED)
def test_every_layer_is_found_in_the_profile(small, runtime):
    target, names = Target(runtime, threads=1), {site.name for site in small.flow.sites}
    form = forms_of(small.prune(0.5, coupling="coupled"))["compact"]
    found = profile_of(form, images_for(small.input_shape, 1), target, names)
    assert found.of_layers().keys() == {"stem", "a", "b", "fc"}
    assert all(ms > 0 for ms in found.of_layers().values())
    assert found.ms > 0
    assert found.overhead >= 0
    between = {node.operation.lower() for node in found.nodes if not node.layer}
    assert any("add" in name for name in between) or runtime == "onnxruntime"  # which adds within the convolution
    assert "conv" not in " ".join(between)


@pytest.mark.parametrize("runtime", PROFILED)
def test_what_places_channels_is_told_from_what_computes(small, runtime):
    target, names = Target(runtime, threads=1), {site.name for site in small.flow.sites}
    moved = {}
    for coupling in ("independent", "coupled"):
        form = forms_of(small.prune(0.4, coupling=coupling))["compact"]
        nodes = profile_of(form, images_for(small.input_shape, 1), target, names).nodes
        moved[coupling] = sum(node.moves for node in nodes if not node.operation.startswith("Reorder"))
    assert moved["independent"] > moved["coupled"] == 0


def test_an_aligned_network_moves_no_channels_and_its_own_macs_count(small):
    pruned, target = small.prune(0.4, criterion="random"), Target(threads=1)
    plain, aligned = (run(attribution_work(pruned, target=target, aligned=aligned)) for aligned in (False, True))
    assert [any(node.moves for node in found.compact.nodes) for found in (plain, aligned)] == [True, False]
    assert plain.macs_left == pruned.cost.macs / small.dense_cost.macs < aligned.macs_left
    assert aligned.macs_left == pruned.compact_cost(aligned=True).macs / small.dense_cost.macs
    kept = [{one.name: one.kept for one in found.layers}["b"] for found in (plain, aligned)]
    assert kept[0] == 10 < kept[1]


def test_reasons_are_what_is_lost_against_the_macs_largest_first(small):
    found = run(attribution_work(small.prune(0.5, coupling="coupled"), target=Target(threads=1)))
    assert found.reasons.keys() <= REASONS.keys()
    assert list(found.reasons.values()) == sorted(found.reasons.values(), reverse=True)
    assert all(ms > 0.05 * found.compact.ms for ms in found.reasons.values())
    assert found.promised_ms == pytest.approx(found.macs_left * found.dense.ms)
    layers = {one.name: one for one in found.layers}
    assert (layers["a"].kept, layers["a"].read, layers["a"].macs_left) == (8, 8, 0.25)
    assert layers["a"].late == pytest.approx(layers["a"].compact_ms - 0.25 * layers["a"].dense_ms)


def test_a_runtime_without_a_profiler_is_refused(small):
    form = forms_of(small.prune(0.5, coupling="coupled"))["compact"]
    with pytest.raises(FpgmError, match="has no profiler that is read here; choose one of pytorch, onnxruntime"):
        profile_of(form, images_for(small.input_shape, 1), Target("openvino", threads=1), set())
