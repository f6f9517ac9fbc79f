"""What aggregates say of each arm: pooled sums, shares, means with their variances, quantiles.

Frames of aggregates in, columns out, one row a group; the law kept here is that of the aggregates:
the order of rows and the split of traffic into slices change nothing. An unknown value is nan, a
variance is never 0.
"""

from collections import namedtuple
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.aggregates import HISTOGRAM, KEYS, SUMS, pack_histogram, unpack_histogram
from optimizer.bucket_edges import EDGES, LAST_BUCKET, RATIO, ZERO_BUCKET
from optimizer.metrics import HOUR_S, METRICS
from optimizer.statistics.planning import wilson_interval
from optimizer.statistics.quantiles import lower_edge, upper_edge

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

NAMES: Final = KEYS[:-1]
"""Key columns that are text."""

RECORD_BYTES: Final = len(pack_histogram([0], [1]))
"""Size of one bucket of a stored histogram."""

MAD_TO_SD: Final = 1.4826
"""Standard deviations in one median absolute deviation of a normal variable."""

COUNTS: Final = tuple(name for name in SUMS if not name.startswith("log_"))
PARTS: Final = (
    ("n_failed", "n"),
    ("n_latency", "n"),
    ("n_cost", "n"),
    ("n_tokens", "n"),
    ("n_quality", "n"),
    ("n_positive_cost", "n_cost"),
)
"""Which count is a part of which."""
LARGEST_COUNT: Final = 2**62 // 4096
"""So that thousands of rows add up in 64 bits."""
ROWS_AT_ONCE: Final = 20_000
"""Rows whose histograms are held unpacked: some two million records."""
GROUPS_AT_ONCE: Final = 32
"""Groups whose histograms are added up in one table: some hundred buckets of eight bytes each."""

_EDGES: Final[FloatArray] = np.asarray(EDGES)
_EDGES.setflags(write=False)


Row = Any
"""One row of a frame as a named tuple: its type is made at run time."""


def rows(frame: pd.DataFrame) -> Iterable[Row]:
    """The rows as named tuples: for the few that become insights or proposals."""
    # itertuples takes each column by position, which costs more than the rows themselves.
    columns = [frame[name].tolist() for name in frame.columns]
    return map(_row_type(tuple(frame.columns))._make, zip(*columns, strict=True))


@lru_cache(maxsize=256)
def _row_type(columns: tuple[str, ...]) -> Any:  # noqa: ANN401 - made at run time
    """Making a type takes longer than all rows of a small frame."""
    return namedtuple("Row", columns)  # noqa: PYI024 - its fields are known at run time


def rows_by_target(frame: pd.DataFrame) -> Iterable[tuple[str, list[Row]]]:
    """Each target with its rows, for a frame whose rows are ordered by target."""
    grouped = groupby(rows(frame), key=lambda row: str(row.target))
    return ((name, list(group)) for name, group in grouped)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Aggregates added up by group.

    frame: the key columns, then ``SUMS``, one row a group in key order, index 0..G-1; group,
    bucket, count: the groups' latency histograms as one sparse table, sorted by group and bucket.
    """

    frame: pd.DataFrame
    group: IntArray
    bucket: IntArray
    count: IntArray


def within(hours: pd.DataFrame, *, start_s: int, end_s: int, width_s: int = HOUR_S) -> pd.DataFrame:
    """The rows whose whole window lies in ``[start_s, end_s)``, Unix seconds.

    Targets with sums that contradict each other there are left out whole: one false row says that
    the others are not to be believed either.
    """
    begin = hours["window_start_s"]
    chosen = ((begin >= start_s) & (begin + width_s <= end_s)).to_numpy()
    # A frame that is kept whole is not copied: with its names and histograms that costs the most.
    inside = hours if chosen.all() else hours[chosen]
    wrong = contradicting(inside)
    return inside[~inside["target"].isin(wrong)] if wrong else inside


def contradicting(hours: pd.DataFrame) -> frozenset[str]:
    """Targets with a row whose counts are negative, larger than their whole, or past adding up."""
    wrong = np.zeros(len(hours), dtype=np.bool_)
    for name in COUNTS:
        # Read without its sign, a negative number is larger than any count: one pass a column.
        wrong |= hours[name].to_numpy(dtype=np.int64).view(np.uint64) > LARGEST_COUNT
    for part, whole in PARTS:
        wrong |= hours[part].to_numpy() > hours[whole].to_numpy()
    return frozenset(str(name) for name in hours["target"].to_numpy()[wrong])


def mature(
    hours: pd.DataFrame, until_s: Mapping[str, int], *, width_s: int = HOUR_S
) -> pd.DataFrame:
    """The rows whose window ends at or before their target's cut, Unix seconds; no cut, no row."""
    cut = hours["target"].map(dict(until_s)).to_numpy(dtype=np.float64)
    ripe = hours["window_start_s"].to_numpy() + width_s <= cut
    return hours if ripe.all() else hours[ripe]


