"""The Sensitivity page: what every unit alone loses, rate by rate, and bars set from it."""

from __future__ import annotations

from pages.ui.plan_page import plan_page
from pages.ui.sensitive import sensitivity_panel

plan_page("Sensitivity", sensitivity_panel)
