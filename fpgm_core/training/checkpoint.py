"""What a run leaves after every epoch, so that it resumes where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_safetensors
from torch import Tensor

from fpgm_core.errors import FpgmError
from fpgm_core.models import fingerprint
from fpgm_core.runtime.files import check_file
from fpgm_core.runtime.storage import write_atomic
from fpgm_core.training.run import Epoch
from fpgm_core.training.schedules import Masks

FILE = "checkpoint.safetensors"
PREVIOUS = "checkpoint.previous.safetensors"  # that of the epoch before


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run after one of its epochs: what it is a run of, its curve, weights, momenta and keep masks, by name."""

    identity: Mapping[str, Any]
    epochs: tuple[Epoch, ...]
    model: Mapping[str, Tensor]
    momenta: Mapping[str, Tensor]
    masks: Masks

    def write(self, folder: Path) -> None:
        """Write it into a folder, whole or not at all; the one that was there stays as the previous one.

        Raises FpgmError where that cannot be.
        """
        tensors = {f"model/{name}": tensor for name, tensor in self.model.items()}
        tensors |= {f"momentum/{name}": tensor for name, tensor in self.momenta.items()}
        tensors |= {f"mask/{layer}": torch.tensor(mask) for layer, mask in self.masks.items()}
        about = json.dumps({"identity": self.identity, "epochs": [asdict(epoch) for epoch in self.epochs]})
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        _keep_previous(folder)
        write_atomic(folder / FILE, save_safetensors(plain, {"run": about, "sha256": _checksum(about, plain)}))

    @classmethod
    def read(cls, folder: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
        """The checkpoint in a folder, None where there is none.

        Raises FpgmError where it is damaged, naming the one before it where that holds, or of a run with another
        `identity`.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            about, tensors = _read(path)
        except FpgmError as error:
            raise FpgmError(f"{error}; {_way_out(folder)}") from error
        if not _same_run(about["identity"], identity):
            raise FpgmError(f"{path} is of another run (plan, recipe, schedule or data differ); name another folder")
        return cls(
            identity=identity,
            epochs=tuple(Epoch(**epoch) for epoch in about["epochs"]),
            model=tensors["model"],
            momenta=tensors["momentum"],
            masks={layer: mask.numpy() for layer, mask in tensors["mask"].items()},
        )


def _same_run(saved: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is of this run; those of former versions name what a run began with only if repaired."""
    if "start" not in saved:
        saved = {"start": saved.get("mended", identity["start"]), **saved}
    return {name: value for name, value in saved.items() if name != "mended"} == identity


def _read(path: Path) -> tuple[dict[str, Any], Mapping[str, dict[str, Tensor]]]:
    tensors: dict[str, dict[str, Tensor]] = {"model": {}, "momentum": {}, "mask": {}}
    check_file(path)
    try:
        with safe_open(path, "pt") as file:
            metadata, plain = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        about = json.loads(metadata["run"])
        for key, tensor in plain.items():
            kind, _, name = key.partition("/")
            tensors[kind][name] = tensor
        [Epoch(**epoch) for epoch in about["epochs"]]
        about["identity"]["plan"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise FpgmError(f"{path} is not a checkpoint of this tool ({error})") from error
    # Checkpoints of former versions have none.
    if "sha256" in metadata and metadata["sha256"] != _checksum(metadata["run"], plain):
        raise FpgmError(f"{path} is damaged: its checksum does not hold")
    return about, tensors


def _checksum(about: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of what a checkpoint says of itself, and of every tensor."""
    return hashlib.sha256(f"{about} {fingerprint(tensors)}".encode()).hexdigest()


def _keep_previous(folder: Path) -> None:
    """Have the checkpoint of a folder under the previous one's name too; where it stands it stays."""
    path, link = folder / FILE, folder / f".{PREVIOUS}"
    if not path.exists():
        return
    with suppress(OSError):  # a file system without links has no previous one
        link.unlink(missing_ok=True)
        os.link(path, link)
        os.replace(link, folder / PREVIOUS)


def _way_out(folder: Path) -> str:
    """What to do about a damaged checkpoint."""
    try:
        about, _ = _read(folder / PREVIOUS)
    except FpgmError:
        return "move it away to begin anew"
    return f"the one before it holds {len(about['epochs'])} epochs: move {PREVIOUS} into its place to resume there"
