"""The pages' words: every name that is asked for is there, every string is used, in the pages or in the browser."""

import ast
import re

import pytest
from worded import FOLDERS, ROOT, names_of, parsed, sections, template, written_out

from fpgm_core.runtime.words import read_words
from pages.ui.panels.frame import PAGES
from pages.ui.session.language import words_of

SOURCES = [ROOT / "app.py", *sorted((ROOT / "pages").rglob("*.py"))]
SCRIPTS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "pages" / "ui").rglob("*.js")))
OWN, ALL = read_words(FOLDERS["pages"], "en"), words_of("en")
# What stands in the braces of a name that is put together: pages, and the states of a measurement.
REGISTERED = {*(page.lower() for page in PAGES.values()), "provisional", "exact"}
SENT = {"live", "picture"}  # sections that the browser gets whole: its scripts take them by words


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_name_that_is_written_out_exists(path):
    for option in written_out(parsed(path)):
        if isinstance(option, ast.Constant):
            assert option.value in ALL.strings
        elif isinstance(option, ast.JoinedStr):
            assert any(re.fullmatch(template(option), name) for name in ALL.strings), ast.unparse(option)


def is_used(name, asked):
    section, _, word = name.partition(".")
    if section in SENT and re.search(rf"words\.{word}\b", SCRIPTS):
        return True
    for pattern, known in asked:
        match = re.fullmatch(pattern, name)
        if match and all(part in known for part in match.groups()):
            return True
    return False


ASKED = [found for path in SOURCES for found in names_of(path, ALL.strings, REGISTERED)]


def test_no_string_is_dead():
    assert [name for name in OWN.strings if not is_used(name, ASKED)] == []


def test_a_dead_string_would_be_found():
    assert not [name for name in ("live.nobody", "frame.nobody", "picture.nobody") if is_used(name, ASKED)]


def test_what_the_browser_gets_whole_is_taken_whole():
    assert set(sections(SOURCES)) >= SENT


def test_every_page_has_its_name():
    assert [page for page in PAGES.values() if f"frame.{page.lower()}" not in OWN.strings] == []
