"""The page's own elements, made of the files beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

_FILES = Path(__file__).parent


def element(name: str) -> Any:
    """The element of that name, made once, where a module is read: html, css (if any) and js, after posting.js."""
    html, script, posting = ((_FILES / file).read_text() for file in (f"{name}.html", f"{name}.js", "posting.js"))
    style = _FILES / f"{name}.css"
    css = style.read_text() if style.exists() else None
    return st.components.v2.component(f"fpgm_{name}", html=html, css=css, js=posting + script)
