"""The manifest: what an export is of, what is in it, and what was measured, as JSON."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from fpgm_core.data import ImageSet
from fpgm_core.export.speed import Speed
from fpgm_core.pruning import Network, Proof, PrunedNetwork

FORMAT_VERSION = 1


def as_manifest(
    pruned: PrunedNetwork,
    *,
    aligned: bool,
    proof: Proof,
    artefacts: Sequence[Mapping[str, Any]],
    skipped: Sequence[Mapping[str, str]],
    speed: Speed,
    splits: Mapping[str, ImageSet],
) -> dict[str, Any]:
    """The manifest of an export, plain data.

    `rung` is the name of the recovery method that was applied last, "as_is" where none was; `recovery` says of every
    one what it read. `macs` and `params` are the plan's; `compact_macs` and `compact_params` are those of the network
    in the files, by PyTorch's counter: more where that is `aligned` and carries zeros. Keys are only ever added, so
    that whoever reads old manifests reads new ones.
    """
    network, plan, cost = pruned.network, pruned.plan, pruned.cost
    return {
        "format_version": FORMAT_VERSION,
        "model": plan.model,
        "fingerprint": plan.fingerprint,
        "trained": network.trained,
        "class_names": None if network.class_names is None else list(network.class_names),
        "criterion": plan.criterion,
        "coupling": plan.coupling,
        "rung": pruned.method,
        "recalibrated": pruned.method == "recalibrated",
        "recovery": [asdict(step) for step in pruned.recovery],
        "macs": cost.macs,
        "dense_macs": network.dense_cost.macs,
        "params": cost.params,
        "dense_params": network.dense_cost.params,
        "aligned": aligned,
        "compact_macs": proof.counted_macs,
        "compact_params": proof.counted_params,
        "normalisation": _normalisation(network, splits),
        "artefacts": list(artefacts),
        "skipped": list(skipped),
        "proof": {**asdict(proof), "holds": proof.holds},
        "measured": {
            **speed.to_dict(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "processor": platform.machine(),
        },
    }


def _normalisation(network: Network, splits: Mapping[str, ImageSet]) -> dict[str, Any] | None:
    """How images must be prepared: pixels scaled to 0..1, minus mean, over std, channel by channel."""
    known = [(images.mean, images.std) for images in splits.values()]
    if network.normalization is not None:
        known.insert(0, network.normalization)
    if not known:
        return None
    mean, std = known[0]
    return {"mean": list(mean), "std": list(std)}
