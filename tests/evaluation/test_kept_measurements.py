"""Measurements that are made once."""

from dataclasses import replace

import pytest

from fpgm_core.data import load_images
from fpgm_core.evaluation import evaluate, kept_measure_work, measure_work
from fpgm_core.runtime.progress import run
from fpgm_core.runtime.storage import home
from fpgm_core.training import Recipe


@pytest.fixture
def images():
    return load_images("cifar10", "choose").first(50)


@pytest.fixture
def training():
    return load_images("cifar10", "train").first(60)


def done(work):
    """What work comes to, and how many measurements were made and kept for it."""
    folder = home() / "measurements"
    before = len(list(folder.glob("*")))
    return run(work), len(list(folder.glob("*"))) - before


def test_the_same_is_measured_once(resnet20, images, training):
    def measured(rate, method="recalibrated", of=images, training=training):
        pruned = resnet20.prune(rate, coupling="inner")
        return done(kept_measure_work(pruned, of, method=method, training=training))

    first, made = measured(0.4)
    assert made > 0
    expected = run(measure_work(resnet20.prune(0.4, coupling="inner"), images, method="recalibrated",
                                training=training))  # fmt: skip
    assert replace(first, seconds=0.0) == replace(expected, seconds=0.0)
    assert first.answers == expected.answers
    again, made = measured(0.4)
    assert (again, made) == (first, 0)
    assert again.answers == first.answers
    for other in (
        measured(0.5),
        measured(0.4, "as_is"),
        measured(0.4, of=images.first(40)),
        measured(0.4, training=training.last(50)),
    ):
        assert other[1] > 0


def test_what_was_recovered_is_measured_on_more_images_without_recovering_it_again(resnet20, images, training):
    pruned, kept = resnet20.prune(0.4, coupling="inner"), []
    given = {"method": "recalibrated", "training": training}
    run(kept_measure_work(pruned, images.first(20), **given, keep=kept.append))
    found, made = done(kept_measure_work(pruned, images, **given, recovered=kept[0]))
    expected = run(measure_work(pruned, images, **given))
    assert replace(found, seconds=0.0) == replace(expected, seconds=0.0)
    assert made > 0
    assert done(kept_measure_work(pruned, images, **given)) == (found, 0)


def test_what_prunes_alike_is_the_same(resnet20, images):
    pruned = resnet20.prune(0.4, coupling="inner")
    run(kept_measure_work(pruned, images))
    plan = resnet20.plan_that_prunes(pruned.keep_masks, resnet20.plan(criterion="l1_norm", coupling="inner"))
    assert done(kept_measure_work(resnet20.prune(plan), images))[1] == 0
    assert resnet20.prune(0.4, coupling="inner").digest == pruned.digest != resnet20.prune(0.3).digest


def test_a_recipe_is_part_of_it(resnet20, images, training):
    pruned = resnet20.prune(0.6, coupling="inner")

    def tuned(rate):
        recipe = Recipe(epochs=1, batch=60, learning_rate=rate)
        return done(kept_measure_work(pruned, images, method="fine_tuned", training=training, recipe=recipe))

    first, made = tuned(0.01)
    assert made > 0
    assert tuned(0.01) == (first, 0)
    assert tuned(0.02)[1] > 0
    assert first != evaluate(pruned, images)
