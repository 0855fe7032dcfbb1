"""What the hand moves is what the eye sees: bars, picture and table in a real browser, before the bar is let go."""

from dataclasses import replace

import numpy as np
import pytest
from browsing import NEEDS_CHROMIUM, at_rest, grip, state_of, until

from fpgm_core import Network
from pages.ui.session.view_state import ViewState, encode

pytestmark = NEEDS_CHROMIUM
UNIT, LAYER = "layer3.0.expand", "layer3.0.depthwise"  # an expansion with its depthwise partner, scored jointly


@pytest.fixture(scope="module")
def mobile():
    return Network.load("mobilenetv2_cifar")


@pytest.fixture
def explore(address, browser):
    pages = []

    def opened(state):
        page = browser.new_page(viewport={"width": 1440, "height": 780})  # 900 less what a browser's own bars take
        pages.append(page)
        page.broken = []
        page.on("pageerror", lambda error: page.broken.append(str(error)))
        page.goto(f"{address}/?s={encode(state)}")
        page.locator(".pt").first.wait_for(timeout=90_000)
        return page

    yield opened
    for page in pages:
        assert page.broken == []
        page.close()


def coloured(page, state="pruned"):
    """The indices of the filters of a state, in each chart of the picture that is in sight."""
    charts = page.locator("svg.chart").evaluate_all(
        """(charts, state) => charts.filter((chart) => chart.style.display !== "none").map((chart) =>
            [...chart.querySelectorAll(".pt")].flatMap((node, i) => (node.classList.contains(state) ? [i] : [])))""",
        state,
    )
    return [chart for chart in charts if chart]


def counts(page, unit):
    """How many filters of a unit the bar, the table, the legend and every chart say are pruned."""
    bar = page.locator(f'.eq-unit[data-unit="{unit}"]')
    told = [int(bar.get_attribute("data-count"))]
    told.append(int(page.locator(f'.eq-table tr[data-unit="{unit}"] .eq-of').inner_text().split()[0]))
    told.append(int(page.locator(".pic-legend").get_attribute("data-pruned")))
    return [*told, *map(len, coloured(page))]


def test_before_release_map_table_and_bar_agree_on_every_step(explore, mobile):
    plan = mobile.plan(0.3, coupling="inner")
    page = explore(ViewState(plan, LAYER))
    page.locator(".eq-toggle").click()
    place, release = grip(page, UNIT)
    for percent in (35, 42, 50, 64, 57, 21):
        place(percent / 100)
        seen = counts(page, UNIT)  # read at once: no answer of the server's is waited for
        rate = int(page.locator(f'.eq-unit[data-unit="{UNIT}"]').get_attribute("aria-valuenow")) / 100
        assert abs(rate - percent / 100) <= 0.011
        kept = mobile.prune(plan.with_rates({UNIT: rate})).keep_masks[LAYER]
        assert seen == [int((~kept).sum())] * 5, (percent, seen)
        assert coloured(page) == [np.flatnonzero(~kept).tolist()] * 2
        norm = mobile.prune(replace(plan.with_rates({UNIT: rate}), criterion="l2_norm")).keep_masks[LAYER]
        assert coloured(page, "rival") == [np.flatnonzero(~norm).tolist()] * 2
    assert state_of(page).plan == plan
    release()
    assert until(lambda: state_of(page).plan.rate(UNIT) == rate)
    assert state_of(page).layer == LAYER, "a bar keeps the layer that is looked at, if it is of its unit"
    assert counts(page, UNIT) == seen


def test_another_bar_brings_its_layer_before_it_is_let_go(explore, mobile):
    page = explore(ViewState(mobile.plan(0.3, coupling="inner"), LAYER))
    page.locator(".eq-toggle").click()
    place, release = grip(page, "layer4.1.expand")
    place(0.6)
    assert until(lambda: page.locator(".pic-layer select").input_value() == "layer4.1.expand", 20)
    place(0.5)
    assert len(set(counts(page, "layer4.1.expand"))) == 1
    release()
    assert until(lambda: state_of(page).layer == "layer4.1.expand")


