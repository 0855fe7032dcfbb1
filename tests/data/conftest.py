"""Small image sets of one's own."""

import numpy as np
import pytest
from PIL import Image

from fpgm_core.data import load_images


@pytest.fixture
def write_tree(tmp_path):
    """A function: a tree of photographs, so many of each class, sizes 40 to 90 pixels, at a place below tmp_path."""

    def write(place="photos", classes=("cat", "dog", "frog"), count=4, suffix=".png"):
        photographs, rng = load_images("cifar10", "choose"), np.random.RandomState(0)
        for number, name in enumerate(classes):
            folder = tmp_path / place / name
            folder.mkdir(parents=True)
            for i in range(count):
                size = tuple(rng.randint(40, 90, 2).tolist())
                pixels = photographs.pixels[number * count + i].numpy()
                Image.fromarray(pixels).resize(size).save(folder / f"{i}{suffix}")
        return tmp_path / place

    return write
