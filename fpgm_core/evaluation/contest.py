"""A contest of criteria: at equal MACs, on every rung of the ladder, on the same images; kept, and bundled."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from fpgm_core.criteria import Criterion, SelectionOptions, check_rate, get_criterion
from fpgm_core.data import load_images
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation.accuracy import EvaluationConfig, Figure, Repairing, measure
from fpgm_core.evaluation.contest_results import RANDOM, Contest, Entry
from fpgm_core.graph import Unit, get_coupling
from fpgm_core.pruning import Network, Plan
from fpgm_core.recovery import RECOVERY_METHODS, get_recovery_method, provide_steps
from fpgm_core.runtime.device import choose_device
from fpgm_core.runtime.distributed import world
from fpgm_core.runtime.storage import home, write_atomic

CONTESTED = ("l2_norm", "fpgm", "fpgm_mix", "refit_cost")
_FORMAT = 1  # raised when what is measured changes: older files are then measured anew
_REPAIRING = 0.7  # the share of a repaired figure's time that the repair takes, roughly: for progress alone


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
    rungs: tuple[str, ...] = tuple(RECOVERY_METHODS)

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
    rates = {unit.name: _equal_rate(record, unit, check_rate(rate), options) for unit in network.units(coupling)}
    return network.plan(rates, criterion=criterion, coupling=coupling, options=options)


def _equal_rate(record: Criterion, unit: Unit, rate: float, options: SelectionOptions) -> float:
    size = unit.size // unit.blocks
    wanted = get_criterion(RANDOM).count(unit.size, rate, options, unit.blocks)

    def count(rate: float) -> int:
        return record.count(unit.size, rate, options, unit.blocks)

    if count(rate) == wanted:
        return rate
    shares = [share(options) for _, share in record.stages]
    # The count only ever steps up where one of the stages' shares of the rate reaches a whole filter.
    steps = sorted({k / (size * share) for share in shares if share > 0 for k in range(int(size * share) + 1)})
    allowed = [step for step in steps if count(step) <= wanted]
    most = max(count(step) for step in allowed)
    return next(step for step in allowed if count(step) == most)


def contest_steps(
    network: Network,
    rules: ContestConfig = ContestConfig(),
    settings: EvaluationConfig = EvaluationConfig(),
    kept: bool = True,
) -> Iterator[float | Contest]:
    """Measure a contest; yields the share that is done, 0..1, and last the Contest. Stop iterating to cancel.

    `settings` say on which images and where; their rung does not count. What was measured before, see
    `known_contest`, is not measured again, and what is measured is kept; unless `kept`, nothing is read or written.

    Raises FpgmError as `measure` and `provide_steps` do, and for a rate that prunes nothing.
    """
    found = known_contest(network, rules, settings) if kept else None
    if found is None:
        found = yield from _measured(network, rules, settings)
        if kept and world().is_main:
            identity = _identity(network, rules, settings)
            with suppress(FpgmError):  # a disk that is full takes nothing from what was measured
                write_atomic(_own(identity), _packed(found, identity))
    yield found


def contest(
    network: Network,
    rules: ContestConfig = ContestConfig(),
    settings: EvaluationConfig = EvaluationConfig(),
    kept: bool = True,
) -> Contest:
    """The contest, all at once. See `contest_steps`."""
    *_, found = contest_steps(network, rules, settings, kept)
    assert isinstance(found, Contest)
    return found


def known_contest(
    network: Network, rules: ContestConfig = ContestConfig(), settings: EvaluationConfig = EvaluationConfig()
) -> Contest | None:
    """The contest of these weights, rules and settings if it was measured before, else None.

    One of every bundled network ships with the package, others lie in `FPGM_HOME`; a damaged file is none. The device
    does not count: every one counts what float32 counts. Raises FpgmError where the images are not here.
    """
    identity = _identity(network, rules, settings)
    for path in (_bundled(network.fingerprint), _own(identity)):
        found = _read(path, identity, rules)
        if found is not None:
            return found
    return None


def _measured(network: Network, rules: ContestConfig, settings: EvaluationConfig) -> Generator[float, None, Contest]:
    if network.prune(equal_plan(network, RANDOM, rules.rate, rules.coupling)).prunes_nothing:
        raise FpgmError(f"nothing to compare: a rate of {rules.rate:g} prunes nothing here; raise it")
    unscored = [name for name in rules.criteria if not network.has_scores(name)]
    total = len(unscored) + len(rules.contenders)
    for done, name in enumerate(unscored):
        for share in provide_steps(network, name, device=choose_device(settings.device)):
            yield (done + share) / total
    entries: list[Entry] = []
    for criterion, seed in rules.contenders:
        plan = equal_plan(network, criterion, rules.rate, rules.coupling, seed or 0)
        for step in _entered(network, plan, seed, rules.rungs, settings):
            if isinstance(step, Entry):
                entries.append(step)
            else:
                yield (len(unscored) + len(entries) + step) / total
    return _contest(network.name, _identity(network, rules, settings), tuple(entries))


def _entered(
    network: Network, plan: Plan, seed: int | None, rungs: tuple[str, ...], settings: EvaluationConfig
) -> Iterator[float | Entry]:
    """Measure a plan on every rung: the share that is done, and last the entry."""
    figures: dict[str, Figure] = {}
    for rung in rungs:
        begun = share = 0.0
        for step in measure(network, plan, replace(settings, rung=rung), first_figure=False):
            if isinstance(step, Repairing):
                begun = share = _REPAIRING * step.share
            elif step is not None:
                share = begun + (1 - begun) * step.images / step.total
                if step.state == "exact":
                    figures[rung] = step
                    continue
            yield (len(figures) + share) / len(rungs)
    yield Entry(
        plan.criterion,
        seed,
        network.cost(plan).macs,
        {rung: figure.right for rung, figure in figures.items()},
        tuple(rung for rung, figure in figures.items() if (rung, figure.rung) == ("repaired", "recalibrated")),
    )


def _identity(network: Network, rules: ContestConfig, settings: EvaluationConfig) -> dict[str, Any]:
    """All that what a contest finds depends on, as JSON has it."""
    images = load_images(network.dataset, settings.split, settings.data_root)
    asked = {
        **asdict(rules),
        "format": _FORMAT,
        "fingerprint": network.fingerprint,
        "split": settings.split,
        "images": len(images if settings.images is None else images.first(settings.images)),
        "precision": settings.precision,
        "data": str(settings.data_root or "bundled"),
    }
    found: dict[str, Any] = json.loads(json.dumps(asked))  # tuples become lists, as they do in a file
    return found


def _contest(model: str, identity: dict[str, Any], entries: tuple[Entry, ...]) -> Contest:
    fields = {name: identity[name] for name in ("fingerprint", "rate", "coupling", "split", "images")}
    return Contest(model, entries=entries, **fields)


def _bundled(fingerprint: str) -> Path:
    return Path(str(resources.files("fpgm_core.evaluation") / "bundled" / f"{fingerprint}.npz"))


def _own(identity: dict[str, Any]) -> Path:
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return home() / "contests" / f"{name[:32]}.npz"


def _packed(contest: Contest, identity: dict[str, Any]) -> bytes:
    """A contest as an .npz: `header`, JSON in bytes, and `hits`, bits of shape (entries, rungs, images)."""
    rows = [
        {"criterion": one.criterion, "seed": one.seed, "macs": one.macs, "given_up": one.given_up}
        for one in contest.entries
    ]
    header = json.dumps({"identity": identity, "model": contest.model, "entries": rows}).encode()
    hits = np.array([[one.hits[rung] for rung in contest.rungs] for one in contest.entries])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, header=np.frombuffer(header, np.uint8), hits=np.packbits(hits, axis=-1))
    return buffer.getvalue()


def _read(path: Path, identity: dict[str, Any], rules: ContestConfig) -> Contest | None:
    """The contest that a file holds; None where it is absent, damaged, or of something else."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as held:
            header, bits = json.loads(held["header"].tobytes()), held["hits"]
        rows, images = header["entries"], identity["images"]
        shape = (len(rules.contenders), len(rules.rungs), -(-images // 8))
        if (header["identity"], bits.dtype, bits.shape) != (identity, np.uint8, shape):
            return None
        if [(row["criterion"], row["seed"]) for row in rows] != list(rules.contenders):
            return None
        hits = np.unpackbits(bits, axis=-1, count=images).astype(bool)
        entries = tuple(
            Entry(row["criterion"], row["seed"], int(row["macs"]), dict(zip(rules.rungs, found, strict=True)),
                  tuple(row["given_up"]))
            for row, found in zip(rows, hits, strict=True)
        )  # fmt: skip
        return _contest(header["model"], identity, entries)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def bundle_contest(model: str, folder: Path) -> Path:
    """Measure a bundled model's contest, rules and settings as they come, and write it as one file into `folder`."""
    network = Network.load(model)
    path = folder / f"{network.fingerprint}.npz"
    write_atomic(path, _packed(contest(network, kept=False), _identity(network, ContestConfig(), EvaluationConfig())))
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=bundle_contest.__doc__)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    bundle_contest(arguments.model, arguments.folder)
