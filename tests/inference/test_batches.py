"""Batches by the size of images, and image sets that nobody holds."""

import gc
import weakref

import pytest
import torch

from fpgm_core import EvaluationConfig, ImageSet, Network, evaluate, recover
from fpgm_core.inference import Classifier, PrefixCache, usual_batch
from fpgm_core.runtime.cache import cache_report


def images_of_size(side, count=4):
    generator = torch.Generator().manual_seed(side)
    pixels = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator)
    return ImageSet.from_arrays(pixels, torch.arange(count) % 10)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (("cpu", torch.float32), {32: 100, 64: 98, 224: 8, 600: 1}),
        (("cpu", torch.bfloat16), {32: 250, 224: 8, 2000: 1}),
        (("cuda", torch.bfloat16), {32: 1000, 224: 256, 384: 87}),
        (("mps", torch.float32), {32: 500, 224: 64}),
    ],
)
def test_large_images_go_in_small_batches(kind, expected):
    assert {side: usual_batch(kind, images_of_size(side, 1)) for side in expected} == expected


def test_a_look_between_two_strides_is_short_for_large_images(one_core):
    classifier = Classifier(torch.device("cpu"), torch.float32)
    assert [classifier.stride(images_of_size(side, 1)) for side in (32, 224)] == [100, 8]


@pytest.mark.parametrize("method", ["as_is", "recalibrated", "repaired"])
def test_image_sets_are_let_go_of_when_nobody_holds_them(resnet20, method):
    images, training = images_of_size(32, 300), images_of_size(32, 40)
    pruned = recover(resnet20.prune(0.3, coupling="inner"), method, training, device="cpu")
    evaluate(pruned, images, EvaluationConfig(device="cpu", precision="float32"))
    evaluate(pruned, images.first(20), EvaluationConfig(device="cpu", precision="float32"))
    held = [weakref.ref(part) for part in (images, images.pixels, training, training.pixels)]
    assert cache_report()["cpu"]["dense answers"].entries == 1  # the first images share their set's
    del images, training
    gc.collect()
    assert [reference() for reference in held] == [None] * 4


def test_what_is_made_of_a_set_is_another_and_its_beginning_is_not(resnet20):
    from dataclasses import replace

    images = images_of_size(32, 40)
    others = (
        replace(images, mean=(0.5,) * 3),
        replace(images, labels=images.labels.flip(0)),
        images.take([1, 0, 2], "three"),
        images.last(10),
        *images.halves(),
        images_of_size(32, 40),
    )
    assert len({images.serial, *(other.serial for other in others)}) == 8
    assert images.first(7).serial == images.to(torch.device("cpu")).serial == images.serial
    pruned, config = resnet20.prune(0.3), EvaluationConfig(device="cpu", precision="float32")
    for part in (images, *others):  # what is remembered of one is not taken for another
        found = evaluate(pruned, part, config)
        PrefixCache.on(torch.device("cpu")).clear()
        again = evaluate(pruned, ImageSet.from_arrays(part.pixels, part.labels, mean=part.mean, std=part.std), config)
        assert found.answers == again.answers


def test_a_network_of_another_size_says_how_long_the_rest_takes():
    from fpgm_core.evaluation import measure_work

    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, 2),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 10),
    )  # fmt: skip
    network = Network.from_module(module, (3, 224, 224))
    images = images_of_size(224, 200)
    steps = list(measure_work(network.prune(0.5, coupling="coupled"), images, method="recalibrated", training=images))
    assert all(step.seconds_left is not None for step in steps if step.share > steps[0].share + 0.02)
    (provisional,) = [step.partial for step in steps if getattr(step.partial, "state", None) == "provisional"]
    assert (provisional.num_images, provisional.recovery_images) == (50, 64)  # of large images a few come first
    running = [step for step in steps if getattr(step.partial, "state", None) == "measuring"]
    assert running[0].partial.num_images < 100 < 200 == running[-1].partial.num_total
    shares = [step.share for step in steps]
    assert shares == sorted(shares)
    recovery = running[0].share
    assert 0.3 < recovery < 0.5  # a pass over 200 training images, then two over 200
