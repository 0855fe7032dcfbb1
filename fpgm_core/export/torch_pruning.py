"""A plan as Torch-Pruning reads it, written only where Torch-Pruning prunes just what the plan does."""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fpgm_core.errors import FpgmError
from fpgm_core.graph import Flow, Unit, Value
from fpgm_core.graph.flow import NEVER, Product
from fpgm_core.pruning import Network, Plan
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.torchvision_import import import_torchvision


def torch_pruning_ratios(network: Network, plan: Plan, *, tried: bool | None = None) -> dict[str, float]:
    """Torch-Pruning's `pruning_ratio_dict`, by layer name: replace each name with `model.get_submodule(name)`.

    Where Torch-Pruning is installed it is tried on a copy of the network, and must leave as many filters of every layer
    as the plan does, in a network that runs. Where it is not, the graph must be one that both read alike, see
    `misread`. `tried` says which of the two; None finds out.

    Raises FpgmError, with the reason, where that does not hold, and for `independent` plans: Torch-Pruning moves layers
    that share channels together.
    """
    if plan.coupling == "independent":
        raise FpgmError(
            "Torch-Pruning always moves layers that share channels together, so it cannot follow an independent "
            "plan; choose coupling inner or coupled"
        )
    network.check(plan)
    ratios = ratios_of({unit: network.count_pruned(plan, unit) for unit in network.units(plan.coupling)})
    if tried or (tried is None and importlib.util.find_spec("torch_pruning") is not None):
        _try(network, ratios, _kept(network, plan))
        return ratios
    reason = misread(network.flow)
    if reason:
        raise FpgmError(
            f"Torch-Pruning may prune other counts: {reason}; pip install torch-pruning to have it tried on this plan"
        )
    return ratios


def ratios_of(counts: Mapping[Unit, int]) -> dict[str, float]:
    """The ratio of every layer of units of which so many filters are pruned.

    Torch-Pruning prunes N - int(N (1 - ratio)) of N filters, so each ratio is the count less half a filter, over N: it
    rounds to exactly that count, and of equal blocks to as many of each.
    """
    return {
        layer: max(0.0, (count - 0.5) / unit.size) if count else 0.0
        for unit, count in counts.items()
        for layer in unit.members
    }


def misread(flow: Flow) -> str:
    """Why Torch-Pruning may group or count a network's channels otherwise than this library; "" where both agree.

    They agree where every channel stays in its place from the layer that writes it to those that read it: convolutions,
    norms, activations, pooling, sums, concatenations, weights by channel. They do not, or not in every version, where
    channels are padded, chosen, split, shuffled or repeated, where streams are multiplied, and where a layer runs more
    than once.
    """
    for name, known in flow.values.items():
        for value in known if isinstance(known, tuple) else (known,):
            if isinstance(value, Value) and bool((value.sources == NEVER).all(0).any()):
                return f"channels of zeros are added ({name})"
            if isinstance(value, Value) and (value.index is not None or value.spread):
                return f"channels are split, chosen or put in another order ({name})"
    if any(isinstance(reader, Product) for reader in flow.readers):
        return "streams are multiplied"
    if flow.repeated:
        return f"{min(flow.repeated)} runs more than once, or is no plain layer"
    return ""


def _kept(network: Network, plan: Plan) -> dict[str, int]:
    """How many filters of every layer are left: what the plan says, and of those that follow others what is read."""
    pruned = network.prune(plan)
    masks = {layer: int(mask.sum()) for layer, mask in pruned.keep_masks.items()}
    return {layer.name: layer.kept for layer in pruned.cost.layers} | masks


def _try(network: Network, ratios: Mapping[str, float], kept: Mapping[str, int]) -> None:
    """Prune a copy as Torch-Pruning does; raises FpgmError where a layer keeps another count, or nothing runs."""
    peer: Any = copy.deepcopy(network.module).requires_grad_(True)
    image = torch.zeros(1, *network.input_shape)
    try:
        with FORWARD_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _prune(peer, image, ratios)
            with torch.no_grad():
                peer(image)
    except Exception as error:  # whatever it raises on a network that it does not read
        raise FpgmError(
            f"Torch-Pruning cannot prune this network so ({type(error).__name__}: {error}); use the plan's own files"
        ) from error
    for name, module in peer.named_modules():
        if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            continue
        dense: Any = network.module.get_submodule(name)
        wanted = kept.get(name, _outputs(dense))
        if _outputs(module) != wanted:
            raise FpgmError(
                f"Torch-Pruning would keep {_outputs(module)} filters of {name}, the plan keeps {wanted}; use the "
                "plan's own files"
            )


def _prune(peer: nn.Module, image: torch.Tensor, ratios: Mapping[str, float]) -> None:
    import_torchvision("torchvision.models")  # which Torch-Pruning imports
    tp: Any = importlib.import_module("torch_pruning")
    by_module: Any = {peer.get_submodule(layer): ratio for layer, ratio in ratios.items()}
    tp.pruner.BasePruner(
        peer,
        image,
        importance=tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.0,
        pruning_ratio_dict=by_module,
        in_channel_groups={},  # its defaults are shared between pruners, and keep every network alive
        out_channel_groups={},
    ).step()


def _outputs(layer: Any) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)
