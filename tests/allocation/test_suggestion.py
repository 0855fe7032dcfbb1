"""Losses by running the pruned network itself, suggestions and their reasons, a table of one's own."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fpgm_core import FpgmError, recover, suggest
from fpgm_core.allocation import (
    Choices,
    CostMeasure,
    Goal,
    SuggestConfig,
    losses_work,
    prepared_work,
    prices,
    register_cost,
    suggestion_of,
    unregister_cost,
)
from fpgm_core.allocation.losses import answers_kl, refitted
from fpgm_core.allocation.probe import Probe
from fpgm_core.calibration import CalibrationConfig, calibrate
from fpgm_core.data import load_images
from fpgm_core.pruning import masked_tensors
from fpgm_core.recovery import RecoveryContext
from fpgm_core.runtime.progress import run

FIXED = tuple(f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in (0, 1))  # few units: quick


@pytest.fixture(scope="module")
def train():
    return load_images("cifar10", "train").first(300)


@pytest.fixture(scope="module")
def prepared(resnet20, train):
    like = resnet20.plan(coupling="inner")
    return run(prepared_work(resnet20, train, like=like, config=SuggestConfig(fixed=FIXED)))


def by_its_own_batches(module, images):
    """The logits of a plain module in training mode, batch by batch."""
    module.train()
    with torch.no_grad():
        return torch.cat([module(batch) for batch, _ in images.batches(128)])


def test_a_probe_answers_as_the_pruned_network_in_training_mode(resnet20, train):
    images = train.first(200)
    probe = Probe.of(resnet20, images, RecoveryContext())
    torch.testing.assert_close(probe.answers, by_its_own_batches(resnet20.prune(0.0).compact(), images))
    pruned = resnet20.prune({"layer2.0.conv2": 0.5, "layer3.1.conv1": 0.4}, coupling="coupled")
    tensors = masked_tensors(resnet20.module, resnet20.flow, pruned.keep_masks)
    torch.testing.assert_close(
        probe.with_tensors(tensors), by_its_own_batches(pruned.masked(), images), rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(probe.with_tensors({}), probe.answers)


def test_refitted_is_least_squares_from_moments(resnet20, train):
    moments = calibrate(resnet20, train, config=CalibrationConfig(num_images=150, positions=16), use_cache=False)
    pruned = resnet20.prune({"layer1.0.conv1": 0.5}, coupling="inner")
    fitted = refitted(pruned, moments)
    assert set(fitted.tensors) == {"layer1.0.conv2.weight"}
    left = np.repeat(pruned.keep_masks["layer1.0.conv1"], 9)
    moment = moments.of("layer1.0.conv2").ridged(1e-3)[0].numpy()
    old = resnet20.module.layer1[0].conv2.weight.flatten(1).double().numpy()
    best = np.linalg.solve(moment[np.ix_(left, left)], moment[left] @ old.T).T
    new = fitted.tensors["layer1.0.conv2.weight"].flatten(1).double().numpy()
    np.testing.assert_allclose(new[:, left], best, rtol=1e-3, atol=1e-5)
    assert (new[:, ~left] == 0).all()


def test_divergence_of_answers():
    first, second = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)).double()
    expected = nn.functional.kl_div(first.log_softmax(1), second.log_softmax(1), reduction="batchmean", log_target=True)
    assert answers_kl(first, second) == pytest.approx(float(expected))
    assert answers_kl(first, first) == 0


@pytest.mark.parametrize("loss", ["damage", "blend"])
def test_losses_rise_from_zero_and_are_kept(resnet20, train, loss, own_home):
    like = resnet20.plan(coupling="inner")
    choices = Choices.of(resnet20, like, fixed=FIXED)
    found = run(losses_work(choices, train, loss))
    for row, one in zip(found.by_unit, choices.units, strict=True):
        assert row.shape == one.counts.shape
        assert row[0] == 0
        assert (np.diff(row) >= 0).all()
        assert len(row) == 1 or row[-1] > 0
    steps = list(losses_work(choices, train, loss))
    assert not steps  # read, not made again
    assert len(list((own_home / "losses").iterdir())) == 1
    with pytest.raises(FpgmError, match="unknown loss 'luck'"):
        run(losses_work(choices, train, "luck"))


def test_a_suggestion_meets_its_goal_and_says_why(prepared):
    found = suggestion_of(prepared, Goal({"macs": 0.1}))
    assert found.reached["macs"] >= 0.1
    assert set(found.plan.rates) <= {one.unit.name for one in prepared.choices.units} - set(FIXED)
    assert found.predicted == pytest.approx(sum(price.loss for price in found.prices))
    open_units = [price for price in found.prices if price.next_price is not None]
    cheapest = min(open_units, key=lambda price: price.next_price)
    assert f"The bargain is {cheapest.unit}: a million more MACs" in found.reason
    assert json.loads(json.dumps(found.to_dict()))["goal"] == {"macs": 0.1}


def test_prices_are_differences_of_losses_over_macs(prepared):
    choices, losses = prepared.choices, prepared.losses
    chosen = choices.least
    place = next(place for place, one in enumerate(choices.units) if len(one.counts) > 3)
    chosen[place] = 2
    goal = Goal({"macs": 0.1})
    found = prices(losses, lambda counts: 1e6 * (100 - counts.sum(1).astype(float)), chosen)[place]
    row = losses.by_unit[place]
    assert (found.pruned, found.loss_fewer, found.loss, found.loss_more) == (2, row[1], row[2], row[3])
    assert found.next_price == pytest.approx(row[3] - row[2])  # a filter saves a million here
    assert found.last_price == pytest.approx(row[2] - row[1])
    assert goal.cuts["macs"] == 0.1


def test_a_cost_of_ones_own(prepared):
    """Milliseconds from a table, say."""

    def model(choices):
        return lambda counts: 100.0 - counts.sum(1)

    register_cost(
        CostMeasure(
            "milliseconds", "Milliseconds", "ms", model,
            lambda pruned: 100.0 - sum(int((~mask).sum()) for mask in pruned.keep_masks.values()),
        )
    )  # fmt: skip
    try:
        found = suggestion_of(prepared, Goal({"milliseconds": 0.2}))
        assert found.reached["milliseconds"] == pytest.approx(0.2)
    finally:
        unregister_cost("milliseconds")
    with pytest.raises(FpgmError, match="unknown cost"):
        Goal({"milliseconds": 0.2})


def test_the_front_door(resnet20, train):
    config = SuggestConfig(loss="damage")
    found = suggest(resnet20, images=train, macs_cut=0.3, coupling="inner", config=config)
    assert found.reached["macs"] >= 0.3
    assert recover(found.pruned, "as_is").plan == found.plan
    for wrong in ({}, {"macs_cut": 0.3, "max_loss": 0.1}):
        with pytest.raises(FpgmError, match="one of the two"):
            suggest(resnet20, images=train, **wrong)
    with pytest.raises(FpgmError, match="give images to choose on"):
        suggest(resnet20, images=train, max_loss=0.1)


def test_at_most_a_loss(resnet20, train):
    choose = load_images("cifar10", "choose").first(100)
    config = SuggestConfig(loss="damage")
    found = suggest(resnet20, images=train, max_loss=0.05, choose=choose, coupling="inner", config=config)
    assert found.measurement.num_dense_correct - found.measurement.num_correct <= 5  # of 100
    assert found.reached["macs"] > 0


def test_scores_are_made_where_the_criterion_needs_them(resnet20, train):
    like = replace(resnet20.plan(coupling="inner"), criterion="taylor")
    found = run(prepared_work(resnet20, train, like=like, config=SuggestConfig(allocator="global")))
    assert found.losses is None
    assert suggestion_of(found, Goal({"macs": 0.2}), SuggestConfig(allocator="global")).reason == ""
