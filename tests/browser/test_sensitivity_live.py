"""The Sensitivity page in a browser: a sweep comes in, is stopped, and a click on its map sets a bar."""

import re

from browsing import NEEDS_CHROMIUM, at_rest, state_of, until

pytestmark = NEEDS_CHROMIUM


def test_a_click_on_the_map_sets_the_bar(page, address):
    page.locator(".st-key-navigation").get_by_text("Choose").click()
    page.locator(".st-key-choose_view").get_by_text("Sensitivity").click()
    page.locator(".st-key-begin_sweep button").click()
    under_way = page.locator(".st-key-under_way")
    some = re.compile(r":\W+[1-9]\d*%")
    assert until(lambda: under_way.count() and some.search(under_way.inner_text()), 60)  # the first cells
    page.wait_for_selector(".st-key-sweep .js-plotly-plot", timeout=60_000)
    page.locator(".st-key-under_way button").click()
    page.wait_for_selector(".st-key-begin_sweep button", timeout=30_000)
    assert "are measured" in page.locator(".st-key-begin_sweep").inner_text()
    plan = state_of(page).plan
    units = len(page.locator(".st-key-sweep .ytick").all())
    assert until(lambda: page.locator(".st-key-sweep .nsewdrag").count() == 1, 30)  # the one before has gone
    ((_, _, width, height),) = at_rest(page.locator(".st-key-sweep .nsewdrag"))
    first = {"x": width / 18, "y": height / (2 * units)}  # the first unit at 10%
    page.locator(".st-key-sweep .nsewdrag").click(position=first)
    assert until(lambda: state_of(page).plan != plan, 30)
    moved = {unit: rate for unit, rate in state_of(page).plan.rates.items() if plan.rate(unit) != rate}
    assert list(moved.values()) == [0.1]
    page.locator(".st-key-navigation").get_by_text("Explore").click()
    page.wait_for_selector(".eq-unit", timeout=30_000)
    assert state_of(page).plan.rates == {**plan.rates, **moved}
