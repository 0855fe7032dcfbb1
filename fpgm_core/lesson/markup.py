"""Text and numbers as the printed lesson's HTML has them."""

from __future__ import annotations

import html
import re
from typing import Any


def marked(text: str) -> str:
    """Escaped HTML, with the two marks that the words use: **strong** and *emphasis*."""
    strong = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text))
    return re.sub(r"\*(.+?)\*", r"<em>\1</em>", strong)


def number(value: Any) -> str:
    """A table's cell: floats to six significant digits, all else as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
