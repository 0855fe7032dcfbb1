"""What a stranger can send to a page: messages of elements, clicks, links and their settings. None is a traceback."""

import base64
import json
import math
import time
import zlib
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpgm_core import FpgmError, Plan
from fpgm_core.lesson import STEPS, unpack
from pages.ui.components.equaliser import Move, read_move, read_tick
from pages.ui.components.incoming import LARGEST, MOST_ENTRIES, read_point, read_rows, sent
from pages.ui.components.page_keys import read_turn
from pages.ui.components.picture import Look, read_look
from pages.ui.components.plane import EXTENT, PlaneMove, read_plane
from pages.ui.components.telling import told
from pages.ui.session.language import words_of
from pages.ui.session.view_state import ViewState, decode, encode

UNITS = frozenset({"conv1", "layer1.0.conv1"})
GOOD = {
    read_move: {"seq": 7, "rates": {"conv1": 0.5, "gone": 0.1}, "chosen": "conv1", "phase": "rest", "rev": "a.1"},
    read_look: {"seq": 9, "layer": "conv1", "chosen": 5, "view": "Map", "mapping": "PCA", "seed": 0,
                "locks": [[1, "in"]]},
    read_turn: {"seq": 3, "by": -1},
    read_plane: {"seq": 7, "points": [[0, 0], [1.5, -2], [-4, 4], [0.1, 0.2]], "marked": [2, 0], "phase": "drag"},
    read_point: [{"customdata": [3, 0.5]}],
    read_tick: 1_790_000_000_000,
}  # fmt: skip
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 10**18, 10**400, -(10**400), 2**53 + 2]),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(["x" * 100_000, "\0", "\ud800", "__proto__"]),
    st.binary(max_size=4),
)
JSON = st.recursive(
    ODD,
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=8) | st.just("0"), part, max_size=4),
    max_leaves=12,
)


def read(reader, message):
    return reader(message, UNITS) if reader is read_move else reader(message)


def is_sound(reader, found):
    """Whether what a reader made of a message is within its bounds."""
    if isinstance(found, Move):
        return set(found.rates) <= UNITS and all(0 <= rate <= 1 for rate in found.rates.values()) and found.seq >= 0
    if isinstance(found, Look):
        return 0 <= found.seq <= LARGEST and 0 <= found.seed <= LARGEST and len(found.locks) <= MOST_ENTRIES
    if isinstance(found, PlaneMove):
        places = [x for place in found.points for x in place]
        return all(abs(x) <= EXTENT for x in places) and set(found.marked) <= set(range(len(found.points)))
    if reader is read_turn:
        return found[1] in (1, -1)
    if reader is read_point:
        return all(map(math.isfinite, found))
    return isinstance(found, int)


@pytest.mark.parametrize("reader", GOOD, ids=lambda reader: reader.__name__)
def test_a_good_message_is_read(reader):
    found = read(reader, GOOD[reader])
    assert found is not None
    assert is_sound(reader, found)


@pytest.mark.parametrize(
    "number", [10**400, -(10**400), math.inf, -math.inf, math.nan], ids=["huge", "-huge", "inf", "-inf", "nan"]
)
def test_a_clicked_point_carries_numbers_that_a_float_can_hold(number):
    assert read_point([{"customdata": [1, 2.5]}]) == [1, 2.5]
    assert read_point([{"customdata": [1, number]}]) is None


@pytest.mark.parametrize("reader", GOOD, ids=lambda reader: reader.__name__)
@given(data=st.data())
def test_no_message_is_more_than_unread(reader, data):
    """Anything at all; and a good message with one of its parts, or a part of a part, replaced by anything."""
    message = data.draw(JSON)
    good = GOOD[reader]
    if isinstance(good, dict) and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(good)))
        inner = good[name]
        if isinstance(inner, list) and inner and data.draw(st.booleans()):
            message = good | {name: [message, *inner[1:]]}
        elif isinstance(inner, dict) and data.draw(st.booleans()):
            message = good | {name: inner | {"conv1": message}}
        else:
            message = good | {name: message}
    elif reader is read_point and data.draw(st.booleans()):
        message = [{"customdata": message}]
    found = read(reader, message)
    assert found is None or is_sound(reader, found)


