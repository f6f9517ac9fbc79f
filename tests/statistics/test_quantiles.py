"""Reference ranks: statistical specification 4.6."""

from fractions import Fraction
from math import inf, isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.bucket_edges import EDGES, FIRST_EXPONENT, LAST_BUCKET, RATIO, ZERO_BUCKET
from optimizer.statistics.evalues import beta_binomial_log_evalue
from optimizer.statistics.planning import wilson_interval
from optimizer.statistics.quantiles import (
    bucket_at_rank,
    bucket_of,
    exceedance_count,
    lower_edge,
    quantile,
    quantile_sequence,
    rank_bounds,
    snap_to_edge,
    upper_edge,
)

ALPHA = 0.05
latencies_ms = st.floats(min_value=1e-9, max_value=1e9)
samples = st.lists(latencies_ms, min_size=1, max_size=80)
indices = st.integers(0, LAST_BUCKET)


def histogram(values: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.unique(bucket_of(values), return_counts=True)


def test_edges_are_the_powers_of_the_ratio_rounded_once() -> None:
    exact = [Fraction(51, 50) ** (FIRST_EXPONENT + k) for k in range(LAST_BUCKET + 1)]

    assert [float(edge) for edge in exact] == list(EDGES)
    assert float(Fraction(51, 50)) == RATIO


def test_the_table_resolves_what_it_promises() -> None:
    assert EDGES[0] < 1e-9
    assert EDGES[LAST_BUCKET - 1] > 1e9
    assert EDGES[-FIRST_EXPONENT] == 1.0
    assert -(2**15) <= ZERO_BUCKET < 0
    assert LAST_BUCKET < 2**15


@given(x=latencies_ms)
def test_a_value_lies_between_its_buckets_edges(x: float) -> None:
    bucket = bucket_of(x)

    assert float(lower_edge(bucket)) < x <= float(upper_edge(bucket))
    assert bucket.dtype == np.int16


@given(k=st.integers(1, LAST_BUCKET - 1))
def test_an_edge_belongs_to_the_bucket_below_it(k: int) -> None:
    assert int(bucket_of(EDGES[k])) == k
    assert int(bucket_of(np.nextafter(EDGES[k], inf))) == k + 1
    assert float(snap_to_edge(EDGES[k])) == EDGES[k]


def test_values_beyond_the_table_go_to_its_ends() -> None:
    assert bucket_of([5e-324, 1e300]).tolist() == [0, LAST_BUCKET]
    assert lower_edge([0, LAST_BUCKET]).tolist() == [0.0, EDGES[LAST_BUCKET - 1]]
    assert upper_edge([0, LAST_BUCKET]).tolist() == [EDGES[0], inf]


def test_zero_and_less_have_a_bucket_of_their_own() -> None:
    assert bucket_of([0.0, -0.0, -3.0]).tolist() == [ZERO_BUCKET] * 3
    assert float(upper_edge(ZERO_BUCKET)) == 0.0
    assert float(quantile([ZERO_BUCKET, 5], [9, 1], 0.5)) == 0.0


@pytest.mark.parametrize("bad", [float("nan"), inf, -inf])
def test_what_is_not_finite_has_no_bucket(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        bucket_of([1.0, bad])


@pytest.mark.parametrize("bad", [-1, LAST_BUCKET + 1])
def test_a_bucket_that_does_not_exist_is_refused(bad: int) -> None:
    with pytest.raises(ValueError, match="a bucket is"):
        lower_edge([bad])


@pytest.mark.parametrize("bad", [-1, 0.5, float("nan")])
def test_a_count_that_is_no_count_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        quantile([1], [bad], 0.5)


@given(values=samples, q=st.floats(0.0, 1.0))
def test_a_quantile_is_within_one_percent(values: list[float], q: float) -> None:
    rank = max(1, int(np.ceil(q * len(values) * (1 - 1e-12))))
    truth = sorted(values)[rank - 1]

    found = float(quantile(*histogram(values), q))

    assert abs(found - truth) <= 0.01 * truth


@pytest.mark.parametrize("n", [1, 1000, 1_000_000])
def test_a_heavy_tail_does_not_widen_the_error(n: int) -> None:
    values = np.random.default_rng(n).pareto(0.7, n) + 1.0

    for q in (0.5, 0.95, 0.99, 0.999):
        truth = float(np.quantile(values, q, method="inverted_cdf"))
        found = float(quantile(*histogram(list(np.minimum(values, 1e9))), q))
        assert found == pytest.approx(min(truth, 1e9), rel=0.01)


def test_rounding_never_skips_a_rank() -> None:
    # In doubles 0.07 * 100 is 7.000000000000001.
    buckets = np.arange(1, 101)

    assert float(quantile(buckets, np.ones(100), 0.07)) == pytest.approx(EDGES[7], rel=0.01)


def test_an_empty_histogram_has_no_quantile() -> None:
    assert isnan(float(quantile([3], [0], 0.5)))
    assert isnan(float(quantile(np.array([], dtype=np.int16), [], 0.5)))
    assert [float(limit) for limit in quantile_sequence([3], [0], p=0.95, alpha=ALPHA)] == [
        -inf,
        inf,
    ]


def test_a_fraction_outside_the_unit_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="q lies in"):
        quantile([1], [1], 1.5)


@given(one=samples, other=samples, q=st.floats(0.0, 1.0))
def test_adding_histograms_is_pooling_and_subtracting_is_forgetting(
    one: list[float], other: list[float], q: float
) -> None:
    first, second, pooled = histogram(one), histogram(other), histogram(one + other)
    buckets = np.concatenate([first[0], second[0]])

    merged = np.concatenate([first[1], second[1]])
    assert float(quantile(buckets, merged, q)) == float(quantile(*pooled, q))
    minus_second = pooled[1].copy()
    minus_second[np.searchsorted(pooled[0], second[0])] -= second[1]
    assert float(quantile(pooled[0], minus_second, q)) == float(quantile(*first, q))


def test_many_histograms_equal_each_alone() -> None:
    rng = np.random.default_rng(4)
    buckets = rng.permuted(np.tile(np.arange(900, 930), (2, 3, 1)), axis=-1)
    counts = rng.integers(0, 9, buckets.shape)
    ranks = rng.integers(1, 20, (2, 3))
    edge = np.asarray(EDGES)[rng.integers(900, 930, (2, 3))]

    found = quantile(buckets, counts, np.full((2, 3), 0.9))
    holders = bucket_at_rank(buckets, counts, ranks)
    above = exceedance_count(buckets, counts, edge)
    limits = quantile_sequence(buckets, counts, p=0.9, alpha=ALPHA)

    for index in np.ndindex(2, 3):
        alone = (buckets[index], counts[index])
        assert found[index] == quantile(*alone, 0.9)
        assert holders[index] == bucket_at_rank(*alone, ranks[index])
        assert above[index] == exceedance_count(*alone, edge[index])
        sequence = quantile_sequence(*alone, p=0.9, alpha=ALPHA)
        assert limits[0][index] == sequence[0]
        assert limits[1][index] == sequence[1]


def test_one_histogram_answers_many_fractions() -> None:
    buckets, counts = histogram([10.0, 20.0, 30.0, 40.0])

    together = quantile(buckets, counts, [0.25, 0.5, 1.0])

    assert together.tolist() == [float(quantile(buckets, counts, q)) for q in (0.25, 0.5, 1.0)]


@given(values=samples, threshold=latencies_ms)
def test_exceedances_above_a_snapped_threshold_are_exact(
    values: list[float], threshold: float
) -> None:
    edge = snap_to_edge(threshold)

    assert int(exceedance_count(*histogram(values), edge)) == sum(x > float(edge) for x in values)
    assert threshold <= float(edge) <= threshold * RATIO * (1 + 1e-12)


def test_exceedances_above_zero_are_the_positive_values() -> None:
    assert int(exceedance_count(*histogram([0.0, -1.0, 2.0, 3.0]), 0.0)) == 2
    assert int(exceedance_count(*histogram([1.0, 1e300]), inf)) == 0


@pytest.mark.parametrize("threshold", [1.01, -inf, float("nan")])
def test_a_threshold_between_edges_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"bucket edge|finite"):
        exceedance_count([1], [1], threshold)


