"""The app served from a running process, on a network that lives in it."""

from __future__ import annotations

import socket
import threading
import time
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module

import streamlit as st
import uvicorn

from fpgm_core import FpgmError, ImageSet, Network
from fpgm_core.data import ImageSplits, Preprocessing
from fpgm_core.runtime.progress import run
from pages.ui.session.networks import FIRST_COUPLING, view_of
from pages.ui.session.opened import add_live, forget_images
from pages.ui.session.opening import register_images, splits_work
from pages.ui.session.view_state import encode

_PATIENCE = 30.0  # seconds for the server to come up


@dataclass(frozen=True)
class Explorer:
    """The app while it is served: `url` opens the network; `notes` are what must be known of its images, `data`."""

    url: str
    notes: tuple[str, ...] = ()
    data: str = ""

    def stop(self) -> None:
        """Let go of the images. The server stays for the next call of `explore`: Streamlit's starts once a process."""
        forget_images(self.data)

    def _repr_html_(self) -> str:
        return f'<a href="{self.url}" target="_blank">{self.url.partition("?")[0]}</a>'


def serve(
    network: Network,
    images: ImageSplits | Mapping[str, ImageSet] | None,
    *,
    preprocessing: Preprocessing | None = None,
    port: int = 0,
    open_browser: bool = True,
) -> Explorer:
    """Serve the app and have it open a network on images; one server a process, whatever is opened on it.

    Raises FpgmError for images that cannot be the network's, and where nothing can be served at the port.
    """
    network.dense_cost  # noqa: B018  what cannot be followed is told here, not in a browser
    add_live(network)
    notes: tuple[str, ...] = ()
    state = view_of(network, coupling=FIRST_COUPLING)
    if images is not None:
        title = f"{network.name}'s images"
        if isinstance(images, ImageSplits):
            opened = run(splits_work(network, images, title, preprocessing))
        else:
            opened = register_images(network, images, title)
        notes, state = opened.notes, replace(state, data=opened.name)
    url = f"http://127.0.0.1:{_serving_at(port)}/?s={encode(state)}"
    if open_browser:
        webbrowser.open(url)
    return Explorer(url, notes, state.data)


_servers: list[tuple[threading.Thread, int]] = []


@cache
def _app() -> st.App:
    app: st.App = import_module("app").app
    return app


def _serving_at(port: int) -> int:
    """The port that the app is served at, begun where it is not. Raises FpgmError where it cannot be."""
    if _servers and _servers[0][0].is_alive():
        return _servers[0][1]
    place = socket.socket()
    try:
        place.bind(("127.0.0.1", port))
    except OSError as error:
        raise FpgmError(f"nothing can be served at port {port} ({error.strerror}); give another, or 0") from error
    server = uvicorn.Server(uvicorn.Config(_app(), log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, name="fpgm-explorer", daemon=True)
    thread.start()
    begun = time.monotonic()
    while not server.started:
        if not thread.is_alive() or time.monotonic() - begun > _PATIENCE:
            raise FpgmError("the app's server did not come up; run `streamlit run app.py` to see why")
        time.sleep(0.02)
    found = place.getsockname()[1]
    _servers.append((thread, found))
    return found
