"""What can be exported: one record for each form, with how it is made and how it is brought back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from torch.fx import GraphModule

from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.export import networks
from fpgm_core.export.eight_bits import as_int8, training_for
from fpgm_core.export.plans import as_json, plan_csv, torch_ao_config
from fpgm_core.export.torch_pruning import torch_pruning_ratios
from fpgm_core.pruning import PrunedNetwork, counted_macs
from fpgm_core.timing import as_onnx


@dataclass(frozen=True)
class Artefact:
    """One thing that can be exported.

    `make` returns its files from a pruned network and its compact form; what is calibrated gives `make_calibrated`
    instead, which is given training images besides, None where there are none. `reload`, where the files hold a
    network, brings that back as a function of images. Where making raises FpgmError the artefact is left out, with that
    reason. `exact` says that the network in the files must answer as the compact one does; of one that need not, eight
    bits say, the change of accuracy is measured.
    """

    name: str
    title: str
    make: Callable[[PrunedNetwork, GraphModule], dict[str, bytes]] | None = None
    reload: networks.Reload | None = None
    make_calibrated: Callable[[PrunedNetwork, GraphModule, ImageSet | None], dict[str, bytes]] | None = None
    exact: bool = True

    def made(self, pruned: PrunedNetwork, module: GraphModule, training: ImageSet | None) -> dict[str, bytes]:
        """Its files by name. Raises FpgmError where they cannot be made."""
        if self.make_calibrated is not None:
            return self.make_calibrated(pruned, module, training)
        if self.make is None:
            raise FpgmError(f"nothing makes the artefact {self.name}; give make or make_calibrated")
        return self.make(pruned, module)


def _python(pruned: PrunedNetwork, module: GraphModule) -> dict[str, bytes]:
    network, plan, dense = pruned.network, pruned.plan, pruned.network.dense_cost.macs
    cut = 1 - pruned.cost.macs / dense
    title = f"{network.title}, {plan.criterion}, {plan.coupling}: {cut:.1%} of the multiply-adds pruned."
    if (macs := counted_macs(module, network.input_shape)) > pruned.cost.macs:
        title += (
            "\n\nAligned: the writers of a sum carry each other's channels as zeros, which this network multiplies "
            f"too: it has {1 - macs / dense:.1%} fewer multiply-adds than the dense one."
        )
    return {
        networks.WEIGHTS: networks.as_safetensors(module),
        "compact.py": networks.as_python(module, title, network.input_shape),
    }


def _int8(pruned: PrunedNetwork, module: GraphModule, training: ImageSet | None) -> dict[str, bytes]:
    images = training_for(pruned.network, training)
    return {networks.INT8: as_int8(as_onnx(module, pruned.network.input_shape), images)}


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
        lambda pruned, module: {networks.ONNX: as_onnx(module, pruned.network.input_shape)},
        networks.reload_onnx,
    ),
    Artefact(
        "int8",
        "ONNX in eight bits, for onnxruntime and others",
        make_calibrated=_int8,
        reload=partial(networks.reload_onnx, name=networks.INT8),
        exact=False,
    ),
)
ARTEFACTS: Mapping[str, Artefact] = MappingProxyType({record.name: record for record in _RECORDS})
