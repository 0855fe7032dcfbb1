"""Milliseconds on Explore: predicted beside the MACs where a machine is chosen, bargains, another board's file."""

import json
from dataclasses import replace

import pytest
from driving import opened, session_of
from times import keep

from fpgm_core import Network
from fpgm_core.timing import Target
from fpgm_core.timing.board_probe import KIND, checksum
from fpgm_core.timing.layers import layer_shapes
from pages.ui.panels import live_bars, open_dialog, rate_controls, speed
from pages.ui.session import speed as machine


@pytest.fixture
def app():
    app = opened("app.py")
    session = session_of(app)
    plan = session.network.plan(0.5, coupling="coupled")
    session.go(replace(session.state, plan=plan))
    yield app
    session.jobs.close()


def html(app):
    return " ".join(element.proto.body for element in app.get("html"))


def test_without_a_machine_nothing_is_said_of_time(app):
    app.run()
    assert not app.exception
    assert " ms [" not in html(app)
    assert all(bar.speed == "" and bar.marks == () for bar in live_bars.bars(session_of(app)))


def test_a_machine_that_was_timed_predicts_beside_the_macs(app):
    session = session_of(app)
    keep(session.network, "coupled", Target("pytorch").identity)
    machine.choose_machine(session, "pytorch")
    app.run()
    assert not app.exception
    ms = machine.predictor(session).ms(session.network.prune(session.state.plan))
    assert f"{ms.value:.3g} ms [{ms.low:.3g}, {ms.high:.3g}], faster" in html(app)
    assert speed.speed_told(session, session.network.plan(coupling="coupled")).endswith("]")  # dense: no verdict


def test_bargains_are_marked_and_stepped_on(app):
    session = session_of(app)
    keep(session.network, "coupled", Target("pytorch").identity)
    machine.choose_machine(session, "pytorch")
    unit = session.network.units("coupled")[-1]
    session.go(replace(session.state, plan=session.state.plan.with_rates({unit.name: 33 / 64})))  # keeps 31
    app.run()
    (bar,) = [bar for bar in live_bars.bars(session) if bar.name == unit.name]
    assert bar.marks == tuple(count / 64 for count in range(0, 64, 4))
    assert bar.speed == "keeping 32 instead of 31 takes no longer here"
    machine.step_on_bargains(session)
    plan = session.state.plan
    assert session.network.count_pruned(plan, unit) == 32
    assert all(session.network.count_pruned(plan, one) % 4 == 0 for one in session.network.units("coupled"))
    (bar,) = [bar for bar in live_bars.bars(session) if bar.name == unit.name]
    assert bar.speed == "32 is a bargain here"


def test_presets_and_the_master_step_on_bargains_where_that_is_asked_for(app):
    session = session_of(app)
    keep(session.network, "inner", Target("pytorch").identity)
    machine.choose_machine(session, "pytorch")
    session.go(
        replace(session.state, plan=session.network.plan(0.5, coupling="inner"))
    )  # no unit's bargain moves another
    units = session.network.units("inner")

    def counts():
        return [session.network.count_pruned(session.state.plan, unit) for unit in units]

    rate_controls.set_preset(session, "uniform_30%")
    app.run()
    assert not all(count % 4 == 0 for count in counts())  # 4, 9 and 19 of 16, 32 and 64
    (toggle,) = [one for one in app.toggle if one.label == "Presets and the master step on bargains"]
    toggle.set_value(True).run()
    assert session.speed.steps
    assert all(count % 4 == 0 for count in counts())
    rate_controls.set_preset(session, "uniform_10%")
    assert all(count % 4 == 0 for count in counts())
    before = counts()
    app.run()
    (master,) = [one for one in app.slider if one.key.startswith("master")]
    master.set_value(45).run()
    assert not app.exception
    assert counts() != before
    assert session.speed.steps
    assert [count % 4 for count in counts()] == [0] * len(units)
    session.step(-1)
    assert counts() == before  # one step of undo
    session.speed.on = ""  # nowhere: nothing predicts, so rates are what presets say
    rate_controls.set_preset(session, "uniform_30%")
    assert not all(count % 4 == 0 for count in counts())


def test_a_machine_that_was_not_timed_offers_to(app):
    machine.choose_machine(session_of(app), "pytorch")
    app.run()
    assert not app.exception
    assert app.button(key="probe").label == "Time its layers"
    assert " ms [" not in html(app)


def test_a_file_that_is_no_boards_is_refused_by_name(app):
    session = session_of(app)
    assert not machine.take_board(session, b'{"format_version": 1}', "plan.json")
    assert "plan.json is no result of probe.py" in session.message
    assert session.speed.on == ""
    assert Network.load("resnet20").name == session.network.name


def test_a_boards_file_is_opened_like_a_plan(app):
    session, network = session_of(app), session_of(app).network
    shapes = list(dict.fromkeys(shape for shape in layer_shapes(network.flow) if shape is not None))
    times = {
        str(at): {"ms": [[1e-3 * (i + o)] * 3 for i, o in one.points], "busy": False} for at, one in enumerate(shapes)
    }
    times[str(len(shapes))] = {"ms": [[9.0 - at, 8.9 - at, 9.1 - at] for at in range(9)], "busy": False}
    machine_of = {"runtime": "onnxruntime", "version": "1.22", "processor": "a board", "device": "cpu", "threads": 4}
    body = {"kind": KIND, "format": 1, "model": "resnet20", "identity": {**machine_of, "batch": 1}, "times": times}
    content = json.dumps({**body, "sha256": checksum(body)}).encode()
    open_dialog.open_json(session, "board.json", content)
    assert session.message is None
    assert machine.machines(session)[session.speed.on] == "a board, 4 × onnxruntime"
    assert machine.predictor(session).dense.value == 9.0
    open_dialog.open_json(session, "board.json", content.replace(b"a board", b"my board"))
    assert session.message == "board.json is damaged: its checksum does not hold; copy it again from the board"
