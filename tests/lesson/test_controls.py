"""Controls: what fits is kept through a link, and everything else is refused with a FpgmError."""

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpgm_core import FpgmError
from fpgm_core.lesson import PLANES, STEPS, FilterControls, PlaneControls, pack, unpack
from fpgm_core.lesson.controls import EXTENT, MAX_FILTERS, MAX_MARKED, MIN_FILTERS, CostControls

KINDS = sorted({step.controls for step in STEPS.values()}, key=lambda kind: kind.__name__)
RANGED = [(kind, control) for kind in KINDS for control in fields(kind) if "range" in control.metadata]
CHOSEN = [(kind, control) for kind in KINDS for control in fields(kind) if "options" in control.metadata]


def named(case):
    return case.__name__ if isinstance(case, type) else getattr(case, "name", None)


def fitting(control):
    """Values that a field takes."""
    if "options" in control.metadata:
        return st.sampled_from(control.metadata["options"])
    low, high, step = control.metadata["range"]
    return st.integers(low, high) if isinstance(step, int) else st.floats(low, high)


places = st.floats(-EXTENT, EXTENT)
OWN = {
    PlaneControls: st.lists(st.tuples(places, places), min_size=MIN_FILTERS, max_size=MAX_FILTERS).flatmap(
        lambda points: st.builds(
            PlaneControls,
            st.just(tuple(points)),
            st.lists(st.integers(0, len(points) - 1), max_size=MAX_MARKED, unique=True).map(tuple),
        )
    ),
    FilterControls: st.builds(FilterControls, st.text(), st.integers(-1, 10**6)),
}
controls = st.one_of(
    [
        OWN[kind] if kind in OWN else st.builds(kind, **{control.name: fitting(control) for control in fields(kind)})
        for kind in KINDS
    ]
)
leaves = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=4)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


@given(controls)
def test_a_link_brings_back_what_was_set(chosen):
    text = pack(chosen)
    again = unpack(type(chosen), text)
    assert again == chosen
    assert all(type(getattr(again, control.name)) is type(getattr(chosen, control.name)) for control in fields(chosen))
    assert pack(again) == text


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_what_is_as_it_comes_needs_no_text(kind):
    assert pack(kind()) == ""
    assert unpack(kind, "") == unpack(kind, "{}") == kind()


def test_only_what_was_changed_is_written():
    kind = STEPS["norms"].controls
    assert json.loads(pack(kind(rate=0.5))) == {"rate": 0.5}
    assert json.loads(pack(PlaneControls(marked=(4, 2)))) == {"marked": [4, 2]}


@pytest.mark.parametrize(("kind", "control"), RANGED, ids=named)
def test_a_range_is_held_to(kind, control):
    low, high, step = control.metadata["range"]
    whole = isinstance(step, int)
    for value in (low, high):
        assert getattr(kind(**{control.name: value}), control.name) == value
    beside = [low - 1, high + 1] if whole else [low - 1e-9, high + 1e-9]
    wrong = [*beside, float("nan"), float("inf"), float("-inf"), -(10**400), 10**400, True, str(low), None, [low], 1j]
    for value in [*wrong, float(low) + 0.5, float(low)] if whole else wrong:
        with pytest.raises(FpgmError, match=f"^{control.name} is "):
            kind(**{control.name: value})