@pytest.mark.parametrize("reader", [read_move, read_look, read_plane, read_point], ids=lambda reader: reader.__name__)
def test_a_million_entries_are_refused_at_once(reader):
    many, names = [[1, 1]] * 1_000_000, dict.fromkeys(map(str, range(1_000_000)), 0.5)
    good = GOOD[reader]
    for message in (
        many,
        names,
        *([good | {"rates": names}, good | {"locks": many}, good | {"points": many}] if isinstance(good, dict) else []),
        [{"customdata": many}],
        [{"customdata": names}],
    ):
        begun = time.perf_counter()
        read(reader, message)
        assert time.perf_counter() - begun < 0.2
    assert read(read_move, GOOD[read_move] | {"rates": names}) is None
    assert read(read_look, GOOD[read_look] | {"locks": many}) is None


def test_numbers_are_whole_up_to_what_a_browser_can_count():
    assert read_turn({"seq": LARGEST, "by": 1}) == (2**53, 1)
    assert read_turn({"seq": float(LARGEST), "by": 1}) == (2**53, 1)
    assert read_turn({"seq": LARGEST + 1, "by": 1}) is None
    assert (
        read_turn({"seq": -1, "by": 1}) is read_turn({"seq": 0.5, "by": 1}) is read_turn({"seq": 1, "by": True}) is None
    )


def test_rows_are_those_of_the_table():
    assert read_rows({"rows": [2, 0.0]}, 3) == [2, 0]
    assert read_rows({"rows": []}, 3) == []
    assert read_rows({"rows": [3]}, 3) is read_rows({"rows": [-1]}, 3) is read_rows({}, 3) is read_rows(None, 3) is None


def test_as_many_entries_as_are_allowed_are_read():
    most = dict.fromkeys(map(str, range(MOST_ENTRIES)), 0.5)
    assert read(read_move, GOOD[read_move] | {"rates": most}) is not None
    assert read(read_move, GOOD[read_move] | {"rates": most | {"one more": 0.5}}) is None


@pytest.mark.parametrize(
    ("carried", "found"),
    [
        ([3, 0.5], [3, 0.5]),
        (3, [3]),
        ({"0": 7}, [7]),
        ({"1": 0.5, "0": 3}, [3, 0.5]),  # a browser may send an array as an object, in any order
        ({str(i): i for i in range(9)}, None),
        ({"10": 2, "9": 1}, [1, 2]),
        (list(range(8)), list(range(8))),
        (list(range(9)), None),
        ([], None),
        ({}, None),
        ({"-1": 1}, None),
        ({"\u00b2": 1}, None),
        ([math.inf], None),
    ],
)
def test_the_numbers_of_a_clicked_point_are_read_in_their_order(carried, found):
    assert read_point([{"customdata": carried}]) == found


def test_a_state_that_is_no_mapping_has_no_parts(monkeypatch):
    import streamlit

    for state in ([], "move", 3, None, [["move", {}]]):
        monkeypatch.setattr(streamlit, "session_state", {"equaliser": state})
        assert sent("equaliser", "move") is None


def test_a_part_of_a_state_is_what_was_sent(monkeypatch):
    import streamlit

    monkeypatch.setattr(streamlit, "session_state", {"equaliser": {"move": 3}})
    assert (sent("equaliser", "move"), sent("equaliser", "rest"), sent("plane", "move")) == (3, None, None)


def state():
    return ViewState(Plan("resnet20", "0" * 64, rates={"conv1": 0.4}), "conv1")


def link_of(data):
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(data).encode())).decode().rstrip("=")