@pytest.mark.parametrize("view", ["Scores", "Radial", "Norms"])
def test_a_two_staged_criterion_with_locks_is_coloured_in_every_view(explore, mobile, view):
    locks = {"locked_in": {UNIT: (3,)}, "locked_out": {UNIT: (0, 1)}}
    plan = mobile.plan(0.3, coupling="inner", criterion="fpgm_mix", **locks)
    page = explore(ViewState(plan, LAYER, view=view))
    place, release = grip(page, UNIT)
    for share in (0.7, 0.4):
        place(share)
        rate = int(page.locator(f'.eq-unit[data-unit="{UNIT}"]').get_attribute("aria-valuenow")) / 100
        moved = plan.with_rates({UNIT: rate})
        assert coloured(page)[0] == np.flatnonzero(~mobile.prune(moved).keep_masks[LAYER]).tolist()
    release()


def test_the_whole_equaliser_and_the_map_are_in_sight_without_scrolling(explore, mobile):
    page = explore(ViewState(mobile.plan(0.3, coupling="inner"), LAYER))
    places = at_rest(*(page.locator(where).first for where in (".eq", "svg.chart", ".st-key-topbar")))
    (_, bars_top, _, bars_height), (_, chart_top, _, chart_height), (_, _, _, topbar_height) = places
    assert bars_top >= 0
    assert bars_height <= 200
    assert min(chart_top + chart_height, 780) - chart_top >= 370 - 4  # the legend stands above it
    assert topbar_height <= 64


def test_the_chosen_filter_and_its_twin_are_ringed_in_every_view(explore, mobile):
    page = explore(ViewState(mobile.plan(0.3, coupling="inner"), LAYER))
    page.locator(".side-filter").select_option("12")
    for view in ("Map", "Scores", "Radial", "Norms"):
        page.locator(f'.pic-tabs button[data-view="{view}"]').click()
        assert page.locator(".side-filter").input_value() == "12"
        assert page.locator("svg.chart").first.locator(".ring.chosen").is_visible()
        assert page.locator("svg.chart").first.locator(".ring.twin").is_visible()
        if view in ("Map", "Radial"):
            assert page.locator("svg.chart").first.locator(".star").is_visible()
    assert until(lambda: state_of(page).chosen == 12 and state_of(page).view == "Norms")


def test_a_wheel_zooms_nothing_and_what_buttons_zoomed_they_take_back(explore, mobile):
    page = explore(ViewState(mobile.plan(0.3, coupling="inner"), LAYER))
    place = lambda: page.locator("svg.chart").first.locator(".pt").first.evaluate("n => n.style.transform")  # noqa: E731
    before = place()
    page.locator("svg.chart").first.hover()
    page.mouse.wheel(0, -40)
    assert place() == before
    page.get_by_role("button", name="Zoom in").click()
    assert place() != before
    page.get_by_role("button", name="Back to the whole picture").click()
    assert place() == before


def test_the_table_refuses_what_is_no_rate_and_undoes_what_was_typed(explore, mobile):
    page = explore(ViewState(mobile.plan(0.3, coupling="inner"), LAYER))
    page.locator(".eq-toggle").click()
    cells = page.locator(".eq-rate input")
    for text in ("abc", "150", "-3", ""):
        cells.nth(0).fill(text)
        cells.nth(0).press("Enter")
        assert "is not a number from 0 to 100" in page.locator(".eq-wrong").nth(0).inner_text()
        assert cells.nth(0).input_value() == "30"
    cells.nth(0).fill("12.5")
    cells.nth(0).press("Enter")
    assert cells.nth(1).evaluate("it => it === it.getRootNode().activeElement"), "Enter goes down the column"
    first, second = (unit.name for unit in mobile.units("inner")[:2])
    assert until(lambda: state_of(page).plan.rate(first) == 0.125)
    page.keyboard.type("70")
    page.keyboard.press("Enter")
    assert until(lambda: state_of(page).plan.rate(second) == 0.7)
    for _ in range(2):
        page.locator(".eq-undo").click()
    assert until(lambda: state_of(page).plan.rates == mobile.plan(0.3, coupling="inner").rates)
