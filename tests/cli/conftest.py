"""Commands on few images, and exports of few artefacts."""

from functools import partial

import pytest

from fpgm_core.data import load_images
from fpgm_core.export import ARTEFACTS, ExportConfig


@pytest.fixture
def few_images(monkeypatch):
    """A function: let every command see only the first images of each split."""

    def few(count):
        def load(dataset, split, root=None, download=False):
            return load_images(dataset, split, root).first(count)

        for module in ("arguments", "training"):
            monkeypatch.setattr(f"fpgm_core.cli.{module}.load_images", load)

    return few


@pytest.fixture
def small_exports(monkeypatch):
    """A function: let exports hold only the named artefacts, timed once."""

    def small(*names):
        artefacts = [ARTEFACTS[name] for name in names]
        config = partial(ExportConfig, artefacts=artefacts, batches=(1,), runs=1)
        monkeypatch.setattr("fpgm_core.cli.export.ExportConfig", config)

    return small
