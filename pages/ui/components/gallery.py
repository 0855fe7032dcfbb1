"""Images in a row with a line of words below each, as HTML: every text is escaped."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

_SIDE = 96  # pixels of the screen


def gallery(images: Sequence[np.ndarray], captions: Sequence[tuple[str, str]]) -> str:
    """Images uint8 (H, W, 3) or (H, W, 1), each with what it is and what became of it."""
    cells = "".join(
        f'<figure><img src="{_source(pixels)}" alt="{html.escape(f"{what}: {became}")}">'
        f"<figcaption><b>{html.escape(what)}</b><br>{html.escape(became)}</figcaption></figure>"
        for pixels, (what, became) in zip(images, captions, strict=True)
    )
    return f'<div class="gallery">{cells}</div>'


def _source(pixels: np.ndarray) -> str:
    """A PNG as a data address: large ones made smaller, small ones left to the browser to enlarge."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((2 * _SIDE, 2 * _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
