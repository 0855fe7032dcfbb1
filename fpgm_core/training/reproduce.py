"""The paper's Table 1 and the controls the literature asks for: cases, their runs, and the table beside the paper's."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.graph import closed_form_cut
from fpgm_core.pruning import Network, Plan
from fpgm_core.runtime.files import read_file
from fpgm_core.runtime.progress import Work
from fpgm_core.runtime.storage import write_atomic
from fpgm_core.training.outcome import Outcome, outcome_work, write_outcome
from fpgm_core.training.recipe import Recipe
from fpgm_core.training.trainer import Trainer

_MOST_OF_A_RESULT = 16 << 20  # bytes
# Accuracy on CIFAR-10's 10,000 test images in percent, mean and deviation: He et al., CVPR 2019, Table 1.
PAPER: Mapping[tuple[str, str, float], tuple[float, float]] = {
    ("resnet20", "dense", 0.0): (92.20, 0.18),
    ("resnet20", "fpgm", 0.3): (91.09, 0.10),
    ("resnet20", "fpgm", 0.4): (90.44, 0.20),
    ("resnet20", "fpgm_mix", 0.4): (91.99, 0.15),
    ("resnet32", "dense", 0.0): (92.63, 0.70),
    ("resnet32", "fpgm", 0.3): (92.31, 0.30),
    ("resnet32", "fpgm", 0.4): (91.93, 0.03),
    ("resnet32", "fpgm_mix", 0.4): (92.82, 0.03),
    ("resnet56", "dense", 0.0): (93.59, 0.58),
    ("resnet56", "fpgm", 0.4): (92.93, 0.49),
    ("resnet56", "fpgm_mix", 0.4): (92.89, 0.32),
    ("resnet56", "fpgm, fine-tuned at 0.01", 0.4): (93.49, 0.13),
    ("resnet56", "fpgm_mix, fine-tuned at 0.01", 0.4): (93.26, 0.03),
    ("resnet110", "dense", 0.0): (93.68, 0.32),
    ("resnet110", "fpgm", 0.4): (93.73, 0.23),
    ("resnet110", "fpgm_mix", 0.4): (93.85, 0.11),
    ("resnet110", "fpgm, fine-tuned at 0.01", 0.4): (93.74, 0.10),
}
CONTROLS: Mapping[str, str] = {
    "finetune": "FPGM from the dense network, at two learning rates, 0.01 and 0.001",
    "random": "random filters, fine-tuned alike",
    "scratch": "the compact network from scratch, at the dense run's compute (Liu et al., ICLR 2019)",
    "family": "ResNet-56 pruned to ResNet-20's MACs, beside ResNet-20 itself",
}
FINETUNE_RATES = (0.01, 0.001)


@dataclass(frozen=True)
class Case:
    """One run of the table.

    `criterion` is None for a dense run. `learning_rate`, where given, starts from the dense run of the same
    seed and takes that rate; else the run begins at random weights. `compact` trains the compact network.
    """

    net: str
    seed: int
    criterion: str | None = None
    rate: float = 0.0
    learning_rate: float | None = None
    compact: bool = False
    family: bool = False

    @property
    def kind(self) -> str:
        """What the run is, in words: the same for every seed."""
        if self.criterion is None:
            return "dense"
        if self.compact:
            return f"{self.criterion}, compact from scratch at equal compute"
        if self.family:
            return f"{self.criterion}, at ResNet-20's MACs"
        return self.criterion + ("" if self.learning_rate is None else f", fine-tuned at {self.learning_rate:g}")

    @property
    def key(self) -> str:
        """The run's folder."""
        words = self.kind.replace(", ", "-").replace(" ", "-").replace("'", "")
        return f"{self.net}-{words}" + f"-{self.rate:.4g}" * bool(self.criterion) + f"-seed{self.seed}"


def cases(
    nets: Sequence[str], rates: Sequence[float], *, seeds: Sequence[int], controls: Sequence[str] = ()
) -> list[Case]:
    """The runs of a table, dense ones before those that start from them. Raises FpgmError for unknown controls."""
    unknown = set(controls) - set(CONTROLS)
    if unknown:
        raise FpgmError(f"unknown control {sorted(unknown)[0]!r}; choose of {', '.join(CONTROLS)}")
    found: list[Case] = []
    for net in nets:
        for seed in seeds:
            found.append(Case(net, seed))
            for rate in rates:
                found += [Case(net, seed, criterion, rate) for criterion in ("fpgm", "fpgm_mix")]
                if "finetune" in controls:
                    for criterion in ("fpgm", "fpgm_mix"):
                        found += [Case(net, seed, criterion, rate, at) for at in FINETUNE_RATES]
                if "random" in controls:
                    found += [Case(net, seed, "random", rate, at) for at in FINETUNE_RATES]
                if "scratch" in controls:
                    found.append(Case(net, seed, "fpgm", rate, compact=True))
            if "family" in controls and net == "resnet56":
                found.append(Case(net, seed, "fpgm", family_rate(), family=True))
                found += [Case("resnet20", seed)] * ("resnet20" not in nets)
    return found


def family_rate() -> float:
    """The smallest rate, in hundredths, at which ResNet-56 costs no more than the dense ResNet-20."""
    large, small = (Network.load(name, "random") for name in ("resnet56", "resnet20"))
    rates = (percent / 100 for percent in range(100))
    return next(rate for rate in rates if large.cost(large.plan(rate)).macs <= small.dense_cost.macs)


