"""The lesson's networks, what was measured of them on few images, and words that remember what was asked of them."""

from dataclasses import dataclass, field, replace
from functools import cache

import pytest
from staging import TRAINED, ZEROS

from fpgm_core import Network
from fpgm_core.calibration import CalibrationConfig
from fpgm_core.lesson import MEASUREMENTS, STEPS, Found, Scene, Words, joined, steps, words_of


@dataclass(frozen=True, eq=False)
class Heard(Words):
    """Words of which every asking is kept: `asked` has (name, figures)."""

    asked: list = field(default_factory=list)

    def __call__(self, name, /, **figures):
        self.asked.append((name, figures))
        return super().__call__(name, **figures)

    def figures(self, name):
        """What a string was filled with, where it was asked for once."""
        (found,) = (figures for asked, figures in self.asked if asked == name)
        return found

    @property
    def names(self):
        return {name for name, _ in self.asked}


@pytest.fixture
def heard():
    """A function: the words of a language that remember."""
    return lambda language="en": Heard(language, words_of(language).strings)


@pytest.fixture(scope="session")
def network():
    """A function: a network by its name, opened once; all but the trained ones have random weights."""
    return cache(lambda name: Network.load(name, None if name in TRAINED else "random"))


@pytest.fixture(scope="session")
def found(network, tmp_path_factory):
    """A function: refit costs of a trained network, on few images, and the contest that ships with it."""

    @cache
    def measured(name):
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("FPGM_HOME", str(tmp_path_factory.mktemp("home")))
            patched.setattr(steps, "CalibrationConfig", lambda: CalibrationConfig(num_images=150, positions=8))
            *_, costs = MEASUREMENTS["costs"](network(name))
            assert isinstance(costs, Found)
            return joined([costs, steps.at_hand(network(name), "contest")])

    return measured


@pytest.fixture
def show(network, found, heard):
    """A function: a step on a network with controls, what was measured with it; the Shown and the words."""

    def call(step, name="resnet20", controls=None, language="en", revealed=True, **measured):
        words = heard(language)
        known = replace(found(name), zeros=ZEROS) if name in TRAINED else Found()
        scene = Scene(network(name), words, replace(known, **measured), revealed)
        return STEPS[step].show(scene, controls or STEPS[step].controls()), words

    return call
