"""The Export page, driven headless: what it is about, the work in the background, the result, what goes wrong."""

import threading
import time
from dataclasses import replace

import pytest
from driving import opened, press, session_of, shown, until
from view_states import resnet20_view

from fpgm_core import FpgmError, Network
from fpgm_core.data import load_images
from fpgm_core.export import ARTEFACTS, Bundle, export_work
from fpgm_core.pruning import Proof
from fpgm_core.runtime.progress import Progress
from fpgm_core.timing import TimingConfig
from pages.ui import export as export_page
from pages.ui.panels import quantised as quantised_panel
from pages.ui.panels.sealed import times_seen
from pages.ui.session.view_state import encode

LATENCY = {
    "batch": 1, "runs": 9, "device": "cpu", "threads": 2, "dense_ms": 8.125, "compact_ms": 4.0625,
    "dense_peak_bytes": 4 << 20, "compact_peak_bytes": 2 << 20, "speed_up": 2.0, "runtime": "pytorch",
    "dense_ms_low": 8.0, "dense_ms_high": 8.5, "compact_ms_low": 4.0, "compact_ms_high": 4.25, "dense_spread": 0.04,
    "compact_spread": 0.06, "ratio": 2.0, "ratio_low": 1.9, "ratio_high": 2.1, "verdict": "faster", "busy": False,
}  # fmt: skip
UNSURE = {
    **LATENCY, "ratio_low": 0.9, "speed_up": None, "verdict": "same", "runtime": "onnxruntime", "busy": True,
    "dense_peak_bytes": None, "compact_peak_bytes": None,
}  # fmt: skip
FILE = {"file": "compact.onnx", "bytes": 1234567, "sha256": "0" * 64}
MEASURED = {
    "max_abs_difference": 1e-6, "logit_scale": 20.0, "choose": {"accuracy": 0.8642, "images": 5000},
    "latency_ms": {"1": 3.25, "64": 99.5},
}  # fmt: skip


def finished(skipped=()):
    """A bundle as `export_work` returns."""
    manifest = {
        "artefacts": [
            {"name": "plan", "title": "The plan", "files": [{**FILE, "file": "plan.json", "bytes": 2}]},
            {"name": "onnx", "title": "ONNX", "files": [FILE], "measured": MEASURED},
        ],
        "skipped": [{"name": name, "reason": reason} for name, reason in skipped],
        "measured": {"latency": [LATENCY, UNSURE], "untimed": [{"runtime": "openvino", "reason": "because"}]},
    }
    proof = Proof(2.5e-6, 17.25, 5.5, True, 72, 8, 11_465_204, 11_465_204, 82_054, 82_054)
    return Bundle({"plan.json": b"{}", "compact.onnx": b"onnx", "manifest.json": b"{}"}, manifest, proof)


@pytest.fixture
def app():
    app = opened("pages/1_Export.py")
    yield app
    session_of(app).jobs.close()


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    """Recovering before the export reads few images."""
    monkeypatch.setattr(export_page, "load_images", lambda name, split: load_images(name, split).first(300))


@pytest.fixture
def steps(monkeypatch):
    """Put steps in place of the real export's, the last one its result; what it is called with is kept."""
    calls = []

    def stand_in(*steps):
        def export_work(pruned, **options):
            calls.append(pruned)
            for step in steps:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, threading.Event):
                    step.wait(20)
                elif isinstance(step, Progress):
                    yield step
            return step

        monkeypatch.setattr(export_page, "export_work", export_work)
        return calls

    return stand_in


def prepare(app):
    press(app, "prepare")


def told(app):
    return " ".join(
        shown(str(element.value)) for kind in (app.success, app.info, app.error, app.caption) for element in kind
    )


def html(app):
    return " ".join(element.proto.body for element in app.get("html"))


def downloads(app):
    """The files that are offered, beside the plan, which every page's bar offers."""
    labels = [element.proto.label for element in app.get("download_button")]
    return [label for label in labels if label != "Save the plan (JSON)"]


def test_it_shows_the_plan_of_explore_what_it_costs_and_what_will_be_in_it(app):
    assert any("Takes **ResNet-20**" in shown(text.value) and "**Recalibrated**" in text.value for text in app.markdown)
    assert "19,126,720 of 40,551,040" in html(app)
    assert app.button(key="prepare").label == "Prepare the export"
    (table,) = app.dataframe
    assert list(table.value.iloc[:, 0]) == [artefact.title for artefact in ARTEFACTS.values()]
    assert downloads(app) == []
    assert "prunes nothing" not in told(app)


def test_a_plan_that_prunes_nothing_is_told(app):
    session = session_of(app)
    session.go(replace(session.state, plan=Network.load("resnet20").plan()))
    app.run()
    assert "This plan prunes nothing" in told(app)
    assert "40,551,040 of 40,551,040" in html(app)


