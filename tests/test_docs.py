"""CONTRIBUTING.md: its examples do what they say, and its checks are those of CI and of the commit hooks."""

import io
import re

import numpy as np
import pytest
import torch
import yaml
from documents import ROOT, blocks, commands, text

from fpgm_core import CRITERIA, RECOVERY_METHODS
from fpgm_core.criteria import unregister_criterion
from fpgm_core.graph.operations import OPERATIONS
from fpgm_core.recovery import unregister_recovery_method

CRITERION, MODEL, OPERATION, RECOVERY, IMAGES, EXPORT = blocks("CONTRIBUTING.md", "python")


def names_of(example):
    """What a block leaves, run as it stands."""
    names = {"__name__": "example"}
    exec(example, names)
    return names


def test_a_criterion():
    names = names_of(CRITERION)
    try:
        assert "largest_weight" in CRITERIA
        network, pruned = names["network"], names["pruned"]
        for unit in network.units("inner"):
            largest = np.abs(network.module.get_submodule(unit.name).weight.detach().numpy()).reshape(unit.size, -1)
            kept = pruned.keep_masks[unit.name]
            assert largest.max(1)[~kept].max() <= largest.max(1)[kept].min()
    finally:
        unregister_criterion("largest_weight")


def test_a_model():
    names = names_of(MODEL)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        masked, compact = names["pruned"].masked()(images), names["compact"](images)
    torch.testing.assert_close(compact, masked)
    assert {unit.size for unit in names["network"].units("coupled")} == {16, 32}
    assert sum(p.numel() for p in names["compact"].parameters()) == names["pruned"].cost.params


def test_an_operation():
    names = names_of(OPERATION)
    try:
        pruned, kept = names["pruned"], names["pruned"].keep_masks["0"]
        assert kept.sum() == 4
        compact = pruned.compact()
        assert [m.out_channels for m in compact.modules() if isinstance(m, torch.nn.Conv2d)] == [4, 4]
        images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(compact(images), pruned.masked()(images))
    finally:
        del OPERATIONS[names["Scale"]]


def test_a_recovery_method():
    names = names_of(RECOVERY)
    try:
        recovered = names["recovered"]
        assert recovered.method == "shrunk"
        assert recovered.recovery[-1].details == {"factor": 0.8}
        dense = names["network"].module.fc.weight
        assert torch.equal(recovered.dense_shaped().fc.weight, 0.8 * dense)
        assert torch.equal(recovered.compact().fc.weight, 0.8 * dense)  # inner: every channel of the stream is left
    finally:
        unregister_recovery_method("shrunk")
    assert "shrunk" not in RECOVERY_METHODS


def test_a_kind_of_images(own_home):
    names = names_of(IMAGES)
    splits, choose = names["splits"], names["choose"]
    assert choose.pixels.shape == (len(splits.choose), 32, 32, 3)
    assert choose.class_names == ("a", "b", "c")
    indices = [int(index) for part in (splits.choose, splits.sealed, splits.train) for index in part.indices]
    assert sorted(indices) == list(range(12))


def test_an_export_format():
    bundle = names_of(EXPORT)["bundle"]
    assert set(bundle.files) == {"weights.npz", "manifest.json"}
    assert [artefact["name"] for artefact in bundle.manifest["artefacts"]] == ["arrays"]
    with np.load(io.BytesIO(bundle.files["weights.npz"])) as arrays:
        assert arrays["fc.weight"].shape[0] == 10


def test_the_checks_are_those_of_ci_and_of_the_hooks():
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    checks = [line for line in script if re.match(r"(ruff|mypy|pytest)\b", line)]
    assert commands("CONTRIBUTING.md") == checks
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    assert hooks == [check for check in checks if not check.startswith("pytest")]


def test_the_rooms_are_all_there():
    table = text("CONTRIBUTING.md").partition("## The rooms")[2].partition("## Adding things")[0]
    named = set(re.findall(r"`(\w+)/`", table)) - {"pages"}
    assert named == {path.parent.name for path in (ROOT / "fpgm_core").glob("*/__init__.py")}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_lines_of_prose_are_short(name):
    outside = re.sub(r"```.*?```", "", text(name), flags=re.DOTALL).splitlines()
    assert [line for line in outside if len(line) > 120 and not line.startswith(("|", "!["))] == []
