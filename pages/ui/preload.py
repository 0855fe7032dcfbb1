"""What the server does before the first browser has come."""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

import streamlit as st

_FIRST = "pages.ui.explore"


@asynccontextmanager
async def opening(app: st.App) -> AsyncIterator[None]:
    """Import what the first page needs, torch above all, while the browser still reads Streamlit's own scripts.

    In a thread: the server answers meanwhile, and a page that comes sooner waits for the rest of the import.
    """
    threading.Thread(target=_import, name="opening", daemon=True).start()
    yield


def _import() -> None:
    """Read the first page's modules, which stay for good: the garbage collector need not look through them, ever."""
    gc.disable()
    try:
        import_module(_FIRST)
        gc.freeze()
    finally:
        gc.enable()
