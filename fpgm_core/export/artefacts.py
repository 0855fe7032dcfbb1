"""What can be exported: one record for each form, with how it is made and how it is brought back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch.fx import GraphModule

from fpgm_core.export import networks
from fpgm_core.export.plans import as_json, plan_csv, torch_ao_config
from fpgm_core.export.torch_pruning import torch_pruning_ratios
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.timing import as_onnx


@dataclass(frozen=True)
class Artefact:
    """One thing that can be exported.

    `make` returns its files from a pruned network and its compact form; `reload`, where the files hold a network,
    brings that back as a function of images. Where `make` raises FpgmError the artefact is left out, with that reason.
    """

    name: str
    title: str
    make: Callable[[PrunedNetwork, GraphModule], dict[str, bytes]]
    reload: networks.Reload | None = None


def _python(pruned: PrunedNetwork, module: GraphModule) -> dict[str, bytes]:
    network, plan = pruned.network, pruned.plan
    cut = 1 - pruned.cost.macs / network.dense_cost.macs
    title = f"{network.title}, {plan.criterion}, {plan.coupling}: {cut:.1%} of the multiply-adds pruned."
    return {
        networks.WEIGHTS: networks.as_safetensors(module),
        "compact.py": networks.as_python(module, title, network.input_shape),
    }


_RECORDS = (
    Artefact(
        "plan",
        "The plan, as this tool reads it",
        lambda pruned, module: {"plan.json": as_json(pruned.plan.to_dict())},
    ),
    Artefact(
        "table",
        "The plan as a table",
        lambda pruned, module: {"plan.csv": plan_csv(pruned.network, pruned.plan).encode()},
    ),
    Artefact(
        "torch_pruning",
        "Torch-Pruning's pruning_ratio_dict",
        lambda pruned, module: {"torch_pruning.json": as_json(torch_pruning_ratios(pruned.network, pruned.plan))},
    ),
    Artefact(
        "torch_ao",
        "The config of torch.ao's FPGMPruner",
        lambda pruned, module: {"torch_ao.json": as_json(torch_ao_config(pruned.network, pruned.plan))},
    ),
    Artefact(
        "python", "Weights as safetensors, and one Python file that rebuilds them", _python, networks.reload_python
    ),
    Artefact(
        "pt2",
        "torch.export archive",
        lambda pruned, module: {"compact.pt2": networks.as_pt2(module, pruned.network.input_shape)},
        networks.reload_pt2,
    ),
    Artefact(
        "onnx",
        "ONNX, for onnxruntime and others",
        lambda pruned, module: {"compact.onnx": as_onnx(module, pruned.network.input_shape)},
        networks.reload_onnx,
    ),
)
ARTEFACTS: Mapping[str, Artefact] = MappingProxyType({record.name: record for record in _RECORDS})
