"""What a case's grains add up to: totals, hash buckets and windows of control and canary.

Only rows of the decision's own two arms count, in whole windows from the start of the evidence to
the end of the data. Everything is an array over cases; the order of arms is control, canary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from optimizer.aggregates import (
    CLUSTER_FIELDS,
    CLUSTERS,
    HISTOGRAM,
    N_CLUSTERS,
    unpack_cluster_frame,
    unpack_histograms,
)
from optimizer.allocation import SliceName
from optimizer.bucket_edges import EDGES, LAST_BUCKET, RATIO, ZERO_BUCKET
from optimizer.errors import DataError
from optimizer.judge.case import Case
from optimizer.metrics import GRAIN_S, ceil_s
from optimizer.statistics.clusters import effective_clusters
from optimizer.statistics.quantiles import bucket_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

CONTROL: Final = 0
CANARY: Final = 1
NEVER: Final = np.iinfo(np.int64).max
ROWS_AT_ONCE: Final = 128
"""Rows whose hash buckets are unpacked at once: about 1 MB."""

_SUMMED: Final = ("n", "n_failed", "n_fallback", "n_units", "n_latency", "n_cost", "n_quality")
_MIDDLES: Final = np.asarray(EDGES)[: LAST_BUCKET + 1] / np.sqrt(RATIO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Counts of each case's windows, W of them, sorted by case, then time.

    case: shape (W,); start_s: shape (W,); mature: whether its labels are, shape (W,); counts: name
    -> shape (W, 2); ``n_slow`` of ``n_timed`` requests exceed the latency threshold.
    """

    case: IntArray
    start_s: IntArray
    mature: BoolArray
    counts: Mapping[str, IntArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Sums over the evidence of N cases.

    totals, mature: name -> shape (N, 2), all windows and those whose labels are mature; buckets,
    mature_buckets: shape (N, 2, len(CLUSTER_FIELDS), N_CLUSTERS), nan where they could not be read;
    clusters: how many the buckets of requests are worth, shape (N, 2); dispersion: variance over
    mean of requests per bucket, at least 1, nan if unknown, shape (N, 2);
    latency: count, sum and sum of squares of latency, ms, shape (3, N, 2); stage_n: requests since
    the stage began, shape (N, 2); foreign: rows of other arms in these slices, shape (N,); span_h:
    hours from the first window to the last, shape (N,).
    """

    totals: Mapping[str, FloatArray]
    mature: Mapping[str, FloatArray]
    buckets: FloatArray
    mature_buckets: FloatArray
    clusters: IntArray
    dispersion: FloatArray
    latency: FloatArray
    stage_n: FloatArray
    foreign: IntArray
    span_h: FloatArray
    windows: Windows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The rows that count, sorted by case, then time: arm (0 control, 1 canary) and contents.

    latencies: the filled buckets of all histograms: position of their row, bucket and count.
    """

    case: IntArray
    arm: IntArray
    start_s: IntArray
    mature: BoolArray
    counts: Mapping[str, IntArray]
    latencies: tuple[IntArray, npt.NDArray[np.int16], IntArray]
    clusters: npt.NDArray[np.object_]

    def sum(self, values: npt.ArrayLike, cases: int, where: BoolArray | None = None) -> FloatArray:
        """The sum of one value a row, shape (cases, 2)."""
        cell = self.case * 2 + self.arm
        weight = np.asarray(values, dtype=np.float64)
        weight = weight if where is None else np.where(where, weight, 0.0)
        summed = np.bincount(cell, weights=weight, minlength=2 * cases)
        return summed.astype(np.float64).reshape(cases, 2)


def collect(
    cases: Sequence[Case], grains: pd.DataFrame, *, now: datetime, data_until: datetime
) -> Sums:
    """The sums of every case; cases without rows have zeros.

    Raises:
        ValueError: two cases of one target.
    """
    rows, foreign = _select(cases, grains, now=now, data_until=data_until)
    size = len(cases)
    stage_from = np.array([_start_s(case.decision.stage_entered_at) for case in cases])
    stage = rows.start_s >= stage_from[rows.case] if size else np.zeros(0, dtype=bool)
    first = np.full(size, NEVER)
    last = np.full(size, -1)
    np.minimum.at(first, rows.case, rows.start_s)
    np.maximum.at(last, rows.case, rows.start_s + GRAIN_S)
    everything, mature = _buckets(rows, size)
    requests = everything[:, :, CLUSTER_FIELDS.index("n")]
    return Sums(
        totals={name: rows.sum(rows.counts[name], size) for name in rows.counts},
        mature={name: rows.sum(rows.counts[name], size, rows.mature) for name in rows.counts},
        buckets=everything,
        mature_buckets=mature,
        clusters=effective_clusters(requests),
        dispersion=_dispersion(requests),
        latency=_latency(rows, size),
        stage_n=rows.sum(rows.counts["n"], size, stage),
        foreign=foreign,
        span_h=np.where(last > 0, (last - np.minimum(first, last)) / 3600.0, 0.0),
        windows=_windows(rows),
    )


def threshold_buckets(thresholds_ms: Sequence[float | None]) -> IntArray:
    """The buckets whose upper edges are the thresholds, snapped upward by at most 2 %.

    Values in later buckets exceed them, exactly; ``LAST_BUCKET`` where there is no threshold.
    """
    known = np.array([threshold is not None for threshold in thresholds_ms], dtype=bool)
    given = bucket_of([threshold or 0.0 for threshold in thresholds_ms])
    return np.where(known, given, LAST_BUCKET).astype(np.int64)


def _start_s(moment: datetime | None) -> int:
    return NEVER if moment is None else ceil_s(moment)


def _select(
    cases: Sequence[Case], grains: pd.DataFrame, *, now: datetime, data_until: datetime
) -> tuple[_Rows, IntArray]:
    decisions = [case.decision for case in cases]
    targets = pd.Index([decision.target for decision in decisions])
    if not targets.is_unique:
        raise ValueError(f"two cases of target {targets[targets.duplicated()][0]}")
    case = np.asarray(targets.get_indexer(pd.Index(grains["target"])), dtype=np.int64)
    known = np.flatnonzero(case >= 0)
    part = grains["slice"].to_numpy()[known]
    canary = part == SliceName.CANARY.value
    known, canary = (a[canary | (part == SliceName.CONTROL.value)] for a in (known, canary))
    case = case[known]
    start_s = grains["window_start_s"].to_numpy()[known]
    begins = np.array([_start_s(each.evidence_from) for each in cases], dtype=np.int64)
    inside = (start_s >= begins[case]) & (start_s + GRAIN_S <= data_until.timestamp())
    known, canary, case, start_s = (a[inside] for a in (known, canary, case, start_s))
    candidate = np.array([decision.candidate for decision in decisions], dtype=object)
    baseline = np.array([decision.baseline for decision in decisions], dtype=object)
    arm = grains["arm"].to_numpy()[known].astype(object)
    own = arm == np.where(canary, candidate[case], baseline[case])
    foreign = np.bincount(case[~own], minlength=len(cases))
    known, canary, case, start_s = (a[own] for a in (known, canary, case, start_s))
    # One order, whatever the frame's: sums of latency are floats, and the same evidence must give
    # the same bytes.
    order = np.lexsort((canary, start_s, case))
    known, canary, case, start_s = (a[order] for a in (known, canary, case, start_s))
    age_s = np.array([each.policy.label_maturity.total_seconds() for each in cases])
    mature = start_s + GRAIN_S + age_s[case] <= now.timestamp()
    counts = {name: grains[name].to_numpy()[known] for name in _SUMMED}
    rows = _Rows(
        case=case,
        arm=canary.astype(np.int64),
        start_s=start_s,
        mature=mature,
        counts=counts,
        latencies=unpack_histograms(grains[HISTOGRAM].to_numpy()[known].tolist()),
        clusters=grains[CLUSTERS].to_numpy()[known],
    )
    limit = threshold_buckets([each.latency_threshold_ms for each in decisions])
    # Without a threshold no request counts as timed: nothing is known, which is not "none slow".
    timed = np.array([each.latency_threshold_ms is not None for each in decisions])[case]
    counts["n_slow"] = np.where(timed, counts["n_failed"] + _above(rows, limit), 0)
    counts["n_timed"] = np.where(timed, counts["n_failed"] + counts["n_latency"], 0)
    return rows, foreign


def _above(rows: _Rows, limit: IntArray) -> IntArray:
    """Answered requests of each row beyond its case's threshold bucket."""
    row, bucket, count = rows.latencies
    over = bucket > limit[rows.case[row]] if row.size else np.zeros(0, dtype=bool)
    size = rows.case.size
    return np.bincount(row[over], weights=count[over], minlength=size).astype(np.int64)


def _latency(rows: _Rows, cases: int) -> FloatArray:
    """Count, sum and sum of squares of latency from the histograms, each value within 1 %."""
    row, bucket, count = rows.latencies
    value = np.where(bucket == ZERO_BUCKET, 0.0, _MIDDLES[np.maximum(bucket, 0)])
    cell = (rows.case * 2 + rows.arm)[row]
    moments = [
        np.bincount(cell, weights=weight, minlength=2 * cases)
        for weight in (count, count * value, count * value**2)
    ]
    return np.stack(moments).astype(np.float64).reshape(3, cases, 2)


def _buckets(rows: _Rows, cases: int) -> tuple[FloatArray, FloatArray]:
    """Hash buckets of all windows and of mature ones, each (cases, 2, fields, buckets)."""
    shape = (len(CLUSTER_FIELDS), N_CLUSTERS)
    # Young rows and mature ones are added up apart, so that each is read and added once.
    sums = np.zeros((2 * 2 * cases, len(CLUSTER_FIELDS) * N_CLUSTERS))
    place = (rows.mature.astype(np.int64) * cases + rows.case) * 2 + rows.arm
    for start in range(0, place.size, ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        cells = _readable(rows.clusters[part])
        owners, owner = np.unique(place[part], return_inverse=True)
        adding = sparse.csr_array((np.ones(owner.size), (owner, np.arange(owner.size))))
        sums[owners] += adding @ cells.reshape(owner.size, -1)
    young, mature = sums.reshape(2, cases, 2, *shape)
    young += mature
    return young, mature


def _readable(codes: npt.NDArray[np.object_]) -> FloatArray:
    """Rows' hash buckets; nan where they are corrupt: nothing is concluded from them."""
    try:
        return unpack_cluster_frame(codes.tolist()).astype(np.float64)
    except DataError:
        if codes.size == 1:
            return np.full((1, len(CLUSTER_FIELDS), N_CLUSTERS), np.nan)
        middle = codes.size // 2
        return np.concatenate([_readable(codes[:middle]), _readable(codes[middle:])])


def _dispersion(requests: FloatArray) -> FloatArray:
    """Variance over mean of requests, shape (cases, 2, buckets), at least 1; shape (cases, 2).

    It is the mean square of a unit's requests over their mean: the design effect of requests that
    agree wholly within a unit, hence a bound on any other.
    """
    mean = requests.mean(axis=-1)
    spread = requests.var(axis=-1, ddof=1) / np.where(mean > 0, mean, np.nan)
    return np.asarray(np.maximum(spread, 1.0))


def _windows(rows: _Rows) -> Windows:
    begins = np.ones(rows.case.size, dtype=bool)
    begins[1:] = (np.diff(rows.case) != 0) | (np.diff(rows.start_s) != 0)
    size = int(np.count_nonzero(begins))
    cell = (np.cumsum(begins) - 1) * 2 + rows.arm
    counts = {
        name: np.bincount(cell, weights=values, minlength=2 * size)
        .astype(np.int64)
        .reshape(size, 2)
        for name, values in rows.counts.items()
    }
    return Windows(
        case=rows.case[begins],
        start_s=rows.start_s[begins],
        mature=rows.mature[begins],
        counts=counts,
    )
