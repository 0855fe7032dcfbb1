"""Hostile messages, links and files at the pages themselves: none shows a traceback, and what was there stays."""

import base64
import json
import math
import zlib

import pytest
from driving import opened, session_of, shown, sound, until
from view_states import resnet20_view

from fpgm_core import Plan
from pages.ui.session.view_state import encode

ODD = (math.nan, 10**400, [7])  # every form that there is: test_hostile_messages.py
LINK = "[x](https://evil.example) ![i](https://evil.example/i.png) # big $y$ :cat: <b>z</b>"


@pytest.fixture(scope="module")
def app():
    app = opened()
    yield app
    session_of(app).jobs.close()


def messages(good):
    """A good message with each of its parts replaced by what is none, and things that are no message."""
    yield from ([], "move", 3, None, [[]], {"move": []}, [{"seq": 1}])
    for name in good:
        for value in ODD:
            yield good | {name: value}


MOVE = {"seq": 10**15, "rates": {"layer1.0.conv1": 0.5}, "chosen": "layer1.0.conv1", "phase": "drag"}
LOOK = {
    "seq": 10**15,
    "layer": "layer1.0.conv1",
    "chosen": 1,
    "view": "Scores",
    "mapping": "PCA",
    "seed": 0,
    "locks": [],
}


@pytest.mark.parametrize(("element", "part", "good"), [("equaliser", "move", MOVE), ("picture", "look", LOOK)])
def test_messages_of_elements(app, element, part, good):
    for count, message in enumerate(messages(good)):
        if isinstance(message, dict) and "seq" in message and message["seq"] == good["seq"]:
            message["seq"] += count  # news each time
        app.session_state[element] = {part: message}
        sound(app.run())
        assert session_of(app).plan.rates.get("layer1.0.conv1", 0.0) <= 1
    for state in ([], "text", 7, {"tick": [1]}, {"tick": math.nan}, {part: {"rates": {"x": 1}} | dict.fromkeys("ab")}):
        app.session_state[element] = state
        sound(app.run())


def link_with(**changed):
    text = encode(resnet20_view())
    content = json.loads(zlib.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))
    for place, value in changed.items():
        inner, _, name = place.rpartition("__")
        (content["plan"] if inner else content)[name] = value
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(content).encode())).decode().rstrip("=")


LINKS = {
    "model": link_with(plan__model=LINK),
    "fingerprint": link_with(plan__fingerprint=LINK),
    "a path for a fingerprint": link_with(plan__fingerprint="../../etc/passwd"),
    "criterion": link_with(plan__criterion=LINK),
    "coupling": link_with(plan__coupling=LINK),
    "unit": link_with(plan__rates={LINK: 0.5}),
    "many units": link_with(plan__rates={f"u{index}": 0.5 for index in range(5000)}),
    "rate": link_with(plan__rates={"conv1": 1e308}),
    "locks": link_with(plan__locked_in={"layer1.0.conv1": [10**30]}),
    "layer": link_with(layer=LINK),
    "filter": link_with(chosen=10**9),
    "view": link_with(view=LINK),
    "rung": link_with(rung=LINK),
    "rung that is a list": link_with(rung=[LINK]),
    "data": link_with(data=LINK),
    "data of another": link_with(data="own-0000000000000000"),
    "a path for data": link_with(data="/etc"),
    "half a character for a model": link_with(plan__model="a\ud800"),
    "half a character for a unit": link_with(plan__rates={"\ud800": 0.5}),
    "nothing": "", "rubbish": "%F0%9F", "half": link_with()[:40], "long": "A" * 300_000,
}  # fmt: skip


@pytest.mark.parametrize("name", LINKS)
def test_links(name):
    app = opened(s=LINKS[name])
    assert until(app, lambda: not session_of(app).is_arriving)
    for error in app.error:
        assert "](" not in error.value.replace("\\]\\(", "")
        assert "<b>" not in error.value.replace("\\<b\\>", "")
        assert "/etc/" not in shown(error.value)
    if name != "nothing":
        assert app.error
    session_of(app).jobs.close()


@pytest.mark.parametrize(
    "query",
    [
        {"step": LINK}, {"step": "plane", "c": "[" * 5000}, {"step": "plane", "c": LINK}, {"lang": LINK},
        {"step": "plane", "c": '{"points":[[1e400,0]]}'}, {"step": "median", "c": '{"taken":1e999}'},
        {"step": "median", "bare": LINK}, {"view": LINK}, {"s": link_with(), "lang": "../ko"},
    ],
    ids=range(9),
)  # fmt: skip
def test_settings_of_the_lessons_links(query):
    app = opened(**query)
    sound(app.switch_page("pages/4_Learn.py").run())
    for error in app.error:
        assert "](" not in error.value.replace("\\]\\(", "")
    session_of(app).jobs.close()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (f"{LINK}.json", b"{}"),
        ("plan.json", b"[" * 200_000),
        ("plan.json", Plan("resnet20", "0" * 64).to_json().encode()),
        ("plan.json", Plan(LINK, "0" * 64, rates={LINK: 0.5}).to_json().encode()),
        ("plan.json", b"\xff\xfe\x00"),
        ("../../etc/plan.json", b"null"),
    ],
    ids=range(6),
)
def test_plans_that_are_uploaded(name, content):
    app = opened()
    before = session_of(app).state
    sound(app.get("file_uploader")[0].upload(name, content, "application/json").run())
    assert app.error
    assert "](" not in app.error[0].value.replace("\\]\\(", "")
    assert session_of(app).state == before
    session_of(app).jobs.close()
