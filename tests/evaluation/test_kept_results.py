"""Kept contests and sweeps: found by weights, graph and images, and right or made anew."""

import copy
import json
from dataclasses import asdict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fpgm_core import EvaluationConfig, Network
from fpgm_core.data import load_images
from fpgm_core.evaluation import ContestConfig, contest, known_contest
from fpgm_core.evaluation.sensitivity import sweep_work
from fpgm_core.runtime.progress import run
from fpgm_core.runtime.storage import Kept, ResultStore

RULES = ContestConfig(criteria=("fpgm",), seeds=1, rungs=("as_is", "merged"))
CONFIG = EvaluationConfig(device="cpu", precision="float32")


@pytest.fixture(scope="module")
def images():
    return load_images("cifar10", "choose").first(60)


@pytest.fixture(scope="module")
def training():
    return load_images("cifar10", "train").first(40)


class Activated(nn.Module):
    """Networks of equal weights, to the last bit, that compute otherwise."""

    def __init__(self, slope):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 10)
        self.slope = slope

    def forward(self, x):
        x = F.leaky_relu(self.b(F.leaky_relu(self.a(x), self.slope)), self.slope)
        return self.fc(x.mean((2, 3)))


@pytest.fixture(scope="module")
def twins():
    return [Network.from_module(Activated(slope), (3, 32, 32), name="twin") for slope in (0.0, 0.9)]


def swept(network, images, **options):
    """The points of a sweep."""
    return run(sweep_work(network, images, method="as_is", rates=(0.5,), config=CONFIG, **options)).points


def planted(path, points):
    """Points in place of those that a file keeps, its checksum right."""
    identity = json.loads(path.read_bytes().split(b"\n")[1])["identity"]
    ResultStore("sensitivity").write(identity, Kept(points))


def measured(network, images, training, **options):
    found = contest(network, images, training, rules=RULES, config=CONFIG, **options)
    return {(entry.criterion, rung): entry.correct(rung) for entry in found.entries for rung in found.rungs}


def known(network, images, training):
    return known_contest(network, images, training, rules=RULES, config=CONFIG)


def test_a_contest_is_found_again_by_all_that_it_depends_on(twins, images, training):
    first, second = twins
    answers = measured(first, images, training)
    found = known(first, images, training)
    assert {(entry.criterion, rung): entry.correct(rung) for entry in found.entries for rung in found.rungs} == answers
    assert found.entries[-1].seed == 0
    assert known(second, images, training) is None
    assert known(first, images.first(59), training) is None
    assert known(first, images, training.first(39)) is None
    assert measured(second, images, training) == measured(second, images, training, use_cache=False)


def test_a_sweep_is_found_again_by_weights_and_graph(twins, images, own_home):
    first, second = twins
    points = swept(first, images)
    (path,) = (own_home / "sensitivity").iterdir()
    planted(path, [{**asdict(point), "macs": 7} for point in points])
    assert {point.macs for point in swept(first, images)} == {7}  # read, not measured
    assert swept(first, images.first(59))[0].macs != 7
    assert swept(second, images) == swept(second, images, use_cache=False) != points
    assert len(list(path.parent.iterdir())) == 3


def damaged(path):
    return path.with_name(f"{path.name}.damaged")


@pytest.mark.parametrize("at", [0, 20, 90, 200, -1])
def test_a_damaged_contest_is_measured_anew(twins, images, training, own_home, at):
    answers = measured(twins[0], images, training)
    (path,) = (own_home / "contests").iterdir()
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)
    assert known(twins[0], images, training) is None
    assert damaged(path).exists()
    assert measured(twins[0], images, training) == answers
    assert known(twins[0], images, training) is not None


def test_a_damaged_sweep_is_measured_anew(twins, images, own_home):
    points = swept(twins[0], images)
    (path,) = (own_home / "sensitivity").iterdir()
    text = path.read_bytes()
    path.write_bytes(text.replace(b'"macs": ', b'"macs": 1'))
    assert swept(twins[0], images) == points
    assert damaged(path).exists()
    assert path.read_bytes() == text


@pytest.mark.parametrize(
    "change", [{"num_correct": 61}, {"num_both_correct": -1}, {"rate": 0}, {"macs": "many"}, {"unit": None, "more": 1}]
)
def test_a_point_that_cannot_be_is_measured_anew(twins, images, own_home, change):
    points = swept(twins[0], images)
    (path,) = (own_home / "sensitivity").iterdir()
    planted(path, [{**asdict(point), **change} for point in points])
    assert swept(twins[0], images) == points
    assert damaged(path).exists()


def test_the_bundled_contest_is_that_of_the_bundled_network_on_the_bundled_images(resnet20):
    choose, train = load_images("cifar10", "choose"), load_images("cifar10", "train")
    found = known_contest(resnet20, choose, train)
    assert found is not None
    assert len(found.random) == 10
    assert known_contest(resnet20, choose.first(4999), train) is None
    assert known_contest(resnet20, load_images("cifar10", "sealed"), train) is None
    assert known_contest(resnet20, choose, train.first(4999)) is None

    module = copy.deepcopy(resnet20.module)
    same = Network.from_module(module, (3, 32, 32), name="resnet20")
    assert known_contest(same, choose, train) is not None
    plain = type(module)
    module.__class__ = type("Mirrored", (plain,), {"forward": lambda self, x: plain.forward(self, x.flip(3))})
    other = Network.from_module(module, (3, 32, 32), name="resnet20")
    assert other.fingerprint == resnet20.fingerprint
    assert known_contest(other, choose, train) is None
