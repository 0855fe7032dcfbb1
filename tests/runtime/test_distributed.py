"""Two processes against one: the same masks, weights and exact counts; one of them writes and speaks."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fpgm_core.runtime.distributed import World, joined_world, world

PROGRAM = Path(__file__).parents[1] / "training" / "processes.py"


def start(folder, **environment):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(PROGRAM), str(folder)]
    return subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.PIPE, text=True)


def end(process, folder, rank):
    _, complaints = process.communicate(timeout=240)
    assert process.returncode == 0, complaints
    return json.loads((folder / f"found-{rank}.json").read_text())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What one process alone found, and what two found together."""
    alone, both = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("both")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    single = end(start(alone), alone, 0)
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [start(both, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in range(2)]
    return single, [end(process, both, rank) for rank, process in enumerate(processes)], both


def test_every_process_has_the_same_masks_and_weights(found):
    _, (first, second), _ = found
    assert (first["count"], second["count"]) == (2, 2)
    assert first["masks"] == second["masks"]
    assert first["weights"] == second["weights"]
    assert first["epochs"] == second["epochs"]


def test_together_they_compute_what_one_does(found):
    single, (first, _), _ = found
    assert single["count"] == 1
    assert single["masks"] == first["masks"]
    assert any(not all(mask) for mask in first["masks"].values())
    for name, weights in single["weights"].items():
        np.testing.assert_allclose(first["weights"][name], weights, rtol=1e-4, atol=1e-5, err_msg=name)
    for mine, theirs in zip(single["epochs"], first["epochs"], strict=True):
        assert theirs[0] == pytest.approx(mine[0], rel=1e-5)
        assert theirs[1:] == mine[1:]  # counts are reduced exactly


def test_only_the_first_writes_and_speaks(found):
    single, (first, second), folder = found
    assert (first["writes"], second["writes"]) == (True, False)
    assert second["said"] == ""
    told, alone = json.loads(first["said"]), json.loads(single["said"])
    assert told["correct"] == alone["correct"]
    assert told["images"] == 301
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint.previous.safetensors", "checkpoint.safetensors", "found-0.json", "found-1.json",
    ]  # fmt: skip


def test_alone_nothing_is_shared_out(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_world() as here:
        assert here == world() == World(0, 1)
        assert here.is_main
        assert here.mine(torch.arange(3)).tolist() == [0, 1, 2]
        assert here.total(torch.tensor(5)).item() == 5
    assert World(1, 3).mine(torch.arange(8)).tolist() == [1, 4, 7]
