"""Milliseconds as a cost: what the table of a machine predicts of any allocation."""

from __future__ import annotations

import numpy as np

from fpgm_core.allocation.choices import Choices
from fpgm_core.allocation.costs import CostFunction, macs_of
from fpgm_core.allocation.goals import CostMeasure
from fpgm_core.errors import FpgmError
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.timing import Predictor, widths

NAME = "ms"


def milliseconds(predictor: Predictor) -> CostMeasure:
    """The measure of cost called "ms", of one network under one coupling on one machine; see `register_cost`.

        register_cost(milliseconds(predictor))
        suggest(network, images=train, cuts={"ms": 0.4})

    Both its parts raise FpgmError for another network or coupling than the predictor's.
    """

    def model(choices: Choices) -> CostFunction:
        _check(predictor, choices.network.fingerprint, choices.like.coupling)
        counted = macs_of(choices)  # of it alone how many filters and channels are left

        def cost(counts: np.ndarray) -> np.ndarray:
            return predictor.of_widths(counted.channels.left(counts), counted.rows.left(counts))

        return cost

    def exact(pruned: PrunedNetwork) -> float:
        if pruned.prunes_nothing:
            return predictor.dense.value
        _check(predictor, pruned.network.fingerprint, pruned.plan.coupling)
        inputs, outputs = widths(pruned)
        return float(predictor.of_widths(inputs[None], outputs[None])[0])

    unit = f"milliseconds of {predictor.table.identity['batch']} images"
    return CostMeasure(NAME, "milliseconds", unit, model, exact)


def _check(predictor: Predictor, fingerprint: str, coupling: str) -> None:
    if (fingerprint, coupling) != (predictor.network.fingerprint, predictor.coupling):
        raise FpgmError(
            f"the milliseconds are of {predictor.network.name}, {predictor.coupling}; probe this network under this "
            "coupling"
        )
