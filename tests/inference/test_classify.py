"""Right answers are counted of any function of images, step by step."""

import pytest
import torch

from fpgm_core.data import load_images
from fpgm_core.inference import TOP, count_correct_work, rank_work
from fpgm_core.runtime.progress import run


@pytest.mark.parametrize("count", [1, 100, 230])
def test_right_answers_are_counted_as_a_plain_loop_counts_them(resnet20, count):
    images = load_images("cifar10", "choose").first(count)
    steps = []
    correct = run(count_correct_work(resnet20.module, images), steps.append)
    with torch.no_grad():
        right = resnet20.module(images.normalised(0, count)).argmax(1) == images.labels
    assert abs(correct - int(right.sum())) <= 1  # another order of rounding
    assert [step.done for step in steps] == [*range(100, count, 100), count]
    assert steps[-1].partial == correct


def test_any_function_of_images_will_do():
    images = load_images("cifar10", "choose").first(50)
    given = []

    def always_three(x):
        given.append(tuple(x.shape))
        return torch.nn.functional.one_hot(torch.full((len(x),), 3), 10)

    assert run(count_correct_work(always_three, images)) == int((images.labels == 3).sum())
    assert given == [(50, 3, 32, 32)]


def test_ranks_say_how_many_classes_come_first():
    images = load_images("cifar10", "choose").first(50)
    labels = images.labels

    def in_their_order(x):
        return -torch.arange(12.0).expand(len(x), 12)

    assert run(rank_work(in_their_order, images)).tolist() == labels.clamp(max=TOP).tolist()
