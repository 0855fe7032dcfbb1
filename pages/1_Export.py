"""The Export page: the plan on screen as files, proved, reloaded and measured before they are offered."""

from __future__ import annotations

from pages.ui.export import export_page
from pages.ui.panels.frame import plan_page

plan_page("Export", export_page)