def case_work(
    case: Case,
    recipe: Recipe,
    *,
    training: ImageSet,
    images: Mapping[str, ImageSet],
    folder: Path,
    watched: ImageSet | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> Work[dict[str, Any]]:
    """Train one case and measure it on test `images` by split; returns its result, which also stands in `folder`.

    While it trains, `Progress.partial` is the Run so far. A case that was finished with the same recipe is read
    instead of run; one that was begun resumes. Raises FpgmError where its folder holds another run, or the dense run
    that it starts from is not there.
    """
    place, network = folder / case.key, _network(case, folder)
    own = recipe_of(case, recipe, network=network)
    done = _finished(place / "result.json", own, case)
    if done is not None:
        return done
    trainer = Trainer(
        network.prune(_plan(case, network)),
        own,
        images=training,
        schedule="finetune" if case.compact else "hard",
        watched=watched,
        scratch=case.learning_rate is None,
        device=device,
        precision=precision,
        folder=place,
    )
    yield from trainer.train_work()
    outcome = yield from outcome_work(trainer, images=images)
    result = _result(case, own, outcome)
    if trainer.writes:
        write_outcome(outcome, place)
        write_atomic(place / "result.json", (json.dumps(result, indent=2) + "\n").encode())
    return result


def _network(case: Case, folder: Path) -> Network:
    if case.learning_rate is None:
        return Network.load(case.net, "random")
    path = folder / Case(case.net, case.seed).key / f"{case.net}_cifar10.safetensors"
    if not path.exists():
        raise FpgmError(f"{case.key} starts from the dense run's {path}, which is not there; run that first")
    return Network.load(case.net, path)


def _plan(case: Case, network: Network) -> Plan:
    plan = network.plan(case.rate, criterion=case.criterion or "fpgm")
    return replace(plan, options=replace(plan.options, seed=case.seed))


def recipe_of(case: Case, recipe: Recipe, *, network: Network) -> Recipe:
    """A case's own recipe: its seed and learning rate, and what the official code does for its network."""
    own = replace(recipe, seed=case.seed)
    if case.learning_rate is not None:
        own = replace(own, learning_rate=case.learning_rate)
    if case.net == "resnet110" and case.learning_rate is None:
        own = replace(own, warm_up=max(1, own.warm_up))  # as the official code does
    if case.compact:  # as many multiply-adds as the dense run took
        cost = network.cost(_plan(case, network))
        own = replace(own, epochs=round(own.epochs * network.dense_cost.macs / cost.macs))
    return own


def _result(case: Case, recipe: Recipe, outcome: Outcome) -> dict[str, Any]:
    network, macs = outcome.pruned.network, outcome.pruned.cost.macs
    try:
        closed = closed_form_cut(network.flow, case.rate) if case.criterion else 0.0
    except FpgmError:
        closed = None
    return {
        "case": asdict(case),
        "kind": case.kind,
        "recipe": asdict(recipe),
        "accuracy": outcome.accuracy,
        "macs": macs,
        "dense_macs": network.dense_cost.macs,
        "cut": 1 - macs / network.dense_cost.macs,
        "closed_form_cut": closed,
        **{key: value for key, value in outcome.about.items() if key not in ("recipe", "curve")},
    }


def _finished(path: Path, recipe: Recipe, case: Case) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        result: dict[str, Any] = json.loads(read_file(path, _MOST_OF_A_RESULT))
        same = result["recipe"] == asdict(recipe) and result["case"] == asdict(case)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FpgmError(f"{path} is not a result of this tool ({error}); move it away") from error
    if not same:
        raise FpgmError(f"{path.parent} holds a run with another recipe; name another folder")
    return result


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """The results as a Markdown table: mean and deviation over seeds, last epoch, all 10,000, beside the paper's."""
    groups: dict[tuple[str, str, float], list[Mapping[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["case"]["net"], result["kind"], result["case"]["rate"]), []).append(result)
    lines = [
        "| network | what | rate | seeds | epochs | accuracy, % | paper, % | MACs cut, counted | its closed form |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (net, kind, rate), rows in groups.items():
        accuracies = [100 * row["accuracy"]["all"]["accuracy"] for row in rows]
        epochs = sorted({row["epochs"] for row in rows})
        closed = rows[0]["closed_form_cut"]
        lines.append(
            f"| {net} | {kind} | {rate:.0%} | {len(rows)} | {', '.join(map(str, epochs))} | {_spread(accuracies)} | "
            f"{_paper(net, kind, rate)} | {rows[0]['cut']:.1%} | {'' if closed is None else f'{closed:.1%}'} |"
        )
    recipes = sorted({_without_seed(row["recipe"]) for row in results})
    lines += ["", "Last epoch, all 10,000 test images, float32. Recipes:", *(f"* {one}" for one in recipes), ""]
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def _paper(net: str, kind: str, rate: float) -> str:
    known = PAPER.get((net, kind, round(rate, 6)))
    return "" if known is None else f"{known[0]:.2f} ± {known[1]:.2f}"


def _without_seed(recipe: Mapping[str, Any]) -> str:
    return str(Recipe(**{**recipe, "seed": 0})).removesuffix("; seed 0")
