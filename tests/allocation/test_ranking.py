"""What ranks plans of equal MACs: the study's plans, figures and intervals."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import spearmanr

from fpgm_core import EvaluationConfig, FpgmError, Network
from fpgm_core.allocation import RankingStudy, StudiedPlan, known_ranking, ranking_work
from fpgm_core.allocation.ranking import BUNDLE, rank_bootstrap
from fpgm_core.data import load_images
from fpgm_core.runtime.progress import run
from fpgm_core.training import Recipe


def test_a_study_at_equal_macs(resnet20):
    images, training = load_images("cifar10", "choose").first(60), load_images("cifar10", "train").first(60)
    config = EvaluationConfig(device="cpu", precision="float32")
    work = ranking_work(resnet20, images, training, levels=(0.3, 0.6), num_plans=5, rungs=("as_is",), config=config,
                        recipe=Recipe(epochs=1, batch=60))  # fmt: skip
    study = run(work)
    assert study.target == "fine_tuned"
    assert study.levels == (0.3, 0.6)
    assert set(study.predictors) == {"damage", "macs", "as_is"}
    assert len({one.plan.key for one in study.plans}) == study.total == 10
    dense = resnet20.dense_cost.macs
    for level in study.levels:
        plans = [one for one in study.plans if one.level == level]
        cuts = [1 - one.figures["macs"] / dense for one in plans]
        assert all(level <= cut < level + 0.01 for cut in cuts)  # to within one filter
        found = study.agreement("damage", level)
        expected = spearmanr(*([one.figures[name] for one in plans] for name in ("damage", "fine_tuned"))).statistic
        assert found is None or found.value == pytest.approx(expected)


def test_a_bootstrap_interval_holds_its_value():
    random = np.random.RandomState(0)
    first = random.normal(size=40)
    found = rank_bootstrap(first, first + random.normal(size=40))
    assert -1 <= found.low < found.value < found.high <= 1
    assert found.high - found.low < 0.6
    assert rank_bootstrap(first[:4], first[:4]) is None
    tied = first.round()  # ranks shared, as scipy shares them
    drawn = np.random.RandomState(0).randint(40, size=(2000, 40))
    limits = np.percentile([spearmanr(tied[one], first[one]).statistic for one in drawn], (2.5, 97.5))
    found = rank_bootstrap(tied, first)
    assert (found.low, found.high) == pytest.approx(tuple(limits))
    assert rank_bootstrap(first, np.ones(40)) is None


def study_of(**figures):
    """Plans at two levels of MACs; `figures` by name, (2, plans), the target being "fine_tuned"."""
    plans = [
        StudiedPlan(level, None, {name: float(rows[place][index]) for name, rows in figures.items()})
        for place, level in enumerate((0.3, 0.6))
        for index in range(len(figures["fine_tuned"][0]))
    ]
    return RankingStudy(tuple(plans), "fine_tuned", len(plans))


def test_levels_are_ranked_apart_and_then_averaged():
    target = np.arange(24.0).reshape(2, 12)
    study = study_of(fine_tuned=target, as_is=np.stack([target[0], -target[1]]), recalibrated=target)
    assert study.overall("as_is").value == pytest.approx(0)  # 1 in one level, -1 in the other
    assert study.overall("recalibrated").value == 1
    ahead = study.overall("recalibrated", "as_is")
    assert (ahead.value, ahead.low, ahead.high) == pytest.approx((1, 1, 1))


def test_the_rung_that_ranks_best_is_trusted_and_who_is_truly_behind_is_said():
    random = np.random.RandomState(0)
    target = random.normal(size=(2, 20))
    noisy, blurred = (target + spread * random.normal(size=target.shape) for spread in (1.5, 0.05))
    figures = {"fine_tuned": target, "macs": noisy, "as_is": noisy, "recalibrated": blurred, "repaired": target}
    study = study_of(**figures)
    assert list(study.rungs) == ["as_is", "recalibrated", "repaired"]
    assert study.trusted == "repaired"
    assert "as_is" in study.behind
    assert study_of(**{**figures, "repaired": -target}).trusted == "recalibrated"
    assert study_of(**{**figures, "as_is": target}).trusted == "as_is"  # as good, and cheaper
    assert "repaired" not in study_of(**{**figures, "as_is": target}).behind
    few = study_of(**{name: rows[:, :6] for name, rows in {**figures, "repaired": 0.1 * noisy + target}.items()})
    assert "recalibrated" not in few.behind  # a difference that chance may have made


def test_without_a_rung_that_ranks_none_is_trusted():
    target = np.random.RandomState(0).normal(size=(2, 12))
    assert study_of(fine_tuned=target, macs=target).trusted is None
    assert study_of(fine_tuned=target, as_is=target).trusted is None  # nothing to compare with
    assert study_of(fine_tuned=target, as_is=-target, repaired=-target).trusted is None
    assert study_of(fine_tuned=target, as_is=-target, repaired=-target).behind == ()


def test_a_kept_study_is_read_back_for_its_weights_alone(resnet20, tmp_path):
    rows = [
        {"level": level, "rates": {"layer1.0.conv1": rate}, "figures": {"as_is": 10 * rate, "fine_tuned": 20 * rate}}
        for level in (0.3, 0.6)
        for rate in (0.1, 0.2, 0.3, 0.4, 0.5)
    ]
    kept = {"fingerprint": resnet20.fingerprint, "criterion": "fpgm", "coupling": "inner", "target": "fine_tuned",
            "plans": rows, "images": 50, "training_images": 60, "recipe": {"epochs": 3}}  # fmt: skip
    path = tmp_path / "resnet20.json"
    path.write_text(json.dumps(kept))
    study = known_ranking(resnet20, tmp_path)
    assert [dict(one.plan.rates) | {"level": one.level} for one in study.plans] == [
        {**row["rates"], "level": row["level"]} for row in rows
    ]
    assert study.overall("as_is").value == pytest.approx(1)
    assert study.trusted is None  # one rung alone
    assert (study.num_images, study.num_training, study.recipe) == (50, 60, Recipe(epochs=3))
    for damaged in (json.dumps({**kept, "fingerprint": "another"}), json.dumps({**kept, "plans": [{}]}), "no JSON"):
        path.write_text(damaged)
        assert known_ranking(resnet20, tmp_path) is None
    assert known_ranking(resnet20, tmp_path / "nowhere") is None


@pytest.mark.parametrize("path", sorted(BUNDLE.glob("*.json")), ids=lambda path: path.stem)
def test_the_study_that_ships_is_of_the_weights_that_ship(path):
    network = Network.load(path.stem)
    study = known_ranking(network)
    assert len(study.plans) >= 24
    assert len(study.levels) == 3
    assert {"as_is", "recalibrated", "repaired"} < set(study.predictors)
    assert study.recipe.epochs * study.num_training > 0
    kept = json.loads(path.read_text())
    assert study.trusted == kept["trusted"]
    for level in study.levels:
        plans = [one for one in study.plans if one.level == level]
        assert len({one.plan.key for one in plans}) == len(plans) >= 8
        assert all(level <= 1 - one.figures["macs"] / network.dense_cost.macs < level + 0.02 for one in plans)
        for rung in ("as_is", "recalibrated", "repaired"):
            assert asdict(study.agreement(rung, level)) == pytest.approx(kept["spearman"][f"{level:g}"][rung])
    one = study.plans[0]
    assert network.cost(one.plan).macs == one.figures["macs"]


def test_few_plans_tell_nothing(resnet20):
    images = load_images("cifar10", "choose").first(10)
    with pytest.raises(FpgmError, match="study at least 5"):
        run(ranking_work(resnet20, images, images, num_plans=4))
