"""The Choose page: the front, sensitivity, criteria beside each other, plans compared, and all that was measured."""

from __future__ import annotations

from pages.ui.choose import choose_page
from pages.ui.panels.frame import plan_page

plan_page("Choose", choose_page)
