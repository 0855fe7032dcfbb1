"""Arrow keys that turn the lesson's pages, each shown from its top. What the browser sends is checked here."""

from __future__ import annotations

from typing import Any

from pages.ui.components.element import element
from pages.ui.components.incoming import one_of, part, reading, whole

_component = element("page_keys")


@reading
def read_turn(message: Any) -> tuple[int, int]:
    """A message's number and direction, +1 or -1; None for anything that is not one (it is not to be trusted)."""
    return whole(part(message, "seq")), int(one_of(part(message, "by"), (1, -1)))


def page_keys(key: str, page: str) -> None:
    """Listen to the keys; the last turn lies in the session state of `key`. Another `page` is shown from its top."""
    _component(key=key, data={"page": page}, on_turn_change=lambda: None)
