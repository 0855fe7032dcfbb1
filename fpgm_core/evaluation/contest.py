"""A contest of criteria: at equal MACs, on every rung of the ladder, on the same images; kept, and bundled."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fpgm_core.criteria import Criterion, SelectionOptions, check_rate, get_criterion, score_work
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation.accuracy import EvaluationConfig, measure_work
from fpgm_core.evaluation.contest_results import RANDOM, Contest, Entry
from fpgm_core.evaluation.measurement import Measurement
from fpgm_core.graph import Unit, get_coupling
from fpgm_core.pruning import Network, Plan, PrunedNetwork
from fpgm_core.recovery import get_recovery_method, ladder
from fpgm_core.runtime.device import choose_device
from fpgm_core.runtime.distributed import world
from fpgm_core.runtime.progress import Work, run, within
from fpgm_core.runtime.storage import Kept, ResultStore, write_atomic

CONTESTED = ("l2_norm", "fpgm", "fpgm_mix", "refit_cost")
BUNDLE = Path(str(resources.files("fpgm_core.evaluation") / "bundled"))  # what ships with the package
_FORMAT = 2  # raised when what is measured changes: older files are then measured anew
_STORE = ResultStore("contests")


@dataclass(frozen=True)
class ContestConfig:
    """Who contends, and how much goes: `criteria` against `seeds` draws of the random control, on each of `rungs`.

    Every unit of `coupling` is pruned at `rate`, a fraction. Raises FpgmError for names that are unknown, repeated or
    missing, and for a rate or a number of seeds that cannot be.
    """

    rate: float = 0.4
    coupling: str = "inner"
    criteria: tuple[str, ...] = CONTESTED
    seeds: int = 10
    rungs: tuple[str, ...] = ladder()

    def __post_init__(self) -> None:
        check_rate(self.rate)
        get_coupling(self.coupling)
        for name in self.criteria:
            get_criterion(name)
        for rung in self.rungs:
            get_recovery_method(rung)
        if RANDOM in self.criteria:
            raise FpgmError(f"{RANDOM} is the control, entered once a seed; leave it out of the criteria")
        if isinstance(self.seeds, bool) or not isinstance(self.seeds, int) or self.seeds < 0:
            raise FpgmError(f"seeds {self.seeds!r} is not a whole number of at least 0")
        for what, names in (("criterion", self.criteria), ("rung", self.rungs)):
            if not names or len(set(names)) < len(names):
                raise FpgmError(f"a contest needs at least one {what}, and none twice")

    def on(self, network: Network) -> ContestConfig:
        """The same without the rungs that a network does not have. Raises FpgmError where none is left."""
        return replace(self, rungs=tuple(name for name in self.rungs if name in ladder(network)))

    @property
    def contenders(self) -> tuple[tuple[str, int | None], ...]:
        """Criterion and seed of every entry, the control's last."""
        return (*((name, None) for name in self.criteria), *((RANDOM, seed) for seed in range(self.seeds)))


def equal_plan(network: Network, criterion: str, rate: float, coupling: str = "inner", seed: int = 0) -> Plan:
    """The plan with which a criterion prunes, of every unit, as many filters as one-stage criteria do at `rate`.

    `fpgm_mix` rounds each of its two stages down, and at the same rate may prune fewer: its units get the smallest
    rate at which they prune as many, or where none does the nearest number below. `seed` is the random control's.
    Under `inner` and `coupled` equal counts mean equal MACs; under `independent` which filters go matters as well.
    """
    record, options = get_criterion(criterion), SelectionOptions(seed=seed)
    rates = {unit.name: equal_rate(record, unit, check_rate(rate), options) for unit in network.units(coupling)}
    return network.plan(rates, criterion=criterion, coupling=coupling, options=options)


def equal_rate(record: Criterion, unit: Unit, rate: float, options: SelectionOptions) -> float:
    """The rate at which a criterion prunes of a unit what one-stage criteria do at `rate`: see `equal_plan`."""
    size = unit.size // unit.blocks
    wanted = get_criterion(RANDOM).count(unit.size, rate, options=options, blocks=unit.blocks)

    def count(rate: float) -> int:
        return record.count(unit.size, rate, options=options, blocks=unit.blocks)

    if count(rate) == wanted:
        return rate
    shares = record.shares(options)
    # The count only ever steps up where one of the stages' shares of the rate reaches a whole filter.
    steps = sorted({k / (size * share) for share in shares if share > 0 for k in range(int(size * share) + 1)})
    allowed = [step for step in steps if count(step) <= wanted]
    most = max(count(step) for step in allowed)
    return next(step for step in allowed if count(step) == most)


