"""Exporting a pruned network: proved, written in every form, each form reloaded, compared and measured."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule

from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import Interval, change_between, wilson
from fpgm_core.export import networks
from fpgm_core.export.artefacts import ARTEFACTS, Artefact
from fpgm_core.export.bundle import MANIFEST, Bundle, write_bundle
from fpgm_core.export.manifest import as_manifest
from fpgm_core.export.plans import as_json
from fpgm_core.export.speed import NOTHING_TIMED, Speed, speed_work
from fpgm_core.inference import FEW_CLASSES, TOP, rank_work
from fpgm_core.pruning import Network, Proof, PrunedNetwork, verify_work
from fpgm_core.pruning.proof import tensors_in
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import Progress, Work, run, within
from fpgm_core.timing import TimingConfig

NUM_SAMPLES = 64
TIMING = TimingConfig(runs=9, seconds=3.0)  # of every runtime and batch size
_TOLERANCE = 1e-4  # of the largest logit
_MOST, _FEWEST = 5000, 500  # images of a half that a form is measured on: of 32 x 32, and of large ones
_PROVED, _WRITTEN = 0.05, 0.8  # the shares of the whole that are done then, roughly: for progress alone


@dataclass(frozen=True, eq=False, kw_only=True)
class ExportConfig:
    """What an export makes, and how it times that.

    `artefacts` are written in their order. Whatever holds a network is timed on each of the `batches`, given in images,
    as `timing` says, and the dense network beside the compact one in each of the `runtimes`, all that are available
    where none are named. `samples`, normalised images (B, C, H, W), are what the forms are compared on: the first 64 of
    the test images unless given, or random ones where there are none. `training` images calibrate eight-bit networks,
    which are left out without them.

    `aligned` exports `compact(aligned=True)`: the writers of a sum carry each other's channels as zeros, so that less
    is placed anew. It computes the same with more multiply-adds than the plan has, often in less time.
    """

    artefacts: Sequence[Artefact] = field(default_factory=lambda: tuple(ARTEFACTS.values()))
    batches: Sequence[int] = (1, 64)
    runtimes: Sequence[str] | None = None
    timing: TimingConfig = field(default_factory=lambda: TIMING)
    samples: Tensor | None = None
    training: ImageSet | None = None
    aligned: bool = False


def most_measured(network: Network) -> int:
    """On how many images of a half commands and pages measure every form at most: fewer where they are large."""
    _, height, width = network.input_shape
    return max(_FEWEST, _MOST * 32 * 32 // (height * width))


def export(
    pruned: PrunedNetwork,
    folder: Path | str | None = None,
    *,
    images: Mapping[str, ImageSet] | None = None,
    measured: bool = True,
    config: ExportConfig | None = None,
) -> Bundle:
    """All artefacts of a pruned network as it is: in memory, and in a `folder` where one is named.

    >>> export(recover(pruned, "repaired", images=training), "out", images={"choose": choose, "sealed": sealed})

    See `export_work`.
    """
    return run(export_work(pruned, folder, images=images, measured=measured, config=config))


def export_work(
    pruned: PrunedNetwork,
    folder: Path | str | None = None,
    *,
    images: Mapping[str, ImageSet] | None = None,
    measured: bool = True,
    config: ExportConfig | None = None,
) -> Work[Bundle]:
    """Prove the compact network equal to the masked one, write every artefact, reload and measure each.

    `images` are test images by the name of their split: the accuracy of every reloaded artefact is measured on each of
    them, where the network was trained; of one that need not answer as the compact network does, eight bits say, the
    paired change against it too. Without `measured` artefacts are reloaded and compared, but
    accuracies and latencies are left out.

    Raises FpgmError where the proof fails, where an artefact that must not answers, reloaded, otherwise than the
    compact network, for images of a shape that the network does not read, and where the folder cannot be written.
    """
    config, splits = config or ExportConfig(), dict(images or {})
    samples = _samples(pruned, splits) if config.samples is None else config.samples
    masked, compact = pruned.masked(), pruned.compact(aligned=config.aligned)
    proving = verify_work(pruned, samples, aligned=config.aligned, forms=(masked, compact))
    proof = yield from within(proving, 0, _PROVED)
    _check(proof)
    subject = _Subject(pruned=pruned, module=compact, samples=samples, proof=proof, splits=splits, measured=measured)
    written = yield from within(_written_work(subject, config), _PROVED, _WRITTEN)
    speed = NOTHING_TIMED
    if measured:
        speed = yield from within(_speed_work(subject, written, config), _WRITTEN)
    manifest = as_manifest(
        pruned,
        aligned=config.aligned,
        proof=proof,
        artefacts=written.entries,
        skipped=written.skipped,
        speed=speed,
        splits=splits,
    )
    bundle = Bundle({**written.files, MANIFEST: as_json(manifest)}, manifest, proof)
    if folder is not None:
        write_bundle(bundle, Path(folder))
    return bundle


@dataclass(frozen=True, eq=False, kw_only=True)
class _Subject:
    """What is exported: a pruned network, its compact form and proof; what artefacts are compared and measured on."""

    pruned: PrunedNetwork
    module: GraphModule
    samples: Tensor
    proof: Proof
    splits: Mapping[str, ImageSet]
    measured: bool


@dataclass(frozen=True, eq=False)
class _Written:
    """The files by name, the artefacts' entries in the manifest, and what was left out with the reason.

    `reloaded` are the networks in the files, by artefact; `right` says, by split, which images the compact network
    classifies rightly, bool (images,), as the last artefact that answers as it does.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    reloaded: dict[str, networks.Reloaded] = field(default_factory=dict)
    right: dict[str, np.ndarray] = field(default_factory=dict)


