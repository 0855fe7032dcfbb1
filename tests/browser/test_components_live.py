"""The page's own elements by themselves, their scripts called in a browser as Streamlit calls them."""

import json
from pathlib import Path

import numpy as np
import pytest
from browsing import NEEDS_CHROMIUM

from pages.ui import components
from pages.ui.components.element import script_of
from pages.ui.components.picture import Panel, Picture, View, packed
from pages.ui.session.language import words_of

pytestmark = NEEDS_CHROMIUM
FILES = Path(components.__path__[0])

UNIT = {
    "name": "conv1", "label": "conv1", "stage": "conv1", "kind": "16:1", "size": 16, "rate": 0.4, "low": 0, "high": 1,
    "pruned": 6, "share": 0.1, "members": 1, "locks": False, "agreement": "", "damage": "", "heat": "", "marks": [],
}  # fmt: skip
OTHER = {**UNIT, "name": "conv2", "rate": 0.2}
BARS = {
    "units": [UNIT], "counts": {"16:1": [percent * 16 // 100 for percent in range(101)]}, "chosen": "conv1",
    "session": "one", "rev": 1, "echo": 0, "poll": 0, "asked": None, "words": words_of("en").under("live"),
}  # fmt: skip
CALL = """async ([script, data]) => {
  window.script ??= (await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })))).default;
  window.sent ??= [];
  const setStateValue = (name, value) => window.sent.push([name, value]);
  window.ends ??= [];
  window.ends.push(window.script({ data, key: "bars", parentElement: document.body, setStateValue }));
}"""


@pytest.fixture
def bars(browser):
    page = browser.new_page()
    page.set_content((FILES / "equaliser.html").read_text())
    script = script_of("equaliser", "hand", "table")

    def draw(**fields):
        page.evaluate(CALL, [script, {**BARS, **fields}])

    draw()
    yield page, draw
    page.close()


def last_move(page):
    moves = [value for name, value in json.loads(page.evaluate("JSON.stringify(window.sent)")) if name == "move"]
    return moves[-1]


def test_newer_data_takes_neither_the_focus_nor_a_key_press(bars):
    page, draw = bars
    bar = page.locator(".eq-unit")
    bar.focus()
    bar.press("ArrowUp")
    draw()
    page.evaluate("window.ends[0]()")  # as Streamlit does where newer data came while a script was being loaded
    draw()
    page.keyboard.press("ArrowUp")  # goes wherever the focus is
    page.wait_for_timeout(400)
    assert last_move(page)["phase"] == "rest"
    assert last_move(page)["rates"]["conv1"] == pytest.approx(0.42)


def test_an_element_that_left_the_page_sends_nothing_more(bars):
    page, _ = bars
    page.locator(".eq-unit").press("ArrowUp")
    page.evaluate("() => { const body = document.body; body.remove(); window.ends[0](); }")
    sent = page.evaluate("window.sent.length")
    page.wait_for_timeout(400)
    assert page.evaluate("window.sent.length") == sent


def rates(page):
    return {name: value / 100 for name, value in page.locator(".eq-unit").evaluate_all(
        "them => them.map(it => [it.dataset.unit, Number(it.getAttribute('aria-valuenow'))])"
    )}  # fmt: skip


def test_a_bar_that_is_mounted_anew_goes_on_where_it_was_with_its_focus(bars):
    page, draw = bars
    page.locator(".eq-unit").press("ArrowUp")
    html = (FILES / "equaliser.html").read_text()
    page.evaluate("html => { const old = document.body; document.body = document.createElement('body');"
                  "document.body.innerHTML = html; window.ends[0](); }", html)  # fmt: skip
    draw()
    page.keyboard.press("ArrowUp")
    page.wait_for_timeout(400)
    assert last_move(page)["phase"] == "rest"
    assert last_move(page)["rates"] == {"conv1": 0.42}


def test_what_the_server_changes_meanwhile_leaves_the_bar_under_the_keys_and_moves_the_others(bars):
    page, draw = bars
    draw(units=[UNIT, OTHER], rev=2)
    page.locator(".eq-unit").first.press("ArrowUp")
    draw(units=[{**UNIT, "rate": 0.9}, {**OTHER, "rate": 0.6}], rev=3)
    assert rates(page) == {"conv1": 0.41, "conv2": 0.6}
    page.wait_for_timeout(400)
    assert last_move(page)["rates"] == {"conv1": 0.41}, "what others did is not undone"


def test_a_move_that_was_refused_goes_back_once_it_is_answered(bars):
    page, draw = bars
    page.locator(".eq-unit").press("ArrowUp")
    page.wait_for_timeout(400)
    draw(echo=last_move(page)["seq"] - 1)
    assert rates(page) == {"conv1": 0.41}, "an old answer says nothing of it"
    draw(echo=last_move(page)["seq"], rev=2)
    assert rates(page) == {"conv1": 0.4}


def test_an_answer_that_is_lost_holds_up_no_later_move(bars):
    page, _ = bars
    for _ in range(3):
        page.locator(".eq-unit").press("ArrowUp")
    page.wait_for_timeout(900)
    assert last_move(page)["phase"] == "rest"
    assert last_move(page)["rates"] == {"conv1": 0.43}


def test_locks_bound_where_a_bar_can_go(bars):
    page, draw = bars
    draw(units=[{**UNIT, "low": 0.35, "high": 0.41, "locks": True}], rev=2)
    for key, rate in (("PageUp", 0.41), ("Home", 0.35)):
        page.locator(".eq-unit").press(key)
        assert rates(page) == {"conv1": rate}


def of_filters(n):
    """A picture of n filters in a row, whose nearest others are those behind them, and what is sent with it."""
    near = (np.arange(n)[:, None] + np.arange(1, n)) % n
    row = [float(i) for i in range(n)]
    drawn = Picture(
        layer="conv1", layers=["conv1"], unit="conv1", own=("FPGM", None), rival=("L2 norm", None), locked_in=(),
        locked_out=(), medoid=0, nearest=0, to_median=row, near=packed(near), gaps=[1.0] * n, columns={},
        views={"Map": View([Panel(row, row)])},
    )  # fmt: skip
    look = {"layer": "conv1", "chosen": n - 2, "view": "Map", "mapping": "UMAP", "seed": 0, "seq": 0}
    cut = {"rate": 0.4, "own": [n - 3, n - 2], "rival": [], "facts": "", "busy": {}}
    tiles = {"shown": 0, "ranks": [], "columns": 1, "limit": 1.0, "sheets": []}
    words = words_of("en").under("picture")
    return {"drawn": drawn.text, "cut": cut, "look": look, "tiles": tiles, "session": "one", "words": dict(words)}


@pytest.mark.parametrize("n", [8, 300])
def test_a_filters_nearest_others_reach_the_browser(n, browser):
    page = browser.new_page()
    page.set_content((FILES / "picture.html").read_text())
    page.evaluate(CALL, [script_of("picture", "hand", "scatter", "views", "side"), of_filters(n)])
    assert f"nearest twin {n - 1}," in page.locator(".side-notes").inner_text()
    joined = page.evaluate("window.fpgmElements.get('bars').data.near.map((near) => [...near])")
    assert joined[n - 2][:3] == [n - 1, 0, 1]
    assert {len(near) for near in joined} == {n - 1}
    page.close()
