"""What ranks plans of equal MACs? What is predicted of them, or measured quickly, against what they come to in the end.

Over plans that cut different MACs the cut alone ranks as well as any prediction (0.98 on ResNet-20), so a correlation
over such plans says nothing. Here plans are drawn at a few levels of MACs, and each level is looked at by itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType

import numpy as np

from fpgm_core.allocation.allocators import allocated
from fpgm_core.allocation.choices import Choices
from fpgm_core.allocation.goals import Goal
from fpgm_core.allocation.losses import Losses, losses_work
from fpgm_core.criteria import spearman
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import EvaluationConfig, Interval, kept_measure_work
from fpgm_core.pruning import Network, Plan
from fpgm_core.recovery import RECOVERY_METHODS, RecoveryContext
from fpgm_core.runtime.device import choose_device, choose_precision
from fpgm_core.runtime.progress import Progress, Work, run, within
from fpgm_core.training import Recipe

LEVELS = (0.3, 0.5, 0.7)
SHORT = Recipe(epochs=2, learning_rate=0.02)  # the one recipe of a short fine-tune
BUNDLE = Path(str(resources.files("fpgm_core.allocation") / "bundled"))  # what ships with the package
_RESAMPLES = 2000
_FEWEST = 5


@dataclass(frozen=True)
class StudiedPlan:
    """One plan at a level of MACs cut: `figures` holds what is predicted and measured of it, by name.

    Predicted losses are negative, so that of every figure more is better; "macs" are the MACs that are left; rungs'
    names stand for right answers on the studied images.
    """

    level: float
    plan: Plan
    figures: Mapping[str, float]


@dataclass(frozen=True)
class RankingStudy:
    """What was found so far; `total` plans were asked for, and `target` is what the others should foretell.

    Measured on `num_images`; `recipe` is that of the fine-tune, if any, on `num_training` images.
    """

    plans: tuple[StudiedPlan, ...]
    target: str
    total: int
    num_images: int = 0
    num_training: int = 0
    recipe: Recipe | None = None

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels of MACs cut, ascending."""
        return tuple(sorted({plan.level for plan in self.plans}))

    @property
    def predictors(self) -> tuple[str, ...]:
        """The figures beside the target."""
        return tuple(name for name in (self.plans[0].figures if self.plans else ()) if name != self.target)

    def agreement(self, predictor: str, level: float) -> Interval | None:
        """Spearman's correlation of a figure with the target among plans of one level, with a bootstrap interval.

        95%, percentiles of 2,000 resamples of the plans (seed 0). None for under five plans, or a constant figure.
        """
        return rank_bootstrap(*(self._figures(name, level) for name in (predictor, self.target)))

    def overall(self, predictor: str, other: str | None = None) -> Interval | None:
        """The mean over the levels of the correlations within each; with `other`, minus that figure's.

        95%, plans resampled within each level, the same for both. None where a level says nothing.
        """
        names = [predictor] if other is None else [predictor, other]
        means = [self._means(name) for name in names]
        if not means or any(np.isnan(one[0]) for one in means):
            return None
        found = means[0] if other is None else means[0] - means[1]
        return Interval(float(found[0]), *_middle(found[1:][~np.isnan(found[1:])]))

    def _means(self, predictor: str) -> np.ndarray:
        """The mean over levels of the correlations: of all plans, then of every resample; NaN where there is none."""
        rows = []
        for place, level in enumerate(self.levels):
            first, second = (self._figures(name, level) for name in (predictor, self.target))
            draws = np.concatenate([np.arange(len(first))[None], _resampled(len(first), place)])
            rows.append(_spearmans(first[draws], second[draws]))
        return np.array(rows).mean(0)

    def _figures(self, name: str, level: float) -> np.ndarray:
        return np.array([plan.figures[name] for plan in self.plans if plan.level == level])

    @property
    def trusted(self) -> str | None:
        """The rung to choose by: the one that ranks best, of equals the cheapest.

        None where no rung ranks better than chance, or there is but one. `behind` says what it is truly ahead of.
        """
        found = {name: rho.value for name, rho in self.rungs.items() if rho.low > 0}
        return max(found, key=lambda name: found[name]) if len(self.rungs) > 1 and found else None

    @property
    def rungs(self) -> dict[str, Interval]:
        """What every rung ranks at over all levels, the cheapest first; without those that a level says nothing of."""
        names = [name for name in self.predictors if name in RECOVERY_METHODS]
        return {name: rho for name in names if (rho := self.overall(name)) is not None}

    @property
    def behind(self) -> tuple[str, ...]:
        """The rungs that rank worse than the trusted one by an interval below 0, on the same resamples."""
        best = self.trusted
        others = [name for name in self.rungs if best is not None and name != best]
        return tuple(name for name in others if (ahead := self.overall(best or "", name)) is not None and ahead.low > 0)


