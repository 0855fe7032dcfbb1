"""The page's own elements by themselves, their scripts called in a browser as Streamlit calls them."""

import json
from pathlib import Path

import pytest
from browsing import NEEDS_CHROMIUM

from pages.ui import components
from pages.ui.components.labels import LABELS

pytestmark = NEEDS_CHROMIUM
FILES = Path(components.__path__[0])

UNIT = {
    "name": "conv1", "label": "conv1", "stage": "conv1", "size": 16, "rate": 0.4, "pruned": 6, "share": 0.1,
    "members": 1, "locks": False, "agreement": "", "damage": "", "heat": "",
}  # fmt: skip
BARS = {"units": [UNIT], "chosen": "conv1", "rev": 1, "echo": 0, "poll": 0, "asked": None, "words": LABELS}
CALL = """async ([script, data]) => {
  window.script ??= (await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })))).default;
  window.sent ??= [];
  const setStateValue = (name, value) => window.sent.push([name, value]);
  window.ends ??= [];
  window.ends.push(window.script({ data, parentElement: document.body, setStateValue }));
}"""


@pytest.fixture
def bars(browser):
    page = browser.new_page()
    page.set_content((FILES / "equaliser.html").read_text())
    script = (FILES / "posting.js").read_text() + (FILES / "equaliser.js").read_text()

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
