"""A server of our own, and a page of it in Chromium."""

import re
from pathlib import Path

import pytest
from browsing import CHROMIUM, check_components
from load import serving
from view_states import resnet20_query

ROOT = Path(__file__).parents[2]
QUIET = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"


class WatchedBrowser:
    """Chromium; what the scripts of its pages raised and nothing caught is in `errors`."""

    def __init__(self, chromium):
        self._chromium, self.errors = chromium, []

    def new_page(self, **settings):
        page = self._chromium.new_page(**settings)
        page.on("pageerror", lambda error: self.errors.append(error))  # playwright takes no built-in method
        return page


@pytest.fixture(scope="module")
def address(tmp_path_factory, request):
    log, failed = tmp_path_factory.mktemp("server") / "log", request.session.testsfailed
    try:
        with log.open("w") as out, serving(str(tmp_path_factory.mktemp("home")), out) as url:
            yield url
            assert request.session.testsfailed == failed
    except (AssertionError, ChildProcessError) as error:  # a test failed, or the server
        raise AssertionError(log.read_text()) from error
    told = log.read_text()
    # Not any traceback: the server itself prints one when a tab closes in mid-message.
    for failure in ("Uncaught app execution", r"failure [0-9a-f]{6}", "housekeeping failed"):
        assert not re.search(failure, told), told


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield WatchedBrowser(playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split()))


@pytest.fixture(autouse=True)
def nothing_uncaught(request):
    """Fail a test where a page's script raised what nothing caught: it may leave the page blank, or as it was."""
    watched = request.getfixturevalue("browser") if "browser" in request.fixturenames else None
    yield
    if watched:
        errors = [error.stack or error.message for error in watched.errors]
        watched.errors.clear()
        assert not errors, "\n\n".join(errors)


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
