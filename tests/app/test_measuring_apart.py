"""Measuring in a process of its own: the same figures, of networks that it can open; the others are measured here."""

import copy
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from networks import wrap
from torch import nn

from fpgm_core import Network
from fpgm_core.data import load_images
from fpgm_core.evaluation import measure_work
from fpgm_core.runtime.cache import CacheBudget
from fpgm_core.runtime.progress import Progress, run
from fpgm_core.runtime.work_process import WorkLost
from pages.ui.session import apart, housekeeping, measuring
from pages.ui.session.apart import Answer, Question, answer_work, begin_measuring_apart, measuring_process
from pages.ui.session.measuring import measurement_work
from pages.ui.session.opened import add_live, keep_checkpoint
from pages.ui.session.recovered import recovered_networks


@pytest.fixture(autouse=True)
def served(monkeypatch):
    """As in a server."""
    monkeypatch.setattr(measuring, "Runtime", SimpleNamespace(exists=lambda: True))


@pytest.fixture
def asked(monkeypatch):
    """What a process that does its work in this one was asked."""
    questions = []

    def work(function, question):
        questions.append(question)
        return function(question)

    monkeypatch.setattr(measuring, "measuring_process", lambda: SimpleNamespace(work=work))
    monkeypatch.setattr(measuring, "begin_measuring_apart", lambda question: None)
    return questions


def few(split):
    return load_images("cifar10", split).first(40)


@pytest.fixture
def few_images(monkeypatch):
    for module in (apart, measuring):
        monkeypatch.setattr(module, "load_images", lambda name, split: few(split))


def test_what_is_measured_there_is_what_would_be_measured_here(resnet20, asked, few_images):
    plan = resnet20.plan(0.4, coupling="inner")
    there = run(measurement_work(resnet20, plan, "recalibrated"))
    kept = recovered_networks().get(resnet20, plan, "recalibrated")
    here = []
    measured = run(
        measure_work(
            resnet20.prune(plan), few("choose"), method="recalibrated", training=few("train"), keep=here.append
        )
    )
    assert len(asked) == 1
    assert replace(there, seconds=0.0) == replace(measured, seconds=0.0)
    assert kept.digest == here[0].digest
    assert kept.recovery == here[0].recovery
    run(measurement_work(resnet20, plan, "recalibrated", "sealed"))
    assert len(asked) == 1, "the recovered network is here"


def test_weights_of_ones_own_are_measured_there_once_they_are_kept(resnet20, asked, few_images):
    weights = {
        name: tensor * 1.01 for name, tensor in resnet20.module.state_dict().items() if tensor.is_floating_point()
    }
    own = resnet20.with_module(_changed(resnet20.module, weights))
    for kept in (False, True):
        if kept:
            keep_checkpoint(own)
        recovered_networks().clear()
        assert run(measurement_work(own, own.plan(0.3), "as_is")).num_images == 40
        assert asked[-1].weights is None or kept
    assert asked[-1].weights.name == f"{own.fingerprint}.safetensors"
    answer = run(answer_work(asked[-1]))
    assert isinstance(answer, Answer)
    assert run(answer_work(asked[0])) is None, "it has other weights of that name"


def _changed(module, weights):
    changed = copy.deepcopy(module)
    changed.load_state_dict(weights, strict=False)
    return changed


def test_what_no_other_process_knows_is_measured_here(asked, few_images, monkeypatch):
    toy = wrap(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)))
    run(measurement_work(toy.with_dataset("cifar10"), toy.plan(0.5), "as_is"))
    assert asked == []
    live = Network.load("resnet20")
    monkeypatch.setattr("pages.ui.session.opened._live", {})
    add_live(live)
    run(measurement_work(live, live.plan(0.2), "as_is"))
    assert asked == []


def test_where_nothing_is_served_no_process_is_begun(resnet20, asked, few_images, monkeypatch):
    monkeypatch.setattr(measuring, "Runtime", SimpleNamespace(exists=lambda: False))
    run(measurement_work(resnet20, resnet20.plan(0.25), "as_is"))
    assert asked == []


def test_it_is_begun_by_the_first_measurement_that_it_could_have_made_and_where_it_was_lost(
    resnet20, few_images, monkeypatch
):
    begun = []

    def work(function, question):
        if steps is None:
            raise WorkLost
        yield Progress(0.3)
        raise WorkLost

    monkeypatch.setattr(measuring, "measuring_process", lambda: SimpleNamespace(work=work))
    monkeypatch.setattr(measuring, "begin_measuring_apart", begun.append)
    for rate, steps in ((0.15, None), (0.35, [])):
        plan, told = resnet20.plan(rate), []
        found = run(measurement_work(resnet20, plan, "as_is"), told.append)
        assert found.state == "exact"
        assert found.num_images == 40
        assert [question.plan for question in begun] == [plan.to_json()]
        assert (steps is None) or told[0].done == 0.3
        begun.clear()


@pytest.mark.parametrize(
    "change", [{"identity": "other"}, {"dataset": "nowhere"}, {"method": "nothing"}, {"plan": "{}"}, {"split": "none"}]
)
def test_a_question_that_cannot_be_answered_there_is_given_back(resnet20, change):
    question = Question(
        "resnet20", None, resnet20.input_shape, resnet20.identity, "cifar10", resnet20.plan(0.3).to_json(),
        "recalibrated", "choose",
    )  # fmt: skip
    assert run(answer_work(replace(question, **change))) is None


def test_it_is_begun_where_the_cores_measure_and_shares_the_budget(monkeypatch):
    budget, begun = CacheBudget(1 << 30), []
    process = SimpleNamespace(pid=None, start=lambda *first: begun.append(first))
    monkeypatch.setenv("FPGM_CACHE_BYTES", "1G")
    monkeypatch.setattr(apart, "budget_of", lambda: budget)
    monkeypatch.setattr(apart, "measuring_process", lambda: process)
    for device, limit in (("cuda", 1 << 30), ("cpu", 1 << 29)):
        monkeypatch.setattr(apart, "choose_device", lambda wanted, device=device: SimpleNamespace(type=device))
        begin_measuring_apart("a question")
        assert budget.limit == limit
    assert begun == [(answer_work, "a question")]
    process.pid = 7
    begin_measuring_apart("another")
    assert len(begun) == 1
    assert measuring_process.__wrapped__()._environment == {"FPGM_CACHE_BYTES": str(1 << 29)}


def test_it_ends_when_nobody_is_there(monkeypatch):
    closed = []
    monkeypatch.setattr(housekeeping, "measuring_process", lambda: SimpleNamespace(close=lambda: closed.append(True)))
    monkeypatch.setenv("FPGM_REST_BYTES", "1T")
    housekeeping.let_go()
    assert closed == [True]


def test_a_process_of_its_own_measures_and_dies_and_is_begun_anew(resnet20, monkeypatch):
    process = measuring_process.__wrapped__()
    monkeypatch.setattr(measuring, "measuring_process", lambda: process)

    monkeypatch.setattr(apart, "measuring_process", lambda: process)

    def ready():
        run(measurement_work(resnet20, resnet20.plan(0.1), "as_is"))  # begins it
        deadline = time.monotonic() + 60
        while not process.is_ready and time.monotonic() < deadline:
            time.sleep(0.02)
        return process.pid

    first, figures = ready(), []
    for killed in (False, True):
        recovered_networks().clear()
        work = measurement_work(resnet20, resnet20.plan(0.45), "recalibrated")
        next(work)
        if killed:
            process._process.kill()
        figures.append(run(work))
        assert (process.pid != first) == killed, "another is begun at once"
    assert figures[0].answers == figures[1].answers
    process.close()
