"""The Recover page: the plan on screen, trained; before and after beside each other."""

from __future__ import annotations

from pages.ui.panels.frame import plan_page
from pages.ui.recover import recover_page

plan_page("Recover", recover_page)
