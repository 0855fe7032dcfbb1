"""The page Choose in a browser: the bars ride along the front under a hand, and plans are compared image by image."""

import pytest
from browsing import NEEDS_CHROMIUM, check_components, middle, state_of, until
from load import serving
from view_states import resnet20_view

from fpgm_core import Measurement
from fpgm_core.data import load_images
from fpgm_core.evaluation import History
from pages.ui.session.view_state import encode

pytestmark = NEEDS_CHROMIUM
RATES = (0.2, 0.4, 0.6)


def made_up(right):
    """A measurement of all choose images, as if so many had been right."""
    return Measurement(
        state="exact", num_correct=right, num_dense_correct=4584, num_both_correct=right - 50, num_images=5000,
        num_total=5000, device="cpu", precision="float32", seconds=1.0, batch=1, method="recalibrated",
        answers=bytes(625),
    )  # fmt: skip


@pytest.fixture(scope="module")
def plans(resnet20):
    """Points of a front by their rate, MACs falling."""
    return [resnet20.prune(rate, coupling="inner").plan for rate in RATES]


@pytest.fixture(scope="module")
def address(tmp_path_factory, resnet20, plans):
    home = tmp_path_factory.mktemp("home")
    kept, images = History(home / "history.sqlite"), load_images("cifar10", "choose")
    for rate, plan, right in zip(RATES, plans, (4400, 3900, 2600), strict=True):
        kept.add(resnet20.prune(plan), images, made_up(right), study=f"front solved {rate:g}")
    with serving(str(home)) as url:
        yield url


@pytest.fixture
def front(address, browser, plans):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    start = resnet20_view()
    page.goto(f"{address}/Choose?view=front&s={encode(type(start)(plans[0].with_rates({}), start.layer))}")
    page.locator(".al-svg path.mark").nth(2).wait_for(timeout=90_000)
    yield page
    check_components(page)
    page.close()


def shown_rates(page):
    return [int(value) for value in page.locator(".eq-unit").evaluate_all("bars => bars.map(bar => bar.ariaValueNow)")]


def test_the_bars_ride_along_the_front(front, plans):
    middles = [middle(front.locator(".al-svg path.mark").nth(number)) for number in range(3)]
    front.mouse.move(*middles[0])
    front.mouse.down()
    front.mouse.move(*middles[1], steps=6)
    assert until(lambda: set(shown_rates(front)) == {40}, 20)  # under the hand
    assert state_of(front).plan == plans[0]  # not yet a step
    front.mouse.move(*middles[2], steps=6)
    front.mouse.up()
    assert until(lambda: state_of(front).plan == plans[2], 20)
    assert until(lambda: set(shown_rates(front)) == {60}, 20)
    front.locator(".al-svg").focus()
    front.keyboard.press("ArrowLeft")
    assert until(lambda: state_of(front).plan == plans[1], 20)
    front.locator(".st-key-undo button").first.click()
    assert until(lambda: state_of(front).plan == plans[2], 20)


def test_dense_against_the_plan_is_one_click_from_explore(front):
    front.locator(".st-key-navigation").get_by_text("Explore").click()
    front.locator(".st-key-controls").get_by_role("link", name="What was forgotten").click()
    front.locator(".st-key-class_changes .js-plotly-plot").wait_for(timeout=120_000)
    assert front.locator(".gallery figure img").count() > 4
    assert front.locator(".gallery img").first.evaluate("image => image.naturalWidth") == 32
