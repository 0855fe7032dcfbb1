"""Everything that leaves, together: written, reloaded, measured, and named in a manifest."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.fx
from torch import Tensor

from fpgm_core.data import DATA, ImageSet, load_images, sample_images
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import latency_steps, wilson
from fpgm_core.export import networks
from fpgm_core.export.plans import as_json, plan_csv, torch_ao_config, torch_pruning_ratios
from fpgm_core.forward_lock import FORWARD
from fpgm_core.pruning import Plan, Proof, Prunable, verify_steps
from fpgm_core.repair import IMAGES, recalibrate

MANIFEST = "manifest.json"
_TIMED_BATCHES = (1, 64)
_TIMED_RUNS = 9
_EVALUATION_BATCH = 250


@dataclass(frozen=True)
class Artefact:
    """One thing that can be exported.

    `make` returns its files from the network and plan; `reload`, where the files hold a network, brings
    it back as a function of images. Where `make` raises FpgmError the artefact is left out, with that reason.
    """

    name: str
    title: str
    make: Callable[[Prunable, Plan, torch.fx.GraphModule], dict[str, bytes]]
    reload: Callable[[Mapping[str, bytes]], networks.Reloaded] | None = None


def _title(prunable: Prunable, plan: Plan) -> str:
    cost = prunable.cost(plan)
    cut = 1 - cost.macs / prunable.dense_cost.macs
    return f"{prunable.loaded.info.title}, {plan.criterion}, {plan.coupling}: {cut:.1%} of the multiply-adds pruned."


def _python(prunable: Prunable, plan: Plan, module: torch.fx.GraphModule) -> dict[str, bytes]:
    shape = prunable.loaded.info.input_shape
    return {
        networks.WEIGHTS: networks.as_safetensors(module),
        "compact.py": networks.as_python(module, _title(prunable, plan), shape),
    }


_RECORDS = (
    Artefact("plan", "The plan, as this tool reads it", lambda p, plan, m: {"plan.json": as_json(plan.to_dict())}),
    Artefact("table", "The plan as a table", lambda p, plan, m: {"plan.csv": plan_csv(p, plan).encode()}),
    Artefact(
        "torch_pruning",
        "Torch-Pruning's pruning_ratio_dict",
        lambda p, plan, m: {"torch_pruning.json": as_json(torch_pruning_ratios(p, plan))},
    ),
    Artefact(
        "torch_ao",
        "The config of torch.ao's FPGMPruner",
        lambda p, plan, m: {"torch_ao.json": as_json(torch_ao_config(p, plan))},
    ),
    Artefact(
        "python", "Weights as safetensors, and one Python file that rebuilds them", _python, networks.reload_python
    ),
    Artefact(
        "pt2",
        "torch.export archive",
        lambda p, plan, m: {"compact.pt2": networks.as_pt2(m, p.loaded.info.input_shape)},
        networks.reload_pt2,
    ),
    Artefact(
        "onnx",
        "ONNX, for onnxruntime and others",
        lambda p, plan, m: {"compact.onnx": networks.as_onnx(m, p.loaded.info.input_shape)},
        networks.reload_onnx,
    ),
)
ARTEFACTS: Mapping[str, Artefact] = {record.name: record for record in _RECORDS}


@dataclass(frozen=True)
class Bundle:
    """Files by name, the manifest among them, and the proof that they compute what the masked network does."""

    files: Mapping[str, bytes]
    manifest: Mapping[str, Any]
    proof: Proof


@dataclass(frozen=True)
class Progress:
    """What is being done, in words, and the share of it that is done, 0..1."""

    doing: str
    share: float = 0.0


def export(prunable: Prunable, plan: Plan, recalibrated: bool = True, measured: bool = True) -> Bundle:
    """All artefacts of a plan. See `export_steps`."""
    *_, bundle = export_steps(prunable, plan, recalibrated, measured)
    assert isinstance(bundle, Bundle)
    return bundle


def export_steps(
    prunable: Prunable,
    plan: Plan,
    recalibrated: bool = True,
    measured: bool = True,
    trained: torch.nn.Module | None = None,
) -> Iterator[Progress | Bundle]:
    """Prove the compact network, write every artefact, reload and measure each; yields progress, then the bundle.

    With `recalibrated`, and images to do it with, the exported network's norms are re-estimated on 2,000
    training images, as when its accuracy is shown. Without `measured` artefacts are reloaded and compared,
    but accuracies and latencies are left out. `trained` is the plan's compact network after training, whose
    weights are exported then; the proof is of the network it was made from.

    Raises FpgmError for a plan that does not fit, where the proof fails, or where an artefact, reloaded,
    answers otherwise than the compact network.
    """
    masks, info = prunable.keep_masks(plan), prunable.loaded.info
    images = sample_images(info.dataset, info.input_shape, 64)
    for step in verify_steps(prunable, masks, images):
        if isinstance(step, float):
            yield Progress("comparing the compact network with the masked one", step)
    proof = step
    assert isinstance(proof, Proof)
    if not proof.holds:
        raise FpgmError(
            f"the compact network differs from the masked one by {proof.max_abs_difference:.3g} "
            f"(logits reach {proof.logit_scale:.3g}), so it is not exported; please report this plan"
        )
    module = trained or prunable.compact(plan)
    assert isinstance(module, torch.fx.GraphModule)
    rung = not trained and recalibrated and _can_measure(prunable) and not prunable.prunes_nothing(plan)
    if rung:
        training = load_images(info.dataset, "train").first(IMAGES)
        for seen in recalibrate(module, training):
            yield Progress("recalibrating", seen / IMAGES)
    files: dict[str, bytes] = {}
    skipped: list[dict[str, str]] = []
    entries: list[dict[str, Any]] = []
    for record in ARTEFACTS.values():
        yield Progress(f"writing {record.title}")
        try:
            made = record.make(prunable, plan, module)
        except FpgmError as error:
            skipped.append({"name": record.name, "reason": str(error)})
            continue
        files |= made
        entry: dict[str, Any] = {
            "name": record.name,
            "title": record.title,
            "files": [_file(name, made[name]) for name in made],
        }
        if record.reload:
            entry |= {"macs": proof.counted_macs, "params": proof.counted_params}
            yield from _check(record, files, prunable, module, images, entry, measured)
        entries.append(entry)
    timings: list[dict[str, Any]] = []
    for batch in _TIMED_BATCHES if measured else ():
        for timing in latency_steps(prunable, plan, batch, _TIMED_RUNS):
            if isinstance(timing, float):
                yield Progress(f"timing batches of {batch}", timing)
        timings.append({**asdict(timing), "speed_up": timing.speed_up})  # type: ignore[arg-type,union-attr]
    step_of_ladder = "trained" if trained else "recalibrated" if rung else "as is"
    manifest = _manifest(prunable, plan, step_of_ladder, proof, entries, skipped, timings)
    yield Bundle({**files, MANIFEST: as_json(manifest)}, manifest, proof)


def _can_measure(prunable: Prunable) -> bool:
    """Whether there are weights worth measuring, and images to do it with."""
    return prunable.loaded.trained and prunable.loaded.info.dataset in DATA


def _check(
    record: Artefact,
    files: Mapping[str, bytes],
    prunable: Prunable,
    module: torch.nn.Module,
    images: Tensor,
    entry: dict[str, Any],
    measured: bool,
) -> Iterator[Progress]:
    """Reload an artefact, compare it with the compact network, and measure it; the entry learns what was found."""
    assert record.reload is not None
    yield Progress(f"reloading {record.title}")
    reloaded = record.reload(files)
    expected, found = _answers(module, images), _answers(reloaded, images)
    difference, scale = float((expected - found).abs().max()), float(expected.abs().max())
    if not difference <= 1e-4 * scale:
        raise FpgmError(
            f"{record.title}, reloaded, differs by {difference:.3g} (logits reach {scale:.3g}), so nothing is exported"
        )
    facts: dict[str, Any] = {"max_abs_difference": difference, "logit_scale": scale}
    if measured and _can_measure(prunable):
        for split in ("choose", "sealed"):
            correct, chosen = 0, load_images(prunable.loaded.info.dataset, split)
            for done, right in _correct(reloaded, chosen):
                correct += right
                yield Progress(f"measuring {record.title} on {split}", done / len(chosen))
            interval = wilson(correct, len(chosen))
            facts[split] = {
                "correct": correct,
                "images": len(chosen),
                "accuracy": interval.value,
                "accuracy_low": interval.low,
                "accuracy_high": interval.high,
            }
    if measured:
        facts["latency_ms"] = {str(batch): _median_ms(reloaded, images, batch) for batch in _TIMED_BATCHES}
    entry["measured"] = facts


def _answers(network: networks.Reloaded, images: Tensor) -> Tensor:
    with FORWARD, torch.inference_mode():
        return network(images)


def _correct(network: networks.Reloaded, images: ImageSet) -> Iterator[tuple[int, int]]:
    """After each batch: images seen so far, and how many of the batch were answered rightly. In float32."""
    for begin in range(0, len(images), _EVALUATION_BATCH):
        end = min(begin + _EVALUATION_BATCH, len(images))
        answers = _answers(network, images.normalised(begin, end)).argmax(1)
        yield end, int((answers == images.labels[begin:end]).sum())


def _median_ms(network: networks.Reloaded, images: Tensor, batch: int) -> float:
    """The median of a few passes over `batch` images, as the artefact's own runtime does them on the CPU."""
    times, inputs = [], images[:1].expand(batch, -1, -1, -1).contiguous()
    for _ in range(_TIMED_RUNS + 2):
        start = time.perf_counter()
        _answers(network, inputs)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times[2:])


