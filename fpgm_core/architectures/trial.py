"""One network tried: opened, counted, pruned under every coupling, proved, exported, and beside Torch-Pruning."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from fpgm_core.architectures.subjects import Subject, smallest_shape
from fpgm_core.architectures.torch_pruning import beside_torch_pruning
from fpgm_core.errors import FpgmError
from fpgm_core.export.networks import reload_onnx
from fpgm_core.graph import COUPLINGS, Cost
from fpgm_core.pruning import Network, PrunedNetwork, counted_macs, verify
from fpgm_core.pruning.proof import TOLERANCE, randomised_module, tensors_in
from fpgm_core.timing import as_onnx

RATE = 0.3
EQUAL = "equal"
_CRITERION = "l2_norm"


@dataclass(frozen=True)
class Trial:
    """What was found of one network; "" and None where it did not come to that.

    Counts are for images of `side` x `side`, the size it was made for; answers were compared on images of
    `compared_at`. `macs` are counted from the graph, `counted_macs` by PyTorch's counter, of the dense network.
    `prunable` is the share of them in layers that get smaller where 30% of every unit is pruned (`coupled`).
    By coupling: the share cut at 30%, and "equal" where masked and compact answer alike with randomised norms and cost
    what was counted, else what is wrong; "-" where the coupling has no unit. `onnx` is "equal" where the ONNX file,
    run by onnxruntime, answers as the compact network. `peer_cut` and `peer` are Torch-Pruning's, uniformly at 30%.
    """

    network: str
    family: str
    side: int = 0
    compared_at: int = 0
    layers: int = 0
    macs: int = 0
    counted_macs: int = 0
    prunable: float | None = None
    cut_independent: float | None = None
    cut_inner: float | None = None
    cut_coupled: float | None = None
    independent: str = ""
    inner: str = ""
    coupled: str = ""
    onnx: str = ""
    peer_cut: float | None = None
    peer: str = ""
    problem: str = ""
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether it was opened, counted, pruned and exported, all rightly."""
        outcomes = self.independent, self.inner, self.coupled, self.onnx
        counted = self.macs == self.counted_macs > 0
        return counted and not self.problem and EQUAL in outcomes and set(outcomes) <= {EQUAL, "-"}


def try_out(subject: Subject) -> Trial:
    """All of it, for one network; whatever goes wrong is said in the trial."""
    start = time.perf_counter()
    module, shape = subject.build()
    trial = Trial(subject.title, subject.family, side=shape[1], counted_macs=counted_macs(module, shape))
    small = smallest_shape(module, shape)
    trial = replace(trial, compared_at=small[1])
    try:
        trial = _tried(trial, module, shape, small)
    except FpgmError as error:
        trial = replace(trial, problem=str(error))
    peer_cut, peer = beside_torch_pruning(module, shape, small, RATE)
    return replace(trial, peer_cut=peer_cut, peer=peer, seconds=round(time.perf_counter() - start, 1))


def _tried(trial: Trial, module: nn.Module, shape: tuple[int, int, int], small: tuple[int, int, int]) -> Trial:
    native = Network.from_module(module, shape, name=trial.network, trained=False)
    network = Network.from_module(module, small, name=trial.network, trained=False)
    network = network.with_module(randomised_module(network.module, small))
    found: dict[str, Any] = {}
    last, prunable = None, 0.0
    for coupling in COUPLINGS:
        if not native.units(coupling):
            found[coupling] = "-"
            continue
        cost = native.prune(RATE, coupling=coupling, criterion=_CRITERION).cost
        found[f"cut_{coupling}"] = round(1 - cost.macs / native.dense_cost.macs, 4)
        prunable = _share_that_shrinks(native.dense_cost, cost)
        last = network.prune(RATE, coupling=coupling, criterion=_CRITERION)
        found[coupling] = _proved(last)
    return replace(
        trial,
        layers=len(native.layers),
        macs=native.dense_cost.macs,
        prunable=round(prunable, 4),
        onnx="-" if last is None else _exported(last),
        **found,
    )


def _share_that_shrinks(dense: Cost, pruned: Cost) -> float:
    pairs = zip(dense.layers, pruned.layers, strict=True)
    return sum(before.macs for before, after in pairs if after.macs < before.macs) / dense.macs


def _proved(pruned: PrunedNetwork) -> str:
    proof = verify(pruned)
    if not proof.holds:
        return proof.problem
    return EQUAL if proof.tells else "equal, but pruning moves nothing"


def _exported(pruned: PrunedNetwork) -> str:
    images = torch.randn(2, *pruned.network.input_shape, generator=torch.Generator().manual_seed(1))
    compact = pruned.compact()
    try:
        reloaded = reload_onnx({"compact.onnx": as_onnx(compact, pruned.network.input_shape)})
        with torch.inference_mode():
            pairs = zip(tensors_in(compact(images)), tensors_in(reloaded(images)), strict=True)
            worst = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
    except Exception as error:  # whatever exporters and runtimes raise is the finding
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:80]}"
    return EQUAL if worst <= TOLERANCE else f"differs by {worst:.2g}"
