"""What a notebook user types, on five small networks that this project has never seen; public names only."""

import importlib.util

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fpgm_core import (
    COUPLINGS,
    EvaluationConfig,
    FpgmError,
    ImageSet,
    Network,
    PrunedNetwork,
    evaluate,
    export,
    recover,
)

SIDE, CLASSES = 16, 4


def block(inputs, outputs, **options):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False, **options), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Plain(nn.Sequential):
    def __init__(self):
        super().__init__(block(3, 12), nn.MaxPool2d(2), block(12, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(16, CLASSES))  # fmt: skip


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.outer = block(3, 12), block(12, 10), nn.Conv2d(10, 12, 3, padding=1)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        x = F.relu(x + self.outer(self.inner(x)))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Depthwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.expand, self.depthwise, self.project = block(3, 18), block(18, 18, groups=18), nn.Conv2d(18, 12, 1)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x):
        return self.head(self.project(self.depthwise(self.expand(x))).mean((2, 3)))


class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.down, self.up, self.last = block(3, 16), nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1), block(16, 12)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x):
        x = self.conv(x)
        gate = torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(self.last(x * gate), 1), 1))


class Dense(nn.Module):
    """Concatenations, and no norm at all."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(16, 12, 1)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x):
        a = F.relu(self.a(x))
        x = torch.cat([a, F.relu(self.b(a))], 1)
        return self.head(F.relu(self.c(x)).mean((2, 3)))


def import_file(path):
    """The module in a Python file."""
    spec = importlib.util.spec_from_file_location("compact", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KINDS = (Plain, Residual, Depthwise, SqueezeExcite, Dense)


@pytest.fixture(scope="module")
def images():
    """Four colours with noise, which a network learns in a few steps."""
    rng = np.random.RandomState(0)
    labels = np.arange(400) % CLASSES
    base = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [180, 180, 60]])[labels][:, None, None, :]
    pixels = np.clip(base + rng.normal(0, 60, (400, SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    colours = ("red", "green", "blue", "yellow")
    return ImageSet.from_arrays(pixels, labels, mean=(0.5,) * 3, std=(0.25,) * 3, class_names=colours)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def module(request, images):
    torch.manual_seed(0)
    module = request.param().train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    x, y = images.normalised(0, len(images)), images.labels
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(module(x), y).backward()
        optimizer.step()
    return module


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_a_network_of_ones_own_is_pruned_repaired_measured_exported_and_reloaded(module, images, coupling, tmp_path):
    before = [tensor.clone() for tensor in module.state_dict().values()]
    network = Network.from_module(module, input_shape=(3, SIDE, SIDE), class_names=images.class_names)
    training, rest = images.halves(seed=1)
    choose, sealed = rest.halves(seed=2)

    pruned = network.prune(0.4, criterion="fpgm", coupling=coupling)
    assert pruned.cost.macs < network.dense_cost.macs
    repaired = recover(pruned, "repaired", images=training, device="cpu")
    assert repaired.method in ("repaired", "recalibrated")
    assert repaired.recovery[-1].images == training.name

    measurement = evaluate(repaired, choose, EvaluationConfig(device="cpu"))
    x = choose.normalised(0, len(choose))
    with torch.no_grad():
        masked, compact = repaired.masked()(x), repaired.compact()(x)
    assert measurement.num_correct == int((masked.argmax(1) == choose.labels).sum())
    torch.testing.assert_close(compact, masked, rtol=1e-3, atol=1e-4 * float(masked.abs().max()))
    assert measurement.num_images == len(choose)
    assert measurement.accuracy.low <= measurement.accuracy.value <= measurement.accuracy.high

    export(repaired, tmp_path / "out", images={"choose": choose, "sealed": sealed})
    rebuilt = import_file(tmp_path / "out" / "compact.py")
    reloaded = rebuilt.load(tmp_path / "out" / "compact.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(reloaded(x), compact, rtol=1e-4, atol=1e-4 * float(compact.abs().max()))

    repaired.save(tmp_path / "pruned.safetensors")
    again = PrunedNetwork.load(tmp_path / "pruned.safetensors", network)
    with torch.no_grad():
        assert torch.equal(again.compact()(x), compact)
    assert all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), before, strict=True))
    assert module.training  # the module that was given is as it was


def test_two_modules_of_equal_weights_are_two_networks():
    class Shifted(Residual):
        def forward(self, x):
            return super().forward(x) + 1

    torch.manual_seed(0)
    one = Residual()
    other = Shifted()
    other.load_state_dict(one.state_dict())
    first, second = (Network.from_module(module, (3, SIDE, SIDE)) for module in (one, other))
    assert first.fingerprint == second.fingerprint
    assert first.identity != second.identity


def test_what_cannot_be_a_network_is_refused_in_words():
    with pytest.raises(FpgmError, match="give the network itself"):
        Network.from_module(lambda x: x, (3, 8, 8))
    with pytest.raises(FpgmError, match="channels, height, width"):
        Network.from_module(Plain())
    assert Network.from_module(Plain(), example_input=torch.zeros(2, 3, SIDE, SIDE)).input_shape == (3, SIDE, SIDE)
    untrained = Network.from_module(Plain(), (3, SIDE, SIDE), trained=False)
    with pytest.raises(FpgmError, match="no accuracy can be measured"):
        evaluate(untrained.prune(0.3), ImageSet.from_arrays(np.zeros((4, SIDE, SIDE, 3), np.uint8), np.arange(4)))


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head, self.aux = block(3, 12), nn.Linear(12, CLASSES), nn.Linear(12, 7)

    def forward(self, x):
        x = self.stem(x).mean((2, 3))
        return {"logits": self.head(x), "more": (self.aux(x),)}


def test_a_network_of_several_outputs_is_exported_whole_and_has_no_accuracy(images, tmp_path):
    torch.manual_seed(0)
    pruned = Network.from_module(TwoHeads(), (3, SIDE, SIDE)).prune(0.4, coupling="coupled")
    with pytest.raises(FpgmError, match="no accuracy can be measured"):
        evaluate(pruned, images)
    bundle = export(pruned, tmp_path / "out", images={"choose": images}, measured=False)
    exported = {entry["name"]: entry for entry in bundle.manifest["artefacts"]}
    assert {"python", "pt2", "onnx"} <= set(exported)
    x = images.normalised(0, 3)
    rebuilt = import_file(tmp_path / "out" / "compact.py").load(tmp_path / "out" / "compact.safetensors")
    with torch.no_grad():
        for form in (pruned.masked(), rebuilt):
            answers, wanted = form(x), pruned.compact()(x)
            torch.testing.assert_close(answers["logits"], wanted["logits"])
            torch.testing.assert_close(answers["more"][0], wanted["more"][0])
