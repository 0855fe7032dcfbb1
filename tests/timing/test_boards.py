"""Another board: the folder that is carried there, the file that comes back, and files that are not it."""

import ast
import json
import os
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from fpgm_core import FpgmError, Network
from fpgm_core.runtime.progress import run
from fpgm_core.timing import as_onnx, kept_predictor
from fpgm_core.timing.board_probe import checksum
from fpgm_core.timing.boards import board_files_work, is_board, load_board, read_board, without_weights


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.b(torch.relu(self.a(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def small():
    return Network.from_module(Small(), (3, 6, 6), name="small", trained=False)


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory):
    """The folder, with shorter limits: its times need not be good here."""
    place = tmp_path_factory.mktemp("board")
    files = run(board_files_work(small, small.plan(coupling="coupled"), batch=2))
    work = json.loads(files["work.json"])
    for task in work["tasks"]:
        task.update(runs=6, width=0.5, seconds=0.01)
    for name, content in (files | {"work.json": json.dumps(work).encode()}).items():
        (place / name).write_bytes(content)
    return place


@pytest.fixture(scope="module")
def board(folder):
    """What probe.py writes, run as on another board: nothing of this library is found there."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = "import sys, runpy; sys.path.insert(0, '.'); sys.argv = ['probe.py', '--threads', '1'];"
    code += "sys.modules['torch'] = sys.modules['fpgm_core'] = None; runpy.run_path('probe.py', run_name='__main__')"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (folder / "board.json").read_bytes()


def test_the_folder_is_small_and_needs_numpy_and_onnxruntime_alone(folder):
    assert {path.name for path in folder.iterdir()} - {"board.json"} == {
        "probe.py", "turns.py", "work.json", "pieces.npz"
    }  # fmt: skip
    assert sum(path.stat().st_size for path in folder.iterdir()) < 200_000
    for name in ("probe.py", "turns.py"):
        for node in ast.walk(ast.parse((folder / name).read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {one.split(".")[0] for one in names} <= {*sys.stdlib_module_names, "numpy"}


def test_what_comes_back_predicts_for_that_board(small, board):
    assert is_board(board)
    like = small.plan(coupling="coupled")
    found = read_board(board, small, like)
    assert (found.table.identity["batch"], found.table.identity["threads"]) == (2, 1)
    assert found.table.identity["version"] == onnxruntime.__version__
    assert (np.array(found.whole.ms) > 0).all()
    own = json.loads(board)["identity"]
    assert {**own, "board": json.loads(board)["sha256"]} == found.table.identity
    assert kept_predictor(small, "coupled", own) is None, "what is brought never takes the place of what was timed here"
    again = kept_predictor(small, "coupled", found.table.identity)
    pruned = small.prune(0.5, coupling="coupled")
    assert again.ms(pruned) == found.ms(pruned)


def test_a_run_that_was_stopped_goes_on(folder, board):
    half = json.loads(board)
    lost = half["times"].pop("0")
    half["sha256"] = checksum(half)
    (folder / "board.json").write_text(json.dumps(half))
    code = "import sys; sys.path.insert(0, '.'); sys.argv = ['probe.py', '--threads', '1']; import probe; probe.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[0].startswith("1 of 4: conv 3x3, 3 to 8")
    assert len(done.stderr.splitlines()) == 2
    after = json.loads((folder / "board.json").read_text())
    assert after["times"].keys() == {*half["times"], "0"}
    assert {name: after["times"][name] for name in half["times"]} == half["times"]
    assert len(after["times"]["0"]["ms"]) == len(lost["ms"])


def changed(board, **fields):
    found = json.loads(board) | fields
    return json.dumps({**found, "sha256": checksum(found)}).encode()


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda board: b"{", "is no result of probe.py; run that in the folder"),
        (lambda board: b"[]", "is no result of probe.py"),
        (lambda board: b'{"format_version": 1, "model": "small"}', "is no result of probe.py"),
        (lambda board: board.replace(b'"threads": 1', b'"threads": 2'), "is damaged: its checksum does not hold; copy"),
        (lambda board: changed(board, format=2), "is of another format; export the folder again"),
        (lambda board: changed(board, model="large"), "is of large, not of small; open that network"),
        (lambda board: changed(board, times={}), "holds 0 of 4 timings of small; run probe.py to its end"),
        (lambda board: changed(board, times={**json.loads(board)["times"], "1": {"ms": []}}), "does not fit small"),
        (lambda board: changed(board, identity={"threads": 0}), "does not fit small under coupling coupled"),
    ],
)  # fmt: skip
def test_what_is_not_it_is_refused_by_name(small, board, broken, words, tmp_path):
    path = tmp_path / "mine.json"
    path.write_bytes(broken(board))
    with pytest.raises(FpgmError, match=f"mine.json.* {words}|mine.json {words}"):
        load_board(path, small, small.plan(coupling="coupled"))
    assert kept_predictor(small, "coupled", json.loads(board)["identity"]) is None


def test_constants_stand_in_for_large_tensors(small):
    module = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3)).eval()
    content = as_onnx(module, (3, 8, 8))
    light = without_weights(content)
    assert len(light) < len(content) / 10
    images = {"images": np.ones((2, 3, 8, 8), np.float32)}
    answers = [onnxruntime.InferenceSession(one).run(None, images)[0] for one in (content, light)]
    assert answers[0].shape == answers[1].shape
    assert np.isfinite(answers[1]).all()
    assert answers[1].std() > 0 or abs(answers[1]).max() > 0
