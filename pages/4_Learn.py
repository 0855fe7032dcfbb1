"""The Learn page: the lesson, norm against redundancy, on the network at hand."""

from __future__ import annotations

from pages.ui.learn import learn_page

learn_page()
