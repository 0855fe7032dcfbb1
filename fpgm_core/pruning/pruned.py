"""A pruned network: a network, what is kept of it, the tensors that recovery replaced, and how they came to be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn
from torch.fx import GraphModule

from fpgm_core.errors import FpgmError
from fpgm_core.graph import Cost, cost_of, live_sources, overlay
from fpgm_core.pruning.compact import carried_sources, compact_module
from fpgm_core.pruning.masked import masked_module
from fpgm_core.pruning.plan import Plan
from fpgm_core.runtime.files import read_file
from fpgm_core.runtime.storage import write_atomic

if TYPE_CHECKING:  # the two know each other: a network makes pruned networks, which remember it
    from fpgm_core.pruning.network import Network

AS_IS = "as_is"
_FORMAT = 1
_HEADER = "pruned_network"
_HEADER_LIMIT = 64 << 20


@dataclass(frozen=True)
class RecoveryStep:
    """One recovery method as it was applied: its name, the images it read, and what else decided its result.

    `num_images` training images of the set called `images` were read; `details` are plain JSON values (seeds, ridge,
    epochs, what was watched). `notice` is what must be said of the result, or None.
    """

    method: str
    num_images: int = 0
    images: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    notice: str | None = None


@dataclass(frozen=True, eq=False)
class PrunedNetwork:
    """A network under a plan: immutable and cheap; nothing is measured, and the network is not touched.

    `keep_masks` are the plan's, bool (N,) by layer. `tensors` replace parameters and buffers of the dense network, by
    name, in its shapes, on the CPU. `recovery` says how they came to be, in order; empty right after pruning.
    `prepared` is a compact form that already has these tensors, where recovery left one: for measuring alone, and
    nothing depends on it.
    """

    network: Network
    plan: Plan
    keep_masks: Mapping[str, np.ndarray]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    recovery: tuple[RecoveryStep, ...] = ()
    prepared: nn.Module | None = field(default=None, repr=False)

    @property
    def method(self) -> str:
        """The name of the recovery method that was applied last; "as_is" where none was."""
        return self.recovery[-1].method if self.recovery else AS_IS

    @property
    def recovered_on(self) -> int:
        """How many training images the last recovery read."""
        return self.recovery[-1].num_images if self.recovery else 0

    @property
    def notice(self) -> str | None:
        """What must be said of the last recovery, or None."""
        return self.recovery[-1].notice if self.recovery else None

    @cached_property
    def prunes_nothing(self) -> bool:
        """Whether every filter is kept."""
        return all(bool(mask.all()) for mask in self.keep_masks.values())

    @cached_property
    def digest(self) -> str:
        """A hash of the weights, of which filters are gone and of the tensors that were replaced."""
        found = hashlib.sha256(self.network.identity.encode())
        for name in sorted(self.keep_masks):
            found.update(f"{name} {len(self.keep_masks[name])}".encode() + np.packbits(self.keep_masks[name]).tobytes())
        for name in sorted(self.tensors):
            found.update(name.encode() + self.tensors[name].contiguous().numpy().tobytes())
        return found.hexdigest()

    @cached_property
    def live(self) -> np.ndarray:
        """Which sources carry something, bool: see `graph.live_sources`."""
        return live_sources(self.network.flow, self.keep_masks)

    @cached_property
    def cost(self) -> Cost:
        """MACs and parameters, by layer and in total, exact under the keep masks."""
        return cost_of(self.network.flow, self.live)

    @cached_property
    def carried(self) -> np.ndarray:
        """Which sources the aligned compact network holds, bool: the live ones, and those that it carries as zeros."""
        return carried_sources(self.network.flow, self.live)

    @property
    def can_align(self) -> bool:
        """Whether writers of a sum kept different channels: elsewhere the aligned compact network is the plain one."""
        return not np.array_equal(self.carried, self.live)

    def compact_cost(self, *, aligned: bool = False) -> Cost:
        """The cost of `compact(aligned=aligned)`: aligned more than `cost`, for zeros are multiplied too."""
        return cost_of(self.network.flow, self.carried) if aligned else self.cost

    def dense_shaped(self) -> nn.Module:
        """The network in dense shapes with the replaced tensors, removed filters still in it; a view, see `overlay`."""
        return overlay(self.network.module, self.tensors)

    def masked(self) -> nn.Module:
        """The masked network: dense shapes, removed channels exactly zero."""
        return masked_module(self.dense_shaped(), self.network.flow, self.keep_masks)

    def compact(self, *, aligned: bool = False) -> GraphModule:
        """The compact network: physically smaller, computing what `masked()` computes; a module of its own.

        `aligned` as for `compact_module`.
        """
        return compact_module(self.dense_shaped(), self.network.flow, self.keep_masks, aligned)

    def whole(self) -> nn.Module:
        """The module that the network is a part of (a detector), a copy with the compact network in its place.

        The compact network itself where it is no part of anything.
        """
        around = self.network.surroundings
        return self.compact() if around is None else around.with_part(self.compact())

    def with_tensors(self, tensors: Mapping[str, Tensor], step: RecoveryStep) -> PrunedNetwork:
        """The same with more tensors replaced by one recovery step."""
        own = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
        return replace(self, tensors={**self.tensors, **own}, recovery=(*self.recovery, step), prepared=None)

    def with_norm_statistics(self, compact: nn.Module, step: RecoveryStep, *, aligned: bool = False) -> PrunedNetwork:
        """The same with the running statistics that a compact form of it, `aligned` or not, has now."""
        tensors: dict[str, Tensor] = {}
        modules = dict(compact.named_modules())
        present = self.carried if aligned else self.live
        for norm in self.network.flow.batch_norms:
            if norm.name not in modules:
                continue
            carried = torch.from_numpy(np.flatnonzero(present[norm.reads].any(0)))
            for kind in ("running_mean", "running_var"):
                name = f"{norm.name}.{kind}"
                dense = self.tensors.get(name)
                full = (self.network.module.get_buffer(name) if dense is None else dense).clone()
                full[carried] = modules[norm.name].get_buffer(kind).detach().cpu()
                tensors[name] = full
        return self.with_tensors(tensors, step)

    def with_compact_state(self, compact: nn.Module, step: RecoveryStep) -> PrunedNetwork:
        """The same with every tensor that a compact form of it has now, after training say, back in dense shapes.

        `compact` is a module that `compact()` made. Where each of its entries comes from is found by compacting a
        network whose entries are their own numbers: whatever compaction does, this undoes it.
        """
        state = {name: t for name, t in self.dense_shaped().state_dict().items() if t.is_floating_point()}
        numbers = {name: torch.arange(t.numel(), dtype=torch.float64).reshape(t.shape) for name, t in state.items()}
        numbered = overlay(self.network.module, numbers)
        sources = compact_module(numbered, self.network.flow, self.keep_masks, False).state_dict()
        tensors: dict[str, Tensor] = {}
        for name, value in compact.state_dict().items():
            if name in state:
                dense = state[name].clone(memory_format=torch.contiguous_format)  # so that it can be viewed flat
                dense.view(-1)[sources[name].long().flatten()] = value.detach().cpu().to(dense.dtype).flatten()
                tensors[name] = dense
        return self.with_tensors(tensors, step)

    def save(self, path: Path) -> None:
        """Write masks, replaced tensors, plan and provenance as one safetensors file, whole or not at all.

        The dense network's own weights are not in it: `load` takes them from the network. Raises FpgmError where the
        file cannot be written.
        """
        about = {
            "format_version": _FORMAT,
            "plan": self.plan.to_dict(),
            "recovery": [asdict(step) for step in self.recovery],
        }
        content = {f"mask/{layer}": torch.from_numpy(mask.astype(np.uint8)) for layer, mask in self.keep_masks.items()}
        content |= {f"tensor/{name}": tensor.contiguous() for name, tensor in self.tensors.items()}
        write_atomic(Path(path), save_safetensors(content, {_HEADER: json.dumps(about)}))

    @classmethod
    def load(cls, path: Path, network: Network) -> PrunedNetwork:
        """Read what `save` wrote, onto the network it was made from.

        Raises FpgmError where the file is missing, damaged, or was made for other weights.
        """
        about, tensors = _read(Path(path))
        try:
            plan = Plan.from_dict(about["plan"])
            steps = tuple(RecoveryStep(**step) for step in about["recovery"])
        except (KeyError, TypeError) as error:
            raise FpgmError(f"{path} has an incomplete header; save the pruned network again") from error
        network.check(plan)
        masks = {
            name.removeprefix("mask/"): t.numpy().astype(bool) for name, t in tensors.items() if "mask/" in name[:5]
        }
        replaced = {name.removeprefix("tensor/"): t for name, t in tensors.items() if name.startswith("tensor/")}
        _check_shapes(path, network, plan, masks, replaced)
        return cls(network, plan, masks, replaced, steps)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    content = read_file(path)
    try:
        tensors = load_safetensors(content)
        size = int.from_bytes(content[:8], "little")
        about = json.loads(json.loads(content[8 : 8 + min(size, _HEADER_LIMIT)])["__metadata__"][_HEADER])
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FpgmError(f"{path} is not a saved pruned network; save it again with PrunedNetwork.save") from error
    if not isinstance(about, dict) or about.get("format_version") != _FORMAT:
        raise FpgmError(f"{path} was saved by another version of this tool; this one reads format {_FORMAT}")
    return about, tensors


def _check_shapes(
    path: Path, network: Network, plan: Plan, masks: Mapping[str, np.ndarray], tensors: Mapping[str, Tensor]
) -> None:
    sizes = {member: unit.size for unit in network.units(plan.coupling) for member in unit.members}
    if {layer: mask.shape for layer, mask in masks.items()} != {layer: (size,) for layer, size in sizes.items()}:
        raise FpgmError(f"the masks in {path} are not of {network.name}'s layers; save the pruned network again")
    state = network.module.state_dict()
    for name, tensor in tensors.items():
        if name not in state or state[name].shape != tensor.shape:
            raise FpgmError(f"{path} replaces {name}, which {network.name} does not have in that shape")
        if not bool(torch.isfinite(tensor).all()):
            raise FpgmError(f"{path} holds values that are not finite in {name}; recover the network again")
