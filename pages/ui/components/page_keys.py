"""Arrow keys that turn the lesson's pages, each shown from its top. What the browser sends is checked here."""

from __future__ import annotations

from typing import Any

from pages.ui.components.element import element

_component = element("page_keys")


def read_turn(message: Any) -> tuple[int, int] | None:
    """A message's number and direction, +1 or -1; None for anything that is not one (it is not to be trusted)."""
    if not isinstance(message, dict):
        return None
    seq, by = message.get("seq"), message.get("by")
    if isinstance(seq, bool) or not isinstance(seq, (int, float)) or isinstance(by, bool) or by not in (1, -1):
        return None
    return int(seq), int(by)


def page_keys(key: str, page: str) -> None:
    """Listen to the keys; the last turn lies in the session state of `key`. Another `page` is shown from its top."""
    _component(key=key, data={"page": page}, on_turn_change=lambda: None)
