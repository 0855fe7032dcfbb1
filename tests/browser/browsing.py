"""What the browser tests share beside fixtures: whether there is a browser, and how to read a page."""

import importlib.util
import shutil
import time
from urllib.parse import parse_qs, urlparse

import pytest

from pages.ui.session.view_state import ViewState, decode

CHROMIUM = shutil.which("chromium")
NEEDS_CHROMIUM = [
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed"),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]
# A page whose run has come to its end.
SETTLED = "[data-testid=stApp][data-test-connection-state=CONNECTED][data-test-script-state=notRunning]"


def state_of(page) -> ViewState:
    return decode(parse_qs(urlparse(page.evaluate("location.href")).query)["s"][0])


def check_components(page):
    """Fail where a script of the page's own elements did: Streamlit draws the error in the element's place."""
    assert page.get_by_text("BidiComponent Error").count() == 0, page.get_by_text(
        "BidiComponent Error"
    ).first.inner_text()


def card(page, label):
    return page.locator(".card", has_text=label).inner_text()


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def at_rest(*locators):
    """Where elements lie, each (x, y, width, height), once all are drawn and nothing moves any of them any more.

    A figure that arrives is drawn into a new element: one that is asked in that moment lies nowhere.
    """
    seen = []

    def rest():
        locators[0].page.wait_for_timeout(150)
        seen.append([locator.bounding_box() for locator in locators])
        return None not in seen[-1] and seen[-1:] == seen[-2:-1]

    assert until(rest, 30), (locators, seen[-2:])
    return [tuple(box[side] for side in ("x", "y", "width", "height")) for box in seen[-1]]


def middle(locator):
    ((left, top, width, height),) = at_rest(locator)
    return left + width / 2, top + height / 2


def grip(page, unit):
    """Press on a unit's bar; returns a function that moves it to a rate, and one that lets go."""
    ((left, top, width, height),) = at_rest(page.locator(f'.eq-unit[data-unit="{unit}"] .eq-track'))
    x = left + width / 4
    page.mouse.move(x, top + height * 0.6)
    page.mouse.down()
    page.mouse.move(x, top + height * 0.5)
    return lambda rate: page.mouse.move(x, top + height * (1 - rate)), page.mouse.up
