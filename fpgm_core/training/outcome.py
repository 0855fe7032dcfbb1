"""What a training run leaves: weights in dense shapes, a plan that fits them, a record with what was measured."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_safetensors

from fpgm_core.data import ImageSet
from fpgm_core.inference.classify import count_correct_work
from fpgm_core.models import fingerprint
from fpgm_core.pruning import Plan, PrunedNetwork
from fpgm_core.runtime.progress import Work, within
from fpgm_core.runtime.storage import write_atomic
from fpgm_core.training.trainer import Trainer


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """A run's result: what it reached, and right answers in float32 by split of the test images.

    `num_correct` and `num_images` also have "all", the sum over the splits. `about` says how it was trained, in plain
    JSON values.
    """

    pruned: PrunedNetwork
    num_correct: Mapping[str, int]
    num_images: Mapping[str, int]
    about: Mapping[str, Any]

    @property
    def accuracy(self) -> dict[str, dict[str, Any]]:
        """Counts and fractions by split, as records have them."""
        return {
            split: {
                "correct": self.num_correct[split],
                "images": self.num_images[split],
                "accuracy": self.num_correct[split] / self.num_images[split],
            }
            for split in self.num_correct
        }


def outcome_work(trainer: Trainer, *, images: Mapping[str, ImageSet]) -> Work[Outcome]:
    """Measure what a run reached, in float32, on test images: disjoint sets by the name of their split."""
    pruned = trainer.reached()
    module = pruned.compact().to(trainer.device)
    num_images, num_correct = {split: len(part) for split, part in images.items()}, dict[str, int]()
    total, done = sum(num_images.values()), 0
    for split, part in images.items():
        counting = count_correct_work(module, part.to(trainer.device))
        begin, done = done, done + len(part)
        num_correct[split] = yield from within(counting, begin / total, done / total, f"measuring on {split}")
    for counts in (num_correct, num_images):
        counts["all"] = sum(counts.values())
    return Outcome(pruned=pruned, num_correct=num_correct, num_images=num_images, about=_about(trainer))


def _about(trainer: Trainer) -> dict[str, Any]:
    network, epochs = trainer.pruned.network, trainer.run.epochs
    return {
        "model": network.name,
        "dataset": network.dataset,
        "recipe": str(trainer.recipe),
        "schedule": trainer.schedule.name,
        "trained_on": trainer.trained_on,
        "epochs": len(epochs),
        "seconds": round(sum(epoch.seconds for epoch in epochs), 1),
        "device": trainer.device.type,
        "training_precision": str(trainer.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "curve": [asdict(epoch) for epoch in epochs],
    }


def write_outcome(outcome: Outcome, folder: Path) -> list[Path]:
    """Write weights, record and, where something is pruned, plan; each file whole or not at all. Returns their paths.

    The weights are in dense shapes, pruned filters at zero; the plan is for those weights. The record has the form of
    the bundled ones: file, SHA-256, fingerprint, accuracy by split, recipe. Raises FpgmError where the folder cannot
    be written.
    """
    pruned, about = outcome.pruned, dict(outcome.about)
    name = "_".join(filter(None, (about["model"].replace("/", "_"), about["dataset"])))
    masked = pruned.masked().state_dict()
    state = {key: tensor.contiguous() for key, tensor in masked.items() if not key.endswith("_tracked")}
    content = save_safetensors(state)
    record = {
        "model": about.pop("model"),
        "file": f"{name}.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "fingerprint": fingerprint(state),
        "dataset": about.pop("dataset"),
        "accuracy": outcome.accuracy,
        "precision": "float32",
        "macs": pruned.cost.macs,
        "params": pruned.cost.params,
        **about,
    }
    files = {f"{name}.safetensors": content, f"{name}.json": (json.dumps(record, indent=2) + "\n").encode()}
    if not pruned.prunes_nothing:
        files["plan.json"] = (_plan_for(pruned, record["fingerprint"]).to_json(indent=2) + "\n").encode()
    for file, data in files.items():
        write_atomic(folder / file, data)
    return [folder / file for file in files]


def _plan_for(pruned: PrunedNetwork, weights: str) -> Plan:
    """A plan for weights of that fingerprint: every pruned filter is locked out, whatever they score now."""
    network, plan = pruned.network, pruned.plan
    nothing = network.plan(0.0, criterion=plan.criterion, coupling=plan.coupling)
    return replace(network.plan_that_prunes(pruned.keep_masks, like=nothing), fingerprint=weights)
