"""The lesson's words, one file for each language."""

from __future__ import annotations

from functools import cache
from importlib import resources

from fpgm_core.runtime.words import Words, read_words


@cache
def words_of(language: str) -> Words:
    """The lesson's words in a language. Raises FpgmError, listing them, for one that it is not written in."""
    return read_words(resources.files("fpgm_core.lesson") / "languages", language)
