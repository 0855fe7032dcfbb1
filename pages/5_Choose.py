"""The Choose page: the front, sensitivity, criteria beside each other, plans compared, and all that was measured."""

from __future__ import annotations

from pages.ui.choose import choose_page

choose_page()
