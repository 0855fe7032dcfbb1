"""Compact networks as files: each form, read back, answers as the network it was made from."""

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.fx
from safetensors.torch import load
from torch import nn
from torch.nn import functional as F

from fpgm_core import FpgmError, Network
from fpgm_core.export import networks, python_source
from fpgm_core.pruning import randomised
from fpgm_core.pruning.proof import tensors_in
from fpgm_core.runtime.torchvision_import import import_torchvision
from fpgm_core.timing import as_onnx

FAMILIES = (
    "mobilenet_v3_small", "densenet121", "shufflenet_v2_x0_5", "convnext_tiny", "efficientnet_b0", "inception_v3",
    "googlenet", "squeezenet1_1", "regnet_y_400mf", "resnext50_32x4d",
)  # fmt: skip
ALONE = """
import sys

class Closed:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("fpgm_core", "torchvision"):
            raise ImportError(name + " is not here")

sys.meta_path.insert(0, Closed())
try:
    import fpgm_core
except ImportError:
    pass
else:
    raise SystemExit("the library is not blocked")
sys.path.insert(0, ".")
import torch
import compact

with torch.inference_mode():
    torch.save(compact.load()(torch.load("images.pt")), "logits.pt")
"""


def answers(network, images):
    with torch.inference_mode():
        return network(images)


def files_of(network, module):
    shape = network.input_shape
    return {networks.WEIGHTS: networks.as_safetensors(module), "compact.py": networks.as_python(module, "T", shape)}


@pytest.mark.parametrize("coupling", ["independent", "coupled"])
def test_the_python_file_rebuilds_the_network_without_this_library(compact, noise, tmp_path, coupling):
    network, module = compact("resnet20", coupling)
    images = noise(network, 3)
    for name, content in files_of(network, module).items():
        (tmp_path / name).write_bytes(content)
    torch.save(images, tmp_path / "images.pt")
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert torch.equal(torch.load(tmp_path / "logits.pt"), answers(module, images))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_familys_python_file_rebuilds_it(compact, noise, name):
    network, module = compact(name)
    images = noise(network, 2)
    rebuilt = networks.reload_python(files_of(network, module))
    expected = answers(module, images)
    assert not rebuilt.training
    assert not torch.equal(expected[0], expected[1])  # an untrained network that ignores its input would prove nothing
    assert torch.equal(answers(rebuilt, images), expected)


@pytest.mark.parametrize(("name", "coupling"), [("resnet20", "independent"), ("shufflenet_v2_x0_5", "inner")])
def test_pt2_and_onnx_answer_for_any_batch_size(compact, noise, name, coupling):
    net, module = compact(name, coupling)
    shape = net.input_shape
    pt2 = networks.reload_pt2({"compact.pt2": networks.as_pt2(module, shape)})
    onnx = networks.reload_onnx({"compact.onnx": as_onnx(module, shape)})
    for batch in (1, 3, 7):
        images = noise(net, batch)
        expected = answers(module, images)
        for network in (pt2, onnx):
            found = answers(network, images)
            assert found.shape == expected.shape
            assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_onnx_names_its_input_and_output_and_any_batch(bundle):
    import onnx

    model = onnx.load_from_string(bundle.files["compact.onnx"])
    onnx.checker.check_model(model)
    (images,), (logits,) = model.graph.input, model.graph.output
    assert (images.name, logits.name) == ("images", "logits")
    first, *rest = images.type.tensor_type.shape.dim
    assert first.dim_param
    assert [dim.dim_value for dim in rest] == [3, 32, 32]


def test_the_safetensors_hold_exactly_the_parameters_that_are_counted(half, bundle):
    state, module = load(bundle.files[networks.WEIGHTS]), half.compact()
    assert state.keys() == module.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in module.state_dict().items())
    parameters = dict(module.named_parameters())
    assert sum(state[name].numel() for name in parameters) == half.cost.params
    assert len(state["layer3.2.conv1.weight"]) == 32


def machine():
    """What would say whose machine a file was written on."""
    paths = {sys.prefix, sys.base_prefix, os.getcwd(), str(Path.home()), sysconfig.get_paths()["stdlib"]}
    return {path for path in paths if len(path) > 1} | {"site-packages", "fpgm_core"}


def test_no_file_says_where_it_was_written(bundle):
    for name, content in bundle.files.items():
        for path in machine():
            assert path.encode() not in content, f"{name} holds {path}"
    archive = bundle.files["compact.pt2"]  # a zip whose entries are stored, so that the search above saw into it
    assert b"conv" in archive
    assert b"index" in archive or b"aten" in archive


class Foreign(nn.Module):
    def forward(self, x):
        return x + 1


def elsewhere(x):
    return x * 2


torch.fx.wrap("elsewhere")


class Leaves(torch.fx.Tracer):
    def is_leaf_module(self, m, name):
        return isinstance(m, Foreign) or super().is_leaf_module(m, name)


