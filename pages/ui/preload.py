"""What the server reads before the first browser comes."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
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
    _begin_log()
    reading = threading.Thread(target=read_modules, name="preload", daemon=True)
    reading.start()
    keeping = asyncio.create_task(_keep_house(after=reading))
    yield
    keeping.cancel()


def _begin_log() -> None:
    """Say on standard error what `FPGM_LOG` asks for: sessions that come and go, with info."""
    level = os.environ.get("FPGM_LOG", "").upper()
    if level in logging.getLevelNamesMapping():
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        for name in ("pages", "fpgm_core"):
            logging.getLogger(name).setLevel(level)


async def _keep_house(after: threading.Thread) -> None:
    while after.is_alive():  # two threads that import the same modules would get in each other's way
        await asyncio.sleep(0.5)
    await import_module("pages.ui.session.housekeeping").keep_house()


def read_modules(module: str = FIRST_PAGE) -> None:
    """Import a page's modules, which stay for good: the garbage collector never need look through them."""
    gc.disable()
    try:
        import_module(module)
        gc.freeze()
    finally:
        gc.enable()
