"""What was opened beyond the registry: kept weights, images that go with their tab, paths that may be read."""

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from driving import again, press, session_of, sound, until
from driving import opened as page_of
from PIL import Image

from fpgm_core import FpgmError, ImageSet, Network
from fpgm_core.data import DATA, load_images
from fpgm_core.runtime.progress import run
from pages.ui.panels import open_dialog
from pages.ui.session import opened, opening
from pages.ui.session.networks import first_view, network_of, open_network, view_of
from pages.ui.session.view_state import decode, encode


@pytest.fixture
def changed(own_home):
    """ResNet-20 with weights that no registry knows, as somebody's checkpoint."""
    network = Network.load("resnet20")
    state = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    state["fc.bias"] += 0.5
    content = own_home / "mine.pt"
    own_home.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": state}, content)
    return content.read_bytes()


@pytest.fixture
def images():
    """A few images by split, as one's own."""
    choose = load_images("cifar10", "choose").first(30)
    sets = {"choose": choose, "sealed": load_images("cifar10", "sealed").first(30), "train": choose}
    name = opened.add_images("mine", sets)
    yield name
    opened.forget_images(name)


def test_kept_weights_open_again_by_the_fingerprint_of_a_plan(changed):
    network = run(opening.checkpoint_work("resnet20", "mine.pt", changed))
    state = view_of(network)
    opened.forget_networks()  # as after the server was started anew
    reopened = network_of(decode(encode(state)))
    assert reopened.fingerprint == network.fingerprint != Network.load("resnet20").fingerprint
    assert reopened.weights == network.weights
    assert "mine.pt" in reopened.weights
    assert open_network("resnet20").fingerprint == Network.load("resnet20").fingerprint


def test_weights_that_are_not_here_leave_the_registrys_network_which_refuses_the_plan(changed):
    state = view_of(run(opening.checkpoint_work("resnet20", "mine.pt", changed)))
    opened.forget_networks()
    for path in (opened.home() / "opened").iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(FpgmError, match="other weights"):
        network_of(state).check(state.plan)


def test_a_checkpoint_is_opened_again_at_the_size_that_it_was_opened_at(changed):
    small = run(opening.checkpoint_work("resnet20", "mine.pt", changed, (3, 24, 24)))
    opened.forget_networks()
    again = network_of(decode(encode(view_of(small))))
    assert again.input_shape == small.input_shape == (3, 24, 24)
    assert again.dense_cost.macs < Network.load("resnet20").dense_cost.macs


def test_what_was_opened_last_is_listed_first(changed, own_home):
    assert opened.recent_checkpoints() == ()
    first = run(opening.checkpoint_work("resnet20", "mine.pt", changed))
    random = run(opening.network_work("resnet20", "random"))
    for age, network in enumerate((random, first)):
        os.utime(own_home / "opened" / f"{network.fingerprint}.safetensors", (1000 - age, 1000 - age))
    (own_home / "opened" / "damaged.safetensors").write_bytes(b"none")
    listed = opened.recent_checkpoints()
    assert [kept.fingerprint for kept in listed] == [random.fingerprint, first.fingerprint]
    assert [kept.model for kept in listed] == ["resnet20", "resnet20"]
    assert "mine.pt" in listed[1].weights


def test_what_must_be_known_of_images_is_known_to_whoever_looks_at_them(images):
    assert opened.notes_of(images) == ()
    few = load_images("cifar10", "choose").first(12)
    network = Network.load("resnet20")
    found = opening.register_images(network, {"choose": few}, "few", notice="half of them are trained on")
    assert opened.notes_of(found.name) == found.notes
    assert "half of them are trained on" in found.notes
    opened.forget_images(found.name)
    assert opened.notes_of(found.name) == ()


def test_kept_weights_take_so_much_room_and_no_more(changed, monkeypatch):
    folder = opened.home() / "opened"
    folder.mkdir(parents=True)
    old = folder / ("0" * 64 + ".safetensors")
    old.write_bytes(b"\0" * 2_000_000)
    os.utime(old, (1, 1))
    monkeypatch.setenv("FPGM_OPENED_BYTES", "2M")
    network = run(opening.checkpoint_work("resnet20", "mine.pt", changed))
    assert [path.stem for path in folder.iterdir()] == [network.fingerprint]


def test_images_of_ones_own_are_what_a_network_is_judged_on(images):
    state = view_of(open_network("resnet20", data=images))
    assert state.data == images
    network = network_of(state)
    assert network.dataset == images
    assert network.identity == open_network("resnet20").identity
    assert len(load_images(network.dataset, "choose")) == 30
    assert open_network("resnet20").dataset == "cifar10"