def contest_work(
    network: Network,
    images: ImageSet,
    training: ImageSet,
    *,
    rules: ContestConfig = ContestConfig(),
    config: EvaluationConfig = EvaluationConfig(),
    use_cache: bool = True,
) -> Work[Contest]:
    """Measure a contest on `images`; recovery and criteria that need images read `training`.

    A Progress has the Contest so far once there is an entry. What was measured before, see `known_contest`, is not
    measured again, and what is measured is kept; unless
    `use_cache`, nothing is read or written. Rungs that the network does not have are left out. Raises FpgmError as
    `measure_work` and `score_work` do, and for a rate that prunes nothing.
    """
    rules = rules.on(network)
    contest = known_contest(network, images, training, rules=rules, config=config) if use_cache else None
    if contest is not None:
        return contest
    contest = yield from _measured(network, images, training, rules, config)
    if use_cache and world().is_main:
        identity = _identity(network, images, training, rules, config)
        values, hits = _packed(contest)
        with suppress(FpgmError):  # a disk that is full takes nothing from what was measured
            _STORE.write(identity, Kept(values, {"hits": torch.from_numpy(hits)}))
    return contest


def contest(network: Network, images: ImageSet, training: ImageSet, **options: Any) -> Contest:
    """The contest, all at once. See `contest_work`, whose other arguments are `options`."""
    return run(contest_work(network, images, training, **options))


def known_contest(
    network: Network,
    images: ImageSet,
    training: ImageSet,
    *,
    rules: ContestConfig = ContestConfig(),
    config: EvaluationConfig = EvaluationConfig(),
    bundle: Path | None = None,
) -> Contest | None:
    """The contest of these weights, images and rules if it was measured before, else None.

    One of every bundled network ships with the package, or lies in the folder `bundle`, others lie in `FPGM_HOME`; a
    damaged file is none. The device does not count: every one counts what float32 counts.
    """
    rules = rules.on(network)
    identity = _identity(network, images, training, rules, config)
    bundled = _bundled_contest((bundle or BUNDLE) / f"{network.fingerprint}.npz", network, identity, rules)
    if bundled is not None:
        return bundled
    return _STORE.read(identity, lambda kept: _contest_in(kept.values, kept.arrays["hits"].numpy(), identity, rules))


def _measured(
    network: Network, images: ImageSet, training: ImageSet, rules: ContestConfig, config: EvaluationConfig
) -> Work[Contest]:
    if network.prune(equal_plan(network, RANDOM, rules.rate, rules.coupling)).prunes_nothing:
        raise FpgmError(f"nothing to compare: a rate of {rules.rate:g} prunes nothing here; raise it")
    unscored = [name for name in rules.criteria if not network.has_scores(name)]
    total = len(unscored) + len(rules.contenders)
    for done, name in enumerate(unscored):
        work = score_work(network, name, training, device=choose_device(config.device))
        scores = yield from within(work, done / total, (done + 1) / total, f"scoring by {name}")
        network = network.with_scores(name, scores)
    entries, identity = list[Entry](), _identity(network, images, training, rules, config)
    for done, (criterion, seed) in enumerate(rules.contenders, len(unscored)):
        pruned = network.prune(equal_plan(network, criterion, rules.rate, rules.coupling, seed or 0))
        so_far = _contest(network.name, identity, tuple(entries)) if entries else None
        entry = within(
            _entry_work(pruned, images, training, rules.rungs, config),
            done / total,
            (done + 1) / total,
            f"measuring {criterion}",
        )
        entries.append((yield from _with_the_rest(entry, so_far)))
    return _contest(network.name, identity, tuple(entries))


def _with_the_rest(work: Work[Entry], so_far: Contest | None) -> Work[Entry]:
    """The work of an entry, each step with the contest so far in place of the entry's own."""
    with closing(work):
        while True:
            try:
                progress = next(work)
            except StopIteration as end:
                entry: Entry = end.value
                return entry
            yield replace(progress, partial=so_far)


