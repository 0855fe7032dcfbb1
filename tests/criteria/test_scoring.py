"""Scores of a whole network: from batch norms, from images, and by a criterion of one's own."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fpgm_core import CRITERIA, FpgmError, Network, Plan
from fpgm_core.calibration import CalibrationConfig, UnitLoss, calibrate, greedy_order, prunable_layers
from fpgm_core.criteria import (
    Criterion,
    Stage,
    check_scorable,
    get_criterion,
    register_criterion,
    score,
    score_work,
    select,
    unregister_criterion,
)
from fpgm_core.criteria.batch_norm_scale import batch_norm_scales
from fpgm_core.criteria.refit_cost import refit_cost_work, refit_costs_work
from fpgm_core.criteria.taylor import taylor_work
from fpgm_core.data import load_images
from fpgm_core.runtime.progress import run

BY_IMAGES = [name for name, record in CRITERIA.items() if record.needs == "images"]
FEW = CalibrationConfig(60, 8)


@pytest.fixture(scope="module")
def training():
    return load_images("cifar10", "train").first(64)


@pytest.fixture
def own():
    """A function that registers a criterion of a user's own; all are taken out afterwards."""
    names = []

    def register(**fields):
        record = register_criterion(Criterion(**{"name": "largest", "title": "Largest", "summary": "Own.", **fields}))
        names.append(record.name)
        return record

    yield register
    for name in set(names):
        unregister_criterion(name)


def vgg_like():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip


def largest(filters, layer, options):
    return filters.flatten(1).abs().amax(1)


# By images


@pytest.mark.parametrize("name", [name for name in BY_IMAGES if name != "refit_cost_greedy"])
def test_a_network_prunes_by_scores_from_images(resnet20, training, name):
    plan = resnet20.plan(0.4, criterion=name, coupling="inner")
    assert not resnet20.has_scores(name)
    with pytest.raises(FpgmError, match=r"give images to prune\(\), or the scores that score_work makes"):
        resnet20.keep_masks(plan)
    scores = score(resnet20, name, training)
    network = resnet20.with_scores(name, scores)
    assert network.has_scores(name)
    assert not resnet20.has_scores(name)
    assert list(scores) == [layer for layer in prunable_layers(network) if layer in scores]
    assert all(one.dtype == np.float64 and np.isfinite(one).all() for one in scores.values())
    unit = network.units("inner")[4]
    keep = network.keep_mask(plan, unit)
    assert set(np.flatnonzero(~keep)) == set(np.argsort(network.scores(unit, name), kind="stable")[:12])
    stream = network.unit_of("conv1", "coupled")
    members = [network.scores(network.unit_of(m, "independent"), name) for m in stream.members]
    np.testing.assert_allclose(network.scores(stream, name), sum(values / values.mean() for values in members))


def test_how_to_calibrate_for_refit_costs_is_an_argument(training):
    network = Network.from_module(vgg_like(), (3, 32, 32))
    moments = calibrate(network, training, config=FEW)
    expected = run(refit_costs_work(network, moments))
    scores = run(refit_cost_work(network, training, config=FEW))
    assert scores.keys() == expected.keys() == {"0", "3"}
    assert all(np.array_equal(scores[name], expected[name]) for name in scores)
    greedy = get_criterion("refit_cost_greedy").score_images
    steps = run(greedy(network, training, torch.device("cpu"), config=FEW))
    assert [sorted(order) for order in steps.values()] == [list(range(1, 9))] * 2


def test_prune_makes_the_scores_that_it_needs(resnet20, training):
    pruned = resnet20.prune(0.4, criterion="taylor", coupling="inner", images=training)
    plan = resnet20.plan(0.4, criterion="taylor", coupling="inner")
    masks = resnet20.with_scores("taylor", score(resnet20, "taylor", training)).keep_masks(plan)
    assert all(np.array_equal(pruned.keep_masks[name], mask) for name, mask in masks.items())


