"""A link or a plan whose network is not open yet: opened in the background, within the room there is."""

import json
import threading
from dataclasses import replace

import pytest
from driving import opened as page_of
from driving import press, session_of, shown, sound, until
from view_states import resnet20_view

from fpgm_core import Network, Plan
from pages.ui.panels import frame
from pages.ui.panels.open_dialog import open_plan
from pages.ui.session import networks, opening
from pages.ui.session.opened import NETWORKS
from pages.ui.session.view_state import encode

MODEL = "squeezenet1_1"


APPS = []


def opened(**query):
    APPS.append(page_of(**query))
    return APPS[-1]


@pytest.fixture(autouse=True)
def nothing_is_open():
    NETWORKS.clear()
    yield
    while APPS:
        session_of(APPS.pop()).jobs.close()


def view(model=MODEL, layer="features.0", **plan):
    network = Network.load(MODEL)
    made = network.plan({layer: 0.25})
    return replace(resnet20_view(), plan=replace(made, model=model, **plan), layer=layer, method="as_is")


@pytest.fixture
def gate(monkeypatch):
    """Opening waits until this is set."""
    gate, load = threading.Event(), opening.load_network

    def wait(*arguments):
        assert gate.wait(60)
        return load(*arguments)

    monkeypatch.setattr(opening, "load_network", wait)
    check = opening.check_room
    monkeypatch.setattr(opening, "check_room", lambda model: gate.wait(60) and check(model))
    yield gate
    gate.set()


def is_drawn(app):
    return any(element.proto.component_name == "fpgm_equaliser" for element in app.get("bidi_component"))


def test_the_page_waits_for_the_network_of_its_link_and_then_shows_it_and_nothing_before(gate):
    link = encode(view())
    app = opened(s=link)
    assert session_of(app).is_arriving
    assert not is_drawn(app)
    assert link in (app.query_params["s"], *app.query_params["s"])
    assert until(app, lambda: [shown(line.proto.text) for line in app.get("progress")] == [f"Opening {MODEL}: 5%"])
    assert not is_drawn(app)
    gate.set()
    assert until(app, lambda: not session_of(app).is_arriving, 60)
    assert is_drawn(app)
    assert session_of(app).state == view()
    assert not session_of(app).history.can_undo


def test_a_tab_that_was_lost_meanwhile_arrives_all_the_same(gate):
    app = opened(s=encode(view()))
    session_of(app).pause()
    sound(app.run())
    assert session_of(app).is_arriving
    gate.set()
    assert until(app, lambda: not session_of(app).is_arriving, 60)
    assert session_of(app).state == view()


@pytest.mark.parametrize(
    "model", ["a\ud800", "[click](https://evil.example)", "x" * 5000], ids=["half a character", "a link", "long"]
)
def test_a_name_that_a_stranger_chose_is_shown_as_it_is_while_it_is_looked_for(model, gate):
    app = opened(s=encode(view(model)))
    assert session_of(app).is_arriving
    (line,) = (line.proto.text for line in app.get("progress"))
    assert "](" not in line
    assert len(line) < 2000
    line.encode()
    gate.set()
    assert until(app, lambda: not session_of(app).is_arriving, 60)
    assert "unknown model" in session_of(app).message


def test_who_stops_it_has_the_first_page(gate):
    app = opened(s=encode(view()))
    press(app, "stop:network")
    assert is_drawn(app)
    assert session_of(app).state.plan.model == networks.FIRST_MODEL


def test_a_network_of_more_weights_than_there_is_room_for_is_not_made(monkeypatch):
    monkeypatch.setattr(opening, "load_network", lambda *_: pytest.fail("it was made"))
    app = opened(s=encode(view("vit_h_14", fingerprint="0" * 16)))
    assert until(app, lambda: not session_of(app).is_arriving, 60)
    assert session_of(app).message.startswith("vit_h_14 has 2.4 GiB of weights and there is room for 2.0")
    assert session_of(app).state.plan.model == networks.FIRST_MODEL
    assert is_drawn(app)


def test_what_is_refused_while_the_page_is_drawn_is_said_at_once(gate, monkeypatch):
    """Nothing is under way by then that the page would look after."""
    draw = frame.under_way

    def drawn_late(session, place):
        gate.set()
        while session.is_arriving and not session.pending.job.done:
            session.pending.job.wait(1)
        draw(session, place)

    monkeypatch.setattr(frame, "under_way", drawn_late)
    app = opened(s=encode(view("nosuchnet")))
    assert not session_of(app).is_arriving
    assert "unknown model 'nosuchnet'" in session_of(app).message
    assert is_drawn(app)


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (lambda: view("nosuchnet"), "unknown model 'nosuchnet'"),
        (lambda: replace(view(), layer="features.99"), "has no layer 'features.99'"),
        (lambda: view(fingerprint="0" * 16), "other weights"),
    ],
)
def test_what_cannot_be_shown_is_refused_once_that_is_known(state, problem):
    app = opened(s=encode(state()))
    assert until(app, lambda: not session_of(app).is_arriving, 60)
    assert problem in session_of(app).message
    assert session_of(app).state.plan.model == networks.FIRST_MODEL


def test_a_plan_of_another_network_opens_it_and_undo_goes_back(gate):
    app = opened()
    session, plan = session_of(app), view().plan
    open_plan(session, Plan.from_json(json.dumps(plan.to_dict()).encode()))
    sound(app.run())
    assert is_drawn(app), "what was there stays until then"
    assert session.state == resnet20_view()
    gate.set()
    assert until(app, lambda: session.state.plan == plan, 60)
    press(app, "undo")
    assert session.state == resnet20_view()


def test_undo_to_a_network_that_had_to_go_opens_it_again_in_the_background(gate):
    gate.set()
    first = view()
    app = opened(s=encode(first))
    session = session_of(app)
    assert until(app, lambda: session.state.plan.model == MODEL, 60)
    open_plan(session, resnet20_view().plan)
    sound(app.run())
    assert until(app, lambda: session.state.plan.model == "resnet20", 60)
    NETWORKS.clear()
    gate.clear()
    press(app, "undo")
    assert session.state.plan.model == "resnet20", "what was there stays until then"
    assert is_drawn(app)
    gate.set()
    assert until(app, lambda: session.state == first, 60)
    press(app, "redo")
    assert session.state.plan.model == "resnet20"