@pytest.mark.parametrize(("kind", "control"), CHOSEN, ids=named)
def test_only_the_options_can_be_chosen(kind, control):
    for value in control.metadata["options"]:
        assert getattr(kind(**{control.name: value}), control.name) == value
    wrong = [None, "", "nobody", [control.default], 3, {}, float("nan"), True]
    wrong += [float(value) for value in control.metadata["options"] if isinstance(value, int)]  # no length of an array
    for value in wrong:
        with pytest.raises(FpgmError, match=f"^{control.name} is .* not one of "):
            kind(**{control.name: value})


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"points": PLANES["apart"][:3]}, "holds 4 to 24 filters"),
        ({"points": PLANES["apart"] * 3}, "holds 4 to 24 filters"),
        ({"points": (*PLANES["apart"], (4.01, 0))}, "within 4"),
        ({"points": (*PLANES["apart"], (0, float("nan")))}, "within 4"),
        ({"points": (*PLANES["apart"], (float("-inf"), 0))}, "within 4"),
        ({"points": (*PLANES["apart"], (10**400, 0))}, "pairs of numbers"),
        ({"points": (*PLANES["apart"], (1, 2, 3))}, "pairs of numbers"),
        ({"points": (*PLANES["apart"], 1)}, "pairs of numbers"),
        ({"points": None}, "pairs of numbers"),
        ({"marked": (9,)}, "at most 3 different"),
        ({"marked": (-1,)}, "at most 3 different"),
        ({"marked": (1, 1)}, "at most 3 different"),
        ({"marked": (0, 1, 2, 3)}, "at most 3 different"),
        ({"marked": "x"}, "their indices"),
        ({"marked": (float("inf"),)}, "their indices"),
        ({"marked": 1}, "their indices"),
    ],
)
def test_a_plane_that_cannot_be_is_refused(changed, reason):
    with pytest.raises(FpgmError, match=reason):
        PlaneControls(**changed)


def test_a_plane_as_json_brings_it_becomes_tuples_of_two_decimals():
    chosen = PlaneControls([[0.004, 1.006], [1, 2], [3, -4], [0, 0]], [3, 0])
    assert chosen.points == ((0.0, 1.01), (1.0, 2.0), (3.0, -4.0), (0.0, 0.0))
    assert chosen.marked == (3, 0)
    assert hash(chosen) == hash(PlaneControls(chosen.points, chosen.marked))


@pytest.mark.parametrize("wrong", [{"layer": 3}, {"layer": None}, {"filter": "1"}, {"filter": 1.0}, {"filter": True}])
def test_a_filter_is_a_name_and_a_number(wrong):
    with pytest.raises(FpgmError, match="by its name, a filter by its number"):
        FilterControls(**wrong)


def test_settings_of_another_step_are_refused():
    for kind in KINDS:
        for other in KINDS:
            strange = [
                control.name for control in fields(other) if control.name not in {own.name for own in fields(kind)}
            ]
            for name in set(strange) - kind.retired:
                with pytest.raises(FpgmError, match="of another step"):
                    unpack(kind, json.dumps({name: getattr(other(), name)}))


def test_a_field_that_went_to_another_step_is_passed_over():
    """Links of 0.1.0 set the rate of the FLOPs on the step `cost`."""
    assert unpack(CostControls, '{"rung":"repaired","rate":0.5}') == CostControls("repaired")
    assert not {name for kind in KINDS for name in kind.retired & {control.name for control in fields(kind)}}


@pytest.mark.parametrize("text", ["{", "nobody", "{'rate': 1}", "\x00", "[" * 100_000, '{"rate": ' + "9" * 5000 + "}"])
def test_a_damaged_text_is_refused(text):
    for kind in KINDS:
        with pytest.raises(FpgmError, match="damaged"):
            unpack(kind, text)


@pytest.mark.parametrize("text", ["[]", "null", "1", '"rate"', "NaN", '["rate"]'])
def test_a_text_that_is_no_settings_is_refused(text):
    for kind in KINDS:
        with pytest.raises(FpgmError, match="of another step"):
            unpack(kind, text)


def taken_or_refused(kind, text):
    """What is taken is whole, and goes on through links as it is; all else is a FpgmError."""
    try:
        chosen = unpack(kind, text)
    except FpgmError:
        return
    assert unpack(kind, pack(chosen)) == chosen
    assert hash(chosen) == hash(unpack(kind, pack(chosen)))
    for control in fields(kind):
        value = getattr(chosen, control.name)
        if "range" in control.metadata:
            assert control.metadata["range"][0] <= value <= control.metadata["range"][1]
        if "options" in control.metadata:
            assert value in control.metadata["options"]


@given(st.sampled_from(KINDS), st.text())
def test_any_text_is_taken_or_refused(kind, text):
    taken_or_refused(kind, text)


@given(st.data(), st.sampled_from([kind for kind in KINDS if fields(kind)]))
def test_any_settings_are_taken_or_refused(data, kind):
    names = st.sampled_from([control.name for control in fields(kind)])
    taken_or_refused(kind, json.dumps(data.draw(st.dictionaries(names, anything, max_size=2))))
