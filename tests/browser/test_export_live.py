"""The Export page in a real browser: from Explore to a zip whose manifest says what the page says."""

import hashlib
import json
import zipfile

from browsing import NEEDS_CHROMIUM, card, until

from fpgm_core import Network, Plan
from fpgm_core.timing import speed_told
from pages.ui.session.view_state import ViewState, encode

pytestmark = NEEDS_CHROMIUM


def link(page, name):
    return page.locator('[data-testid="stPageLink"]', has_text=name).locator("a")


def cells(page):
    """The texts of all tables' cells: canvases, which say them to screen readers."""
    return page.locator('[data-testid="stDataFrame"] canvas [role="gridcell"]').all_text_contents()


def test_a_plan_is_exported_and_the_zip_says_what_the_page_says(page, address, tmp_path):
    network = Network.load("resnet20")
    plan = network.plan(0.5, coupling="coupled")
    page.goto(f"{address}/?s={encode(ViewState(plan, 'conv1'))}")
    assert until(lambda: page.locator(".eq-unit").count() == len(network.units("coupled")), 60)
    prepare = page.get_by_role("button", name="Prepare the export")
    link(page, "Export").click()  # while the page is still being drawn, and the bars ask for figures
    prepare.click(timeout=60_000)
    page.locator('[data-testid="stProgress"]').wait_for(timeout=30_000)
    page.get_by_role("button", name="Download everything (zip)").wait_for(timeout=300_000)
    assert f"{network.cost(plan).macs:,} of" in card(page, "MACs")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download everything (zip)").click()
    waiting.value.save_as(tmp_path / "compact.zip")
    assert waiting.value.suggested_filename == "resnet20-compact.zip"
    with zipfile.ZipFile(tmp_path / "compact.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files["manifest.json"])
    assert Plan.from_json(files["plan.json"]) == plan
    assert manifest["macs"] == network.cost(plan).macs
    skipped = {artefact["name"]: artefact["reason"] for artefact in manifest["skipped"]}
    assert set(skipped) == {"torch_pruning"}  # it takes option A's padding for something else
    assert "Torch-Pruning cannot prune this network so" in skipped["torch_pruning"]

    named = [file for entry in manifest["artefacts"] for file in entry["files"]]
    assert {file["file"] for file in named} | {"manifest.json"} == set(files)
    assert all(file["sha256"] == hashlib.sha256(files[file["file"]]).hexdigest() for file in named)

    proof, said = manifest["proof"], page.locator('[data-testid="stAlert"]').first.inner_text()
    for words in (
        f"at most {proof['max_abs_difference']:.2g} where", f"reach {proof['logit_scale']:.3g}, on",
        f"{proof['counted_macs']:,} MACs", f"{proof['counted_params']:,} parameters",
    ):  # fmt: skip
        assert words in said
    wanted = {speed_told(row) for row in manifest["measured"]["latency"]} | {file["file"] for file in named}
    assert until(lambda: wanted <= set(cells(page)), 20)  # one table is drawn after the other
    shown = cells(page)
    numbers = {float(text) for text in shown if text.replace(".", "", 1).isdecimal()}
    for row in manifest["measured"]["latency"]:
        within = f"{row['dense_ms']:.3g} [{row['dense_ms_low']:.3g}, {row['dense_ms_high']:.3g}]"
        assert {within, speed_told(row)} <= set(shown)
    for entry in manifest["artefacts"]:
        assert {file["file"] for file in entry["files"]} <= set(shown)
        assert {file["bytes"] for file in entry["files"]} <= numbers
        if "measured" in entry:
            assert entry["measured"]["choose"]["accuracy"] in numbers
            assert "sealed" not in entry["measured"]  # never in passing
            assert set(entry["measured"]["latency_ms"].values()) <= numbers
    page.get_by_text("One file at a time").click()
    page.get_by_text(f"manifest.json ({len(files['manifest.json']):,} bytes)").wait_for(timeout=10_000)
    link(page, "Explore").click()
    assert until(lambda: page.locator(".eq-unit").count() == len(network.units("coupled")), 60)
