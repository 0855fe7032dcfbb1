"""Several sessions at once, in short: tests/load.py is the long form."""

import asyncio
import json
import re

from load import load, start

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