def test_images_that_are_gone_are_told_of(images):
    state = first_view("resnet20")
    opened.forget_images(images)
    assert images not in DATA
    with pytest.raises(FpgmError, match="no longer open on this server"):
        network_of(replace(state, data=images))


def test_the_oldest_images_go_first():
    one = {"choose": load_images("cifar10", "choose").first(2)}
    names = [opened.add_images("many", one) for _ in range(opened.MOST_DATASETS + 2)]
    assert [name in DATA for name in names] == [False, False] + [True] * opened.MOST_DATASETS
    for name in names:
        opened.forget_images(name)
    assert not any(name in DATA for name in names)


def test_images_of_another_shape_or_with_labels_beyond_the_outputs_are_refused():
    network = Network.load("resnet20")
    pixels = np.zeros((12, 16, 16, 3), np.uint8)
    small = ImageSet.from_arrays(pixels, np.zeros(12, int), mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(FpgmError, match="reads 3 x 32 x 32"):
        opening.register_images(network, {"choose": small}, "small")
    many = ImageSet.from_arrays(np.zeros((12, 32, 32, 3), np.uint8), np.arange(12), mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(FpgmError, match="labels up to 11"):
        opening.register_images(network, {"choose": many}, "many")


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "allowed"
    for name in ("cat", "dog"):
        (root / "photos" / name).mkdir(parents=True)
        for index in range(6):
            Image.fromarray(np.full((40, 40, 3), index, np.uint8)).save(root / "photos" / name / f"{index}.png")
    (tmp_path / "secret").mkdir()
    (root / "way_out").symlink_to(tmp_path / "secret")
    return root


def test_only_what_lies_below_a_root_is_read_and_all_else_sounds_alike(tree, monkeypatch):
    monkeypatch.setenv(opening.ROOTS_VARIABLE, str(tree))
    assert opening.below_roots(str(tree / "photos")) == (tree / "photos").resolve()
    refused = set()
    for path in ("/etc", "/etc/no-such-file", str(tree / "absent"), str(tree / "way_out"), f"{tree}/../secret", "~"):
        with pytest.raises(FpgmError) as error:
            opening.below_roots(path)
        refused.add(str(error.value))
    assert len(refused) == 1
    assert "/" not in refused.pop()


def test_a_page_that_others_may_visit_reads_no_folder_unasked(monkeypatch):
    monkeypatch.delenv(opening.ROOTS_VARIABLE, raising=False)
    monkeypatch.setattr(opening.st, "get_option", {"server.address": "0.0.0.0"}.get)
    assert opening.data_roots() == ()
    monkeypatch.setattr(opening.st, "get_option", {"server.address": "127.0.0.1"}.get)
    assert opening.data_roots() != ()


def test_a_folder_of_this_machine_is_read_for_a_network(tree, own_home):
    network = Network.load("resnet20")
    found = run(opening.folder_work(network, tree / "photos", "photos", None))
    assert len(load_images(found.name, "sealed")) == 6
    assert any("trained on" in note for note in found.notes)
    assert any("2 classes" in note for note in found.notes)
    opened.forget_images(found.name)


def test_the_dialog_lists_every_network_and_what_was_opened_lately(changed, own_home):
    network = run(opening.checkpoint_work("resnet20", "mine.pt", changed))
    app = press(page_of(), "open")
    names = app.selectbox(key="open_model").options
    assert {"resnet20", "resnet50", "timm/resnet50d"} <= set(names)
    assert app.selectbox(key="open_recent").options == ["resnet20 · mine.pt (state_dict)"]
    assert app.text_input(key="open_size").value == ""
    app.selectbox(key="open_recent").set_value(network.fingerprint)
    sound(app.run())
    session = session_of(app)
    assert until(app, lambda: session.state.plan.fingerprint == network.fingerprint)
    session.jobs.close()


def test_another_page_closes_the_dialog_for_good(monkeypatch):
    def is_open(app):
        return "open_model" in [box.key for box in app.selectbox]

    monkeypatch.setattr(open_dialog, "ready_work", lambda: iter(()))
    app = press(page_of(), "open")
    assert is_open(app)
    assert not is_open(again(app.switch_page("pages/1_Export.py")))
    assert not is_open(again(app.switch_page("app.py")))
    assert is_open(press(app, "open"))


def test_while_a_network_is_chosen_torchvision_is_read_and_umap_compiled_elsewhere(monkeypatch):
    done = []

    def reduction(settings, fitted, placed):
        done.append(settings["metric"])
        return fitted[:, :2], placed[:, :2]

    monkeypatch.setattr(opening, "import_torchvision", done.append)
    monkeypatch.setattr(opening, "umap_process", lambda: SimpleNamespace(reduce=reduction))
    run(opening.ready_work())
    assert done == ["torchvision.models", "euclidean", "precomputed"]
