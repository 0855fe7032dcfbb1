"""Several sittings at once, in short: tests/load.py is the long form."""

import asyncio
import json
import re

from load import load, start

from fpgm_core import EvaluationConfig, evaluate


def test_a_start_brings_bars_then_a_first_figure_then_the_exact_one(tmp_path, monkeypatch):
    monkeypatch.setenv("FPGM_HOME", str(tmp_path))
    found = start(0.0)
    assert 0 < found["up"] < found["bars"] < found["first"] <= found["exact"]


def test_results_never_mix_and_equal_plans_have_equal_figures(address, resnet20):
    told = asyncio.run(load(address, browsers=4, seconds=15, look=(60, 60)))
    assert told.wrong == []
    assert told.moves >= 4
    assert len(told.opened) == 4
    assert len(told.drags) == 5 * told.moves
    assert len(told.firsts) == told.moves
    assert told.figures, "no measurement came to its end"
    rates, (card,) = next(iter(told.figures.items()))
    figure = evaluate(resnet20, resnet20.plan(json.loads(rates)), EvaluationConfig())
    shown = re.search(r'class="value">([\d.]+)%', card)
    assert shown[1] == f"{figure.accuracy.value:.2%}".rstrip("%")
