"""Aggregates form a commutative monoid, to the byte."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from optimizer import aggregates as ag
from optimizer.bucket_edges import LAST_BUCKET, ZERO_BUCKET
from optimizer.errors import DataError

Row = dict[str, Any]
Rows = list[Row]

BUCKETS = st.one_of(st.just(ZERO_BUCKET), st.integers(0, LAST_BUCKET))


@st.composite
def grains(draw: st.DrawFn) -> Row:
    """One consistent grain with a few histogram buckets and hash buckets."""
    counts = draw(st.dictionaries(BUCKETS, st.integers(1, 9), max_size=4))
    n_latency = sum(counts.values())
    n_failed = draw(st.integers(0, 5))
    n = n_latency + n_failed
    sums = dict.fromkeys(ag.SUMS, 0) | {
        "n": n,
        "n_failed": n_failed,
        "n_latency": n_latency,
        "latency_us": draw(st.integers(0, 2**40)),
        "log_latency_e6": draw(st.integers(-(2**40), 2**40)),
        "n_cost": n,
        "cost_nusd": draw(st.integers(0, 2**40)),
    }
    where = draw(st.sampled_from(["baseline", "control"]))
    cells = np.zeros((len(ag.CLUSTER_FIELDS), ag.N_CLUSTERS), dtype=np.int64)
    if where == "control":
        cells[:, draw(st.integers(0, ag.N_CLUSTERS - 1))] = [sums[f] for f in ag.CLUSTER_FIELDS]
    return {
        "target": draw(st.sampled_from(["a", "b"])),
        "arm": "x",
        "slice": where,
        "window_start_s": 300 * draw(st.integers(0, 30)),
        **sums,
        ag.HISTOGRAM: ag.pack_histogram(list(counts), list(counts.values())),
        ag.CLUSTERS: ag.pack_clusters(cells),
    }


def as_frame(rows: Rows) -> pd.DataFrame:
    empty = ag.empty()
    return pd.DataFrame(rows, columns=empty.columns).astype(empty.dtypes.to_dict())


ROWS = st.lists(grains(), max_size=6)


def pooled(*frames: pd.DataFrame) -> pd.DataFrame:
    return ag.merge(pd.concat(frames, ignore_index=True))


@given(ROWS, ROWS, ROWS)
def test_merging_is_associative(one: Rows, two: Rows, three: Rows) -> None:
    a, b, c = map(as_frame, (one, two, three))

    left = pooled(pooled(a, b), c)
    right = pooled(a, pooled(b, c))

    assert_frame_equal(left, right)


@given(ROWS, ROWS)
def test_merging_is_commutative(one: Rows, two: Rows) -> None:
    a, b = as_frame(one), as_frame(two)

    assert_frame_equal(pooled(a, b), pooled(b, a))


@given(ROWS)
def test_the_empty_frame_is_the_identity(rows: Rows) -> None:
    frame = as_frame(rows)

    assert_frame_equal(pooled(frame, ag.empty()), ag.merge(frame))
    assert_frame_equal(ag.merge(ag.merge(frame)), ag.merge(frame))


@given(ROWS, st.data())
def test_any_split_into_frames_gives_the_same_bytes(rows: Rows, data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    shuffled = data.draw(st.permutations(list(zip(rows, labels, strict=True))))
    parts = [as_frame([row for row, own in shuffled if own == label]) for label in range(4)]

    assert_frame_equal(pooled(*map(ag.merge, parts)), ag.merge(as_frame(rows)))


@given(ROWS)
def test_roll_ups_through_any_width_agree(rows: Rows) -> None:
    grain = ag.merge(as_frame(rows))

    stepwise = ag.rollup(ag.rollup(ag.rollup(grain, 900), 3_600), 86_400)

    assert_frame_equal(stepwise, ag.rollup(grain, 86_400))


@given(ROWS, st.integers(0, 30))
def test_a_sliding_window_holds_what_starts_inside(rows: Rows, end: int) -> None:
    frame = as_frame(rows)

    found = ag.sliding(frame, end_s=300 * end, width_s=3_600)

    inside = [row for row in rows if 300 * end - 3_600 <= row["window_start_s"] < 300 * end]
    assert found["n"].sum() == sum(row["n"] for row in inside)
    assert set(found["window_start_s"]) <= {300 * end - 3_600}
    ag.validate(found)


@given(ROWS)
def test_what_is_merged_is_valid_and_keeps_every_row(rows: Rows) -> None:
    merged = ag.merge(as_frame(rows))

    ag.validate(merged)
    assert merged["n"].sum() == sum(row["n"] for row in rows)


@given(ROWS)
def test_merging_by_fewer_keys_keeps_the_totals(rows: Rows) -> None:
    merged = ag.merge(as_frame(rows), by=("target", "arm"))

    assert list(merged.columns[:2]) == ["target", "arm"]
    assert merged["latency_us"].sum() == sum(row["latency_us"] for row in rows)


def test_a_histogram_without_its_zero_counts_is_the_same_bytes() -> None:
    assert ag.pack_histogram([5, 7, 9], [1, 0, 2]) == ag.pack_histogram([9, 5], [2, 1])
    assert ag.pack_histogram([5, 5], [3, -3]) == b""


@given(st.lists(st.dictionaries(BUCKETS, st.integers(1, 2**50), max_size=5), max_size=6))
def test_histograms_come_back_as_they_were_packed(tables: list[dict[int, int]]) -> None:
    codes = [ag.pack_histogram(list(t), list(t.values())) for t in tables]

    row, buckets, counts = ag.unpack_histograms(codes)

    found = sorted(zip(row.tolist(), buckets.tolist(), counts.tolist(), strict=True))
    assert found == sorted((i, b, c) for i, t in enumerate(tables) for b, c in t.items())


def test_hash_buckets_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        ag.pack_clusters(np.zeros((2, 2)))
    with pytest.raises(DataError, match="cannot be read"):
        ag.unpack_clusters(b"what")


def a_frame() -> pd.DataFrame:
    frame = as_frame(
        [
            {
                "target": "a",
                "arm": "x",
                "slice": "baseline",
                "window_start_s": 0,
                **dict.fromkeys(ag.SUMS, 0),
                "n": 3,
                "n_latency": 2,
                ag.HISTOGRAM: ag.pack_histogram([4], [2]),
                ag.CLUSTERS: b"",
            }
        ]
    )
    ag.validate(frame)
    return frame


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (lambda f: f.drop(columns="n"), "columns"),
        (lambda f: f.astype({"n": "float64"}), "not int64"),
        (lambda f: pd.concat([f, f], ignore_index=True), "twice"),
        (lambda f: f.assign(cost_nusd=-1), "below 0"),
        (lambda f: f.assign(n_failed=4), "exceeds"),
        (lambda f: f.assign(n_latency=1), "histogram"),
        (
            lambda f: f.assign(
                clusters=[ag.pack_clusters(np.ones((len(ag.CLUSTER_FIELDS), ag.N_CLUSTERS)))]
            ),
            "add up",
        ),
    ],
)
def test_a_frame_no_engine_makes_is_refused(
    broken: Callable[[pd.DataFrame], pd.DataFrame], law: str
) -> None:
    with pytest.raises(DataError, match=law):
        ag.validate(broken(a_frame()))
