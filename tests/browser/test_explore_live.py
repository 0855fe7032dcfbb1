"""The Explore page in a real browser: the equaliser dragged, the numbers read, the table and locks moved."""

import re
from urllib.parse import urlparse

import pytest
from browsing import NEEDS_CHROMIUM, at_rest, card, grip, state_of, until

from fpgm_core import Network
from pages.ui.session.view_state import ViewState, encode

pytestmark = NEEDS_CHROMIUM


def drag(page, unit, share):
    """Press on a unit's bar and move to a height; returns a function that lets go."""
    place, release = grip(page, unit)
    place(share)
    return release


def test_dragging_shows_macs_at_once_and_rest_measures_the_plan_in_the_link(page):
    network = Network.load("resnet20")
    first = state_of(page).plan
    release = drag(page, "layer3.1.conv1", 0.75)
    expected = network.cost(first.with_rates({"layer3.1.conv1": 0.75}))
    assert until(lambda: f"{expected.macs:,} of" in card(page, "MACs"), 10)
    assert "moving" in card(page, "Accuracy on choose")
    assert state_of(page).plan == first
    release()
    assert until(lambda: re.search(r"\d\d\.\d\d%", card(page, "Accuracy on choose")))
    assert until(lambda: state_of(page).plan.rate("layer3.1.conv1") == 0.75)
    assert f"{expected.params:,} of" in card(page, "Parameters")
    assert (
        page.locator('.eq-unit[data-unit="layer3.1.conv1"]').get_attribute("aria-valuetext").startswith("75%, 48 of 64")
    )
    assert until(lambda: "exact" in card(page, "Accuracy on choose"), 120)
    assert until(lambda: page.locator(".stPlotlyChart").count() == 1), "the trace has not appeared"


def test_a_new_move_cancels_the_measurement_under_way(page):
    drag(page, "layer2.0.conv1", 0.6)()
    assert until(
        lambda: "of 5,000" in card(page, "Accuracy on choose") or "exact" in card(page, "Accuracy on choose"), 90
    )
    release = drag(page, "layer2.0.conv1", 0.2)
    assert until(lambda: "moving" in card(page, "Accuracy on choose"), 5)
    release()
    assert until(lambda: state_of(page).plan.rate("layer2.0.conv1") == 0.2)


WATCH_FIGURES = """() => {
    window.emptied = [];
    new MutationObserver(() => {
        for (const figure of document.querySelectorAll("[class*=st-key-figure-]"))
            if (figure.querySelectorAll(".stHtml").length !== 1) window.emptied.push(figure.className);
    }).observe(document.body, {subtree: true, childList: true});
}"""


def test_each_figure_stays_until_the_next_one_is_there(page):
    page.locator(".st-key-figure-params .value").wait_for()  # they come after the picture
    page.evaluate(WATCH_FIGURES)
    first = state_of(page).plan
    for rate, unit in enumerate(("layer2.0.conv1", "layer2.1.conv1", "layer3.0.conv1"), start=5):
        drag(page, unit, rate / 10)()
        assert until(lambda unit=unit, rate=rate: state_of(page).plan.rate(unit) == rate / 10)
        page.wait_for_timeout(1000)
    for _ in range(3):
        before = state_of(page).plan
        page.locator(".st-key-undo button").first.click()
        assert until(lambda before=before: state_of(page).plan != before)
    assert state_of(page).plan == first
    assert page.evaluate("window.emptied") == []


def test_arrow_keys_move_a_bar(page):
    bar = page.locator('.eq-unit[data-unit="conv1"]')
    bar.focus()
    before = state_of(page).plan.rate("conv1")
    bar.press("ArrowUp")
    bar.press("ArrowUp")
    assert until(lambda: state_of(page).plan.rate("conv1") == pytest.approx(before + 0.02))


def test_arrow_keys_go_from_bar_to_bar_which_are_one_stop_of_the_tab_key(page):
    bars = page.locator(".eq-unit")
    assert bars.evaluate_all("them => them.filter(it => it.tabIndex === 0).length") == 1
    bars.nth(0).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    focused = (
        "() => { let it = document.activeElement; while (it.shadowRoot) it = it.shadowRoot.activeElement; return it }"
    )
    assert page.evaluate(f"({focused})().dataset.unit") == bars.nth(2).get_attribute("data-unit")
    assert bars.evaluate_all("them => them.findIndex(it => it.tabIndex === 0)") == 2
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    name = bars.nth(1).get_attribute("data-unit")
    assert until(lambda: state_of(page).plan.rate(name) == pytest.approx(0.41))


def test_a_filter_is_locked_by_a_click(page):
    layer = state_of(page).layer
    page.locator(".side-locks").get_by_text("prune").click()
    assert until(lambda: state_of(page).plan.locked_out.get(layer) is not None)
    assert until(lambda: page.locator(".side-locks [aria-pressed=true]").inner_text() == "🔒 prune")


def test_a_place_on_a_damage_strip_is_a_rate(page, address):
    network = Network.load("resnet20")
    page.goto(f"{address}/?s={encode(ViewState(network.plan(0.4, coupling='inner'), 'layer1.0.conv1', damage=True))}")
    strip = page.locator('.eq-unit[data-unit="layer2.1.conv1"] .eq-heat')
    assert until(lambda: strip.count() and "gradient" in strip.evaluate("it => it.style.background"), 120)
    ((left, top, width, height),) = at_rest(strip)
    page.mouse.click(left + width / 2, top + height * 0.25)
    assert until(lambda: state_of(page).plan.rate("layer2.1.conv1") == pytest.approx(0.75, abs=0.02))


def test_a_link_restores_the_page_with_109_bars_and_nothing_is_fetched_from_elsewhere(page, address):
    network = Network.load("resnet110")
    state = ViewState(network.plan(0.3, criterion="l2_norm"), "layer3.5.conv2", view="Radial")
    page.goto(f"{address}/?s={encode(state)}")
    assert until(lambda: page.locator(".eq-unit").count() == 109, 90)
    assert until(lambda: f"{network.cost(state.plan).macs:,} of" in card(page, "MACs"), 30)
    assert "not measured" in card(page, "Accuracy on choose")
    assert state_of(page) == state
    assert {urlparse(url).hostname for url in page.asked if not url.startswith(("data:", "blob:"))} == {"127.0.0.1"}
