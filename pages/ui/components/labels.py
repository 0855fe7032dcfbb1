"""What the bars, the cards and the picture say in English; the lesson hands them other languages."""

from __future__ import annotations

from collections.abc import Mapping

from fpgm_core.lesson import words_of

LABELS: Mapping[str, str] = words_of("en").under("live")
PICTURE: Mapping[str, str] = words_of("en").under("picture")
