"""The Recover page, driven headless: choices that reach the recipe, progress, stopping, before and after."""

import threading
from dataclasses import replace

import pytest
from driving import again, opened, press, session_of, shown, until
from view_states import resnet20_view

from fpgm_core import FpgmError, Measurement, Network
from fpgm_core.data import load_images
from fpgm_core.pruning import RecoveryStep
from fpgm_core.runtime.progress import Progress
from fpgm_core.training import Epoch, Recipe, Run
from pages.ui import export as export_page
from pages.ui import recover as recover_page
from pages.ui.session import recovered
from pages.ui.session import session as session_module
from pages.ui.session.recovered import recovered_networks
from pages.ui.session.view_state import encode

FEW = 600  # images
EPOCH = Epoch(1, 1.5, 0.6, 0.05, 700, 1000, 0.125, 2.0)


def measurement(correct):
    return Measurement(
        state="exact", num_correct=correct, num_dense_correct=4500, num_both_correct=min(correct, 4400),
        num_images=5000, num_total=5000, device="cpu", precision="float32", seconds=1.0, batch=100,
    )  # fmt: skip


@pytest.fixture
def app():
    app = opened("pages/2_Recover.py")
    yield app
    session_of(app).jobs.close()


class Calls(list):
    ends = staticmethod(lambda plan: plan)

    def __init__(self):
        self.measured_on = []


@pytest.fixture
def training(monkeypatch):
    """A training that waits for `gate` after its first epoch, then ends; what it is called with is kept.

    It ends with the plan it was given, or the one that `calls.ends` makes of it. Accuracies are made up.
    """
    calls, gate = Calls(), threading.Event()
    begun = calls.measured_on

    def fine_tune(pruned, images, training, *, watched):
        calls.append((training, images))
        calls.start = pruned
        run = Run(training.recipe)
        yield Progress(0.0, partial=run)
        run = Run(training.recipe, (EPOCH,), 0.5)
        yield Progress(run.done, partial=run)
        gate.wait(20)
        ended = pruned.network.prune(calls.ends(pruned.plan))
        return ended.with_tensors({}, RecoveryStep("fine_tuned"))

    def measure(pruned, images, **options):
        yield Progress(1.0)
        begun.append(images.name)
        right = 4300 if pruned.method == "fine_tuned" else 3000
        return replace(measurement(right), method=pruned.method)

    def measured_at_once(network, plan, method, split="choose"):
        yield Progress(1.0)
        return replace(measurement(3000), method=method)

    def few(name, split, copy=None):
        return load_images(name, split, copy).first(FEW)

    monkeypatch.setattr(session_module, "measurement_work", measured_at_once)
    monkeypatch.setattr(recover_page, "load_images", few)
    monkeypatch.setattr(recover_page, "fine_tune_work", fine_tune)
    monkeypatch.setattr(recover_page, "measure_work", measure)
    yield calls, gate
    gate.set()


def train(app):
    press(app, "train")


def bars(app):
    return " ".join(shown(bar.proto.text) for bar in app.get("progress"))


def table(app):
    return next((element.value for element in app.dataframe if "" in element.value), None)


def test_choices_reach_the_recipe(app, training):
    calls, gate = training
    gate.set()
    app.slider(key="epochs").set_value(7)
    app.number_input(key="peak").set_value(0.02)
    app.toggle(key="distil").set_value(False)
    app.selectbox(key="schedule").set_value("soft").run()
    train(app)
    assert until(app, lambda: calls)
    begun, images = calls[0]
    assert images.digest == load_images("cifar10", "train").first(FEW).digest
    assert calls.start.plan == begun.plan == session_of(app).state.plan
    assert begun.recipe == Recipe(epochs=7, learning_rate=0.02, distillation=0.0)
    assert begun.schedule == "soft"
    assert calls.start.method == "as_is"  # a schedule in dense shapes begins with the loaded weights


def test_progress_curves_and_the_result(app, training):
    calls, gate = training
    train(app)
    assert until(app, lambda: "(epoch 2 of 20): 8%, about 37 s left" in bars(app), 240), bars(app)
    assert app.get("plotly_chart")
    assert app.button(key="train").disabled
    gate.set()
    assert until(app, lambda: table(app) is not None)
    assert list(table(app)[""]) == ["recalibrated", "fine-tuned"]
    assert table(app)["choose"][0].startswith("60.00%")
    assert table(app)["choose"][1].startswith("86.00%")
    assert all("sealed" not in column for column in table(app))
    assert set(calls.measured_on) == {load_images("cifar10", "choose").name}
    (metric,) = app.metric
    assert metric.value == "87%"  # 60 to 86 of the 90 that the dense network has
    assert not app.button(key="train").disabled


