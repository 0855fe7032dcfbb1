"""What a run leaves after every epoch, so that it resumes where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_safetensors
from torch import Tensor

from fpgm_core.errors import FpgmError
from fpgm_core.runtime.storage import write_atomic
from fpgm_core.training.run import Epoch
from fpgm_core.training.schedules import Masks

FILE = "checkpoint.safetensors"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run after one of its epochs: what it is a run of, its curve, weights, momenta and keep masks, by name."""

    identity: Mapping[str, Any]
    epochs: tuple[Epoch, ...]
    model: Mapping[str, Tensor]
    momenta: Mapping[str, Tensor]
    masks: Masks

    def write(self, folder: Path) -> None:
        """Write it into a folder, whole or not at all. Raises FpgmError where that cannot be."""
        tensors = {f"model/{name}": tensor for name, tensor in self.model.items()}
        tensors |= {f"momentum/{name}": tensor for name, tensor in self.momenta.items()}
        tensors |= {f"mask/{layer}": torch.tensor(mask) for layer, mask in self.masks.items()}
        about = {"identity": self.identity, "epochs": [asdict(epoch) for epoch in self.epochs]}
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_atomic(folder / FILE, save_safetensors(plain, {"run": json.dumps(about)}))

    @classmethod
    def read(cls, folder: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
        """The checkpoint in a folder, None where there is none.

        Raises FpgmError where it is damaged, or of a run with another `identity`.
        """
        path = folder / FILE
        if not path.exists():
            return None
        about, tensors = _read(path)
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
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["run"])
            for key in file.keys():  # noqa: SIM118  not a mapping
                kind, _, name = key.partition("/")
                tensors[kind][name] = file.get_tensor(key)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise FpgmError(f"{path} is not a checkpoint of this tool ({error}); move it away") from error
    return about, tensors
