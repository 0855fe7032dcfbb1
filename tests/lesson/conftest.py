"""The lesson's networks, what was measured of them on few images, and words that record what was asked of them."""

from dataclasses import dataclass, field, replace
from functools import cache

import pytest
from samples import TRAINED, ZEROS

from fpgm_core import Network
from fpgm_core.calibration import CalibrationConfig
from fpgm_core.data import load_images
from fpgm_core.lesson import STEPS, Evidence, StepContext, Words, combined, known_evidence, words_of
from fpgm_core.lesson.evidence import costs_work
from fpgm_core.runtime.progress import run


@dataclass(frozen=True, eq=False)
class RecordedWords(Words):
    """Words that record every call: `asked` has (name, values)."""

    asked: list = field(default_factory=list)

    def __call__(self, name, /, **values):
        self.asked.append((name, values))
        return super().__call__(name, **values)

    def values(self, name):
        """What a string was filled with, where it was asked for once."""
        (values,) = (values for asked, values in self.asked if asked == name)
        return values

    @property
    def names(self):
        return {name for name, _ in self.asked}


@pytest.fixture
def recorded_words():
    """A function: the words of a language that record their calls."""
    return lambda language="en": RecordedWords(language, words_of(language).strings)


@pytest.fixture(scope="session")
def network():
    """A function: a network by its name, opened once; all but the trained ones have random weights."""
    return cache(lambda name: Network.load(name, None if name in TRAINED else "random"))


@pytest.fixture(scope="session")
def images():
    """A function: CIFAR-10's images of a split."""
    return cache(lambda split: load_images("cifar10", split))


@pytest.fixture(scope="session")
def evidence(network, images, tmp_path_factory):
    """A function: refit costs of a trained network, on few images, and the contest that ships with it."""

    @cache
    def measured(name):
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("FPGM_HOME", str(tmp_path_factory.mktemp("home")))
            few = CalibrationConfig(num_images=150, positions=8)
            choose, training = images("choose"), images("train")
            costs = run(costs_work(network(name), choose, training, config=few))
            contest = known_evidence(network(name), "contest", images=choose, training=training)
            assert contest is not None, "the bundled contest is of another format: measure it anew"
            return combined([costs, contest])

    return measured


@pytest.fixture
def show(network, evidence, recorded_words):
    """A function: a step on a network with controls and what was measured of it; its view and the words."""

    def call(step, name="resnet20", controls=None, language="en", revealed=True, **measured):
        words = recorded_words(language)
        known = replace(evidence(name), zeros=ZEROS) if name in TRAINED else Evidence()
        context = StepContext(network(name), words, replace(known, **measured), revealed)
        return STEPS[step].show(context, controls or STEPS[step].controls()), words

    return call