def content_of(link):
    return json.loads(zlib.decompress(base64.urlsafe_b64decode(link + "=" * (-len(link) % 4))))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("view", "map"), ("mapping", "Map"), ("mapping", None), ("chosen", -1), ("chosen", 2**31), ("chosen", True),
        ("seed", -1), ("seed", 2**31), ("seed", 1.0), ("layer", None), ("data", 3), ("method", "fixed"), ("damage", 1),
    ],
)  # fmt: skip
def test_a_view_that_cannot_be_is_refused(name, value):
    with pytest.raises(FpgmError):
        replace(state(), **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("view", "Norms"), ("mapping", "PCA"), ("chosen", 0), ("chosen", 2**31 - 1), ("seed", 2**31 - 1),
        ("data", "photos"), ("method", "repaired"), ("damage", True),
    ],
)  # fmt: skip
def test_a_link_opens_what_it_was_made_of(name, value):
    changed = replace(state(), **{name: value})
    assert decode(encode(changed)) == changed != decode(encode(state())) == state()
    assert ("data" in content_of(encode(changed))) == (name == "data")


@pytest.mark.parametrize("stray", ["%", " ", "\n", "!", "\u00e9"])
def test_a_link_with_a_stray_character_is_damaged(stray):
    link = encode(state())
    with pytest.raises(FpgmError, match="damaged"):
        decode(link[:8] + stray + link[8:])


@pytest.mark.parametrize("name", ["layer", "chosen", "view", "mapping", "seed", "rung", "heat", "more"])
def test_a_link_of_other_parts_was_made_by_another_version(name):
    content = content_of(encode(state()))
    changed = content | {"more": 1} if name == "more" else {key: content[key] for key in content if key != name}
    with pytest.raises(FpgmError, match="made by another version"):
        decode(link_of(changed))


@given(st.text(max_size=200))
def test_no_text_is_a_link_by_chance(text):
    with pytest.raises(FpgmError):
        decode(text)


@given(data=st.data())
def test_a_link_whose_parts_are_anything_is_refused_in_words_or_holds(data):
    content = content_of(encode(state()))
    place = content["plan"] if data.draw(st.booleans()) else content
    name = data.draw(st.sampled_from([*sorted(place), "more"]))
    value = data.draw(JSON.filter(lambda value: not _has_bytes(value)))
    place[name] = value
    with suppress(FpgmError):
        found = decode(link_of(content))
        assert decode(encode(found)) == found


def _has_bytes(value):
    try:
        json.dumps(value)
    except (TypeError, ValueError, UnicodeEncodeError):
        return True
    return False


@pytest.mark.parametrize(
    "text",
    [
        link_of([1, 2]), link_of("plan"), link_of({"plan": []}), link_of({}), link_of(None),
        link_of({**content_of(encode(state())), "chosen": 10**400}),
        base64.urlsafe_b64encode(zlib.compress(b"[" * 150_000)).decode(),
        base64.urlsafe_b64encode(zlib.compress(b" " * (1 << 28))).decode(),
        "A" * 10_000_000, "", "%00", "====", "eJw=",
    ],
    ids=range(13),
)  # fmt: skip
def test_a_crafted_link_is_refused_quickly(text):
    begun = time.perf_counter()
    with pytest.raises(FpgmError):
        decode(text)
    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize("step", list(STEPS))
@given(text=st.text(max_size=60) | JSON.filter(lambda value: not _has_bytes(value)).map(json.dumps))
def test_settings_of_a_link_are_refused_in_words_or_hold(step, text):
    kind = STEPS[step].controls
    with suppress(FpgmError):
        assert isinstance(unpack(kind, text), kind)


def test_long_settings_are_refused_at_once():
    for text in ("[" * 10_000_000, '{"layer":"' + "x" * 1_000_000 + '"}'):
        with pytest.raises(FpgmError, match="damaged"):
            unpack(STEPS["plane"].controls, text)


@pytest.mark.parametrize("language", ["en", "ko"])
@given(
    text=st.text(max_size=600) | st.sampled_from([" ", "; ", "', ", ": ", "a ", "x; y "]).map(lambda part: part * 300)
)
def test_a_message_made_of_anything_is_translated_at_once(language, text):
    """What a link says stands in messages, which are looked up by their English."""
    words = words_of(language)
    for message in (text, f"unknown criterion {text!r}; choose one of {text}", f"{text} has no unit {text!r}"):
        begun = time.perf_counter()
        assert isinstance(words.phrase(told(FpgmError(message))), str)
        assert time.perf_counter() - begun < 1
