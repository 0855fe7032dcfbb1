"""A page whose server is far away: what it is told comes late, and it has moved on meanwhile."""

import socket
import threading
from contextlib import contextmanager, suppress

import pytest
from browsing import NEEDS_CHROMIUM, SETTLED, check_components, grip
from view_states import resnet20_query

from pages.ui.session.language import words_of

pytestmark = NEEDS_CHROMIUM
EN = words_of("en")


class Way:
    """A way to a server on which its answers can be held up."""

    def __init__(self, port):
        self._server, self._is_free = ("127.0.0.1", port), threading.Event()
        self._is_free.set()
        self._place = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._place.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._place.close()

    @contextmanager
    def held_up(self):
        self._is_free.clear()
        try:
            yield
        finally:
            self._is_free.set()

    def _accept(self):
        with suppress(OSError):  # closed
            while True:
                browser, server = self._place.accept()[0], socket.create_connection(self._server)
                for ends in ((browser, server), (server, browser)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source, sink):
        is_answer = source.getpeername() == self._server
        with source, suppress(OSError):  # each end is closed by who reads from it
            while data := source.recv(1 << 16):
                if is_answer:
                    self._is_free.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def way(address):
    found = Way(int(address.rpartition(":")[2]))
    yield found
    found.close()


@pytest.fixture
def far(way, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900}, locale="en-US")
    page.goto(f"{way.address}/?{resnet20_query()}")
    page.locator(".pt").first.wait_for(timeout=90_000)
    page.wait_for_timeout(2_000)
    yield page
    check_components(page)
    page.close()


def go_to(page, name):
    page.locator(".st-key-navigation").get_by_role("link").get_by_text(EN(f"frame.{name}"), exact=True).click()


def test_a_bar_that_is_dragged_after_its_page_was_left_moves_nothing(way, far):
    """What it asks for would empty the page that its browser has gone to."""
    move, let_go = grip(far, "layer1.1.conv1")
    move(0.5)
    far.wait_for_timeout(1_000)
    with way.held_up():
        far.locator(".st-key-navigation").get_by_role("link", name=EN("frame.learn")).press("Enter")
        move(0.6)  # while the other page runs: afterwards Streamlit knows by itself that nothing is to be done
        far.wait_for_timeout(2_000)
        let_go()
    far.locator(".st-key-learn-forward button").wait_for()
    far.wait_for_timeout(2_000)
    far.locator(SETTLED).wait_for()
    far.locator(".st-key-learn-forward button").click()
    far.get_by_text(f"2. {EN('norms.title')}").wait_for()


def test_who_goes_on_before_the_answer_comes_gets_there(way, far):
    """A browser forgets a message that three answers do not mention: with the last, while it asks for that page again.

    Where Streamlit lets browsers keep messages, the server refers to it, and the page stands still for good.
    """
    go_to(far, "learn")
    far.get_by_text(f"1. {EN('plane.title')}").wait_for()
    far.locator(SETTLED).wait_for()
    with way.held_up():
        far.locator(".st-key-learn-forward button").click()
        far.wait_for_timeout(3_000)
        go_to(far, "explore")
        far.wait_for_timeout(1_000)
    far.locator(".pt").first.wait_for()
    far.locator(SETTLED).wait_for()
