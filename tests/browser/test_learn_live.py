"""The lesson in Chromium: the plane under the hand, the keys, a student's way through a step, a teacher's link."""

import json
from urllib.parse import parse_qs, urlparse

import pytest
from browsing import NEEDS_CHROMIUM, check_components, middle, until
from view_states import resnet20_query

from fpgm_core.lesson import STEPS, plane_facts, words_of
from fpgm_core.lesson.toys import PLANES

pytestmark = NEEDS_CHROMIUM
EN, KO = words_of("en"), words_of("ko")


@pytest.fixture
def lesson(address, browser):
    pages = []

    def opened(query):
        page = browser.new_page(viewport={"width": 1280, "height": 900}, locale="en-US")
        pages.append(page)
        page.broken = []
        page.on("pageerror", lambda error: page.broken.append(str(error)))
        page.goto(f"{address}/Learn?{query}&{resnet20_query()}")
        page.locator(".st-key-lesson h2").wait_for(timeout=90_000)
        return page

    yield opened
    for page in pages:
        assert page.broken == []
        check_components(page)
        page.close()


def heading(page):
    return page.locator(".st-key-lesson h2").inner_text()


def settings(page):
    held = parse_qs(urlparse(page.evaluate("location.href")).query).get("c")
    return json.loads(held[0]) if held else {}


def test_a_student_marks_drags_and_reveals(lesson):
    page = lesson("step=plane&lang=en")
    points = page.locator(".pl-point")
    points.nth(8).wait_for()
    points.nth(4).click()
    assert until(lambda: settings(page).get("marked") == [4])
    star = middle(page.locator(".pl-plane .pl-median"))
    x, y = middle(points.nth(3))
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 9):
        page.mouse.move(x - 20 * step, y + 12 * step)
    page.mouse.up()
    moved = tuple(PLANES["apart"][3])
    assert until(lambda: settings(page).get("points", [moved] * 4)[3] != list(moved) and settings(page)["points"])
    assert until(lambda: middle(page.locator(".pl-plane .pl-median")) != star), "the star follows the hand"
    page.locator(".st-key-plane-reveal button").click()
    page.locator(".st-key-says li").first.wait_for()
    held = settings(page)
    facts = plane_facts(tuple(map(tuple, held["points"])))
    said = page.locator(".st-key-says li").all_inner_texts()
    assert f"The norm drops filters {', '.join(map(str, facts.by_norm))}" in said[0]
    assert "You dropped 4" in said[1]


def test_arrow_keys_turn_the_page_but_not_from_a_point_or_a_slider(lesson):
    page = lesson("step=plane&lang=en")
    page.locator(".pl-point").first.wait_for()
    page.locator("[data-listens=plane]").wait_for(state="attached")
    page.keyboard.press("ArrowRight")
    assert until(lambda: heading(page).startswith("2."))
    slider = page.locator("[data-testid=stSlider] input").first
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert until(lambda: settings(page).get("deviation") == 0.06)
    assert heading(page).startswith("2.")
    page.locator(".st-key-lesson h2").click()
    page.keyboard.press("ArrowLeft")
    assert until(lambda: heading(page).startswith("1."))
    page.locator(".pl-point").first.focus()
    page.keyboard.press("ArrowRight")
    assert until(lambda: "points" in settings(page))
    assert heading(page).startswith("1.")


def test_predict_before_reveal_in_korean(lesson):
    page = lesson("step=reviewer&lang=ko")
    page.locator(".js-plotly-plot").first.wait_for(timeout=60_000)
    assert heading(page) == f"4. {KO('reviewer.title')}"
    assert KO("page.covered") in page.locator(".st-key-says").inner_text()
    styles = page.locator(".st-key-lesson [data-testid=stMarkdownContainer] p").evaluate_all(
        "all => all.map(each => getComputedStyle(each).wordBreak)"
    )
    assert set(styles) == {"keep-all"}
    page.get_by_text(KO("reviewer.none"), exact=True).click()
    page.locator(".st-key-says li").first.wait_for()
    assert KO("page.right") in page.locator("[data-testid=stAlert]").inner_text()


def test_a_teachers_link_opens_a_bare_step_elsewhere(lesson):
    page = lesson("step=median&lang=en")
    page.get_by_role("button", name=EN("page.teacher")).click()
    links = page.locator("[data-testid=stPopoverBody] a")
    links.nth(2 * len(STEPS) - 1).wait_for()
    query = links.nth(3).get_attribute("href").removeprefix("?")  # the second step, bare
    there = lesson(query)
    assert heading(there).startswith("2.")
    there.locator(".js-plotly-plot").first.wait_for(timeout=60_000)
    assert there.locator("[data-testid=stSlider]").count() == 3
    assert there.locator("[data-testid=stRadio]").count() == 1
    assert EN("norms.lead").split("\n")[0] not in there.locator(".st-key-lesson").inner_text()


def test_next_lands_at_the_top_and_formulas_do_not_break(lesson):
    page = lesson("step=norms&lang=en")
    page.locator(".js-plotly-plot").first.wait_for(timeout=60_000)
    page.locator(".st-key-learn-forward button").scroll_into_view_if_needed()
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop") > 0
    page.locator(".st-key-learn-forward button").click()
    assert until(lambda: heading(page).startswith("3."))
    assert until(lambda: page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop") == 0)
    formula = page.locator(".st-key-lesson .katex-display .katex-html").first
    formula.wait_for(state="attached")
    assert formula.evaluate("each => getComputedStyle(each).whiteSpace") == "nowrap"
    assert page.locator(".st-key-lesson .katex-error").count() == 0
