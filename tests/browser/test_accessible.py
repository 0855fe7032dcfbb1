"""No page has a serious accessibility fault, by axe-core, in either theme."""

import pytest
from browsing import NEEDS_CHROMIUM, SETTLED

from pages.ui.panels.frame import PAGES

pytestmark = NEEDS_CHROMIUM
Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_page(address, browser, theme):
    page = browser.new_page(color_scheme=theme, viewport={"width": 1440, "height": 900})
    page.goto(address)
    page.locator(".pt").first.wait_for(timeout=90_000)
    page.locator(".eq-toggle").click()
    for label in ("Explore", *(label for label in PAGES.values() if label != "Explore")):
        if label != "Explore":
            page.locator(".st-key-navigation").get_by_text(label, exact=True).click()
            page.wait_for_url(f"**/{label}?*", timeout=60_000)
            page.locator(SETTLED).wait_for(timeout=60_000)
        found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        faults = [
            (fault["id"], node["html"][:200], [check["message"] for check in node["any"]])
            for fault in found
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]
        assert faults == [], label
    page.close()
