"""Everything that leaves, together: written, reloaded, measured, and named in a manifest."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import statistics
import tempfile
import zipfile
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from fpgm_core.data import DATA, HALVES, ImageSet, load_images, sample_images
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import Latency, correct_steps, latency_steps, time_pass, wilson
from fpgm_core.export import networks
from fpgm_core.export.plans import as_json, plan_csv, torch_ao_config, torch_pruning_ratios
from fpgm_core.pruning import Network, Plan, Proof, counted_macs, verify_steps
from fpgm_core.recovery import IMAGES, Mended, mended_steps, mends, recalibrate
from fpgm_core.runtime.locks import FORWARD_LOCK

MANIFEST = "manifest.json"
_TIMED_BATCHES = (1, 64)
_TIMED_RUNS = 9


@dataclass(frozen=True)
class Artefact:
    """One thing that can be exported.

    `make` returns its files from the network and plan; `reload`, where the files hold a network, brings
    it back as a function of images. Where `make` raises FpgmError the artefact is left out, with that reason.
    """

    name: str
    title: str
    make: Callable[[Network, Plan, GraphModule], dict[str, bytes]]
    reload: Callable[[Mapping[str, bytes]], networks.Reloaded] | None = None


def _title(network: Network, plan: Plan) -> str:
    cost = network.cost(plan)
    cut = 1 - cost.macs / network.dense_cost.macs
    return f"{network.title}, {plan.criterion}, {plan.coupling}: {cut:.1%} of the multiply-adds pruned."


def _python(network: Network, plan: Plan, module: GraphModule) -> dict[str, bytes]:
    shape = network.input_shape
    return {
        networks.WEIGHTS: networks.as_safetensors(module),
        "compact.py": networks.as_python(module, _title(network, plan), shape),
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
        lambda p, plan, m: {"compact.pt2": networks.as_pt2(m, p.input_shape)},
        networks.reload_pt2,
    ),
    Artefact(
        "onnx",
        "ONNX, for onnxruntime and others",
        lambda p, plan, m: {"compact.onnx": networks.as_onnx(m, p.input_shape)},
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


def export(network: Network, plan: Plan, rung: str = "recalibrated", measured: bool = True) -> Bundle:
    """All artefacts of a plan. See `export_steps`."""
    *_, bundle = export_steps(network, plan, rung, measured)
    assert isinstance(bundle, Bundle)
    return bundle


def export_steps(
    network: Network,
    plan: Plan,
    rung: str = "recalibrated",
    measured: bool = True,
    trained: GraphModule | None = None,
    whole: nn.Module | None = None,
) -> Iterator[Progress | Bundle]:
    """Prove the compact network, write every artefact, reload and measure each; yields progress, then the bundle.

    The exported compact stands on `rung`, as when its accuracy is shown: recalibrated on 2,000 training images where
    there are any, repaired, merged, or as is; the manifest says which. Without `measured` artefacts are reloaded and
    compared, but accuracies and latencies are left out. `trained` is the plan's compact compact after training, whose
    weights are exported then; the proof is of `whole`, the trained compact in dense shapes, where there is one, else
    of the compact that training began with.

    Raises FpgmError for a plan that does not fit, where the proof fails, where `trained` is not of the
    plan's size, where there are no images to repair with, or where an artefact, reloaded, answers otherwise than
    the compact compact.
    """
    info = network
    images = sample_images(info.dataset, info.input_shape, 64)
    mended = None if trained is not None else (yield from _mended(network, plan, rung))
    proof = yield from _proved(network, plan, images, mended.whole(network) if mended else whole)
    if trained is not None:
        _check_size(trained, proof, info.input_shape)
        reached, module = "trained", trained
    elif mended is not None:
        reached, module = mended.rung, mended.compact(network)
    else:
        reached, module = yield from _untrained(network, plan, rung)
    written = yield from _written(_Subject(network, plan, module, images, proof), measured)
    timings = (yield from _timings(network, plan)) if measured else []
    manifest = _manifest(network, plan, reached, proof, written, timings)
    yield Bundle({**written.files, MANIFEST: as_json(manifest)}, manifest, proof)


@dataclass(frozen=True, eq=False)
class _Subject:
    """What is exported: the compact network of a plan, images to compare it on, and its proof."""

    network: Network
    plan: Plan
    module: GraphModule
    images: Tensor
    proof: Proof


@dataclass(frozen=True, eq=False)
class _Written:
    """The files by name, the artefacts' entries in the manifest, and what was left out with the reason."""

    files: dict[str, bytes]
    entries: list[dict[str, Any]]
    skipped: list[dict[str, str]]


def _proved(network: Network, plan: Plan, images: Tensor, whole: nn.Module | None) -> Generator[Progress, None, Proof]:
    for step in verify_steps(network, network.keep_masks(plan), images, whole):
        if isinstance(step, float):
            yield Progress("comparing the compact network with the masked one", step)
    assert isinstance(step, Proof)
    if not step.holds:
        raise FpgmError(
            f"the compact network differs from the masked one by {step.max_abs_difference:.3g} "
            f"(logits reach {step.logit_scale:.3g}), so it is not exported; please report this plan"
        )
    return step


def _check_size(trained: GraphModule, proof: Proof, input_shape: tuple[int, int, int]) -> None:
    found = counted_macs(trained, input_shape), sum(p.numel() for p in trained.parameters())
    if found != (proof.macs, proof.params):
        raise FpgmError(
            f"the trained network has {found[0]:,} MACs and {found[1]:,} parameters, the plan {proof.macs:,} and "
            f"{proof.params:,}; export it with the plan that its training reached"
        )