def _file(name: str, content: bytes) -> dict[str, Any]:
    return {"file": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _manifest(
    prunable: Prunable,
    plan: Plan,
    rung: str,
    proof: Proof,
    entries: list[dict[str, Any]],
    skipped: list[dict[str, str]],
    timings: list[dict[str, Any]],
) -> dict[str, Any]:
    cost, dense = prunable.cost(plan), prunable.dense_cost
    return {
        "format_version": 1,
        "model": plan.model,
        "fingerprint": plan.fingerprint,
        "trained": prunable.loaded.trained,
        "criterion": plan.criterion,
        "coupling": plan.coupling,
        "rung": rung,
        "recalibrated": rung == "recalibrated",
        "macs": cost.macs,
        "dense_macs": dense.macs,
        "params": cost.params,
        "dense_params": dense.params,
        "normalisation": _normalisation(prunable),
        "artefacts": entries,
        "skipped": skipped,
        "proof": {**asdict(proof), "holds": proof.holds},
        "measured": {
            "latency": timings,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "processor": platform.machine(),
        },
    }


def _normalisation(prunable: Prunable) -> dict[str, Any] | None:
    """How images must be prepared: pixels scaled to 0..1, minus mean, over std, channel by channel."""
    if prunable.loaded.info.dataset not in DATA:
        return None
    images = load_images(prunable.loaded.info.dataset, "choose")
    return {"mean": list(images.mean), "std": list(images.std)}


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Write every file into a folder: all of them whole, the manifest last, or none.

    Raises FpgmError where the folder cannot be written or the disk is full; what was there stays.
    """
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not folder.is_dir():
            raise FpgmError(f"{folder} is a file; name a folder to export into")
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        for name, content in bundle.files.items():
            (temporary / name).write_bytes(content)
        folder.mkdir(exist_ok=True)
        _move_all(temporary, folder, sorted(bundle.files, key=lambda name: name == MANIFEST))
    except OSError as error:
        reason = error.strerror or error
        raise FpgmError(f"cannot write into {folder}: {reason}; free space or choose another folder") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _move_all(source: Path, target: Path, names: list[str]) -> None:
    """Move files from one folder into another, or none of them: what they replace comes back where one fails."""
    aside = source / "before"
    aside.mkdir()
    moved: list[str] = []
    try:
        for name in names:
            if (target / name).exists():
                os.rename(target / name, aside / name)
            moved.append(name)
            os.replace(source / name, target / name)
    except OSError:
        for name in moved:
            if (aside / name).exists():
                os.rename(aside / name, target / name)
            else:
                (target / name).unlink(missing_ok=True)
        raise


def zip_bundle(bundle: Bundle) -> bytes:
    """The same files as one zip archive, with a fixed date: the same files give the same bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in bundle.files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return content.getvalue()
