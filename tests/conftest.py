"""Shared by all tests: the two tiers, a writable home of their own, the bundled ResNet-20."""

from collections import defaultdict

import networks
import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image
from tiers import is_thorough, record

from fpgm_core import Network
from fpgm_core.__main__ import main
from fpgm_core.data import load_images
from fpgm_core.inference import PrefixCache
from fpgm_core.runtime.cache import clear_caches

settings.register_profile("fast", max_examples=20, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=50, deadline=None)
COLLECTED = pytest.StashKey[list[str]]()


class Stopwatch:
    """Writes down what every test took, when all have run."""

    def __init__(self):
        self.seconds = defaultdict(float)

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self, session):
        record(self.seconds, set(session.config.stash[COLLECTED]))


def pytest_addoption(parser):
    parser.addoption("--thorough", action="store_true", help="run the long tests too, and hypothesis' 50 examples")
    parser.addoption("--record-seconds", action="store_true", help="write what tests take to tests/seconds.json")


def pytest_configure(config):
    config.addinivalue_line("markers", "thorough: too long for the quick tier; `pytest --thorough` runs it")
    settings.load_profile("thorough" if config.option.thorough else "fast")
    if config.option.record_seconds:
        config.pluginmanager.register(Stopwatch())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Leave the thorough tests out, and count them as deselected, unless they are asked for."""
    config.stash[COLLECTED] = [item.nodeid for item in items]
    for item in items:
        if is_thorough(item.nodeid):
            item.add_marker("thorough")
    if not config.option.thorough:
        left_out = [item for item in items if item.get_closest_marker("thorough")]
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def collected(pytestconfig):
    """The names of all collected tests, those left out too."""
    return pytestconfig.stash[COLLECTED]


@pytest.fixture(scope="session")
def thorough(pytestconfig):
    """Whether the thorough tier runs."""
    return pytestconfig.option.thorough


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Nothing is written to, or found in, the folders of whoever runs the tests."""
    monkeypatch.setenv("FPGM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def nothing_remembered():
    """What a network is asked is computed, whatever an earlier test asked."""
    PrefixCache.on(torch.device("cpu")).clear()
    clear_caches()


@pytest.fixture(scope="session")
def resnet20():
    return Network.load("resnet20")


@pytest.fixture
def run(capsys):
    """A function that runs one command line: exit status, stdout, stderr."""

    def call(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as leaving:  # argparse's way
            status = leaving.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def threads():
    """A function that sets how many threads torch has; what it was comes back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def one_core(threads):
    """One batch at a time, whatever the machine."""
    threads(1)


@pytest.fixture(scope="session")
def wrap():
    """A function: any module as a Network whose norms are randomised. See `networks.wrap`."""
    return networks.wrap


@pytest.fixture(scope="session")
def network():
    """A function: a registry network with randomised norms, by name."""
    return networks.load


@pytest.fixture(scope="session")
def mixed():
    """A function: a plan with another rate for every unit, some filters locked."""
    return networks.mixed


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
