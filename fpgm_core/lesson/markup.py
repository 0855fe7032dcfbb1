"""Text, numbers and formulas as the printed lesson's HTML has them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fpgm_core.runtime.extras import require

# Korean breaks lines between words, and is not slanted: whatever else a page says of its text.
STYLES: Mapping[str, str] = {
    "ko": "body * { word-break: keep-all !important; } em { font-style: normal !important; font-weight: 600; }"
}  # CSS by language
_DISPLAYED = "$$"  # around a line that is a formula


def marked(text: str) -> str:
    """Escaped HTML, with the two marks that the words use: **strong** and *emphasis*."""
    strong = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text))
    return re.sub(r"\*(.+?)\*", r"<em>\1</em>", strong)


def paragraphs(text: str) -> str:
    """A paragraph a line; a line between two $$ is a formula."""
    return "".join(_paragraphs(text))


def _paragraphs(text: str) -> Iterator[str]:
    for line in filter(None, map(str.strip, text.splitlines())):
        is_formula = line.startswith(_DISPLAYED) and line.endswith(_DISPLAYED)
        yield formulas(line.strip("$")) if is_formula else f"<p>{marked(line)}</p>"


def formulas(latex: str) -> str:
    """LaTeX, a formula a line, as MathML, which browsers draw by themselves.

    Raises FpgmError where latex2mathml, of the extra `figures`, is missing.
    """
    convert = require("latex2mathml.converter", extra="figures").convert
    drawn = "".join(f"<div>{convert(line, display='block')}</div>" for line in latex.splitlines())
    return f'<div class="formula">{drawn}</div>'


def number(value: Any) -> str:
    """A table's cell: floats to six significant digits, all else as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
