"""What the server reads before the first browser comes."""

from __future__ import annotations

import asyncio
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

    In a thread: the server answers meanwhile, and a page that comes sooner waits for the rest of the import. As long as
    the server runs the tabs that closed are looked after.
    """
    threading.Thread(target=read_modules, name="preload", daemon=True).start()
    keeping = asyncio.create_task(_keep_house())
    yield
    keeping.cancel()


async def _keep_house() -> None:
    module = await asyncio.to_thread(import_module, "pages.ui.session.housekeeping")
    await module.keep_house()


def read_modules(module: str = FIRST_PAGE) -> None:
    """Import a page's modules, which stay for good: the garbage collector never need look through them."""
    gc.disable()
    try:
        import_module(module)
        gc.freeze()
    finally:
        gc.enable()
