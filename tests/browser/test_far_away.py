"""A page whose server is far away: what it is told comes late, and it has moved on meanwhile."""

import socket
import threading
from contextlib import contextmanager, suppress

from browsing import NEEDS_CHROMIUM
from view_states import resnet20_query

from pages.ui.session.language import words_of

pytestmark = NEEDS_CHROMIUM
EN = words_of("en")
AT_REST = "[data-testid=stApp][data-test-connection-state=CONNECTED][data-test-script-state=notRunning]"


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


def test_who_goes_on_before_the_answer_comes_gets_there(address, browser):
    """A browser forgets a message that three answers do not mention: with the last, while it asks for that page again.

    Where Streamlit lets browsers keep messages, the server refers to it, and the page stands still for good.
    """
    way = Way(int(address.rpartition(":")[2]))
    page = browser.new_page(viewport={"width": 1280, "height": 900}, locale="en-US")
    link = page.locator(".st-key-navigation").get_by_role("link")
    page.goto(f"{way.address}/?{resnet20_query()}")
    page.locator(".pt").first.wait_for(timeout=90_000)
    page.wait_for_timeout(2_000)
    link.get_by_text(EN("frame.learn"), exact=True).click()
    page.get_by_text(f"1. {EN('plane.title')}").wait_for()
    page.locator(AT_REST).wait_for()
    with way.held_up():
        page.locator(".st-key-learn-forward button").click()
        page.wait_for_timeout(3_000)
        link.get_by_text(EN("frame.explore"), exact=True).click()
        page.wait_for_timeout(1_000)
    page.locator(".pt").first.wait_for()
    page.locator(AT_REST).wait_for()
    page.close()
    way.close()
