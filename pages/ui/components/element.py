"""The page's own elements, made of the files beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

_FILES = Path(__file__).parent


def element(name: str) -> Any:
    """The element of that name, to be made once, where a module is read: its html, css and js, after posting.js."""
    html, css, script = ((_FILES / f"{name}.{kind}").read_text() for kind in ("html", "css", "js"))
    return st.components.v2.component(
        f"fpgm_{name}", html=html, css=css, js=(_FILES / "posting.js").read_text() + script
    )