def _mended(network: Network, plan: Plan, rung: str) -> Generator[Progress, None, Mended | None]:
    """The tensors of a rung that replaces weights; None on the others, and where nothing is pruned."""
    if not mends(rung) or network.prune(plan).prunes_nothing:
        return None
    mended: Mended | float = 0.0
    for mended in mended_steps(network, network.keep_masks(plan), rung):
        if isinstance(mended, float):
            yield Progress("repairing", mended)
    assert isinstance(mended, Mended)
    return mended


def _untrained(network: Network, plan: Plan, rung: str) -> Generator[Progress, None, tuple[str, GraphModule]]:
    """The rung of the recovery ladder, "as is" or "recalibrated", and the compact network on it."""
    module = network.prune(plan).compact()
    if rung == "as_is" or not _can_measure(network) or network.prune(plan).prunes_nothing:
        return "as is", module
    for seen in recalibrate(module, load_images(network.dataset, "train").first(IMAGES)):
        yield Progress("recalibrating", seen / IMAGES)
    return "recalibrated", module


def _written(subject: _Subject, measured: bool) -> Generator[Progress, None, _Written]:
    """Every artefact, reloaded and checked."""
    written = _Written({}, [], [])
    for record in ARTEFACTS.values():
        yield Progress(f"writing {record.title}")
        try:
            made = record.make(subject.network, subject.plan, subject.module)
        except FpgmError as error:
            written.skipped.append({"name": record.name, "reason": str(error)})
            continue
        written.files.update(made)
        files = [_file(name, content) for name, content in made.items()]
        entry: dict[str, Any] = {"name": record.name, "title": record.title, "files": files}
        if record.reload:
            entry |= {"macs": subject.proof.counted_macs, "params": subject.proof.counted_params}
            entry["measured"] = yield from _checked(record, written.files, subject, measured)
        written.entries.append(entry)
    return written


def _timings(network: Network, plan: Plan) -> Generator[Progress, None, list[dict[str, Any]]]:
    """Dense and compact side by side, by batch size."""
    timings = []
    for batch in _TIMED_BATCHES:
        for timing in latency_steps(network, plan, batch, _TIMED_RUNS):
            if isinstance(timing, float):
                yield Progress(f"timing batches of {batch}", timing)
        assert isinstance(timing, Latency)
        timings.append({**asdict(timing), "speed_up": timing.speed_up})
    return timings


def _can_measure(network: Network) -> bool:
    """Whether there are weights worth measuring, and images to do it with."""
    return network.trained and network.dataset in DATA


def _checked(
    record: Artefact, files: Mapping[str, bytes], subject: _Subject, measured: bool
) -> Generator[Progress, None, dict[str, Any]]:
    """What was found when an artefact was reloaded, compared with the compact network, and measured."""
    assert record.reload is not None
    yield Progress(f"reloading {record.title}")
    reloaded = record.reload(files)
    expected, found = _answers(subject.module, subject.images), _answers(reloaded, subject.images)
    difference, scale = float((expected - found).abs().max()), float(expected.abs().max())
    if not difference <= 1e-4 * scale:
        raise FpgmError(
            f"{record.title}, reloaded, differs by {difference:.3g} (logits reach {scale:.3g}), so nothing is exported"
        )
    facts: dict[str, Any] = {"max_abs_difference": difference, "logit_scale": scale}
    if measured and _can_measure(subject.network):
        for split in HALVES:
            chosen = load_images(subject.network.dataset, split)
            facts[split] = yield from _accuracy(reloaded, chosen, f"measuring {record.title} on {split}")
    if measured:
        facts["latency_ms"] = {str(batch): _median_ms(reloaded, subject.images, batch) for batch in _TIMED_BATCHES}
    return facts


def _accuracy(network: networks.Reloaded, images: ImageSet, doing: str) -> Generator[Progress, None, dict[str, Any]]:
    """Accuracy with its interval, in float32."""
    correct = 0
    for seen, right in correct_steps(network, images):
        correct = right
        yield Progress(doing, seen / len(images))
    interval = wilson(correct, len(images))
    return {
        "correct": correct,
        "images": len(images),
        "accuracy": interval.value,
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
    }


def _answers(network: networks.Reloaded, images: Tensor) -> Tensor:
    with FORWARD_LOCK, torch.inference_mode():
        return network(images)


def _median_ms(network: networks.Reloaded, images: Tensor, batch: int) -> float:
    """The median of a few passes over `batch` images, as the artefact's own runtime does them on the CPU."""
    inputs = images[:1].expand(batch, -1, -1, -1).contiguous()
    return statistics.median([time_pass(network, inputs) for _ in range(_TIMED_RUNS + 2)][2:]) * 1000


def _file(name: str, content: bytes) -> dict[str, Any]:
    return {"file": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _manifest(
    network: Network,
    plan: Plan,
    rung: str,
    proof: Proof,
    written: _Written,
    timings: list[dict[str, Any]],
) -> dict[str, Any]:
    cost, dense = network.cost(plan), network.dense_cost
    return {
        "format_version": 1,
        "model": plan.model,
        "fingerprint": plan.fingerprint,
        "trained": network.trained,
        "criterion": plan.criterion,
        "coupling": plan.coupling,
        "rung": rung,
        "recalibrated": rung == "recalibrated",
        "macs": cost.macs,
        "dense_macs": dense.macs,
        "params": cost.params,
        "dense_params": dense.params,
        "normalisation": _normalisation(network),
        "artefacts": written.entries,
        "skipped": written.skipped,
        "proof": {**asdict(proof), "holds": proof.holds},
        "measured": {
            "latency": timings,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "processor": platform.machine(),
        },
    }


def _normalisation(network: Network) -> dict[str, Any] | None:
    """How images must be prepared: pixels scaled to 0..1, minus mean, over std, channel by channel."""
    if network.dataset not in DATA:
        return None
    images = load_images(network.dataset, "choose")
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
