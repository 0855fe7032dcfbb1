"""What holds for every criterion of the registry, and what each one means."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fpgm_core.criteria import (
    CRITERIA,
    SelectionOptions,
    geometric_median,
    get_criterion,
    num_pruned,
    select,
    unit_scores,
)
from fpgm_core.errors import FpgmError

every = pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
WEIGHTS = [criterion for criterion in CRITERIA.values() if criterion.needs == "weights"]
by_weights = pytest.mark.parametrize("criterion", WEIGHTS, ids=lambda criterion: criterion.name)
# A seeded criterion looks at positions, not at weights.
seeing = pytest.mark.parametrize("criterion", [c for c in WEIGHTS if "seed" not in c.options], ids=lambda c: c.name)
PLAIN = [criterion for criterion in WEIGHTS if len(criterion.stages) == 1]
plain = pytest.mark.parametrize("criterion", PLAIN, ids=[criterion.name for criterion in PLAIN])
rates = st.integers(0, 100).map(lambda percent: percent / 100)
seeds = st.integers(0, 2**32 - 1)


def random_filters(seed, n=None):
    rng = np.random.RandomState(seed)
    return torch.from_numpy(rng.randn(n or rng.randint(1, 21), 1, 3, 3))


def pruned(criterion, filters, rate, **more):
    keep = select(get_criterion(criterion), {"conv": filters}, rate=rate, **more)
    return np.flatnonzero(~keep).tolist()


@every
def test_a_record_is_complete(criterion):
    assert CRITERIA[criterion.name] is criterion is get_criterion(criterion.name)
    for text in (criterion.title, criterion.summary, criterion.assumes, criterion.source):
        assert text.strip()
    assert criterion.summary.endswith(".")
    assert set(criterion.options) <= {field.name for field in dataclasses.fields(SelectionOptions)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        criterion.name = "other"


def test_titles_are_unique():
    assert len({criterion.title for criterion in CRITERIA.values()}) == len(CRITERIA)


def test_an_unknown_criterion_is_refused_with_the_known_ones():
    with pytest.raises(FpgmError, match="unknown criterion 'l3_norm'; choose one of l1_norm, l2_norm, fpgm"):
        get_criterion("l3_norm")


@by_weights
def test_scores_are_one_finite_number_a_filter(criterion):
    for filters in (random_filters(0, 7), torch.zeros(4, 1, 3, 3), torch.ones(1, 1, 1, 1), random_filters(1, 5).half()):
        scores = criterion.score(filters, "conv")
        assert scores.shape == (len(filters),)
        assert scores.dtype == torch.float64
        assert torch.isfinite(scores).all()


@by_weights
def test_scoring_and_selecting_leave_the_weights_and_their_gradients_alone(criterion):
    filters = random_filters(0, 8).requires_grad_()
    before = filters.detach().clone()
    assert not criterion.score(filters).requires_grad
    select(criterion, {"conv": filters}, rate=0.5)
    assert torch.equal(filters, before)
    assert filters.grad is None


@by_weights
@given(seed=seeds, rate=rates)
def test_exactly_the_count_is_pruned(criterion, seed, rate):
    filters = random_filters(seed)
    keep = select(criterion, {"conv": filters}, rate=rate)
    assert keep.dtype == bool
    assert keep.shape == (len(filters),)
    assert (~keep).sum() == criterion.count(len(filters), rate) <= num_pruned(len(filters), rate)
    assert keep.any()


@plain
@given(seed=seeds, rate=rates)
def test_a_plain_criterion_prunes_what_the_rounding_function_says(criterion, seed, rate):
    n = len(random_filters(seed))
    assert criterion.count(n, rate) == num_pruned(n, rate)


@plain
@given(seed=seeds)
def test_masks_of_a_plain_criterion_are_nested_as_the_rate_rises(criterion, seed):
    filters = random_filters(seed)
    masks = [select(criterion, {"conv": filters}, rate=percent / 100) for percent in (0, 30, 60, 100)]
    assert masks[0].all()
    for lower, higher in itertools.pairwise(masks):
        assert not (higher & ~lower).any()


@plain
@given(seed=seeds, rate=rates)
def test_no_pruned_filter_scores_above_a_kept_one(criterion, seed, rate):
    filters = random_filters(seed)
    scores = criterion.score(filters, "conv").numpy()
    keep = select(criterion, {"conv": filters}, rate=rate)
    assert scores[~keep].max(initial=-math.inf) <= scores[keep].min()


@seeing
@given(seed=seeds, rate=rates)
def test_scores_and_masks_follow_the_filters_through_a_permutation(criterion, seed, rate):
    filters = random_filters(seed)
    order = np.random.RandomState(seed).permutation(len(filters))
    scores = criterion.score(filters).numpy()
    np.testing.assert_allclose(criterion.score(filters[order]), scores[order], rtol=1e-7, atol=1e-9)
    if np.diff(np.sort(scores)).min(initial=1) > 1e-6:  # two filters are always equally far from each other
        keep = select(criterion, {"conv": filters}, rate=rate)
        assert np.array_equal(select(criterion, {"conv": filters[order]}, rate=rate), keep[order])


@seeing
@given(seed=seeds, rate=rates)
def test_the_selection_does_not_depend_on_scale_sign_or_shape(criterion, seed, rate):
    filters = random_filters(seed)
    keep = select(criterion, {"conv": filters}, rate=rate)
    for same in (filters * 1024, -filters, filters.flatten(1)):
        assert np.array_equal(select(criterion, {"conv": same}, rate=rate), keep)


@seeing
@pytest.mark.parametrize("value", [0.0, 0.3])
def test_among_equal_filters_the_lower_indices_go(criterion, value):
    filters = torch.full((8, 2, 3, 3), value)
    assert pruned(criterion.name, filters, 0.5) == list(range(criterion.count(8, 0.5)))


@seeing
def test_exact_duplicates_score_alike(criterion):
    filters = random_filters(3, 9)
    scores = criterion.score(torch.cat([filters, filters]))
    assert torch.equal(scores[:9], scores[9:])


@by_weights
@given(seed=seeds, rate=rates, data=st.data())
def test_locks_are_kept_and_the_count_stays(criterion, seed, rate, data):
    filters = random_filters(seed)
    n = len(filters)
    count = criterion.count(n, rate)
    order = data.draw(st.permutations(range(n)))
    out = order[: data.draw(st.integers(0, count))]
    kept = order[n - data.draw(st.integers(0, n - count)) :]
    keep = select(criterion, {"conv": filters}, rate=rate, locked_in=kept, locked_out=out)
    assert (~keep).sum() == count
    assert keep[list(kept)].all()
    assert not keep[list(out)].any()


@plain
def test_locks_change_nothing_else(criterion):
    filters = random_filters(5, 12)
    order = np.argsort(criterion.score(filters, "conv").numpy(), kind="stable").tolist()
    skipped, forced = order[0], order[-1]
    expected = sorted([*order[1:5], forced])
    assert pruned(criterion.name, filters, 5 / 12, locked_in=[skipped], locked_out=[forced]) == expected


@by_weights
@pytest.mark.parametrize("locks", [{"locked_out": [0, 1, 2, 3, 4]}, {"locked_in": range(7)}, {"locked_in": [10]}])
def test_locks_without_room_are_refused_by_the_units_name(criterion, locks):
    with pytest.raises(FpgmError, match="conv"):
        select(criterion, {"conv": random_filters(0, 10)}, rate=0.45, **locks)


@by_weights
def test_first_scores_computed_before_change_nothing(criterion):
    filters = random_filters(6, 20)
    first = unit_scores(criterion.stages[0].score, {"conv": filters})
    keep = select(criterion, {"conv": filters}, rate=0.5)
    assert np.array_equal(select(criterion, {"conv": filters}, rate=0.5, first_scores=first), keep)
    reversed_first = select(criterion, {"conv": filters}, rate=0.5, first_scores=-first)
    assert not np.array_equal(reversed_first, keep), "they are read"


BY_HAND = {
    "l1_norm": lambda x: [sum(map(abs, row)) for row in x],
    "l2_norm": lambda x: [math.hypot(*row) for row in x],
    "fpgm": lambda x: [sum(math.dist(a, b) for b in x) for a in x],
    "fpgm_l1": lambda x: [sum(abs(p - q) for b in x for p, q in zip(a, b, strict=True)) for a in x],
    "fpgm_cosine": lambda x: [
        sum(1 - sum(map(float.__mul__, a, b)) / math.hypot(*a) / math.hypot(*b) for b in x) for a in x
    ],
    "fpgm_exact": lambda x: [
        math.dist(a, geometric_median(torch.tensor(x, dtype=torch.float64)).point.tolist()) for a in x
    ],
}


@pytest.mark.parametrize("name", BY_HAND)
def test_scores_are_the_formula_written_out(name):
    x = random_filters(7, 12).flatten(1)
    np.testing.assert_allclose(CRITERIA[name].score(x), BY_HAND[name](x.tolist()), rtol=1e-9)


def test_the_toy_filters_are_where_fpgm_and_the_norm_part():
    toy = torch.stack([torch.full((1, 3, 3), value) for value in (3.0, 2.0, 0.1)])
    assert pruned("fpgm", toy, 0.4) == [1], "the 2.0"
    assert pruned("l2_norm", toy, 0.4) == pruned("l1_norm", toy, 0.4) == [2], "the 0.1"


def test_the_four_points_are_where_the_exact_median_and_the_medoid_part():
    points = torch.tensor([[0.0, 3.0], [2.0, 0.0], [1.0, 0.0], [1.0, 8.0]])
    assert pruned("fpgm_exact", points, 0.25) == [2]
    assert pruned("fpgm", points, 0.25) == [0]


@pytest.mark.parametrize(("n", "by_norm", "by_distance"), [(16, 1, 4), (32, 3, 9), (64, 6, 19)])
def test_the_papers_mix_of_forty_percent(n, by_norm, by_distance):
    assert CRITERIA["fpgm_mix"].counts(n, 0.4) == (by_norm, by_distance)
    assert {16: 5, 32: 12, 64: 25}[n] == by_norm + by_distance


@given(seed=seeds, rate=rates, share=st.integers(0, 4).map(lambda quarter: quarter / 4))
def test_the_mix_prunes_by_norm_and_then_by_distance_among_the_survivors(seed, rate, share):
    x = random_filters(seed)
    flat = x.flatten(1).tolist()
    n = len(flat)
    norms = [math.hypot(*row) for row in flat]
    first = sorted(range(n), key=lambda i: (norms[i], i))[: num_pruned(n, rate * share)]
    alive = [i for i in range(n) if i not in first]
    sums = {i: sum(math.dist(flat[i], flat[k]) for k in alive) for i in alive}
    count = min(num_pruned(n, rate * (1 - share)), len(alive) - 1)
    second = sorted(alive, key=lambda i: (sums[i], i))[:count]
    if len(alive) == 2:
        second = alive[:count]  # two are equally far from each other, whatever the loop's last digit says
    assert pruned("fpgm_mix", x, rate, options=SelectionOptions(mix_share=share)) == sorted([*first, *second])


def test_the_mix_at_its_ends_is_the_norm_or_fpgm():
    filters = random_filters(8, 32)
    assert pruned("fpgm_mix", filters, 0.4, options=SelectionOptions(mix_share=1)) == pruned("l2_norm", filters, 0.4)
    assert pruned("fpgm_mix", filters, 0.4, options=SelectionOptions(mix_share=0)) == pruned("fpgm", filters, 0.4)


def test_the_seed_of_random_selection_counts():
    drawn = [pruned("random", random_filters(0, 32), 0.5, options=SelectionOptions(seed=seed)) for seed in (0, 1, 1)]
    assert drawn[0] != drawn[1] == drawn[2]


def test_filters_the_norm_stage_removed_do_not_vote_in_the_second():
    # With the six zeros voting, 1.0 would lie nearest the middle; among the survivors 2.0 is the median.
    filters = torch.tensor([0.0] * 6 + [1.0, 1.5, 2.0, 3.0, 4.0])[:, None]
    assert pruned("fpgm_mix", filters, 7 / 11, options=SelectionOptions(mix_share=6 / 7)) == [0, 1, 2, 3, 4, 5, 8]


def test_locked_out_filters_use_up_the_norm_stages_count_first():
    filters = torch.arange(1.0, 21.0)[:, None]
    # 40% of 20: 2 by norm, 6 by distance. Both of the norm's are taken by the locks, so 1 and 2 stay.
    kept = set(range(20)) - set(pruned("fpgm_mix", filters, 0.4, locked_out=[18, 19]))
    assert {0, 1} <= kept
    assert kept.isdisjoint({18, 19})


def test_random_scores_are_fixed_by_seed_and_layer_for_ever():
    # A plan stores the seed alone: other numbers here would change what every stored plan prunes.
    scores = CRITERIA["random"].score(torch.zeros(3, 1), "conv1", SelectionOptions(seed=0))
    np.testing.assert_allclose(scores, [0.3845, 0.8133, 0.5438], atol=5e-5)


def test_random_differs_by_seed_and_by_layer_but_not_by_weights():
    score = CRITERIA["random"].score
    filters = random_filters(0, 16)
    base = score(filters, "conv1", SelectionOptions(seed=0))
    assert torch.equal(base, score(filters + 1, "conv1", SelectionOptions(seed=0)))
    assert not torch.equal(base, score(filters, "conv2", SelectionOptions(seed=0)))
    assert not torch.equal(base, score(filters, "conv1", SelectionOptions(seed=1)))


def test_a_lone_layers_unit_scores_are_its_own():
    filters = random_filters(0, 6)
    expected = CRITERIA["fpgm"].score(filters).numpy()
    assert np.array_equal(unit_scores(CRITERIA["fpgm"].score, {"a": filters}), expected)


def test_several_layers_add_scores_divided_by_their_mean():
    first, second = torch.tensor([[1.0], [3.0]]), torch.tensor([[100.0, 0.0], [0.0, 300.0]])
    scores = unit_scores(CRITERIA["l2_norm"].score, {"a": first, "b": second})
    np.testing.assert_allclose(scores, [0.5 + 0.5, 1.5 + 1.5])


def test_a_member_of_zeros_has_no_say():
    filters = random_filters(0, 6)
    scores = CRITERIA["l2_norm"].score(filters).numpy()
    both = unit_scores(CRITERIA["l2_norm"].score, {"a": filters, "b": torch.zeros(6, 1)})
    np.testing.assert_allclose(both, scores / scores.mean())


@by_weights
@given(seed=seeds, rate=rates)
def test_layers_that_share_a_selection_get_one_mask_of_the_same_count(criterion, seed, rate):
    filters = random_filters(seed)
    members = {"a": filters, "b": random_filters(seed ^ 1, len(filters))}
    keep = select(criterion, members, rate=rate)
    assert (~keep).sum() == criterion.count(len(filters), rate)
    assert np.array_equal(select(criterion, {"a": filters, "b": members["b"] * 4}, rate=rate), keep), "scale has no say"


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True, "0", None])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(FpgmError, match=r"seed .* is not a whole number from 0 to 4294967295"):
        SelectionOptions(seed=seed)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), True, "0.25", None])
def test_a_mix_share_that_is_no_fraction_is_refused(share):
    with pytest.raises(FpgmError, match=r"mix_share .* is not a fraction from 0 to 1"):
        SelectionOptions(mix_share=share)


@pytest.mark.parametrize("multiple", [0, -8, 1025, 8.0, True, "8", None])
def test_a_multiple_that_is_none_is_refused(multiple):
    with pytest.raises(FpgmError, match=r"round_to .* is not a whole number from 1 to 1024"):
        SelectionOptions(round_to=multiple)


@pytest.mark.parametrize(
    ("n", "rate", "multiple", "kept"),
    [(64, 0.4, 8, 40), (64, 0.4, 16, 48), (64, 0.5, 8, 32), (16, 0.9, 8, 8), (20, 0.1, 8, 20), (6, 0.5, 8, 6)],
)
def test_the_kept_count_is_rounded_up_to_a_multiple(n, rate, multiple, kept):
    for criterion in CRITERIA.values():
        assert n - criterion.count(n, rate, options=SelectionOptions(round_to=multiple)) == kept


@by_weights
@given(seed=seeds, rate=rates, multiple=st.integers(1, 40), share=st.integers(0, 4))
def test_rounding_keeps_a_multiple_or_all_and_never_fewer(criterion, seed, rate, multiple, share):
    filters = random_filters(seed)
    n = len(filters)
    options = SelectionOptions(mix_share=share / 4, round_to=multiple)
    kept = int(select(criterion, {"conv": filters}, rate=rate, options=options).sum())
    as_rated = n - criterion.count(n, rate, options=SelectionOptions(mix_share=share / 4))
    assert kept % multiple == 0 or kept == n
    assert as_rated <= kept < as_rated + multiple
    assert kept == n - criterion.count(n, rate, options=options)


@plain
def test_rounding_spares_the_best_of_those_pruned(criterion):
    filters = random_filters(9, 20)
    unrounded, rounded = (pruned(criterion.name, filters, 0.5, options=SelectionOptions(round_to=m)) for m in (1, 8))
    assert (len(unrounded), len(rounded)) == (10, 4)
    assert set(rounded) < set(unrounded)


def test_of_the_mix_the_distance_stage_gives_way_first():
    assert CRITERIA["fpgm_mix"].counts(64, 0.4) == (6, 19)
    assert CRITERIA["fpgm_mix"].counts(64, 0.4, options=SelectionOptions(round_to=16)) == (6, 10)
    assert CRITERIA["fpgm_mix"].counts(64, 0.4, options=SelectionOptions(round_to=60)) == (4, 0)


@by_weights
@given(seed=seeds, rate=rates, blocks=st.integers(1, 6), size=st.integers(1, 8), multiple=st.sampled_from([1, 2, 8]))
def test_every_block_prunes_equally_many(criterion, seed, rate, blocks, size, multiple):
    filters, options = random_filters(seed, blocks * size), SelectionOptions(round_to=multiple)
    keep = select(criterion, {"conv": filters}, rate=rate, options=options, blocks=blocks)
    kept = keep.reshape(blocks, size).sum(1)
    assert len(set(kept.tolist())) == 1
    assert kept[0] >= 1
    assert (~keep).sum() == criterion.count(len(filters), rate, options=options, blocks=blocks)
    assert keep.sum() % multiple == 0 or keep.all()


@plain
def test_each_block_prunes_its_own_lowest(criterion):
    filters = random_filters(10, 24)
    scores = criterion.score(filters, "conv").numpy().reshape(3, 8)
    keep = select(criterion, {"conv": filters}, rate=0.5, blocks=3).reshape(3, 8)
    for row, left in zip(scores, keep, strict=True):
        assert set(np.flatnonzero(~left)) == set(np.argsort(row, kind="stable")[:4])


@by_weights
@given(seed=seeds, data=st.data())
def test_locks_hold_inside_blocks(criterion, seed, data):
    filters = random_filters(seed, 24)
    out, kept = [], []
    for begin in range(0, 24, 8):  # half of each block of eight is pruned
        order = [begin + i for i in data.draw(st.permutations(range(8)))]
        out += order[: data.draw(st.integers(0, 4))]
        kept += order[8 - data.draw(st.integers(0, 4)) :]
    keep = select(criterion, {"conv": filters}, rate=0.5, locked_in=kept, locked_out=out, blocks=3)
    assert keep.reshape(3, 8).sum(1).tolist() == [4, 4, 4]
    assert keep[kept].all()
    assert not keep[out].any()


@by_weights
def test_locks_that_crowd_one_block_are_refused(criterion):
    filters = random_filters(0, 24)
    with pytest.raises(FpgmError, match="conv, group of filters 8 to 15: 5 filters are locked out"):
        select(criterion, {"conv": filters}, rate=0.5, locked_out=[8, 9, 10, 11, 12], blocks=3)
    with pytest.raises(FpgmError, match="conv, group of filters 8 to 15: 5 filters are locked in"):
        select(criterion, {"conv": filters}, rate=0.5, locked_in=[8, 9, 10, 11, 12], blocks=3)


@plain
@given(seed=seeds, first=rates, second=rates, blocks=st.sampled_from([1, 3]), multiple=st.sampled_from([1, 4]))
def test_a_higher_rate_prunes_what_a_lower_one_does_and_more(criterion, seed, first, second, blocks, multiple):
    filters, options = random_filters(seed, 24), SelectionOptions(round_to=multiple)
    low, high = (
        select(criterion, {"conv": filters}, rate=rate, options=options, blocks=blocks)
        for rate in sorted((first, second))
    )
    assert not (high & ~low).any()