def test_preparing_shows_progress_and_then_the_result(app, steps):
    gate = threading.Event()
    calls = steps(Progress(0.25, what="doing something slow"), gate, finished())
    prepare(app)
    assert until(app, lambda: [bar for bar in app.get("progress") if "doing something slow" in shown(bar.proto.text)])
    assert 25 <= app.get("progress")[0].proto.value <= 35  # recovering came first
    assert app.button(key="prepare").disabled
    assert downloads(app) == []
    gate.set()
    assert until(app, lambda: app.success)
    state = session_of(app).state
    assert [(pruned.plan, pruned.method) for pruned in calls] == [(state.plan, state.method)]
    assert calls[0].network is session_of(app).network
    for words in ("differ by at most 2.5e-06", "17.2", "72 images", "11,465,204 MACs", "82,054 parameters"):
        assert words in app.success[0].value
    assert downloads(app)[0] == "Download everything (zip)"
    assert "compact.onnx (4 bytes)" in downloads(app)
    assert not app.get("progress")


def test_work_that_is_done_before_its_job_has_ended_is_no_error(app, steps):
    gate = threading.Event()
    steps(Progress(1.0, what="working"), gate, finished())
    prepare(app)
    try:
        assert until(app, lambda: session_of(app).jobs.get("export").share == 1)
        app.run()
        assert not app.exception, app.exception
    finally:
        gate.set()
    assert until(app, lambda: app.success)


def test_the_tables_hold_the_manifests_numbers(app, steps):
    steps(finished())
    prepare(app)
    assert until(app, lambda: app.success)
    speed, files = (table.value for table in app.dataframe)
    row = speed.iloc[0]
    assert (row["runtime"], row["images at once"], row["where"]) == ("PyTorch, eager", 1, "cpu, 2 threads")
    assert (row["dense, ms"], row["compact, ms"]) == ("8.12 [8, 8.5]", "4.06 [4, 4.25]")
    assert row["times as fast"] == "2.00 times as fast [1.90, 2.10]"
    assert (row["dense, MiB"], row["compact, MiB"], row["spread"], row["machine"]) == (4.0, 2.0, "4%, 6%", "quiet")
    unsure = speed.iloc[1]
    assert unsure["times as fast"] == "no difference found [0.90, 2.10]"
    assert (unsure["dense, MiB"] != unsure["dense, MiB"], unsure["machine"]) == (True, "busy")
    assert "OpenVINO: not timed here, because." in told(app)
    onnx = files.set_index("file").loc["compact.onnx"]
    assert (onnx["bytes"], onnx["choose"]) == (1234567, 0.8642)
    assert "sealed" not in onnx, "sealed is measured where a report is asked for, never in passing"
    assert (onnx["ms, 1 image"], onnx["ms, 64 images"], onnx["differs by"]) == (3.25, 99.5, 1e-6)


def test_what_was_left_out_is_told_with_the_reason(app, steps):
    steps(finished([("torch_pruning", "It cannot follow.")]))
    prepare(app)
    assert until(app, lambda: app.success)
    assert f"Left out: {ARTEFACTS['torch_pruning'].title}. It cannot follow." in told(app)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FpgmError("the network differs, so nothing is exported"), "the network differs, so nothing is exported"),
        (RuntimeError("out of memory"), "The work failed on the server. Whoever runs it finds the reason in its log"),
    ],
)
def test_an_error_is_told_and_can_be_tried_again(app, steps, error, words):
    steps(Progress(0.5, what="working"), error)
    prepare(app)
    assert until(app, lambda: app.error)
    assert shown(app.error[0].value).startswith(words)
    assert not downloads(app)
    steps(finished())
    assert not app.button(key="prepare").disabled
    prepare(app)
    assert until(app, lambda: app.success)
    assert not app.error


def test_an_export_can_be_cancelled_and_begun_again(app, steps):
    gate = threading.Event()
    steps(Progress(0.1, what="working"), gate, finished())
    prepare(app)
    assert until(app, lambda: app.get("progress"))
    press(app, "stop:export")
    gate.set()
    assert not app.exception
    assert not app.get("progress")
    assert app.button(key="prepare").label == "Prepare the export"
    assert not app.button(key="prepare").disabled
    time.sleep(0.2)
    app.run()
    assert not app.success
    steps(finished())
    prepare(app)
    assert until(app, lambda: app.success)


def test_prepare_again_prepares_again(app, steps):
    calls = steps(finished())
    prepare(app)
    assert until(app, lambda: app.success)
    assert app.button(key="prepare").label == "Prepare again"
    prepare(app)
    assert until(app, lambda: app.success and len(calls) == 2, 3)


def test_another_plan_needs_its_own_export(app, steps):
    steps(finished())
    prepare(app)
    assert until(app, lambda: app.success)
    session = session_of(app)
    session.go(replace(session.state, plan=session.state.plan.with_rates({"conv1": 0.1})))
    app.run()
    assert not app.success
    assert app.button(key="prepare").label == "Prepare the export"
    session.step(-1)
    app.run()
    assert app.success


