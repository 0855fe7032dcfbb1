"""Where the plans that a visitor measures are kept: a data base of the user's own, or one for each visitor.

Served to this machine alone, it is that of `FPGM_HOME`, which the command line reads and writes too. Where others may
visit the page, every browser has one of its own, known by its cookie: nobody sees or changes another's plans. A browser
that keeps no cookies has one for the tab.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import streamlit as st

from fpgm_core.evaluation import History
from fpgm_core.runtime.storage import home
from pages.ui.session.opening import is_private
from pages.ui.session.visitors import visitor_in

_FOLDER = "visitors"
MOST_VISITORS, MOST_PLANS = 300, 500  # who came back least lately goes first


def history_of_visitor(tab: str) -> History:
    """The history of whoever looks at the page; `tab` names one without a cookie."""
    if is_private():
        return History()
    who = visitor_in(st.context.cookies) or f"tab {tab}"
    path = home() / _FOLDER / f"{hashlib.sha256(who.encode()).hexdigest()[:32]}.sqlite"
    if not path.exists():
        _make_room(path.parent)
    return History(path, limit=MOST_PLANS)


def _make_room(folder: Path) -> None:
    """Delete the histories that nobody wrote for longest, until one more has room."""
    with suppress(OSError):  # another process may delete them meanwhile
        files = sorted(folder.glob("*.sqlite"), key=lambda path: path.stat().st_mtime)
        for path in files[: max(0, len(files) + 1 - MOST_VISITORS)]:
            for tail in ("", "-wal", "-shm"):
                path.with_name(path.name + tail).unlink(missing_ok=True)