def test_ranks_agree_with_reference() -> None:
    n = [100, 200, 500, 1000, 2000, 5000, 10000]

    lowest, highest = rank_bounds(n, p=0.95, alpha=ALPHA)

    assert lowest.tolist() == [85, 178, 458, 928, 1869, 4701, 9429]
    assert highest.tolist() == [100, 199, 488, 969, 1927, 4795, 9567]


@given(n=st.integers(0, 400), p=st.floats(0.01, 0.99), alpha=st.sampled_from([0.5, 0.05, 0.001]))
def test_ranks_are_the_first_and_last_that_are_accepted(n: int, p: float, alpha: float) -> None:
    ranks = np.arange(n + 1)
    evidence = beta_binomial_log_evalue(ranks, n, p, concentration=200.0)
    accepted = np.flatnonzero(evidence < np.log(1 / alpha))

    lowest, highest = rank_bounds(n, p=p, alpha=alpha)

    assert (int(lowest), int(highest)) == (accepted[0], accepted[-1])


@pytest.mark.parametrize(("p", "alpha"), [(0.0, 0.05), (1.0, 0.05), (0.95, 0.0), (0.95, 0.6)])
def test_rank_bounds_refuse_what_has_no_meaning(p: float, alpha: float) -> None:
    with pytest.raises(ValueError, match="p lies in"):
        rank_bounds(10, p=p, alpha=alpha)


def test_limits_are_the_edges_around_the_accepted_ranks() -> None:
    # 1,000 values, one a bucket: rank k lies in bucket k.
    buckets = np.arange(1, 1001)

    lower, upper = quantile_sequence(buckets, np.ones(1000), p=0.95, alpha=ALPHA)

    assert float(lower) == EDGES[927]
    assert float(upper) == EDGES[970]


def test_the_upper_limit_is_infinite_while_every_value_may_lie_below() -> None:
    lower, upper = quantile_sequence(np.arange(1, 101), np.ones(100), p=0.95, alpha=ALPHA)

    assert float(lower) == EDGES[84]
    assert float(upper) == inf


def test_quantile_limits_cover_at_every_look_together() -> None:
    rng = np.random.default_rng(31)
    buckets = bucket_of(rng.lognormal(6.0, 1.0, (600, 40, 50)))
    truth = float(np.exp(6.0 + 1.6448536269514722))
    grid = np.arange(buckets.min(), buckets.max() + 1)
    seen = np.zeros((600, grid.size), dtype=np.int64)
    missed = np.zeros(600, dtype=bool)
    width = np.full(600, inf)
    for look in range(40):
        np.add.at(seen, (np.arange(600)[:, None], buckets[:, look] - grid[0]), 1)
        lower, upper = quantile_sequence(grid, seen, p=0.95, alpha=ALPHA)
        missed |= (lower > truth) | (upper < truth)
        width = upper / lower

    assert float(wilson_interval(missed.sum(), 600)[1]) <= ALPHA
    assert float(np.median(width)) < 1.5
