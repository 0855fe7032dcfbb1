"""The Choose page: what every unit alone loses, rate by rate, and bars set from it."""

from __future__ import annotations

from pages.ui.panels.frame import plan_page
from pages.ui.sensitivity import sensitivity_page

plan_page("Choose", sensitivity_page)