def newest(
    hours: pd.DataFrame, since_s: Mapping[str, int], *, width_s: int = HOUR_S
) -> pd.DataFrame:
    """The rows of each target's newest window, if that ends after the target's ``since_s``.

    ``hours`` holds whole windows only; a target without a limit has no row.
    """
    begin = hours["window_start_s"]
    last = begin.groupby(hours["target"]).transform("max")
    limit = hours["target"].map(dict(since_s)).to_numpy(dtype=np.float64)
    return hours[(begin == last).to_numpy() & (begin.to_numpy() + width_s > limit)]


def coded(hours: pd.DataFrame) -> pd.DataFrame:
    """The rows with names as codes: a name is then compared and looked up once, not row by row."""
    return hours.astype(dict.fromkeys(NAMES, "category"))


def serving(hours: pd.DataFrame, arm_of: Mapping[str, str]) -> pd.DataFrame:
    """The rows of each target's named arm; a target without one has none."""
    target, arm = (hours[name].astype("category").cat for name in ("target", "arm"))
    code = {name: number for number, name in enumerate(arm.categories)}
    named = [code.get(arm_of.get(name, ""), len(code)) for name in target.categories]
    wanted = np.asarray(named, dtype=np.int64)[target.codes.to_numpy()]
    chosen: pd.DataFrame = hours[wanted == arm.codes.to_numpy()]
    return chosen


def in_parts(hours: pd.DataFrame, *, rows_at_once: int = ROWS_AT_ONCE) -> Iterator[pd.DataFrame]:
    """The rows in frames of whole targets, some ``rows_at_once`` each; an empty frame is one part.

    What has a histogram an hour is unpacked part by part: all of it would not fit into memory.
    """
    code, _ = pd.factorize(hours["target"], sort=True)
    if np.any(np.diff(code) < 0):
        order = np.argsort(code, kind="stable")
        hours, code = hours.iloc[order], code[order]
    begins = np.flatnonzero(np.diff(code, prepend=-1))
    wanted = np.arange(rows_at_once, len(code), rows_at_once)
    cuts = begins[np.searchsorted(begins, wanted, side="right") - 1]
    for first, last in pairwise([0, *np.unique(cuts[cuts > 0]), len(code)]):
        yield hours.iloc[first:last]


def pooled(hours: pd.DataFrame, by: Sequence[str], *, latency: bool = True) -> Pool:
    """The rows added up by the columns ``by``; an empty frame gives an empty pool.

    Without ``latency`` the histograms are left out and every quantile is unknown. A histogram
    whose bytes are no whole records makes its group's latency unknown, not wrong.
    """
    keys = list(by)
    groups = hours.groupby(keys, sort=True, observed=True)
    frame = groups[list(SUMS)].sum().reset_index()
    frame = frame.astype({name: "str" for name in keys if name in NAMES})
    code = np.asarray(groups.ngroup(), dtype=np.int64)
    if not latency:
        return Pool(frame=frame, **_histograms(code[:0], []))
    order = np.argsort(code, kind="stable")
    blobs = hours[HISTOGRAM].to_numpy()[order]
    return Pool(frame=frame, **_histograms(code[order], list(blobs)))


