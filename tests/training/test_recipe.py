"""Recipes: learning rates by hand, and what is refused."""

import math

import pytest

from fpgm_core import FpgmError
from fpgm_core.training import DECAYS, OFFICIAL, RECIPES, Recipe


def test_the_official_recipe_falls_to_a_fifth_at_60_120_and_160():
    rates = [OFFICIAL.learning_rate_at(epoch) for epoch in (0, 59.9, 60, 119.9, 120, 160, 199.9)]
    assert rates == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.0008, 0.0008])
    assert (OFFICIAL.momentum, OFFICIAL.nesterov, OFFICIAL.weight_decay, OFFICIAL.batch) == (0.9, True, 5e-4, 128)


def test_cosine_and_one_cycle_by_hand():
    cosine = Recipe(epochs=10, learning_rate=0.2, decay="cosine")
    assert cosine.learning_rate_at(2.5) == pytest.approx(0.1 * (1 + math.cos(math.pi / 4)))
    cycle = Recipe(epochs=10, learning_rate=0.2)
    assert [cycle.learning_rate_at(e) for e in (0, 1, 2, 6, 10)] == pytest.approx([0.02, 0.11, 0.2, 0.1, 0.0])


@pytest.mark.parametrize("decay", DECAYS)
def test_factors_stay_between_zero_and_one(decay):
    assert all(0 <= DECAYS[decay].factor(i / 100) <= 1 + 1e-12 for i in range(101))


def test_warm_up_starts_at_a_tenth():
    recipe = Recipe(epochs=200, learning_rate=0.1, decay="step", warm_up=1)
    assert (recipe.learning_rate_at(0.5), recipe.learning_rate_at(1)) == pytest.approx((0.01, 0.1))


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"epochs": 0}, "epochs 0"),
        ({"epochs": 1.5}, "not a whole number"),
        ({"batch": 0}, "batch 0"),
        ({"learning_rate": -1}, "learning_rate -1"),
        ({"learning_rate": float("nan")}, "learning_rate nan"),
        ({"momentum": True}, "momentum True"),
        ({"distillation": 1.1}, "distillation 1.1"),
        ({"decay": "linear"}, "unknown decay 'linear'; choose one of step"),
    ],
)
def test_what_cannot_be_is_refused(wrong, word):
    with pytest.raises(FpgmError, match=word):
        Recipe(**wrong)


def test_a_recipe_in_words():
    assert str(OFFICIAL) == (
        "200 epochs; SGD, Nesterov momentum 0.9; batch 128; learning rate 0.1, step; weight decay 0.0005; "
        "crop (pad 4) and flip; seed 0"
    )
    told = str(Recipe(1, warm_up=2, decay_norms=False, label_smoothing=0.1, distillation=0.5, nesterov=False))
    for part in (
        "1 epoch;", "SGD, momentum 0.9", "2 epochs at a tenth", "on convolutions and Linear only",
        "label smoothing 0.1", "distillation 0.5 at 4",
    ):  # fmt: skip
        assert part in told
    assert "no augmentation" in str(Recipe(augmented=False))
    assert len({str(recipe) for recipe in RECIPES.values()}) == len(RECIPES)
