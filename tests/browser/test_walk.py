"""One way through all pages, Learn to Export, as a person goes it: by the page's own words alone."""

import json
import re
import zipfile

import pytest
from browsing import NEEDS_CHROMIUM, card, check_components, grip, state_of, until

pytestmark = [*NEEDS_CHROMIUM, pytest.mark.thorough]


@pytest.fixture
def page(address, browser):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{address}/Learn")
    yield page
    check_components(page)
    page.close()


def follow(page, name):
    page.locator('[data-testid="stPageLink"]', has_text=name).first.locator("a").click()
    assert until(lambda: page.evaluate("document.title").endswith(name), 60)


def press(page, name, seconds=60):
    page.get_by_role("button", name=name, exact=True).click(timeout=1000 * seconds)


def macs(page):
    return int(re.search(r"([\d,]+) of [\d,]+", card(page, "MACs"))[1].replace(",", ""))


def test_from_the_first_question_to_an_export(page, tmp_path):
    page.get_by_text("Norm against redundancy").first.wait_for(timeout=90_000)

    follow(page, "Explore")
    page.get_by_text("Drag a bar").wait_for(timeout=90_000)
    page.locator("svg.chart .pt").first.wait_for(timeout=90_000)
    dense = int(re.search(r"of ([\d,]+)", card(page, "MACs"))[1].replace(",", ""))
    unit = page.locator(".eq-unit").first.get_attribute("data-unit")
    move, let_go = grip(page, unit)
    before = macs(page)
    move(0.6)
    let_go()
    assert until(lambda: macs(page) < before)
    assert until(lambda: "exact" in card(page, "Accuracy"), 120)
    press(page, "Solve")
    assert until(lambda: abs(1 - macs(page) / dense - 0.5) < 0.02, 240)
    page.get_by_text("Solved to cut MACs by 50%").wait_for(timeout=60_000)
    if page.get_by_role("button", name="Stop").count():
        page.get_by_role("button", name="Stop").first.click()
    assert until(lambda: "exact" in card(page, "Accuracy"), 120)
    chosen = macs(page)

    follow(page, "Choose")
    page.get_by_text("History", exact=True).click()
    cells = page.locator('[data-testid="stDataFrame"] canvas [role="gridcell"]')
    cut = f"{100 * (1 - chosen / dense):.10f}"[:-3]
    assert until(lambda: any(text.startswith(cut) for text in cells.all_text_contents()))
    page.get_by_text("Compare", exact=True).first.click()
    page.get_by_text("What was forgotten").first.wait_for(timeout=180_000)
    assert macs(page) == chosen

    follow(page, "Recover")
    epochs = page.get_by_role("slider", name="Epochs")
    epochs.focus()
    epochs.press("Home")
    assert until(lambda: epochs.evaluate("slider => slider.value ?? slider.ariaValueNow") == "1")
    press(page, "Train")
    press(page, "Stand on this rung", 400)
    assert until(lambda: state_of(page).method == "fine_tuned")
    assert macs(page) == chosen

    follow(page, "Export")
    page.get_by_text("on the rung Fine-tuned").wait_for(timeout=60_000)
    press(page, "Prepare the export")
    page.get_by_role("button", name="Download everything (zip)").wait_for(timeout=400_000)
    with page.expect_download() as waiting:
        press(page, "Download everything (zip)")
    waiting.value.save_as(tmp_path / "compact.zip")
    with zipfile.ZipFile(tmp_path / "compact.zip") as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert (manifest["macs"], manifest["rung"]) == (chosen, "fine_tuned")
