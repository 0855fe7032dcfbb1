"""Network: what a network and a plan make together."""

import threading

import numpy as np
import pytest

from fpgm_core import COUPLINGS, CRITERIA, FpgmError, Network, SelectionOptions, num_pruned
from fpgm_core.criteria import norm_diagnostics, unit_scores
from fpgm_core.graph import weights_of
from fpgm_core.runtime.memo import Memo


@pytest.fixture(scope="module")
def net(resnet20):
    return resnet20


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize(
    "criterion", [name for name, record in CRITERIA.items() if record.needs == "weights" and name != "fpgm_mix"]
)
def test_masks_drop_the_lowest_scores(net, criterion, coupling):
    plan = net.plan(0.4, criterion=criterion, coupling=coupling)
    for unit in net.units(coupling):
        scores = net.scores(unit, criterion)
        lowest = sorted(range(unit.size), key=lambda i: (scores[i], i))[: num_pruned(unit.size, 0.4)]
        assert np.flatnonzero(~net.keep_mask(plan, unit)).tolist() == sorted(lowest)


def test_a_layer_is_scored_once_for_all_that_ask(net, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "fpgm_core.criteria.geometry.distance_sums", lambda filters: asked.append(filters) or filters.flatten(1).sum(1)
    )
    fresh = Network.from_module(net.module, net.input_shape)
    for coupling in COUPLINGS:
        for unit in fresh.units(coupling):
            fresh.scores(unit, "fpgm")
            fresh.agreement(unit)
        fresh.cost(fresh.plan(0.3, coupling=coupling))
    figures = {layer.name: fresh.norm_diagnostics(layer.name) for layer in fresh.layers}
    assert len(asked) == len(fresh.layers)
    monkeypatch.undo()
    for layer in net.layers:
        own = norm_diagnostics(weights_of(net.module, layer.name))
        assert net.norm_diagnostics(layer.name) == own
        assert figures[layer.name].l2_mean == own.l2_mean


def test_members_of_a_unit_share_their_mask(network, mixed):
    mobile = network("mobilenet_v2")
    masks = mobile.keep_masks(mixed(mobile, "inner"))
    unit = mobile.unit_of("features.3.conv.1.0", "inner")
    assert unit.members == ("features.3.conv.0.0", "features.3.conv.1.0")
    assert np.array_equal(*(masks[member] for member in unit.members))


def test_a_shared_score_is_the_sum_of_scores_over_their_means(network):
    mobile = network("mobilenet_v2")
    unit = mobile.unit_of("features.3.conv.1.0", "inner")
    norms = [weights_of(mobile.module, m).double().flatten(1).norm(dim=1).numpy() for m in unit.members]
    expected = sum(values / values.mean() for values in norms)
    np.testing.assert_allclose(mobile.scores(unit, "l2_norm"), expected)


def test_locks_hold_and_the_count_stays(net):
    unit = net.units("independent")[1]
    order = np.argsort(net.scores(unit, "fpgm"), kind="stable")
    plan = net.plan(0.4).with_lock(unit.name, int(order[0]), "in").with_lock(unit.name, int(order[-1]), "out")
    pruned = set(np.flatnonzero(~net.keep_mask(plan, unit)))
    assert pruned == {*order[1:6].tolist(), order[-1]}  # 6 of 16: the lowest is spared, the highest goes


@pytest.mark.parametrize(
    ("locks", "message"),
    [
        ({"locked_in": {"conv1": (16,)}}, "no filter 16"),
        ({"locked_out": {"conv1": (-1,)}}, "no filter -1"),
        ({"locked_in": {"conv1": (3,)}, "locked_out": {"conv1": (3,)}}, "locked in and locked out"),
        ({"locked_out": {"conv1": tuple(range(7))}}, "raise the rate"),
        ({"locked_in": {"conv1": tuple(range(11))}}, "lower the rate"),
    ],
)
def test_locks_without_room_are_refused(net, locks, message):
    plan = net.plan(0.4, **locks)
    for use in (net.keep_masks, net.cost, net.prune):
        with pytest.raises(FpgmError, match=message):
            use(plan)


def test_a_lock_on_a_unit_that_prunes_nothing(net):
    assert net.keep_masks(net.plan(locked_in={"conv1": (3,)}))["conv1"].all()
    with pytest.raises(FpgmError, match="prunes only 0"):
        net.keep_masks(net.plan(locked_out={"conv1": (3,)}))


def test_one_rate_means_every_unit(net):
    plan = net.plan(0.25, coupling="inner")
    assert dict(plan.rates) == {unit.name: 0.25 for unit in net.units("inner")}
    assert net.plan({"conv1": 0.5}).rates == {"conv1": 0.5}
    assert net.plan().rates == {}


