"""The Replaceability page: whether the filters nearest the others are the cheapest to replace, measured."""

from __future__ import annotations

from pages.ui.plan_page import plan_page
from pages.ui.replaceable import replaceability_panel

plan_page("Replaceability", replaceability_panel)
