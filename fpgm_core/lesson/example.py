"""The real example of step 5: what was measured of EfficientNet-Lite0's ImageNet weights.

The record in `bundled/` holds figures, no weights; `lesson.example_record` makes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from fpgm_core.lesson.agreements import LayerAgreement

RECORD = resources.files("fpgm_core.lesson") / "bundled" / "efficientnet_lite0.json"


@dataclass(frozen=True, eq=False)
class Example:
    """A network's layers as they were measured, and the filters of the one where norm and g part most.

    `norms` and `sums` (g) are one a filter of the layer `parted`, (N,).
    """

    network: str
    layers: tuple[LayerAgreement, ...]
    parted: LayerAgreement
    norms: np.ndarray
    sums: np.ndarray

    def of_kind(self, depthwise: bool) -> list[LayerAgreement]:
        """Its depthwise layers, or the others."""
        return [layer for layer in self.layers if layer.depthwise is depthwise]


@cache
def real_example() -> Example:
    """The example that comes with the package."""
    record = json.loads(RECORD.read_text())
    layers = tuple(LayerAgreement(*values) for values in record["layers"])
    parted = next(layer for layer in layers if layer.layer == record["parted"])
    return Example(record["network"], layers, parted, np.array(record["norms"]), np.array(record["sums"]))
