"""One network tried: opened, counted, pruned under every coupling, proved, exported, and beside Torch-Pruning."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from fpgm_core.architectures.subjects import Subject, smallest_shape
from fpgm_core.architectures.torch_pruning import beside_torch_pruning
from fpgm_core.errors import FpgmError
from fpgm_core.export.networks import as_onnx, reload_onnx
from fpgm_core.graph import COUPLINGS
from fpgm_core.pruning import Network, PrunedNetwork
from fpgm_core.pruning.proof import TOLERANCE, counted_macs, randomised, tensors_in, verify

RATE = 0.3
_CRITERION = "l2_norm"


@dataclass(frozen=True)
class Trial:
    """What was found. Counts are for images of `shape`, answers were compared on images of `compared_at`.

    `macs` are counted from the graph, `counted_macs` by PyTorch's counter. `prunable` is the share of them that is gone
    where every unit under `coupled` keeps one filter; `cut` the share at 30%, by coupling, and `outcome` "equal" where
    masked and compact answer alike with randomised norms and cost what was counted, else what is wrong, or "-" where a
    coupling has no unit. `onnx` is "equal", or what is wrong. `peer_cut` and `peer` are Torch-Pruning's at 30%.
    """

    network: str
    family: str
    shape: tuple[int, int, int] = (0, 0, 0)
    compared_at: tuple[int, int, int] = (0, 0, 0)
    layers: int = 0
    macs: int = 0
    counted_macs: int = 0
    prunable: float | None = None
    cut: Mapping[str, float] = field(default_factory=dict)
    outcome: Mapping[str, str] = field(default_factory=dict)
    onnx: str = ""
    peer_cut: float | None = None
    peer: str = ""
    refused: str = ""
    seconds: float = 0.0


def try_out(subject: Subject) -> Trial:
    """All of it, for one network; whatever goes wrong is said in the trial."""
    start = time.perf_counter()
    module, shape = subject.build()
    trial = Trial(subject.title, subject.family, shape, counted_macs=counted_macs(module, shape))
    try:
        trial = _opened(trial, module)
    except FpgmError as error:
        trial = replace(trial, refused=str(error))
    peer_cut, peer = beside_torch_pruning(module, shape, trial.compared_at if trial.macs else shape, RATE)
    return replace(trial, peer_cut=peer_cut, peer=peer, seconds=round(time.perf_counter() - start, 1))


def _opened(trial: Trial, module: nn.Module) -> Trial:
    native = Network.from_module(module, trial.shape, name=trial.network, trained=False)
    small = smallest_shape(module, trial.shape)
    network = Network.from_module(module, small, name=trial.network, trained=False)
    cuts, outcomes, pruned = {}, {}, None
    for coupling in COUPLINGS:
        if not native.units(coupling):
            outcomes[coupling] = "-"
            continue
        cuts[coupling] = _cut(native, RATE, coupling)
        pruned = network.prune(RATE, coupling=coupling, criterion=_CRITERION)
        outcomes[coupling] = _proved(pruned)
    return replace(
        trial,
        compared_at=small,
        layers=len(native.layers),
        macs=native.dense_cost.macs,
        prunable=_cut(native, 1.0, "coupled"),
        cut=cuts,
        outcome=outcomes,
        onnx="-" if pruned is None else _exported(pruned),
    )


def _cut(network: Network, rate: float, coupling: str) -> float:
    pruned = network.prune(rate, coupling=coupling, criterion=_CRITERION)
    return round(1 - pruned.cost.macs / network.dense_cost.macs, 4)


def _proved(pruned: PrunedNetwork) -> str:
    proof = verify(randomised(pruned))
    if not proof.holds:
        return proof.problem
    return "equal" if proof.tells else "equal, and the dense answers too"


def _exported(pruned: PrunedNetwork) -> str:
    pruned = randomised(pruned)
    images = torch.randn(2, *pruned.network.input_shape, generator=torch.Generator().manual_seed(1))
    compact = pruned.compact()
    try:
        reloaded = reload_onnx({"compact.onnx": as_onnx(compact, pruned.network.input_shape)})
    except Exception as error:  # whatever exporters raise is the finding
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    with torch.inference_mode():
        pairs = zip(tensors_in(compact(images)), tensors_in(reloaded(images)), strict=True)
        worst = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
    return "equal" if worst <= TOLERANCE else f"differs by {worst:.2g}"
