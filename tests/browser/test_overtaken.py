"""A fragment in mid-drawing, and a click that draws the whole page anew."""

import time

import pytest
from browsing import NEEDS_CHROMIUM
from load import serving

pytestmark = NEEDS_CHROMIUM
APP = """
import time
import streamlit as st
from pages.ui.panels.figures import places_outside

runs = st.session_state.runs = st.session_state.get("runs", 0) + 1
st.button("whole")
places = st.empty(), st.empty()

@st.fragment
def fragment():
    if st.button("part"):
        with {places}:
            places[0].html("<p>begun</p>")
            time.sleep(1)
            places[1].html("<p>done</p>")
    else:
        for place in places:
            place.html("<p>waits</p>")

fragment()
st.write(f"run {{runs}}")
"""


@pytest.mark.parametrize(("places", "told"), [("places_outside()", 0), ("st.container()", 1)])
def test_a_fragment_overtaken_by_the_page_ends_quietly(places, told, browser, tmp_path):
    app, log = tmp_path / "app.py", tmp_path / "log"
    app.write_text(APP.format(places=places))
    with log.open("w") as out, serving(str(tmp_path / "home"), out, app) as address:
        page = browser.new_page()
        page.goto(address)
        page.get_by_text("run 1").wait_for()
        page.get_by_text("part").click()
        page.get_by_text("begun").wait_for()
        page.get_by_text("whole").click()
        page.get_by_text("run 2").wait_for()
        time.sleep(1.5)  # longer than the fragment had left
        assert page.locator(".stException").count() == 0
        page.close()
    assert log.read_text().count("Uncaught app execution") == told
