"""Commands on few images."""

import pytest

from fpgm_core.data import load_images


@pytest.fixture
def few_images(monkeypatch):
    """A function: let every command see only the first images of each split."""

    def few(count):
        def load(dataset, split, root=None, download=False):
            return load_images(dataset, split, root).first(count)

        monkeypatch.setattr("fpgm_core.cli.images.load_images", load)

    return few
