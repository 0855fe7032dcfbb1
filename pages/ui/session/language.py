"""The language that a tab is read in, one for all pages, and the words in it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import streamlit as st

from fpgm_core import FpgmError, lesson
from fpgm_core.lesson import LANGUAGES, Words
from fpgm_core.runtime.words import read_words
from pages.ui.components.telling import told

PARAMETER = "lang"  # its name in a link
_FOLDER = Path(__file__).parents[1] / "languages"


@cache
def words_of(language: str) -> Words:
    """All that the pages say in a language, the lesson too. Raises FpgmError, listing them, for an unknown one."""
    return lesson.words_of(language) | read_words(_FOLDER, language)


def tab_language() -> str:
    """The language of this tab: what was chosen, what the link names, or the browser's where there are words in it."""
    if "language" not in st.session_state:
        wanted = (st.query_params.get(PARAMETER, ""), (st.context.locale or "").partition("-")[0])
        set_language(next((language for language in wanted if language in LANGUAGES), next(iter(LANGUAGES))))
    return str(st.session_state.language)


def set_language(language: str) -> None:
    """Have this tab read in a language. Raises FpgmError for one that there are no words in."""
    st.session_state.language = words_of(language).language


def tab_words() -> Words:
    """The words of this tab."""
    return words_of(tab_language())


def link_problem() -> str | None:
    """What is wrong with the language that the link names, if it names one."""
    try:
        words_of(st.query_params.get(PARAMETER, tab_language()))
    except FpgmError as error:
        return told(error)
    return None
