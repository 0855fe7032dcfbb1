"""The README's commands and example, run as they stand."""

import re
import shlex

import pytest
from documents import ROOT, blocks, commands, links, text

from fpgm_core.__main__ import main
from fpgm_core.cli import COMMANDS

SETUP, TESTS, *LINES = commands("README.md")


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split()[1])
def test_the_commands_work(line, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # some write files
    program, *arguments = shlex.split(line)
    assert program == "fpgm"
    assert main(arguments) == 0
    assert capsys.readouterr().out


def test_every_command_is_named():
    named = set(re.findall(r"`(\w+)`", text("README.md"))) | {line.split()[1] for line in LINES}
    assert set(COMMANDS) <= named


def test_the_example_prints_what_it_says(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("README.md", "python")
    names = {}
    exec(example, names)
    accuracy, points, macs = re.fullmatch(
        r"(\d\d\.\d)%, ([+-]\d+\.\d) points, MACs ([\d,]+)\n", capsys.readouterr().out
    ).groups()
    assert float(accuracy) > 80
    assert -12 < float(points) < 0
    assert int(macs.replace(",", "")) == names["pruned"].cost.macs < names["network"].dense_cost.macs
    assert names["repaired"].method == "repaired"
    assert (tmp_path / "resnet20-compact" / "manifest.json").exists()


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/serving.md"])
def test_what_it_links_to_is_there(document):
    for target in links(document):
        assert (ROOT / target).exists(), target


def test_it_stays_short():
    assert len(text("README.md").splitlines()) <= 130


def test_the_two_commands_are_what_they_were_and_what_ci_runs():
    assert SETUP == "pip install -c constraints.txt -e '.[app]' && streamlit run app.py"
    assert TESTS == "pip install -c constraints.txt -e '.[test]' && pytest"
    script = (ROOT / ".ci" / "run").read_text()
    assert "-c constraints.txt -e '.[test]'" in script
    assert re.search(r"^pytest --thorough$", script, re.MULTILINE)