def test_greedy_scores_are_the_steps_at_which_filters_go(resnet20, training):
    moments = calibrate(resnet20, training, config=FEW, use_cache=False)
    scores = run(refit_costs_work(resnet20, moments, greedy=True, layers=["layer1.1.conv1", "layer1.2.conv1"]))
    assert list(scores) == ["layer1.1.conv1", "layer1.2.conv1"]
    steps = scores["layer1.1.conv1"]
    assert (
        np.argsort(steps).tolist() == greedy_order(UnitLoss.of(resnet20, ["layer1.1.conv1"], moments=moments)).tolist()
    )
    assert sorted(steps) == list(range(1, 17))


def test_a_layer_whose_readers_have_no_moments_has_no_score(resnet20, training):
    moments = calibrate(resnet20, training, config=FEW, use_cache=False)
    layers = {name: moment for name, moment in moments.layers.items() if name != "layer3.1.conv2"}
    scored = ["layer3.0.conv1", "layer3.1.conv1"]
    scores = run(refit_costs_work(resnet20, replace(moments, layers=layers), layers=scored))
    assert "layer3.1.conv1" not in scores
    network = resnet20.with_scores("refit_cost", scores)
    assert np.array_equal(
        network.scores(network.unit_of("layer3.0.conv1", "inner"), "refit_cost"), scores["layer3.0.conv1"]
    )
    with pytest.raises(FpgmError, match=r"no scores for layer3\.1\.conv1"):
        network.scores(network.unit_of("layer3.1.conv1", "inner"), "refit_cost")


def test_taylor_is_the_slope_squared(resnet20, training):
    images = training.first(32)
    found = score(resnet20, "taylor", images)

    def loss(scale):
        def grown(_, __, output):
            output = output.clone()
            output[:, 3] *= scale
            return output

        handle = resnet20.module.layer2[1].bn1.register_forward_hook(grown)
        with torch.no_grad():
            logits = resnet20.module(images.normalised(0, 32)).double()
        handle.remove()
        return float(torch.nn.functional.cross_entropy(logits, images.labels))

    slope = (loss(1.02) - loss(0.98)) / 0.04
    assert found["layer2.1.conv1"][3] == pytest.approx(slope**2, rel=0.05)


def test_taylor_reads_the_first_images_in_batches(resnet20, training):
    work = taylor_work(resnet20, training, num_images=48, batch=32)
    assert [next(work).done, next(work).done] == [32, 48]
    first, second = (score(resnet20, "taylor", training.first(n)) for n in (32, 64))
    assert np.array_equal(run(taylor_work(resnet20, training, num_images=32))["conv1"], first["conv1"])
    assert not np.array_equal(first["conv1"], second["conv1"])


@pytest.mark.parametrize("name", BY_IMAGES)
def test_random_weights_are_refused(name, training):
    network = Network.load("squeezenet1_1", "random")
    with pytest.raises(FpgmError, match=f"{name} needs a trained network"):
        score(network, name, training)
    with pytest.raises(FpgmError, match=f"{name} needs a trained network"):
        check_scorable(network, name)


def test_a_criterion_that_needs_no_images_is_refused(resnet20, training):
    for name in ("fpgm", "bn_scale"):
        check_scorable(resnet20, name)
        with pytest.raises(FpgmError, match=f"{name} needs no images"):
            next(score_work(resnet20, name, training))


@pytest.mark.parametrize("name", [name for name, record in CRITERIA.items() if record.needs != "weights"])
def test_what_needs_a_whole_network_cannot_be_read_off_filters(name):
    record = get_criterion(name)
    with pytest.raises(FpgmError, match=f"{name} cannot be read off conv1 alone"):
        record.score(torch.ones(4, 3), "conv1")
    with pytest.raises(FpgmError, match=f"{name} cannot be read off conv1 alone"):
        select(record, {"conv1": torch.ones(4, 3)}, rate=0.5)
    keep = select(record, {"conv1": torch.ones(4, 3)}, rate=0.5, first_scores=np.array([3.0, 1.0, 2.0, 4.0]))
    assert keep.tolist() == [True, False, False, True]


# By batch norms