def known_ranking(network: Network, bundle: Path = BUNDLE) -> RankingStudy | None:
    """The study of these weights that ships with the package, or lies in the folder `bundle`; None where there is none.

    A file there is what `fpgm damage MODEL --study N --json` writes, called by the model's name.
    """
    try:
        kept = json.loads((bundle / f"{network.name}.json").read_text())
        if kept["fingerprint"] != network.fingerprint:
            return None
        like = network.plan(criterion=kept["criterion"], coupling=kept["coupling"])
        plans = tuple(
            StudiedPlan(one["level"], like.with_rates(one["rates"]), MappingProxyType(one["figures"]))
            for one in kept["plans"]
        )
        recipe = None if kept["recipe"] is None else Recipe(**kept["recipe"])
        return RankingStudy(plans, kept["target"], len(plans), kept["images"], kept["training_images"], recipe)
    except (OSError, ValueError, LookupError, TypeError, FpgmError):
        return None


def rank_bootstrap(first: np.ndarray, second: np.ndarray) -> Interval | None:
    """Spearman's rank correlation of two (N,) with a bootstrap 95% interval; None where N < 5 or one is constant."""
    rho = spearman(first, second) if len(first) >= _FEWEST else None
    if rho is None:
        return None
    drawn = _resampled(len(first))
    found = _spearmans(first[drawn], second[drawn])
    return Interval(rho, *_middle(found[~np.isnan(found)]))


def _spearmans(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation of every row of two arrays (D, N), float64 (D,); NaN where one is constant."""
    a, b = (_ranks(each) - (each.shape[1] + 1) / 2 for each in (first, second))
    with np.errstate(invalid="ignore"):
        found: np.ndarray = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return found


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks 1..N within every row of (D, N), equal values sharing the mean of their ranks."""
    below, equal = (compare(values[:, None], values[:, :, None]).sum(2) for compare in (np.less, np.equal))
    return below + (equal + 1) / 2


def _resampled(count: int, seed: int = 0) -> np.ndarray:
    """Numbers of plans drawn again and again, int (resamples, count)."""
    return np.random.RandomState(seed).randint(count, size=(_RESAMPLES, count))


def _middle(found: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(found, (2.5, 97.5)) if len(found) else (math.nan, math.nan)
    return float(low), float(high)


def ranking_work(
    network: Network,
    images: ImageSet,
    training: ImageSet,
    *,
    like: Plan | None = None,
    levels: Sequence[float] = LEVELS,
    num_plans: int = 8,
    losses: Sequence[str] = ("damage",),
    rungs: Sequence[str] = ("as_is", "recalibrated", "repaired"),
    recipe: Recipe | None = None,
    config: EvaluationConfig = EvaluationConfig(),
) -> Work[RankingStudy]:
    """Draw `num_plans` random plans at each level, predict and measure them; each Progress has the study so far.

    The target is the last of `rungs`, or accuracy after fine-tuning by `recipe` where one is given. `like` says
    criterion, coupling and options (fpgm, inner). Raises FpgmError as `losses_work` and `measure_work` do, and for
    fewer than five plans a level.
    """
    if num_plans < _FEWEST:
        raise FpgmError(f"{num_plans} plans tell nothing; study at least {_FEWEST} at each level")
    like = like or network.plan(coupling="inner")
    device = choose_device(config.device)
    context = RecoveryContext(device, choose_precision(config.precision, device))
    choices, known = Choices.of(network, like), dict[str, Losses]()
    for place, name in enumerate(losses):
        work = losses_work(choices, training, name, context=context)
        known[name] = yield from within(work, 0.1 * place / len(losses), 0.1 * (place + 1) / len(losses))
    target = rungs[-1] if recipe is None else "fine_tuned"
    study = RankingStudy((), target, num_plans * len(levels), len(images), len(training), recipe)
    for level in levels:
        for seed in range(num_plans):
            done = 0.1 + 0.9 * len(study.plans) / study.total
            yield Progress(done, what=f"measuring plans that cut {level:.0%}", partial=study)
            pruned = allocated(choices, Goal({"macs": level}), "random", seed=seed)
            chosen = choices.nearest({name: int((~mask).sum()) for name, mask in pruned.keep_masks.items()})
            figures = {name: -float(each.of(chosen)) for name, each in known.items()}
            figures["macs"] = float(pruned.cost.macs)
            measured = {rung: kept_measure_work(pruned, images, method=rung, training=training, config=config)
                        for rung in rungs}  # fmt: skip
            if recipe is not None:
                measured["fine_tuned"] = kept_measure_work(
                    pruned, images, method="fine_tuned", training=training, config=config, recipe=recipe
                )
            figures |= {rung: float(run(work).num_correct) for rung, work in measured.items()}
            study = replace(study, plans=(*study.plans, StudiedPlan(level, pruned.plan, figures)))
    return study
