"""The plan: immutable, equal to its JSON, strict on reading."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpgm_core import COUPLINGS, CRITERIA, FpgmError, Plan, SelectionOptions

PRINT = "3f" * 32
names = st.text(min_size=1, max_size=12)
rates = st.dictionaries(names, st.floats(0, 1), max_size=5)
locks = st.dictionaries(names, st.lists(st.integers(0, 500), max_size=5).map(tuple), max_size=4)
plans = st.builds(
    Plan,
    model=names,
    fingerprint=names,
    criterion=st.sampled_from(list(CRITERIA)),
    coupling=st.sampled_from(list(COUPLINGS)),
    options=st.builds(
        SelectionOptions, seed=st.integers(0, 2**32 - 1), mix_share=st.floats(0, 1), round_to=st.integers(1, 1024)
    ),
    rates=rates,
    locked_in=locks,
    locked_out=locks,
)


@pytest.fixture(scope="module")
def net(resnet20):
    return resnet20


@pytest.fixture
def plan():
    return Plan("resnet20", PRINT, rates={"b": 0.5, "a": 0.25}, locked_in={"a": (3, 1)}, locked_out={"b": (2,)})


@given(plans)
def test_json_round_trip(plan):
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert hash(again) == hash(plan)
    assert again.key == plan.key
    assert Plan.from_dict(json.loads(plan.to_json(indent=2).encode())) == plan


def test_an_indented_form_has_a_line_for_each_part(plan):
    assert plan.to_json().count("\n") == 0
    assert '\n  "rates": {\n    "a": 0.25,' in plan.to_json(indent=2)


@given(plans, plans)
def test_keys_tell_plans_apart(first, second):
    assert (first.key == second.key) == (first == second)


@given(plans, names, st.floats(0.01, 1))
def test_with_rates_makes_a_new_plan(plan, unit, rate):
    before = plan.to_json()
    changed = plan.with_rates({unit: rate})
    assert changed.rate(unit) == rate
    assert plan.to_json() == before
    assert changed.with_rates({unit: plan.rate(unit)}) == plan


@given(plans, names, st.integers(0, 500))
def test_with_lock_makes_a_new_plan(plan, unit, index):
    before = plan.to_json()
    locked_in = plan.with_lock(unit, index, "in")
    assert index in locked_in.locked_in[unit]
    assert index not in locked_in.locked_out.get(unit, ())
    locked_out = locked_in.with_lock(unit, index, "out")
    assert index in locked_out.locked_out[unit]
    assert index not in locked_out.locked_in.get(unit, ())
    free = locked_out.with_lock(unit, index, None)
    assert index not in (*free.locked_in.get(unit, ()), *free.locked_out.get(unit, ()))
    assert plan.to_json() == before


def test_plans_are_frozen(plan):
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.criterion = "l1_norm"


def test_a_plan_keeps_its_own_rates():
    mine = {"a": 0.5}
    plan = Plan("resnet20", PRINT, rates=mine)
    mine["a"] = 0.1
    assert plan.rate("a") == 0.5


def test_what_says_nothing_is_left_out():
    silent = Plan("m", PRINT, rates={"a": 0, "b": -0.0}, locked_in={"a": ()}, locked_out={"b": ()})
    assert silent == Plan("m", PRINT)
    assert silent.key == Plan("m", PRINT).key


def test_order_and_repetition_do_not_count(plan):
    other = dataclasses.replace(plan, rates={"a": 0.25, "b": 0.5}, locked_in={"a": (1, 3, 3)})
    assert other == plan
    assert other.to_json() == plan.to_json()
    for name in ("locked_in", "locked_out"):
        one, same = (Plan("m", PRINT, **{name: {"a": indices}}) for indices in ((5, 2, 2), (2, 5)))
        assert one == same
        assert one.key == same.key
        assert getattr(one, name) == {"a": (2, 5)}


def test_plans_serve_as_keys(plan):
    assert {plan: 1}[plan.with_rates({})] == 1
    assert plan.with_rates({"a": 0.3}) not in {plan}


def test_the_format_is_what_it_was(plan):
    assert plan.to_dict() == {
        "format_version": 1,
        "model": "resnet20",
        "fingerprint": PRINT,
        "criterion": "fpgm",
        "options": {"seed": 0, "mix_share": 0.25, "round_to": 1},
        "coupling": "independent",
        "rates": {"a": 0.25, "b": 0.5},
        "locked_in": {"a": [1, 3]},
        "locked_out": {"b": [2]},
    }


NAN, INFINITE = float("nan"), float("inf")
BROKEN = [
    *(("format_version", value) for value in (0, 2, "1", None, True, [1])),
    *((name, value) for name in ("model", "fingerprint") for value in (1, None, "", ["resnet20"], {})),
    *((name, value) for name in ("criterion", "coupling") for value in ("best", "FPGM", "", 3, None, ["fpgm"])),
    *(("rates", {"a": value}) for value in (1.2, -0.1, NAN, INFINITE, True, False, "0.5", None, [0.5], {})),
    *(("rates", value) for value in (None, 0.5, [], [["a", 0.5]], "a")),
    *((name, {"a": value}) for name in ("locked_in", "locked_out") for value in (1, "1", [1.0], [True], ["1"], [[1]])),
    *((name, value) for name in ("locked_in", "locked_out") for value in (None, [], 3, "a")),
    *(("options", value) for value in (None, [], {"seed": -1}, {"seed": 2**32}, {"seed": 1.5}, {"seed": True})),
    *(("options", {"round_to": value}) for value in (0, -8, 1025, 8.0, True, "8", None)),
    *(("options", value) for value in ({"mix_share": 1.1}, {"mix_share": NAN}, {"mix_share": "1"}, {"sead": 1})),
]


@pytest.mark.parametrize(("name", "value"), BROKEN)
def test_malformed_fields_are_refused(plan, name, value):
    with pytest.raises(FpgmError) as caught:
        Plan.from_json(json.dumps(plan.to_dict() | {name: value}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Plan)])
def test_missing_keys_are_named(plan, name):
    data = plan.to_dict()
    del data[name]
    with pytest.raises(FpgmError, match=f"no '{name}'"):
        Plan.from_dict(data)


def test_unknown_keys_are_named(plan):
    with pytest.raises(FpgmError, match="'ratez'"):
        Plan.from_dict(plan.to_dict() | {"ratez": {}})


@pytest.mark.parametrize(
    "text", ["", "{", "plan", b"\xff\xfe\x00", "[]", "3", "null", '"plan"', "[" * 100_000, '{"rates": ' * 50_000]
)
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(FpgmError, match=r"not JSON|not a JSON object"):
        Plan.from_json(text)


@pytest.mark.parametrize(("criterion", "coupling"), [("norm", "inner"), ("fpgm", "outer")])
def test_unknown_names_list_the_known_ones(criterion, coupling):
    with pytest.raises(FpgmError, match=r"choose one of (l1_norm|independent)"):
        Plan("resnet20", PRINT, criterion, coupling)


@pytest.mark.parametrize("field", ["rates", "locked_in", "locked_out"])
def test_unknown_units_are_refused(net, field):
    value = {"layer9.conv1": 0.5} if field == "rates" else {"layer9.conv1": (1,)}
    plan = dataclasses.replace(net.plan(), **{field: value})
    for use in (net.check, net.keep_masks, net.cost, net.prune):
        with pytest.raises(FpgmError, match=r"no unit 'layer9\.conv1'.*conv1, layer1"):
            use(plan)


def test_a_unit_of_another_coupling_is_unknown(net):
    plan = dataclasses.replace(net.plan(0.4), coupling="inner")
    with pytest.raises(FpgmError, match=r"no unit 'conv1' under coupling 'inner'"):
        net.check(plan)


@pytest.mark.parametrize(("field", "message"), [("model", "open that model"), ("fingerprint", "other weights")])
def test_a_plan_for_something_else_is_refused(net, field, message):
    plan = dataclasses.replace(net.plan(0.4), **{field: "resnet56"})
    with pytest.raises(FpgmError, match=message):
        net.keep_masks(plan)


@pytest.mark.parametrize(
    ("known", "listed"),
    [(["b", "a"], "a, b"), (list("dcba"), "a, b, c, d"), (list("edcba"), "a, b, c, d, ...")],
)
def test_a_unit_that_is_not_there_is_told_with_the_first_that_are(known, listed):
    for plan in (Plan("net", "f", rates={"x": 0.5}), Plan("net", "f", locked_in={"x": (0,)})):
        with pytest.raises(FpgmError) as error:
            plan.check_units(known)
        assert str(error.value) == (f"net has no unit 'x' under coupling 'independent'; its units are {listed}")
    Plan("net", "f", rates={"a": 0.5}).check_units(known)