def test_batch_norm_scales_need_no_images(resnet20):
    gamma = resnet20.module.layer2[0].bn2.weight.abs().double().numpy()
    np.testing.assert_array_equal(batch_norm_scales(resnet20)["layer2.0.conv2"], gamma)
    assert resnet20.has_scores("bn_scale")
    unit = resnet20.unit_of("layer2.0.conv2", "independent")
    np.testing.assert_array_equal(resnet20.scores(unit, "bn_scale"), gamma)
    keep = resnet20.keep_mask(resnet20.plan(0.4, criterion="bn_scale"), unit)
    assert set(np.flatnonzero(~keep)) == set(np.argsort(gamma, kind="stable")[:12])


def test_a_network_without_batch_norms_has_none(resnet20):
    network = Network.load("alexnet", "random")
    with pytest.raises(FpgmError, match="bn_scale finds nothing to score in alexnet"):
        network.keep_masks(network.plan(0.5, criterion="bn_scale"))


# One's own


def test_a_criterion_of_ones_own_is_one_like_the_others(resnet20, own):
    record = own(stages=(Stage(largest),))
    assert list(CRITERIA)[-1] == "largest"
    assert get_criterion("largest") is CRITERIA["largest"] is record
    plan = resnet20.plan(0.4, criterion="largest")
    assert Plan.from_json(plan.to_json()) == plan
    weights = resnet20.module.conv1.weight.flatten(1).abs().amax(1)
    kept = resnet20.keep_masks(plan)["conv1"]
    assert set(np.flatnonzero(~kept)) == set(weights.argsort(stable=True)[:6].tolist())


def test_registered_again_it_replaces_what_was_there(resnet20, own):
    own(stages=(Stage(largest),))
    plan = resnet20.plan(0.4, criterion="largest")
    before, macs = resnet20.keep_masks(plan)["conv1"], resnet20.cost(plan).macs
    own(stages=(Stage(lambda *given: -largest(*given)),))
    assert not np.array_equal(resnet20.keep_masks(plan)["conv1"], before)
    assert list(CRITERIA).count("largest") == 1
    assert resnet20.cost(plan).macs == pytest.approx(macs, rel=0.2)


def test_a_criterion_of_ones_own_may_need_images(resnet20, training, own):
    def brightness(network, images, device):
        yield from ()
        return {"conv1": np.arange(16.0) * float(images.pixels.float().mean())}

    own(score_images=brightness)
    pruned = resnet20.prune({"conv1": 0.5}, criterion="largest", images=training)
    assert np.flatnonzero(~pruned.keep_masks["conv1"]).tolist() == list(range(8))


def test_a_criterion_that_cannot_be_is_refused(own):
    ways = {"stages": (Stage(largest),), "score_images": taylor_work}
    for fields in ({}, ways):
        with pytest.raises(FpgmError, match="give exactly one of stages, score_batch_norms and score_images"):
            own(**fields)
    with pytest.raises(FpgmError, match="reads no option 'strength'; there are seed, mix_share, round_to"):
        own(stages=(Stage(largest),), options=("strength",))
    with pytest.raises(FpgmError, match="the library's own"):
        own(stages=(Stage(largest),), name="fpgm")
    with pytest.raises(FpgmError, match="'my own' is no name"):
        own(stages=(Stage(largest),), name="my own")
    with pytest.raises(FpgmError, match="unknown criterion"):
        get_criterion("largest")
    for name in ("fpgm", "largest"):
        with pytest.raises(FpgmError, match=f"no criterion '{name}' was registered"):
            unregister_criterion(name)


@pytest.mark.parametrize("wrong", [torch.ones(3), torch.full((16,), float("nan")), torch.ones(16, 1)])
def test_scores_that_are_not_one_finite_number_a_filter_are_refused(resnet20, own, wrong):
    own(stages=(Stage(lambda *_: wrong),))
    with pytest.raises(FpgmError, match="the scores of conv1 are not one finite number a filter"):
        resnet20.keep_masks(resnet20.plan(0.4, criterion="largest"))


def test_records_are_values():
    record = get_criterion("taylor")
    assert dataclasses.replace(record) == record
    assert hash(dataclasses.replace(record)) == hash(record)