def test_the_real_export_of_a_small_plan_is_prepared_to_the_end(app, monkeypatch):
    few = [ARTEFACTS[name] for name in ("plan", "torch_pruning", "python")]

    def small(pruned, images, config):
        return export_work(pruned, images=images, measured=False, config=replace(config, artefacts=few))

    monkeypatch.setattr(export_page, "export_work", small)
    prepare(app)
    assert until(app, lambda: app.success or app.error, 120)
    assert not app.error
    assert "19,126,720 MACs" in app.success[0].value
    files = app.dataframe[1].value.set_index("file")
    assert set(files.index) == {"plan.json", "compact.safetensors", "compact.py"}
    assert (files["bytes"] > 0).all()
    assert "Left out: Torch-Pruning" in told(app)  # the first plan is independent
    assert downloads(app)[0] == "Download everything (zip)"


def test_what_is_aligned_is_exported_so_and_both_costs_are_told(app, monkeypatch):
    asked = []

    def small(pruned, images, config):
        asked.append(config.aligned)
        few = replace(config, artefacts=[ARTEFACTS["python"]])
        return export_work(pruned, images=images, measured=False, config=few)

    monkeypatch.setattr(export_page, "export_work", small)
    assert app.checkbox(key="aligned").value is False
    assert "Aligned it has 25,307,776 MACs (37.6% cut)" in told(app)
    assert "the plan has 19,126,720 and 129,163" in told(app)
    app.checkbox(key="aligned").check().run()
    prepare(app)
    assert until(app, lambda: app.success or app.error, 120)
    assert not app.error
    assert "25,307,776 MACs and 166,072 parameters" in app.success[0].value
    assert "those of the aligned network" in told(app)
    assert asked == [True]
    app.checkbox(key="aligned").uncheck().run()  # another export, which is not there yet
    assert not app.success
    assert not app.button(key="prepare").disabled


@pytest.mark.parametrize("coupling", ["inner", "coupled"])
def test_nobody_is_asked_to_align_where_that_changes_nothing(coupling):
    network = Network.load("mobilenetv2_cifar")
    look = replace(resnet20_view(), plan=network.plan(0.4, coupling=coupling), layer="conv1", chosen=None)
    app = opened("pages/1_Export.py", s=encode(look))
    assert until(app, lambda: "MobileNetV2" in " ".join(text.value for text in app.markdown))
    assert app.button(key="prepare").label == "Prepare the export"
    assert not [box for box in app.checkbox if box.key == "aligned"]
    assert "Aligned" not in told(app)


@pytest.fixture
def four(monkeypatch):
    """The comparison with quantising reads few images, and times shortly."""

    def few(name, split):
        return load_images(name, split).first(100)

    monkeypatch.setattr(quantised_panel, "load_images", few)
    monkeypatch.setattr(quantised_panel, "TIMING", TimingConfig(runs=6, seconds=0.01))


def test_pruning_and_quantising_stand_beside_each_other_and_sealed_is_a_counted_look(app, four):
    press(app, "quantise")
    assert until(app, lambda: len(app.dataframe) == 3, 120), told(app)
    _, forms, pairs = (table.value for table in app.dataframe)
    assert list(forms["network"]) == ["dense, float32", "dense, eight bits", "pruned, float32", "pruned, eight bits"]
    assert list(forms["KiB"]) == sorted(forms["KiB"], reverse=True) or forms["KiB"][1] < forms["KiB"][0]
    assert not [name for name in (*forms, *pairs) if "sealed" in name]
    assert list(pairs["what is compared"])[-1] == "pruned, float32, against dense, eight bits"
    assert all("[" in cell for cell in pairs["choose, points"])
    assert session_of(app).jobs.get("quantising_sealed") is None
    assert times_seen(asked_on(app)) == 0
    press(app, "report_quantised")
    assert times_seen(asked_on(app)) == 1
    assert until(app, lambda: "sealed, points" in app.dataframe[2].value, 60)
    assert "accuracy on sealed" in app.dataframe[1].value
    assert "report_quantised" not in [button.key for button in app.button]
    assert times_seen(asked_on(app)) == 1


def asked_on(app):
    """What a look at the sealed half is counted under."""
    state = session_of(app).state
    return f"{state.plan.key} {state.method}"


def test_a_network_without_weights_says_so(steps):
    network = Network.load("resnet110")
    look = replace(resnet20_view(), plan=network.plan(0.5, coupling="inner"), layer="conv1", chosen=None)
    app = opened("pages/1_Export.py", s=encode(look))
    assert until(app, lambda: app.warning)  # its network is opened in the background
    assert "no trained weights" in app.warning[0].value
    assert "Eight bits are calibrated and measured on images" in told(app)
    assert "quantise" not in [button.key for button in app.button]
