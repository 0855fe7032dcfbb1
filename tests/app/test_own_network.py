"""Somebody's own network and images on every page: all that holds for the bundled ones holds for these."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from driving import again, look, opened, picture, press, session_of, shown, sound, until
from torch import nn

from fpgm_core import ImageSet, Network
from fpgm_core.data import load_images
from pages.ui.session.networks import view_of
from pages.ui.session.opened import add_live, forget_images
from pages.ui.session.opening import register_images
from pages.ui.session.view_state import encode

CLASSES = tuple(f"a class with a long name, number {number}" for number in range(12))


class Tiny(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.second = nn.Conv2d(12, 12, 3, padding=1)
        self.head = nn.Linear(12, classes)

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.norm(self.first(x))))).mean((2, 3)))


def own_images(count, begin=0):
    photographs = load_images("cifar10", "choose")
    labels = np.arange(count) % len(CLASSES)
    return ImageSet.from_arrays(
        photographs.pixels[begin : begin + count], labels, mean=photographs.mean, std=photographs.std,
        class_names=CLASSES,
    )  # fmt: skip


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = Network.from_module(Tiny(len(CLASSES)), (3, 32, 32), name="mine", class_names=CLASSES)
    add_live(network)
    return network


@pytest.fixture
def view(network):
    """The network on a few images of its own."""
    splits = {"choose": own_images(60), "sealed": own_images(48, 60), "train": own_images(96, 200)}
    found = register_images(network, splits, "my photographs")
    yield replace(view_of(network), data=found.name)
    forget_images(found.name)


def words(app):
    return " ".join(shown(str(element.value)) for element in (*app.markdown, *app.caption, *app.warning, *app.info))


def cards(app):
    return " ".join(element.proto.body for element in app.get("html"))


def exact(app):
    return until(app, lambda: session_of(app).measuring is not None and session_of(app).measuring.done)


@pytest.fixture
def app(view):
    app = opened(s=encode(view))
    yield app
    session_of(app).jobs.close()


def test_it_is_measured_with_top5_beside_top1(app):
    assert exact(app)
    measured = session_of(app).measurement
    assert measured.num_images == 60
    assert measured.top5.value > measured.accuracy.value
    for figure in (measured.top5.value, measured.dense_top5.value):
        assert f"{figure:.2%}" in cards(app)
    assert f"[{measured.top5.low:.1%}, {measured.top5.high:.1%}]" in cards(app)
    (ladder,) = (group for group in app.get("button_group") if "Repaired" in str(group.proto.options))
    assert f"top-5 {measured.top5.value:.1%}" in str(ladder.proto.options)
    (trace,) = (frame.value for frame in app.dataframe if "MACs cut, %" in frame.value or "top-5 %" in frame.value)
    assert list(trace["top-5 %"])[-1] == pytest.approx(100 * measured.top5.value)


def test_ten_classes_have_no_place_for_top5():
    app = opened()
    assert "Top-5" not in cards(app)
    session_of(app).jobs.close()


def test_without_images_it_says_once_that_nothing_is_measured(network):
    app = opened(s=encode(view_of(network)))
    assert "not measured" in cards(app)
    assert "on its way" not in cards(app)
    assert "no images here to measure mine on" in words(app)
    for page in ("pages/5_Choose.py", "pages/2_Recover.py", "pages/1_Export.py"):
        again(sound(app.switch_page(page)))
        assert "no images here to measure mine on" in words(app)
    session_of(app).jobs.close()


def test_its_filters_are_worth_something_to_those_who_read_them(app):
    look(app, view="Replaceability")
    assert until(app, lambda: "refit cost" in words(app) and session_of(app).jobs.get("replaceability").done)
    assert session_of(app).jobs.get("replaceability").error is None
    assert picture(app)["look"]["view"] == "Replaceability"


def test_every_unit_alone_is_measured_on_as_many_images_as_there_are(app):
    app.session_state["choose_view"] = "sensitivity"
    again(sound(app.switch_page("pages/5_Choose.py")))
    press(app, "begin_sweep")
    assert until(app, lambda: not any(button.key == "begin_sweep" for button in app.button), 60)
    job = session_of(app).jobs.get("sensitivity")
    assert until(app, lambda: job.done, 60)
    assert job.error is None
    assert {point.num_images for point in job.result.points} == {60}
    (table,) = (frame.value for frame in app.dataframe if "rate" in frame.value)
    assert (table["top-5 %"] >= table["accuracy %"]).all()


def test_it_trains_on_its_own_training_images(app):
    again(sound(app.switch_page("pages/2_Recover.py")))
    assert "the 96 training images of my photographs" in words(app)
    assert not any(field.key == "own_copy" for field in app.text_input), "a copy of CIFAR-10 is none of these images"
    app.slider(key="epochs").set_value(1)
    press(app, "train")
    job = session_of(app).jobs.get("training")
    assert until(app, lambda: job.done, 60)
    assert job.error is None
    (table,) = (frame.value for frame in app.dataframe if "top-5 on choose" in frame.value)
    assert table["top-5 on choose"].str.contains(r"\[.+, .+\]").all()


def test_its_sealed_half_is_reported_with_top5(app, own_home):
    again(sound(app.switch_page("pages/1_Export.py")))
    press(app, "report_sealed")
    assert until(app, lambda: "on sealed" in words(app))
    assert "Top-5: " in words(app)
    assert "Seen once" in words(app)
    other = {"choose": own_images(36, 400), "sealed": own_images(36, 500), "train": own_images(48, 600)}
    found = register_images(session_of(app).network, other, "others")
    session_of(app).change(data=found.name)
    again(app)
    assert "on sealed" not in words(app), "nobody asked for a look at these"
    assert "Seen" not in words(app)
    forget_images(found.name)


@pytest.mark.thorough
def test_its_export_is_measured_on_its_choose_half(app):
    again(sound(app.switch_page("pages/1_Export.py")))
    press(app, "prepare")
    job = session_of(app).jobs.get("export")
    assert until(app, lambda: job.done, 240)
    assert job.error is None
    measured = [entry["measured"]["choose"] for entry in job.result.manifest["artefacts"] if "measured" in entry]
    assert {facts["images"] for facts in measured} == {60}
    assert all(facts["top5_low"] < facts["top5"] < facts["top5_high"] for facts in measured)
    assert job.result.manifest["class_names"] == list(CLASSES)
    assert "on 60 images" in words(app)


def test_what_was_measured_on_other_images_is_not_taken_for_these(app, network):
    """Neither the ladder nor the trace: the same plan on other images is measured anew."""
    assert exact(app)
    session = session_of(app)
    first, before = session.measurement, session.state.data
    again(app)
    assert [tried.measurement for tried in session.trace] == [first]
    few = {"choose": own_images(36, 400), "sealed": own_images(36, 500), "train": own_images(48, 600)}
    other = register_images(network, few, "others")
    session.change(data=other.name)
    again(app)
    assert session.measured(session.state.method) != first
    assert exact(app)
    again(app)
    assert session.measured(session.state.method).num_images == 36
    assert [tried.measurement.num_images for tried in session.trace] == [60, 36]
    session.change(data=before)
    again(app)
    assert session.measured(session.state.method) == first
    forget_images(other.name)


class Dropping(Tiny):
    def forward(self, x):
        return super().forward(torch.nn.functional.dropout(x))


def test_what_its_forward_does_otherwise_here_is_said_in_both_languages():
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="drops nothing here"):
        dropping = Network.from_module(Dropping(10), (3, 32, 32), name="dropping")
    add_live(dropping)
    link = encode(view_of(dropping))
    assert "dropout() drops nothing here, while the forward drops at random" in words(opened(s=link))
    korean = words(opened(s=link, lang="ko"))
    assert "dropout()이(가) 아무것도 버리지 않습니다" in korean
    assert "training=self.training" in korean
    assert "drops nothing" not in korean