def _entry_work(
    pruned: PrunedNetwork, images: ImageSet, training: ImageSet, rungs: tuple[str, ...], config: EvaluationConfig
) -> Work[Entry]:
    """Measure a pruned network on every rung."""
    measured: dict[str, Measurement] = {}
    for done, rung in enumerate(rungs):
        work = measure_work(pruned, images, method=rung, training=training, config=config, preview=False)
        measured[rung] = yield from within(work, done / len(rungs), (done + 1) / len(rungs))
    plan = pruned.plan
    return Entry(
        plan.criterion,
        plan.options.seed if plan.criterion == RANDOM else None,
        pruned.cost.macs,
        {rung: measurement.right for rung, measurement in measured.items()},
        tuple(rung for rung, measurement in measured.items() if measurement.notice is not None),
    )


def _identity(
    network: Network, images: ImageSet, training: ImageSet, rules: ContestConfig, config: EvaluationConfig
) -> dict[str, Any]:
    """All that what a contest finds depends on, as JSON has it."""
    asked = {
        **asdict(rules),
        "format": _FORMAT,
        "model": network.name,
        "fingerprint": network.fingerprint,
        "network": network.identity,
        "split": images.name.rpartition(" ")[2],
        "images": len(images),
        "images_digest": images.digest,
        "training_digest": training.digest,
        "precision": config.precision,
    }
    identity: dict[str, Any] = json.loads(json.dumps(asked))  # tuples become lists, as they do in a file
    return identity


def _contest(model: str, identity: dict[str, Any], entries: tuple[Entry, ...]) -> Contest:
    fields = {name: identity[name] for name in ("fingerprint", "rate", "coupling", "split", "images")}
    return Contest(model, entries=entries, **fields)


def _packed(contest: Contest) -> tuple[dict[str, Any], np.ndarray]:
    """A contest as plain values, and which images were right as bits, uint8 (entries, rungs, images / 8)."""
    rows = [
        {"criterion": entry.criterion, "seed": entry.seed, "macs": entry.macs, "given_up": list(entry.given_up)}
        for entry in contest.entries
    ]
    hits = np.array([[entry.hits[rung] for rung in contest.rungs] for entry in contest.entries])
    return {"model": contest.model, "entries": rows}, np.packbits(hits, axis=-1)


def _contest_in(values: Any, bits: np.ndarray, identity: dict[str, Any], rules: ContestConfig) -> Contest:
    """The contest that was packed. Raises ValueError, KeyError or TypeError where it is none by these rules."""
    rows, num_images = values["entries"], identity["images"]
    shape = (len(rules.contenders), len(rules.rungs), -(-num_images // 8))
    if bits.dtype != np.uint8 or bits.shape != shape:
        raise ValueError("hits of another shape")
    if [(row["criterion"], row["seed"]) for row in rows] != list(rules.contenders):
        raise ValueError("entries of others")
    hits = np.unpackbits(bits, axis=-1, count=num_images).astype(bool)
    entries = [
        Entry(row["criterion"], row["seed"], int(row["macs"]), dict(zip(rules.rungs, right, strict=True)),
              tuple(row["given_up"]))
        for row, right in zip(rows, hits, strict=True)
    ]  # fmt: skip
    return _contest(values["model"], identity, tuple(entries))


def _of_bundle(identity: dict[str, Any]) -> dict[str, Any]:
    """How a bundled file names what it is of: without the graph, which another torch may write otherwise."""
    return {name: value for name, value in identity.items() if name != "network"}


def _bundled_contest(path: Path, network: Network, identity: dict[str, Any], rules: ContestConfig) -> Contest | None:
    """The contest in a bundled .npz (`header`, JSON in bytes, and `hits`), if it is this one; none where damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            header, bits = json.loads(arrays["header"].tobytes()), arrays["hits"]
        if header["identity"] != _of_bundle(identity):
            return None
        # A module from elsewhere may have a registry network's weights and another forward.
        if network.weights == "given" and network.identity != Network.load(header["model"]).identity:
            return None
        return _contest_in(header, bits, identity, rules)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def bundle_contest(
    network: Network,
    images: ImageSet,
    training: ImageSet,
    folder: Path,
    *,
    rules: ContestConfig = ContestConfig(),
    config: EvaluationConfig = EvaluationConfig(),
) -> Path:
    """Measure a network's contest and write it as one file into `folder`, where `known_contest` finds it."""
    path = folder / f"{network.fingerprint}.npz"
    identity = _identity(network, images, training, rules, config)
    values, hits = _packed(contest(network, images, training, rules=rules, config=config, use_cache=False))
    header = json.dumps({"identity": _of_bundle(identity), **values}).encode()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, header=np.frombuffer(header, np.uint8), hits=hits)
    write_atomic(path, buffer.getvalue())
    return path
