"""torchvision imports beside any torch, and is mended only where its own operators do not load."""

import importlib.machinery
import importlib.util
import subprocess
import sys

import pytest

from fpgm_core.runtime import torchvision_import as torchvision_shim

START = """
import sys
import torch
from fpgm_core import load_model
from fpgm_core.runtime import torchvision_import as shim

def nms():
    try:
        return torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (NotImplementedError, AttributeError) as error:
        return type(error)
"""

REAL = """
sys.modules["torchvision"] = None
load_model("resnet20")  # needs no torchvision
del sys.modules["torchvision"]

matching = shim.extension_loads()
models = shim.import_torchvision("torchvision.models")
assert models.__name__ == "torchvision.models" and models.resnet18 and shim.import_torchvision().datasets
assert (nms() is NotImplementedError) != matching
"""

SIMULATED = """
imported = []
shim.importlib.import_module = imported.append

shim.extension_loads = lambda: True
shim.import_torchvision()
assert nms() is AttributeError  # builds match: nothing is registered

shim.extension_loads = lambda: False
shim.import_torchvision("torchvision.models")
assert nms() is NotImplementedError  # declared, not implemented
assert torch.ops.torchvision.qnms.default._schema == torch._C.parse_schema(
    "torchvision::qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
)
shim.import_torchvision("torchvision.datasets")  # once: declared twice they would raise

assert imported == ["torchvision", "torchvision.models", "torchvision.datasets"]
"""


@pytest.mark.parametrize("code", [REAL, SIMULATED], ids=["as installed", "matching, then not"])
def test_operators_are_declared_exactly_where_torchvisions_own_do_not_load(code):
    # A process of its own: in this one torchvision has been imported long ago.
    done = subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_where_torchvision_is_not_installed_nothing_is_mended(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert torchvision_shim.extension_loads() is True


@pytest.mark.parametrize("content", [None, b"not a library"], ids=["missing", "unloadable"])
def test_an_extension_that_is_missing_or_damaged_does_not_load(tmp_path, monkeypatch, content):
    if content is not None:
        (tmp_path / f"_C{importlib.machinery.EXTENSION_SUFFIXES[0]}").write_bytes(content)
    spec = importlib.machinery.ModuleSpec("torchvision", None, is_package=True)
    spec.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert torchvision_shim.extension_loads() is False
