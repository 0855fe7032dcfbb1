"""Measuring in another process: networks that any process opens, by their name or from where their weights are kept.

Imported by both; the other process needs nothing of Streamlit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from fpgm_core import FpgmError, Measurement, Network, Plan, PrunedNetwork
from fpgm_core.data import load_images
from fpgm_core.evaluation import measure_work
from fpgm_core.pruning import RecoveryStep
from fpgm_core.recovery import get_recovery_method
from fpgm_core.runtime.cache import Shared, budget_of, limit_of, size_of
from fpgm_core.runtime.device import choose_device
from fpgm_core.runtime.memo import once
from fpgm_core.runtime.progress import Work
from fpgm_core.runtime.work_process import WorkProcess


@once
def measuring_process() -> WorkProcess:
    """The process that measures for this server; until it is ready, and where it is not, this one does."""
    return WorkProcess(__name__, environment={"FPGM_CACHE_BYTES": str(_half())})


def begin_measuring_apart(question: Question) -> None:
    """Begin the process where there is none, and this machine's cores measure: a GPU's waits for nobody's pages.

    It answers the question before it is ready, and has then read all that the next one like it needs. The two processes
    share what `FPGM_CACHE_BYTES` allows, half and half.
    """
    if measuring_process().pid is None and choose_device("auto").type == "cpu":
        budget_of().resize(_half())
        measuring_process().start(answer_work, question)


def _half() -> int:
    return limit_of() // 2


@dataclass(frozen=True)
class Question:
    """What is to be measured, in words that another process understands; the plan as its JSON.

    `weights` is the file that the network's are kept in, None for a network of the registry with its own.
    """

    model: str
    weights: Path | None
    input_shape: tuple[int, int, int]
    identity: str
    dataset: str
    plan: str
    method: str
    split: str


@dataclass(frozen=True)
class Answer:
    """A measurement, and what recovery made of the network: the tensors that it replaced, and its steps."""

    measurement: Measurement
    tensors: Mapping[str, Tensor]
    recovery: tuple[RecoveryStep, ...]

    def recovered(self, pruned: PrunedNetwork) -> PrunedNetwork:
        """The pruned network that was measured, recovered."""
        return replace(pruned, tensors=self.tensors, recovery=self.recovery)


_NETWORKS = Shared[Network]("networks", sizeof=lambda network: size_of(network.module))


def answer_work(question: Question) -> Work[Answer | None]:
    """Measure what the question names, in the process that this runs in; None where it has not got all of that."""
    recovered = list[PrunedNetwork]()
    try:
        network = _network(question)
        if network.identity != question.identity:
            return None
        images = load_images(question.dataset, question.split)
        needs_images = get_recovery_method(question.method).needs_images
        work = measure_work(
            network.prune(Plan.from_json(question.plan)),
            images,
            method=question.method,
            training=load_images(question.dataset, "train") if needs_images else None,
            keep=recovered.append,
        )
    except FpgmError:
        return None
    measurement = yield from work
    return Answer(measurement, recovered[-1].tensors, recovered[-1].recovery)


def _network(question: Question) -> Network:
    model, weights = question.model, question.weights
    shape = question.input_shape if weights else None  # the registry's have their own
    return _NETWORKS.get_or_make((model, weights, shape), lambda: Network.load(model, weights, input_shape=shape))
