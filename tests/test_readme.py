"""The README's commands and example, run as they stand."""

import re
import shlex
from pathlib import Path

import pytest

from fpgm_core.__main__ import main
from fpgm_core.data import load_images

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line
    for language, block in BLOCKS
    for line in block.splitlines()
    if language == "bash" and line.startswith("python -m fpgm_core ")
]


LONG = ("export", "train", "recover", "reproduce")


@pytest.fixture
def few(monkeypatch):
    """A few hundred images for what trains and exports."""

    def small(name, split, root=None, download=False):
        return load_images(name, split, root).first(256)

    for room in ("cli.training", "training.outcome", "evaluation.accuracy", "export.bundle"):
        monkeypatch.setattr(f"fpgm_core.{room}.load_images", small)
    for room in ("training.trainer", "evaluation.accuracy", "export.bundle"):
        monkeypatch.setattr(f"fpgm_core.{room}.IMAGES", 256)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_work(command, capsys, monkeypatch, tmp_path, request):
    monkeypatch.chdir(tmp_path)  # some write files
    if command.split()[3] in LONG:
        request.getfixturevalue("few")
    assert main(shlex.split(command)[3:]) == 0
    assert capsys.readouterr().out


def test_the_example_prints_what_it_says(capsys):
    example = next(block for language, block in BLOCKS if language == "python")
    exec(example, {})
    cut, accuracy, *plan = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"5\d\.\d% of the MACs cut", cut)
    assert re.fullmatch(r"\d\d\.\d%, paired change [+-]\d+\.\d points", accuracy)
    assert '"layer3.2.conv2": 0.6' in "".join(plan)


def test_the_training_example_trains(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fpgm_core.training.trainer.load_images", lambda *which: load_images(*which).first(64))
    monkeypatch.setattr("fpgm_core.training.trainer._WATCHED", 64)
    example = next(block for language, block in BLOCKS if language == "python" and "Trainer" in block)
    found = {}
    exec(example.replace("epochs=20", "epochs=2"), found)
    assert capsys.readouterr().out.split()[-1] == "100%"
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
    assert sum(p.numel() for p in found["compact"].parameters()) < 200_000


def test_the_repair_example_repairs(capsys, monkeypatch):
    monkeypatch.setattr("fpgm_core.recovery.methods.load_images", lambda *which: load_images(*which).first(400))
    example = next(block for language, block in BLOCKS if language == "python" and "mended" in block)
    found = {}
    exec(example, found)
    assert capsys.readouterr().out.startswith("repaired {")
    assert sum(p.numel() for p in found["compact"].parameters()) < 200_000


def test_the_pictures_it_shows_are_there():
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (Path(__file__).parents[1] / picture).exists()


def test_the_two_commands_are_what_ci_runs():
    script = (Path(__file__).parents[1] / ".ci" / "run").read_text()
    assert "-c constraints.txt -e '.[test]'" in script
    assert "pytest" in script