def traced(forward, **layers):
    """A graph module of some layers, given its forward."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            for name, layer in layers.items():
                setattr(self, name, layer)

    Net.forward = forward
    net = Net()
    return torch.fx.GraphModule(net, Leaves().trace(net))


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (traced(lambda self, x: self.odd(x), odd=Foreign()), r"odd \(Foreign\) cannot be written down.*\.pt2 or ONNX"),
        (
            traced(lambda self, x: self.att(x, x, x)[0], att=nn.MultiheadAttention(8, 2)),
            r"att \(MultiheadAttention\) cannot be written down",
        ),
        (traced(lambda self, x: elsewhere(x)), "runs .*elsewhere, which is not PyTorch's"),
    ],
)
def test_what_is_not_pytorchs_is_refused_with_the_reason(module, words):
    with pytest.raises(FpgmError, match=words):
        python_source(module, "T", "w.safetensors", (8,))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=1, groups=2, bias=False),
        nn.Conv2d(4, 4, 3, padding="same", padding_mode="reflect"),
        nn.BatchNorm2d(4, eps=1e-3, affine=False),
        nn.GroupNorm(2, 4),
        nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False),
        nn.MaxPool2d(3, 2, 1),
        nn.AdaptiveAvgPool2d((2, None)),
        nn.Hardswish(),
        nn.Sigmoid(),
        nn.SiLU(inplace=True),
        nn.GELU("tanh"),
        nn.LeakyReLU(0.3),
        nn.ReLU6(),
        nn.Dropout(0.5),
        nn.Identity(),
        nn.Flatten(1, 2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_every_layer_is_written_with_its_arguments(layer):
    module = traced(lambda self, x: F.relu(self.layer(x)), layer=layer.eval()).eval()
    rebuilt = networks.reload_python(
        {"compact.py": networks.as_python(module, "T", (4, 9, 9)), networks.WEIGHTS: networks.as_safetensors(module)}
    )
    images = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(answers(rebuilt, images.clone()), answers(module, images.clone()))
    assert repr(rebuilt.layer) == repr(layer)


@pytest.mark.parametrize("title", ['a """quoted""" title', "a back\\slash", "ümlaut × 2", "{braces}"])
def test_any_title_gives_a_file_that_compiles(title):
    module = traced(lambda self, x: self.layer(x), layer=nn.ReLU())
    code = compile(python_source(module, title, "w.safetensors", (4, 9, 9)), "compact.py", "exec")
    words = title.replace("\\", "/").replace('"', "'")  # what would end or change a docstring
    assert code.co_consts[0].splitlines()[0] == words


def agree(module, shape, rate, **fields):
    """Pruned, a module of random norms and biases answers alike masked and compact."""
    pruned = randomised(Network.from_module(module, shape).prune(rate, **fields))
    images = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    masked = answers(pruned.masked(), images)
    assert not pruned.prunes_nothing
    assert (masked - answers(pruned.compact(), images)).abs().max() <= 1e-4 * masked.abs().max()


def test_a_transformers_compact_network_runs():
    models = import_torchvision("torchvision.models")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = models.VisionTransformer(32, 16, 2, 2, 16, 32, num_classes=5)
    agree(module, (3, 32, 32), 0.5, coupling="inner")


class Scaled(nn.Module):
    """A network with a tensor that is no parameter and no buffer, as torchvision's maxvit_t has."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Linear(6, 4)
        self.scale = torch.tensor([2.0])

    def forward(self, x):
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(self.two(F.relu(self.one(x))), 1), 1)) * self.scale


def test_a_tensor_that_is_no_buffer_does_not_stop_it():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Scaled()
    agree(module, (3, 12, 12), {"one": 0.5})


@dataclass
class Answer:
    """What somebody's network answers with, in a class that no exporter knows."""

    logits: torch.Tensor
    features: list


class Told(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Linear(6, 4)

    def forward(self, x):
        y = F.relu(self.two(F.relu(self.one(x))))
        return Answer(logits=self.fc(y.mean((2, 3))), features=[y.amax((2, 3))])


def test_a_dataclass_is_exported_as_what_it_holds():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network.from_module(Told(), (3, 12, 12))
    compact, shape = network.prune({"one": 0.5}).compact(), network.input_shape
    images = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    told = answers(compact, images)
    assert isinstance(told, Answer)
    wanted = [told.logits, *told.features]
    for found in (
        networks.reload_pt2({"compact.pt2": networks.as_pt2(compact, shape)}),
        networks.reload_onnx({"compact.onnx": as_onnx(compact, shape)}),
        networks.reload_python(files_of(network, compact)),
    ):
        pairs = zip(tensors_in(answers(found, images)), wanted, strict=True)
        assert all((one - other).abs().max() <= 1e-4 * other.abs().max() for one, other in pairs)