def _samples(pruned: PrunedNetwork, splits: Mapping[str, ImageSet]) -> Tensor:
    """Images (B, C, H, W) to compare on: the first of the first split, random ones where there is none."""
    shape = pruned.network.input_shape
    for images in splits.values():
        height, width, channels = images.pixels.shape[1:]
        if (channels, height, width) != tuple(shape):
            raise FpgmError(
                f"{images.name} has images of shape {(channels, height, width)}, and {pruned.network.name} reads "
                f"{tuple(shape)}; give images of that shape"
            )
    for images in splits.values():
        return images.normalised(0, min(NUM_SAMPLES, len(images))).cpu()
    return torch.randn(NUM_SAMPLES, *shape, generator=torch.Generator().manual_seed(1))


def _check(proof: Proof) -> None:
    if not proof.holds:
        raise FpgmError(
            f"the compact network differs from the masked one by {proof.max_abs_difference:.3g} "
            f"(logits reach {proof.logit_scale:.3g}), so it is not exported; please report this plan"
        )


def _written_work(subject: _Subject, config: ExportConfig) -> Work[_Written]:
    """Every artefact, reloaded and checked."""
    written, count = _Written(), len(config.artefacts)
    for number, artefact in enumerate(config.artefacts):
        yield Progress(number, count, f"writing {artefact.title}")
        try:
            files = artefact.made(subject.pruned, subject.module, config.training)
        except FpgmError as error:
            written.skipped.append({"name": artefact.name, "reason": str(error)})
            continue
        written.files.update(files)
        named = [_file(name, content) for name, content in files.items()]
        entry: dict[str, Any] = {"name": artefact.name, "title": artefact.title, "files": named}
        if artefact.reload is not None:
            entry |= {"macs": subject.proof.counted_macs, "params": subject.proof.counted_params}
            yield Progress(number + 0.2, count, f"reloading {artefact.title}")
            written.reloaded[artefact.name] = artefact.reload(files)
            checking = _checked_work(artefact, written.reloaded[artefact.name], subject, written.right)
            entry["measured"] = yield from within(checking, (number + 0.3) / count, (number + 1) / count)
        written.entries.append(entry)
    return written


