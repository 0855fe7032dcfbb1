"""Several sessions at once, in short: tests/load.py is the long form."""

import asyncio
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from load import Observations, children, load, serving, start

from fpgm_core.data import load_images
from fpgm_core.evaluation import measure_work
from fpgm_core.runtime.progress import run


def test_a_start_brings_bars_then_a_first_figure_then_the_exact_one(tmp_path, monkeypatch):
    monkeypatch.setenv("FPGM_HOME", str(tmp_path))
    found = start(0.0)
    assert 0 < found["up"] < found["bars"] < found["first"] <= found["exact"]


def test_results_never_mix_and_equal_plans_have_equal_figures(address, resnet20):
    observed = asyncio.run(load(address, browsers=4, seconds=15, patience=(60, 60)))
    assert observed.wrong == []
    assert observed.moves >= 4
    assert len(observed.opened) == 4
    assert len(observed.drags) == 5 * observed.moves
    assert len(observed.firsts) == observed.moves
    assert observed.figures, "no measurement came to its end"
    rates, (card,) = next(iter(observed.figures.items()))
    choose, training = (load_images("cifar10", split) for split in ("choose", "train"))
    pruned = resnet20.prune(json.loads(rates))
    measurement = run(measure_work(pruned, choose, method="recalibrated", training=training, preview=False))
    shown = re.search(r'class="value">([\d.]+)%', card)
    assert shown[1] == f"{measurement.accuracy.value:.2%}".rstrip("%")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_server_measures_in_a_process_of_its_own_which_may_die(tmp_path):
    others = children(os.getpid())
    with serving(str(tmp_path)) as address:
        (server,) = [pid for pid in children(os.getpid()) if pid not in others]
        _moved(address, 1)  # which begins it
        first, spent = _measuring(server), []
        for seed in (2, 3):
            _moved(address, seed)
            spent.append(_cpu_seconds(first))
        assert spent[1] > spent[0] + 0.5, "it does not measure"
        os.kill(first, signal.SIGKILL)
        _moved(address, 4)
        assert _measuring(server) != first


def _moved(address, seed):
    """Have one browser move bars of its own until it has exact figures."""
    observed = Observations()
    while not observed.exacts:
        observed = asyncio.run(load(address, browsers=1, seconds=6, patience=(60, 60), first_seed=seed))
        assert observed.wrong == []
        assert len(observed.exacts) == observed.moves


def _measuring(server):
    """The process that measures for a server, once it is there."""
    deadline = time.monotonic() + 60
    while not (found := [pid for pid in children(server) if "work_process" in _command(pid)]):
        assert time.monotonic() < deadline, "no process measures"
        time.sleep(0.1)
    return found[0]


def _command(pid):
    return Path(f"/proc/{pid}/cmdline").read_text()


def _cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