def test_training_begins_with_the_repaired_network_where_that_is_wanted(app, training):
    calls, gate = training
    gate.set()
    app.selectbox(key="start_from").set_value("repaired").run()
    train(app)
    assert until(app, lambda: table(app) is not None, 90)
    assert calls.start.method == "repaired"
    assert list(table(app)[""]) == ["repaired", "fine-tuned"]


def test_stop_asks_the_training_to_end(app, training):
    calls, gate = training
    train(app)
    assert until(app, lambda: "epoch 2" in bars(app), 90)
    press(app, "stop:training")
    assert calls[0][0].stop.is_set()
    gate.set()
    assert until(app, lambda: table(app) is not None)


@pytest.fixture
def readable(monkeypatch, tmp_path):
    """A folder of this machine that visitors may read."""
    folder = tmp_path / "readable"
    folder.mkdir()
    monkeypatch.setenv("FPGM_DATA_ROOTS", str(folder))
    return folder


def test_the_persons_own_copy_is_trained_on(readable, app, training, monkeypatch):
    calls, gate = training
    copy = readable / "cifar10.npz"
    copy.write_bytes(b"")
    gate.set()
    asked = []
    monkeypatch.setattr(recover_page, "load_images", lambda *which: asked.append(which) or load_images(*which[:2]))
    app.text_input(key="own_copy").set_value(f" {copy} ").run()
    assert any("your copy" in caption.value for caption in app.caption)
    train(app)
    assert until(app, lambda: calls)
    assert ("cifar10", "train", copy) in asked


def test_a_copy_that_is_none_is_told_by_its_name_alone(readable, app):
    copy = readable / "cifar10.npz"
    copy.write_bytes(b"no archive")
    app.text_input(key="own_copy").set_value(str(copy)).run()
    train(app)
    assert until(app, lambda: app.error)
    said = shown(app.error[0].value)
    assert "cifar10.npz" in said
    assert str(readable) not in said
    assert "zip" not in said.replace(".npz", "")  # what the library said
    assert not app.button(key="train").disabled


def test_a_visitor_cannot_ask_what_lies_on_this_machine(readable, app):
    """Every path that may not be read gets one answer, whether there is something or not."""
    (readable / "out").symlink_to("/etc")
    said = set()
    for path in ("/etc/passwd", "/etc/no-such-file", "~", "~nobody-here", str(readable / "absent"), "/root/.ssh", "\0",
                 str(readable / "out" / "passwd"), f"{readable}/../..", "x" * 5000, "/dev/zero"):  # fmt: skip
        app.text_input(key="own_copy").set_value(path).run()
        assert not app.exception
        said.add(shown(app.error[0].value))
        assert "train" not in [button.key for button in app.button]
    assert len(said) == 1


def test_where_no_folder_is_readable_there_is_no_field(monkeypatch):
    monkeypatch.setenv("FPGM_DATA_ROOTS", "")
    app = opened("pages/2_Recover.py")
    assert "own_copy" not in [field.key for field in app.text_input]
    session_of(app).jobs.close()


def test_a_server_bounds_trainings(monkeypatch, app):
    monkeypatch.setenv("FPGM_EPOCHS", "5")
    monkeypatch.setenv("FPGM_TRAINING_MINUTES", "10")
    again(app)
    assert app.slider(key="epochs").max == 5
    assert any("10 minutes" in caption.value for caption in app.caption)


def test_a_training_ends_after_the_minutes_that_the_server_allows(monkeypatch, app, training):
    calls, gate = training
    monkeypatch.setattr(recover_page, "most_minutes", lambda: 1e-6)
    train(app)
    assert until(app, lambda: calls and calls[0][0].stop.is_set())
    gate.set()
    assert until(app, lambda: table(app) is not None), "it keeps what it has"


