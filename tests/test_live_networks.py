"""The app on a live network, from Python."""

import urllib.request
from types import SimpleNamespace
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fpgm_core import FpgmError, ImageSet, explore
from fpgm_core.data import Preprocessing, load_images
from pages.ui.session import opened
from pages.ui.session.networks import network_of
from pages.ui.session.view_state import decode


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.second = nn.Conv2d(12, 12, 3, padding=1)
        self.head = nn.Linear(12, 10)

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3)))


def state_in(url):
    return decode(parse_qs(urlparse(url).query)["s"][0])


def test_a_module_and_its_images_are_served_and_the_link_shows_them():
    images = load_images("cifar10", "choose").first(200)
    explorer = explore(Small(), images, input_shape=(3, 32, 32), open_browser=False)
    try:
        state = state_in(explorer.url)
        network = network_of(state)
        assert (network.name, network.dataset) == ("Small", state.data)
        sizes = [len(load_images(state.data, split)) for split in ("choose", "sealed", "train")]
        assert sizes == [50, 100, 50]
        with urllib.request.urlopen(explorer.url.partition("?")[0], timeout=20) as answer:
            assert answer.status == 200
        again = explore("resnet20", open_browser=False)
        assert urlparse(again.url).netloc == urlparse(explorer.url).netloc, "one server a process"
        assert state_in(again.url).plan.model == "resnet20"
    finally:
        explorer.stop()


def test_a_folder_is_prepared_as_somebody_says(tmp_path):
    """A fine-tuned network and a folder: who says nothing is told what to say; torchvision's transforms say enough."""
    photographs = load_images("cifar10", "choose").first(24)
    for index, label in enumerate(photographs.labels.tolist()):
        folder = tmp_path / "photos" / f"{label % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photographs.pixels[index].numpy()).save(folder / f"{index}.png")
    shape, folder = (3, 32, 32), tmp_path / "photos"
    with pytest.raises(FpgmError, match=r"give a preprocessing, Preprocessing.usual\(\(3, 32, 32\)\) say"):
        explore(Small(), folder, input_shape=shape, open_browser=False)
    with pytest.raises(FpgmError, match="give a Preprocessing"):
        explore(Small(), folder, input_shape=shape, preprocessing=lambda picture: picture, open_browser=False)
    said = SimpleNamespace(
        resize_size=[32], crop_size=[32], mean=[0.5] * 3, std=[0.25] * 3, interpolation=SimpleNamespace(value="bicubic")
    )
    for preprocessing in (Preprocessing.usual(shape), said):
        explorer = explore(Small(), folder, input_shape=shape, preprocessing=preprocessing, open_browser=False)
        try:
            state = state_in(explorer.url)
            assert len(load_images(state.data, "sealed")) == 12
            assert any("trained on" in note for note in explorer.notes)
            assert opened.notes_of(state.data) == explorer.notes, "and on the page"
        finally:
            explorer.stop()


def test_what_cannot_be_is_told_before_anything_is_served():
    with pytest.raises(FpgmError, match="input_shape"):
        explore(Small(), open_browser=False)
    pixels = np.zeros((20, 8, 8, 3), np.uint8)
    other = ImageSet.from_arrays(pixels, np.arange(20) % 10, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(FpgmError, match="reads 3 x 32 x 32"):
        explore(Small(), other, input_shape=(3, 32, 32), open_browser=False)