@pytest.mark.parametrize("rate", [1.2, -0.1, float("nan"), True, "0.5", {"conv1": 2}, {"nowhere": 0.5}])
def test_rates_that_cannot_be_right(net, rate):
    with pytest.raises(FpgmError):
        net.plan(rate)


def test_a_rate_of_one_leaves_one_filter(net):
    assert {int(mask.sum()) for mask in net.keep_masks(net.plan(1.0)).values()} == {1}


def test_the_seed_matters_to_random_alone(net):
    def masks(criterion, seed):
        return np.concatenate(
            list(net.keep_masks(net.plan(0.4, criterion=criterion, options=SelectionOptions(seed))).values())
        )

    assert not np.array_equal(masks("random", 0), masks("random", 1))
    assert np.array_equal(masks("random", 1), masks("random", 1))
    assert np.array_equal(masks("fpgm", 0), masks("fpgm", 1))


def test_remembered_results_are_not_mixed_up(net):
    unit = net.units("independent")[4]
    for criterion in (name for name, record in CRITERIA.items() if record.needs == "weights"):
        for seed in (0, 1):
            options = SelectionOptions(seed)
            fresh = unit_scores(
                CRITERIA[criterion].stages[0].score, {unit.name: weights_of(net.module, unit.name)}, options=options
            )
            assert np.array_equal(net.scores(unit, criterion, options, stage=0), fresh)


def test_remembered_arrays_cannot_be_written(net):
    unit = net.units("independent")[0]
    for array in (net.scores(unit, "fpgm"), net.keep_mask(net.plan(0.4), unit)):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_layers_agree_with_the_flow(network):
    for name in ("resnet20", "mobilenet_v2", "resnext50_32x4d"):
        net = network(name)
        assert [layer.name for layer in net.layers] == [site.name for site in net.flow.convs]
        dense = {layer.name: layer.macs for layer in net.dense_cost.layers}
        assert all(dense[layer.name] == layer.macs for layer in net.layers)
        assert sum(layer.share for layer in net.layers) == pytest.approx(1, abs=0.05)


def test_unit_of_finds_members_and_says_none_otherwise(net):
    assert net.unit_of("layer1.0.conv1", "inner").name == "layer1.0.conv1"
    assert net.unit_of("conv1", "inner") is None


def test_memory_forgets_the_oldest():
    memory, made = Memo(2), []

    def value(key):
        return memory(key, lambda: made.append(key) or key)

    for key in ("a", "b", "a", "c", "a", "b"):
        assert value(key) == key
    assert made == ["a", "b", "c", "a", "b"]


def test_threads_share_a_network():
    shared, found = Network.load("resnet20"), []

    def work(rate):
        found.append((rate, shared.cost(shared.plan(rate)).macs))

    threads = [threading.Thread(target=work, args=(rate,)) for rate in (0.3, 0.4, 0.5) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = Network.load("resnet20")
    assert sorted(found) == sorted((rate, alone.cost(alone.plan(rate)).macs) for rate in (0.3, 0.4, 0.5) * 4)


def test_agreement_of_a_unit_is_the_rank_correlation_of_norm_and_fpgm(resnet20):
    unit = resnet20.unit_of("layer1.2.conv1", "independent")
    assert round(resnet20.agreement(unit), 2) == 0.96


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("criterion", ["fpgm", "fpgm_mix"])
def test_a_plan_can_be_made_to_hold_any_masks(resnet20, coupling, criterion):
    plan = resnet20.plan(0.4, criterion=criterion, coupling=coupling, options=SelectionOptions(round_to=4))
    other = resnet20.keep_masks(resnet20.plan(0.3, criterion="random", coupling=coupling))
    held = resnet20.plan_that_prunes(other, plan)
    found = resnet20.keep_masks(held)
    assert all(np.array_equal(found[layer], other[layer]) for layer in other)
    assert (held.criterion, held.coupling, held.fingerprint) == (criterion, coupling, plan.fingerprint)
    assert resnet20.plan_that_prunes(resnet20.keep_masks(plan), plan) is plan


def test_a_grouped_networks_masks_can_be_held():
    network = Network.load("resnext50_32x4d")
    masks = network.keep_masks(network.plan(0.3, criterion="random", coupling="coupled"))
    found = network.keep_masks(network.plan_that_prunes(masks, network.plan(0.6, coupling="coupled")))
    assert all(np.array_equal(found[layer], masks[layer]) for layer in masks)
