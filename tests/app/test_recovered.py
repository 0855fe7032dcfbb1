"""What was recovered, for whoever shows, compares or exports it."""

import torch

from fpgm_core.data import load_images
from fpgm_core.evaluation import measure_work
from fpgm_core.runtime.progress import run
from pages.ui.session.recovered import recovered_networks, recovered_work


def test_a_plan_recovered_anew_is_the_network_that_was_measured(resnet20):
    """Where the measured one is forgotten, neither Compare nor Export shows other figures than the bar."""
    plan, train, measured = resnet20.plan(0.4, coupling="inner"), load_images("cifar10", "train"), []
    images = load_images("cifar10", "choose").first(50)
    run(measure_work(resnet20.prune(plan), images, method="recalibrated", training=train, keep=measured.append))
    recovered_networks().clear()
    anew = run(recovered_work(resnet20, plan, "recalibrated"))
    (before,) = measured
    assert anew.tensors.keys() == before.tensors.keys()
    assert all(torch.equal(tensor, before.tensors[name]) for name, tensor in anew.tensors.items())
