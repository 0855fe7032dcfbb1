"""What the server reads before the first browser comes."""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

import streamlit as st

FIRST_PAGE = "pages.ui.explore"


@asynccontextmanager
async def preload(app: st.App) -> AsyncIterator[None]:
    """Import what the first page needs, torch above all, while the browser still reads Streamlit's own scripts.

    In a thread: the server answers meanwhile, and a page that comes sooner waits for the rest of the import.
    """
    threading.Thread(target=read_modules, name="preload", daemon=True).start()
    yield


def read_modules(module: str = FIRST_PAGE) -> None:
    """Import a page's modules, which stay for good: the garbage collector never need look through them."""
    gc.disable()
    try:
        import_module(module)
        gc.freeze()
    finally:
        gc.enable()
