"""The page's own elements, made of the files beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

_FILES = Path(__file__).parent


def element(name: str, *scripts: str) -> Any:
    """The element of that name, made once, where a module is read: html, css (if any) and js, after other scripts'.

    Each element is a script of its own to the browser, so what several need is given to each; posting.js to all.
    """
    html, style = (_FILES / f"{name}.html").read_text(), _FILES / f"{name}.css"
    css = style.read_text() if style.exists() else None
    script = "\n".join((_FILES / f"{part}.js").read_text() for part in ("posting", *scripts, name))
    return st.components.v2.component(f"fpgm_{name}", html=html, css=css, js=script)
