"""The Explore page in a real browser: the equaliser dragged, the numbers read, the table and locks moved."""

import re
from urllib.parse import urlparse

import pytest
from browsing import NEEDS_CHROMIUM, card, state_of, until

from fpgm_core import Network
from pages.ui.session.view_state import ViewState, encode

pytestmark = NEEDS_CHROMIUM


def drag(page, unit, share):
    """Press on a unit's bar and move to a height; returns a function that lets go."""
    track = page.locator(f'.eq-unit[data-unit="{unit}"] .eq-track')
    box = track.bounding_box()
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + box["height"] * 0.6)
    page.mouse.down()
    page.mouse.move(x, box["y"] + box["height"] * 0.5)
    page.mouse.move(x, box["y"] + box["height"] * (1 - share))
    return page.mouse.up


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
    assert until(lambda: page.locator(".stPlotlyChart").count() == 3), "the trace has not appeared"


def test_a_new_move_cancels_the_measurement_under_way(page):
    drag(page, "layer2.0.conv1", 0.6)()
    assert until(
        lambda: "of 5,000" in card(page, "Accuracy on choose") or "exact" in card(page, "Accuracy on choose"), 90
    )
    release = drag(page, "layer2.0.conv1", 0.2)
    assert until(lambda: "moving" in card(page, "Accuracy on choose"), 5)
    release()
    assert until(lambda: state_of(page).plan.rate("layer2.0.conv1") == 0.2)


def test_arrow_keys_move_a_bar(page):
    bar = page.locator('.eq-unit[data-unit="conv1"]')
    bar.focus()
    before = state_of(page).plan.rate("conv1")
    bar.press("ArrowUp")
    bar.press("ArrowUp")
    assert until(lambda: state_of(page).plan.rate("conv1") == pytest.approx(before + 0.02))


def test_a_rate_typed_into_the_table_enters_the_plan(page):
    assert until(lambda: "exact" in card(page, "Accuracy on choose"), 120)  # nothing is drawn anew meanwhile
    table = page.locator('[data-testid="stDataFrame"]').first
    cell_editor = page.locator("#portal input")

    def opened():
        box = table.bounding_box()
        page.mouse.dblclick(box["x"] + box["width"] * 0.45, box["y"] + 35 * 1.5)
        return until(lambda: cell_editor.count() == 1, 3)

    assert until(opened)
    cell_editor.fill("12.5")
    cell_editor.press("Enter")
    assert until(lambda: state_of(page).plan.rate("conv1") == 0.125)
    assert until(lambda: "2 of 16" in page.locator('.eq-unit[data-unit="conv1"]').get_attribute("aria-valuetext"))


def test_a_filter_is_locked_by_a_click(page):
    layer = state_of(page).layer
    page.locator('[data-testid="stButtonGroup"]').last.get_by_text("prune").click()
    assert until(lambda: state_of(page).plan.locked_out.get(layer) is not None)


def test_a_place_on_a_damage_strip_is_a_rate(page, address):
    network = Network.load("resnet20")
    page.goto(f"{address}/?s={encode(ViewState(network.plan(0.4, coupling='inner'), 'layer1.0.conv1', damage=True))}")
    strip = page.locator('.eq-unit[data-unit="layer2.1.conv1"] .eq-heat')
    assert until(lambda: strip.count() and "gradient" in strip.evaluate("it => it.style.background"), 120)
    box = strip.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.25)
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
