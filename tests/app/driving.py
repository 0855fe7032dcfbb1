"""What the page tests share: opening a page headless, pressing a button, waiting for what the background brings."""

import json
import re
import time
from pathlib import Path

from streamlit.testing.v1 import AppTest
from view_states import resnet20_view

from pages.ui.session.view_state import encode

APP = str(Path(__file__).parents[2] / "app.py")


def opened(page=None, **query):
    """Explore, opened by a link's `query` (without one by the tests' own), or another page reached from it."""
    app = AppTest.from_file(APP, default_timeout=60)
    for name, value in (query or {"s": encode(resnet20_view())}).items():
        app.query_params[name] = value
    sound(app.run())
    return again(app.switch_page(page)) if page else app


def again(app):
    """Run the page once more."""
    return sound(app.run())


def sound(app):
    assert not app.exception, app.exception
    return app


def press(app, key):
    return sound(app.button(key=key).click().run())


def session_of(app):
    return app.session_state["session"]


def until(app, condition, seconds=30):
    """Whether the condition comes true while the page is run again and again; afterwards the page is as now."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
        again(app)
    again(app)
    return condition()


def shown(text):
    """What a browser shows of a text that `plain` made Markdown of."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text).replace("\u2060", "")


def picture(app):
    """What the picture of the chosen layer was sent."""
    sent = {element.proto.component_name: element.proto.json for element in app.get("bidi_component")}
    data = json.loads(sent["fpgm_picture"])
    return {**json.loads(data["drawn"]), **data}


def look(app, **changed):
    """Say what the picture says when a person looks at something else, or locks a filter."""
    now = picture(app)["look"]
    app.session_state["picture"] = {"look": now | {"seq": now["seq"] + 1, "locks": []} | changed}
    return sound(app.run())
