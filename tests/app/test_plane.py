"""The toy plane's messages: what the browser sends is taken only if it is whole and in range."""

import json
import math

import pytest

from pages.ui.components.plane import EXTENT, LEAST, MARKS, MOST, PlaneMove, read_plane

PLACES = [[0, 0], [1.5, -2], [-EXTENT, EXTENT], [0.1, 0.2], [3, 3]]
GOOD = {"seq": 7, "points": PLACES, "marked": [4, 0], "phase": "drag"}


def message(**changed):
    return GOOD | changed


def points(first):
    return message(points=[first, *PLACES[1:]])


def test_a_good_message_is_read_whole():
    places = ((0.0, 0.0), (1.5, -2.0), (-4.0, 4.0), (0.1, 0.2), (3.0, 3.0))
    assert read_plane(GOOD) == PlaneMove(seq=7, points=places, marked=(4, 0), rest=False)
    assert all(type(x) is float for place in read_plane(GOOD).points for x in place)


def test_it_is_read_as_json_brings_it():
    assert read_plane(json.loads(json.dumps(GOOD))) == read_plane(GOOD)


def test_only_a_resting_hand_rests():
    assert read_plane(message(phase="rest")).rest
    assert not read_plane(message(phase="drag")).rest


def test_coordinates_come_in_hundredths():
    assert read_plane(points([1.23456, -0.005001])).points[0] == (1.23, -0.01)


@pytest.mark.parametrize("count", [LEAST, MOST])
def test_as_few_and_as_many_points_as_may_be(count):
    assert len(read_plane(message(points=[[1, 1]] * count, marked=[count - 1])).points) == count


@pytest.mark.parametrize("marked", [[], [0], [2, 1, 0]])
def test_marks_keep_their_order(marked):
    assert read_plane(message(marked=marked)).marked == tuple(marked)


@pytest.mark.parametrize("bad", [None, 3, "move", [], {}, [GOOD]], ids=repr)
def test_what_is_no_message_is_refused(bad):
    assert read_plane(bad) is None


@pytest.mark.parametrize("name", GOOD)
def test_a_message_that_lacks_a_part_is_refused(name):
    assert read_plane({key: value for key, value in GOOD.items() if key != name}) is None


@pytest.mark.parametrize("seq", [True, "7", -1, math.nan, math.inf, 10**400, [7]], ids=str)
def test_a_bad_number_of_a_message_is_refused(seq):
    assert read_plane(message(seq=seq)) is None


@pytest.mark.parametrize("phase", ["", "DRAG", 1, True, ["drag"], {"drag": 1}], ids=repr)
def test_a_bad_phase_is_refused(phase):
    assert read_plane(message(phase=phase)) is None


@pytest.mark.parametrize(
    "place",
    [
        [EXTENT + 0.01, 0],
        [0, -EXTENT - 0.01],
        [math.nan, 0],
        [0, math.inf],
        [10**400, 0],
        [True, 0],
        ["1", 0],
        [None, 0],
        [[1], 0],
        [1],
        [1, 2, 3],
        [],
        1,
        "12",
        None,
        {"0": 1, "1": 2},
    ],
    ids=lambda place: str(place)[:20],
)
def test_a_bad_place_is_refused(place):
    assert read_plane(points(place)) is None


@pytest.mark.parametrize("bad", [None, 5, "0123", {"0": [1, 1]}], ids=repr)
def test_points_that_are_no_list_are_refused(bad):
    assert read_plane(message(points=bad)) is None


@pytest.mark.parametrize("count", [0, LEAST - 1, MOST + 1])
def test_too_few_or_too_many_points_are_refused(count):
    assert read_plane(message(points=[[1, 1]] * count, marked=[])) is None


@pytest.mark.parametrize(
    "marked",
    [[-1], [len(PLACES)], [1, 1], [True], [1.0], ["1"], [None], [[1]], [math.nan], [10**400], 1, "1", None, {"1": 1}],
    ids=lambda marked: str(marked)[:20],
)
def test_bad_marks_are_refused(marked):
    assert read_plane(message(marked=marked)) is None


def test_too_many_marks_are_refused():
    assert read_plane(message(marked=list(range(MARKS)))) is not None
    assert read_plane(message(marked=list(range(MARKS + 1)))) is None
