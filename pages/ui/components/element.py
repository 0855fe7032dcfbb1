"""The page's own elements, made of the files beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

_FILES = Path(__file__).parent


def element(name: str, *scripts: str) -> Any:
    """The element of that name, made once, where a module is read: html, css (if any) and js, after other scripts'."""
    html, style = (_FILES / f"{name}.html").read_text(), _FILES / f"{name}.css"
    css = style.read_text() if style.exists() else None
    return st.components.v2.component(f"fpgm_{name}", html=html, css=css, js=script_of(name, *scripts))


def script_of(name: str, *scripts: str) -> str:
    """An element's script. Each is one of its own to the browser: what several need is in each, posting.js in all."""
    return "\n".join((_FILES / f"{part}.js").read_text() for part in ("posting", *scripts, name))
