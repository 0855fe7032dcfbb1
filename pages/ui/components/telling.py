"""What a page says of what others chose, and of errors: plain text, without this machine's places.

`plain` is how everything that a stranger can choose (a link, a file's name, a class's, a plan's contents) is shown;
`told` is how an error is.
"""

from __future__ import annotations

import logging
import re
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fpgm_core import FpgmError
from fpgm_core.runtime.storage import home

_FAILED = "The work failed on the server. Whoever runs it finds the reason in its log, under failure {number}."
LONGEST = 600  # characters that are shown of a text
_LONGEST_ERROR = 4 * LONGEST  # before paths and others' words are left out of it
_log = logging.getLogger(__name__)
_APART = "\u2060"  # a word joiner, which is not seen: it keeps apart what would be read as one mark
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]+")
_ARROWS = re.compile(r"(?<!\S)(<->|->|<-|--|[<>~]=)(?!\S)")
_LINKING = re.compile(r"(:|@|\bwww)", re.IGNORECASE)
_MARKS = re.compile(r"([!-/:-@\[-`{-~])")
_PLACE = re.compile(r"""(?<![^\s'"(\[=,;:])(?:[A-Za-z]:[/\\]|/)(?:[^\s/\\'",;:()]+[/\\])*(?=[^\s/\\'",;:()])""")


def plain(text: object) -> str:
    """Somebody's text as Markdown that shows it as it is: no link, picture, heading, formula, colour, icon or emoji.

    Line breaks, what turns the direction of writing and halves of characters, which no browser can be sent, become
    spaces; at most LONGEST characters are shown.
    """
    line = " ".join(_UNSEEN.sub(" ", str(text)).split())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST - 2]} …"
    line = _ARROWS.sub(rf"\1{_APART}", line)  # Streamlit draws these as arrows and dashes
    # What follows `:`, `@` and `www` makes links and emoji of text, escaped or not.
    return _MARKS.sub(r"\\\1", _LINKING.sub(rf"\1{_APART}", line))


def told(error: BaseException) -> str:
    """What a page says of an error.

    Of an FpgmError its own words, without places of this machine and without what other libraries said; of any other a
    number, under which the server's log has all of it.
    """
    if not isinstance(error, FpgmError):
        number = secrets.token_hex(3)
        _log.error("failure %s", number, exc_info=error)
        return _FAILED.format(number=number)
    text = str(error)[:_LONGEST_ERROR]
    for foreign in _foreign_words(error):
        # Alone only where it is a sentence: a word of it may be one of ours.
        for form in (f" ({foreign})", f": {foreign}", *((foreign,) if " " in foreign else ())):
            text = text.replace(form, "")
    return without_places(text)[:LONGEST]


def _foreign_words(error: BaseException) -> Iterator[str]:
    """What the errors said that led to this one, in the forms in which messages quote them."""
    cause = error.__cause__
    while cause is not None:
        if not isinstance(cause, FpgmError) and str(cause).strip():
            name, whole = type(cause).__name__, str(cause)
            for words in (whole, whole.strip(), whole.strip().partition("\n")[0]):
                yield from (f"{name}: {words}", *((words,) if len(words) > 2 else ()))
        cause = cause.__cause__


def without_places(text: str) -> str:
    """A text in which every absolute path is no more than its last part."""
    roots = {str(path) for path in (home(), Path(tempfile.gettempdir()), Path.home(), Path.cwd(), Path(sys.prefix))}
    for root in sorted(roots - {"/"}, key=len, reverse=True):  # which may have spaces in them
        text = re.sub(rf"{re.escape(root)}(?=[/\\])", "", text)
    return _PLACE.sub("", text)