def _checked_work(
    artefact: Artefact, reloaded: networks.Reloaded, subject: _Subject, right: dict[str, np.ndarray]
) -> Work[dict[str, Any]]:
    """What was found when an artefact, reloaded, was compared with the compact network, and measured.

    `right` is that of `_Written`; what is found here goes into it.
    """
    yield Progress(0, what=f"comparing {artefact.title}")
    expected, answers = _answers(subject.module, subject.samples), _answers(reloaded, subject.samples)
    if len(expected) != len(answers):
        raise FpgmError(f"{artefact.title}, reloaded, gives {len(answers)} tensors, not {len(expected)}")
    difference = max(float((a - b).abs().max()) for a, b in zip(expected, answers, strict=True))
    scale = max(float(tensor.abs().max()) for tensor in expected)
    most = _TOLERANCE * scale if artefact.exact else sys.float_info.max
    if not difference <= most:  # nor is what is no number
        raise FpgmError(
            f"{artefact.title}, reloaded, differs by {difference:.3g} (logits reach {scale:.3g}), "
            "so nothing is exported"
        )
    facts: dict[str, Any] = {"max_abs_difference": difference, "logit_scale": scale}
    return facts | (yield from _measured_work(artefact, reloaded, subject, right)) if subject.measured else facts


def _measured_work(
    artefact: Artefact, reloaded: networks.Reloaded, subject: _Subject, right: dict[str, np.ndarray]
) -> Work[dict[str, Any]]:
    """Accuracies by split, where the network was trained; of what is not exact with the change against float32."""
    facts, network = dict[str, Any](), subject.pruned.network
    splits = subject.splits if network.trained and network.num_classes is not None else {}
    for number, (split, images) in enumerate(splits.items()):
        begin, end, what = number / len(splits), (number + 1) / len(splits), f"measuring {artefact.title} on {split}"
        there = images.to(torch.device("cpu"))
        ranks = yield from within(rank_work(reloaded, there), begin, end, what)
        facts[split], found = _accuracy(ranks, network.num_classes), (ranks == 0).numpy()
        if artefact.exact:
            right[split] = found
            continue
        if split not in right:
            right[split] = (yield from within(rank_work(subject.module, there), begin, end, what)).numpy() == 0
        change = change_between(found, right[split])
        facts[split] |= {"change": change.value, "change_low": change.low, "change_high": change.high}
    return facts


def _accuracy(ranks: Tensor, num_classes: int | None) -> dict[str, Any]:
    """Accuracy with its interval, on the CPU, where artefacts run; top-5 too with more than ten classes."""
    correct, top5 = int((ranks == 0).sum()), int((ranks < TOP).sum())
    facts = {"images": len(ranks), "correct": correct, **_with_limits("accuracy", wilson(correct, len(ranks)))}
    if (num_classes or 0) <= FEW_CLASSES:
        return facts
    return {**facts, "correct_top5": top5, **_with_limits("top5", wilson(top5, len(ranks)))}


def _with_limits(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _answers(module: networks.Reloaded, images: Tensor) -> list[Tensor]:
    """Every tensor that a network answers with."""
    with FORWARD_LOCK, torch.inference_mode():
        return tensors_in(module(images))


def _speed_work(subject: _Subject, written: _Written, config: ExportConfig) -> Work[Speed]:
    """What was timed; what the files take goes into their entries."""
    speed = yield from speed_work(
        subject.pruned,
        subject.module,
        written.reloaded,
        onnx=written.files.get(networks.ONNX),
        batches=config.batches,
        runtimes=config.runtimes,
        timing=config.timing,
    )
    for entry in written.entries:
        if entry["name"] in speed.artefacts:
            entry["measured"]["latency_ms"] = speed.artefacts[entry["name"]]
    return speed


def _file(name: str, content: bytes) -> dict[str, Any]:
    return {"file": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
