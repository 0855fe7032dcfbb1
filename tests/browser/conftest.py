"""A server of our own, and a page of it in Chromium."""

import re
from pathlib import Path

import pytest
from browsing import CHROMIUM, check_components
from load import serving
from view_states import resnet20_query

ROOT = Path(__file__).parents[2]
QUIET = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    log = (tmp_path_factory.mktemp("server") / "log").open("w+")
    with serving(str(tmp_path_factory.mktemp("home")), log) as url:
        yield url
    log.seek(0)
    told = log.read()
    log.close()
    # Not any traceback: the server itself prints one when a tab closes in mid-message.
    for failure in ("Uncaught app execution", r"failure [0-9a-f]{6}", "housekeeping failed"):
        assert not re.search(failure, told), told


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())


@pytest.fixture
def page(address, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(f"{address}/?{resnet20_query()}")
    page.locator(".eq-unit").first.wait_for(timeout=90_000)
    page.locator(".pt").first.wait_for(timeout=90_000)
    yield page
    check_components(page)
    page.close()