def test_an_error_is_told_in_words(app, monkeypatch):
    def failing(*given, **options):
        yield Progress(0.5)
        raise FpgmError("the loss is no longer a finite number; lower the learning rate")

    monkeypatch.setattr(recover_page, "fine_tune_work", failing)
    train(app)
    assert until(app, lambda: app.error)
    assert "lower the learning rate" in shown(app.error[0].value)
    assert not app.button(key="train").disabled


@pytest.fixture
def exports(monkeypatch):
    """What the export is called with, in place of exporting."""
    given = []

    def export_work(pruned, **options):
        yield Progress(0.5)
        given.append(pruned)
        raise FpgmError("nothing is written here")

    monkeypatch.setattr(export_page, "export_work", export_work)
    return given


def test_what_was_trained_is_a_rung_and_export_takes_the_rung_it_names(app, training, exports):
    _, gate = training
    gate.set()
    train(app)
    assert until(app, lambda: table(app) is not None)
    session = session_of(app)
    plan, result = session.state.plan, session.jobs.get("training").result
    again(app.switch_page("pages/1_Export.py"))
    press(app, "prepare")
    assert until(app, lambda: exports)
    assert (exports[0].plan, exports[0].method) == (plan, "recalibrated")
    again(app.switch_page("pages/2_Recover.py"))
    press(app, "stand")
    assert session.state.method == "fine_tuned"
    again(app.switch_page("app.py"))
    ladder = next(group for group in app.get("button_group") if group.label == "Ladder")
    assert ladder.value == "fine_tuned"
    assert any("86.00%" in str(option) for option in ladder.options)
    other = opened(s=encode(session.state))  # the link opens on it, on this server
    assert session_of(other).state == session.state
    again(app.switch_page("pages/1_Export.py"))
    assert any("**Fine-tuned**" in text.value for text in app.markdown)
    press(app, "prepare")
    assert until(app, lambda: len(exports) == 2)
    assert exports[1] is result.pruned
    session.go(replace(session.state, plan=session.network.plan(0.2)))
    assert session.state.method == "recalibrated", "another plan was not trained"


def test_a_link_to_what_was_not_trained_here_says_so():
    state = replace(resnet20_view(), method="fine_tuned")
    app = opened(s=encode(state))
    assert "has not been trained on this server" in shown(app.error[0].value)
    assert session_of(app).state == replace(state, method="recalibrated")


def test_a_measured_network_is_exported_as_it_is_and_not_recovered_anew(app, exports, monkeypatch):
    session = session_of(app)
    session.go(replace(session.state, plan=session.network.plan(0.37)))  # that no other test has measured
    assert until(app, lambda: session.measured("recalibrated"), 60)
    monkeypatch.setattr(recovered, "RecoveryContext", None)
    again(app.switch_page("pages/1_Export.py"))
    press(app, "prepare")
    assert until(app, lambda: exports)
    state = session_of(app).state
    assert exports[0] is recovered_networks().get(session.network, state.plan, state.method)


def test_a_schedule_that_chose_other_filters_is_told_and_exported_with_them(app, training, exports):
    calls, gate = training
    calls.ends = lambda plan: plan.with_rates({"conv1": 0.0})
    gate.set()
    train(app)
    assert until(app, lambda: table(app) is not None)
    first = session_of(app).state.plan
    network = session_of(app).network
    costs = [f"{network.cost(plan).macs:,}" for plan in (first, calls.ends(first))]
    assert list(table(app)["MACs"]) == costs
    assert costs[0] != costs[1]
    assert any("chose other filters" in caption.value for caption in app.caption)
    press(app, "stand")
    again(app.switch_page("pages/1_Export.py"))
    press(app, "prepare")
    assert until(app, lambda: exports)
    assert exports[0].plan == calls.ends(first)


def test_another_plan_is_not_given_this_ones_result(app, training):
    _, gate = training
    gate.set()
    train(app)
    assert until(app, lambda: table(app) is not None)
    session = session_of(app)
    session.go(replace(session.state, plan=Network.load("resnet20").plan(0.2)))
    app.run()
    assert table(app) is None


def test_a_network_without_weights_is_told(app):
    network = Network.load("resnet32")
    session = session_of(app)
    session.go(replace(session.state, plan=network.plan(0.2), layer="conv1", chosen=None))
    app.run()
    assert any("Training starts from trained weights" in element.value for element in app.warning)
    assert not [button for button in app.button if button.key == "train"]
