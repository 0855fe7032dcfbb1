"""One screen at every size: on a phone and at 200% zoom figures, goal and the other language are in sight."""

import pytest
from browsing import NEEDS_CHROMIUM, at_rest

pytestmark = NEEDS_CHROMIUM
SIZES = {"a phone": (390, 844), "1440 at 200%": (720, 450), "1024 wide": (1024, 768)}


@pytest.fixture(params=SIZES)
def page(request, address, browser):
    width, height = SIZES[request.param]
    page = browser.new_page(viewport={"width": width, "height": height}, locale="en-US")
    page.goto(address)
    page.locator(".eq-unit").first.wait_for(timeout=90_000)
    page.locator(".st-key-why button >> visible=true").wait_for(timeout=60_000)
    yield page
    page.close()


SHOWN = {
    "last page": '.st-key-navigation [data-testid="stPageLink"] >> nth=-1',
    "language": ".st-key-navigation [role=radio][aria-checked=false]",
    "accuracy": ".st-key-figure-accuracy .value",
    "macs": ".st-key-figure-macs .value",
    "solve": ".st-key-solve button >> visible=true",
    "why": ".st-key-why button >> visible=true",
    "goal's sentence": ".st-key-intro p",
    "bar": ".eq-unit",
    "top bar": ".st-key-topbar",
}


def test_what_matters_is_in_sight_and_lies_on_nothing_else(page):
    width, height = page.viewport_size["width"], page.viewport_size["height"]
    places = at_rest(*(page.locator(selector).first for selector in SHOWN.values()))
    shown = {name: (x, y, x + wide, y + high) for name, (x, y, wide, high) in zip(SHOWN, places, strict=True)}
    _, top, _, bottom = shown.pop("top bar")
    assert bottom - top <= 64
    for name, (left, top, right, _) in shown.items():
        assert (left >= 0, right <= width, top < height) == (True, True, True), (name, shown[name])
    names = list(shown)
    for first in names:
        for second in names[names.index(first) + 1 :]:
            a, b = shown[first], shown[second]
            assert a[2] <= b[0] + 1 or b[2] <= a[0] + 1 or a[3] <= b[1] + 1 or b[3] <= a[1] + 1, (first, second, a, b)
    left, _, right, _ = shown["goal's sentence"]
    assert width > 900 or right - left > 0.75 * width, "a line of its own where there is little room"


def test_the_bars_hint_is_whole_or_out_of_sight(page):
    width, told = page.viewport_size["width"], []
    for wide in (width, 1440):
        page.set_viewport_size({"width": wide, "height": page.viewport_size["height"]})
        page.wait_for_timeout(300)
        told += page.locator(".eq-hint").evaluate_all(
            """(hints) => hints.map((hint) => {
                const range = document.createRange(), room = hint.getBoundingClientRect();
                range.selectNodeContents(hint);
                const text = range.getBoundingClientRect();
                const below = !room.height || text.top >= room.bottom;
                return [below, text.width > 0 && text.left >= room.left && text.bottom <= room.bottom + 2];
            })"""
        )
    assert all(below or whole for below, whole in told)
    assert told[1] == [False, True], "where there is room it is read"