def _histograms(code: IntArray, blobs: Sequence[bytes]) -> dict[str, IntArray]:
    """The sparse table of histograms whose groups are ``code``, ascending."""
    size = np.fromiter(map(len, blobs), dtype=np.int64, count=len(blobs))
    broken = size % RECORD_BYTES != 0
    if broken.any():
        usable = ~np.isin(code, code[broken])
        code, size = code[usable], size[usable]
        blobs = [blob for blob, keep in zip(blobs, usable, strict=True) if keep]
    if np.all(np.diff(code) > 0):
        # One histogram a group, in order: they are sorted as they were stored.
        bucket, count = unpack_histogram(b"".join(blobs))
        owner = np.repeat(code, size // RECORD_BYTES)
        return {"group": owner, "bucket": bucket.astype(np.int64), "count": count}
    begins = np.flatnonzero(np.diff(code, prepend=-1))
    parts = [
        _merged(code[first:last], blobs[first:last], size[first:last])
        for first, last in pairwise([*begins[::GROUPS_AT_ONCE], len(code)])
    ]
    group, bucket, count = (np.concatenate(each) for each in zip(*parts, strict=True))
    return {"group": group, "bucket": bucket, "count": count}


def _merged(
    code: IntArray, blobs: Sequence[bytes], size: IntArray
) -> tuple[IntArray, IntArray, IntArray]:
    """The histograms of whole groups added up in a table that fits a processor's cache."""
    stored, count = unpack_histogram(b"".join(blobs))
    # The bucket of zeros comes first, as it does by its number.
    column = np.maximum(stored, np.int16(-1)).astype(np.int64) + 1
    low = int(column[column > 0].min(initial=LAST_BUCKET + 1)) - 1
    column = np.maximum(column - low, 0)
    width = int(column.max(initial=0)) + 1
    groups, row = np.unique(code, return_inverse=True)
    table = np.zeros(len(groups) * width, dtype=np.int64)
    np.add.at(table, np.repeat(row, size // RECORD_BYTES) * width + column, count)
    held = np.flatnonzero(table)
    bucket = held % width
    return (
        groups[held // width],
        np.where(bucket == 0, ZERO_BUCKET, bucket + low - 1),
        table[held],
    )


def _holders(pool: Pool, *q: float) -> tuple[list[IntArray], npt.NDArray[np.bool_]]:
    """The bucket of rank ``ceil(q n)`` of each group, for each q, and whether it has any."""
    n = np.zeros(len(pool.frame), dtype=np.int64)
    np.add.at(n, pool.group, pool.count)
    known = n > 0
    if not known.any():
        return [np.zeros(len(n), dtype=np.int64) for _ in q], known
    before, reached = np.cumsum(n) - n, np.cumsum(pool.count)
    found = []
    for each in q:
        # Only rounding keeps q n from being whole where it should be: 0.07 * 100 is rank 7, not 8.
        rank = np.clip(np.ceil(each * n * (1.0 - 1e-12)), 1, np.maximum(n, 1)).astype(np.int64)
        position = np.searchsorted(reached, before + rank, side="left")
        found.append(pool.bucket[np.minimum(position, pool.bucket.size - 1)])
    return found, known


def quantiles_ms(pool: Pool, *q: float) -> list[FloatArray]:
    """For each q the q-quantile of each group's latency, ms, within 1 % of the truth; nan unknown.

    References:
        As :func:`optimizer.statistics.quantiles.quantile`, for many sparse histograms at once.
    """
    buckets, known = _holders(pool, *q)
    centre = _EDGES / np.sqrt(RATIO)
    middles = (centre[np.clip(bucket, 0, LAST_BUCKET)] for bucket in buckets)
    return [
        np.where(known, np.where(bucket == ZERO_BUCKET, 0.0, middle), np.nan)
        for bucket, middle in zip(buckets, middles, strict=True)
    ]


def quantile_edges(pool: Pool, q: float) -> FloatArray:
    """The upper bucket edge of each group's q-quantile, ms; nan if unknown, inf over the table."""
    (bucket,), known = _holders(pool, q)
    return np.where(known, upper_edge(bucket), np.nan)


def slower_than(pool: Pool, edge_ms: npt.ArrayLike) -> IntArray:
    """How many answered requests of each group were slower than the group's own bucket edge."""
    limit = np.broadcast_to(np.asarray(edge_ms, dtype=np.float64), (len(pool.frame),))
    above = lower_edge(pool.bucket) >= limit[pool.group]
    weight = np.where(above, pool.count, 0)
    return np.bincount(pool.group, weights=weight, minlength=len(limit)).astype(np.int64)


def measured(pool: Pool) -> pd.DataFrame:
    """The pool's frame with what can be said of each group, in units; nan = unknown.

    Adds failure_rate with failure_low and failure_high (Wilson, 95 %), timeout_rate, fallback_rate,
    latency_ms (mean), p50_ms, p95_ms, p99_ms, cost_usd and its log_cost_variance, spend_usd,
    unknown_cost_share, success_cost_usd, quality and its quality_variance, and the mean tokens
    mean_input, mean_output, mean_cached of a request.

    References:
        Wilson (1927), JASA 22:209. Quality has the mean and variance of a Beta-like prior of one
        row, ``mu = (1/2 + S)/(n + 1)`` and ``(1/4 + Q - 2 mu S + n mu^2)/(n + 1)/n``, as in
        Waudby-Smith and Ramdas (2024), arXiv 2010.09686. Cost is log-normal around its mean: the
        variance of the log of a mean of n rows is ``(exp(s^2) - 1)/n``, s^2 the rows' log variance.
    """
    f = pool.frame
    col = {name: f[name].to_numpy(dtype=np.float64) for name in SUMS}
    low, high = wilson_interval(np.minimum(col["n_failed"], col["n"]), col["n"])
    cost = divide(col["cost_nusd"], col["n_cost"]) * 1e-9
    quality, quality_variance = _score(col)
    p50_ms, p95_ms, p99_ms = quantiles_ms(pool, 0.5, 0.95, 0.99)
    return f.assign(
        failure_rate=divide(col["n_failed"], col["n"]),
        failure_low=low,
        failure_high=high,
        timeout_rate=divide(col["n_timeout"], col["n"]),
        fallback_rate=divide(col["n_fallback"], col["n"]),
        latency_ms=divide(col["latency_us"], col["n_latency"]) * 1e-3,
        p50_ms=p50_ms,
        p95_ms=p95_ms,
        p99_ms=p99_ms,
        cost_usd=cost,
        log_cost_variance=_log_cost_variance(col),
        spend_usd=col["cost_nusd"] * 1e-9,
        unknown_cost_share=divide(col["n"] - col["n_cost"], col["n"]),
        success_cost_usd=divide(cost * col["n"], col["n"] - col["n_failed"]),
        quality=quality,
        quality_variance=quality_variance,
        mean_input=divide(col["input_tokens"], col["n_tokens"]),
        mean_output=divide(col["output_tokens"], col["n_tokens"]),
        mean_cached=divide(col["cached_tokens"], col["n_tokens"]),
    )


def _score(col: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray]:
    n, total, squares = col["n_quality"], col["quality_e6"] * 1e-6, col["quality_sq_e9"] * 1e-9
    centre = (0.5 + total) / (n + 1.0)
    spread = np.maximum(squares - 2.0 * centre * total + n * centre**2, 0.0)
    return divide(total, n), divide((0.25 + spread) / (n + 1.0), n)


def _log_cost_variance(col: Mapping[str, FloatArray]) -> FloatArray:
    n, total, squares = col["n_positive_cost"], col["log_cost_e6"], col["log_cost_sq_e6"]
    mean = divide(total, n) * 1e-6
    rows = np.maximum(divide(squares, n) * 1e-6 - mean**2, 0.0)
    # One extra row of variance 1 keeps the estimate above 0; beyond exp(5) it means "unknown".
    smoothed = np.minimum((rows * n + 1.0) / (n + 1.0), 5.0)
    return divide(np.expm1(smoothed), n)


def divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """The ratio, nan where the denominator is not above 0."""
    safe = np.where(denominator > 0, denominator, np.nan)
    return np.asarray(numerator / safe)


def measured_shares(hours: pd.DataFrame) -> Mapping[str, Mapping[str, float]]:
    """The share of requests in which a metric is known, by target and metric; no traffic, no entry.

    ``hours`` holds the rows that count: of one arm a target, and old enough for their labels.
    """
    sums = pooled(hours, ("target",), latency=False).frame.set_index("target")
    sums["n_timed"] = sums["n_latency"] + sums["n_failed"]
    return {
        str(target): {
            metric.name: float(row[metric.denominator] / row["n"]) for metric in METRICS.values()
        }
        for target, row in sums[sums["n"] > 0].to_dict("index").items()
    }


def requests_per_hour(
    hours: pd.DataFrame, *, now_s: int, span_s: int = 24 * HOUR_S
) -> Mapping[str, float]:
    """Mean traffic of each target over the last ``span_s``, requests an hour; no traffic, no entry.

    A target that appeared later counts from its first window, so that a new one is not diluted.
    """
    recent = within(hours, start_s=now_s // HOUR_S * HOUR_S - span_s, end_s=now_s)
    groups = recent.groupby("target", sort=True, observed=True)
    total = groups["n"].sum()
    observed = (now_s // HOUR_S * HOUR_S - groups["window_start_s"].min()) / HOUR_S
    rate = total / observed
    return {str(name): float(value) for name, value in rate[rate > 0].items()}


def trailing(series: pd.DataFrame, column: str, *, key: str, before: pd.Series) -> pd.DataFrame:
    """Centre and spread of a column's log over each key's windows before a moment.

    Args:
        series: one row a key and ``window_start_s``.
        column: a column of values, unknown or not above 0 = left out.
        key: the column that names the series.
        before: per key, the ``window_start_s`` of the value that is compared.

    Returns:
        Indexed by key: ``centre`` (median of ln) and ``spread`` (MAD as a standard deviation), and
        ``count``, the number of windows they rest on.
    """
    value = series[column].to_numpy(dtype=np.float64)
    older = series["window_start_s"] < series[key].map(before)
    kept = older.to_numpy() & (value > 0) & np.isfinite(value)
    names = series[key][kept]
    logs = pd.Series(np.log(value[kept]), index=names.index)
    grouped = logs.groupby(names)
    centre = grouped.median()
    deviation = (logs - names.map(centre).astype(np.float64)).abs()
    spread = deviation.groupby(names).median() * MAD_TO_SD
    return pd.DataFrame({"centre": centre, "spread": spread, "count": grouped.size()})
