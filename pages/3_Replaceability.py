"""The Replaceability page: whether the filters nearest the others are the cheapest to replace, measured."""

from __future__ import annotations

from pages.ui.panels.frame import plan_page
from pages.ui.replaceability import replaceability_page

plan_page("Replaceability", replaceability_page)
