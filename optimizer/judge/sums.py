"""What a case's grains add up to: totals, hash buckets and windows of control and canary.

Only rows of the decision's own two arms count, in whole windows from the start of the evidence to
the end of the data. Everything is an array over cases; the order of arms is control, canary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.aggregates import CLUSTERS, HISTOGRAM
from optimizer.allocation import SliceName
from optimizer.bucket_edges import LAST_BUCKET
from optimizer.judge.buckets import BucketRows, Clustered, clustered
from optimizer.judge.case import Case
from optimizer.judge.histograms import HistogramRows, counted
from optimizer.metrics import GRAIN_S, ceil_s
from optimizer.statistics.clusters import RatioEstimate
from optimizer.statistics.quantiles import bucket_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

CONTROL: Final = 0
CANARY: Final = 1
NEVER: Final = np.iinfo(np.int64).max
REMEMBERED: Final = 4_096
"""Moments whose window is remembered: rollouts start and advance at the hourly runs."""

SINGLE_REQUESTS: Final = 1.05
"""Requests a unit and window up to which units count as making one request each."""
SINGLE_DISPERSION: Final = 1.3
"""Variance over mean of requests per hash bucket up to which units count as single; independent
requests give 1 with a standard error of .09, and a unit that comes back in other windows more."""

_SUMMED: Final = ("n", "n_failed", "n_fallback", "n_units", "n_latency", "n_cost", "n_quality")


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

    totals, mature: name -> shape (N, 2), all windows and those whose labels are mature; clustered:
    what hash buckets say; single: whether units make one request each, over all windows, shape
    (N,); latency: count, sum and sum of squares of latency, ms, zero where they do, shape
    (3, N, 2); stage_n: requests since the stage began, shape (N, 2); foreign: rows of other arms in
    these slices, shape (N,); span_h: hours from the first window to the last, shape (N,).
    """

    totals: Mapping[str, FloatArray]
    mature: Mapping[str, FloatArray]
    clustered: Clustered
    single: BoolArray
    latency: FloatArray
    stage_n: FloatArray
    foreign: IntArray
    span_h: FloatArray
    windows: Windows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The rows that count, sorted by case, then time: arm (0 control, 1 canary) and contents."""

    case: IntArray
    arm: IntArray
    start_s: IntArray
    mature: BoolArray
    counts: Mapping[str, IntArray]
    histograms: npt.NDArray[np.object_]
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
    buckets = BucketRows(case=rows.case, arm=rows.arm, mature=rows.mature, codes=rows.clusters)
    held = clustered(buckets, size)
    requests, units = (rows.sum(rows.counts[name], size) for name in ("n", "n_units"))
    single = _single(requests, units, held)
    rows, latency = _timed(rows, cases, ~single)
    return Sums(
        totals={name: rows.sum(rows.counts[name], size) for name in rows.counts},
        mature={name: rows.sum(rows.counts[name], size, rows.mature) for name in rows.counts},
        clustered=held,
        single=single,
        latency=latency,
        stage_n=rows.sum(rows.counts["n"], size, stage),
        foreign=foreign,
        span_h=np.where(last > 0, (last - np.minimum(first, last)) / 3600.0, 0.0),
        windows=_windows(rows),
    )


def arms(ratio: RatioEstimate, case: IntArray) -> tuple[RatioEstimate, RatioEstimate]:
    """Control's and the canary's part of a ratio of shape (N, 2), in n of the N cases."""
    control, canary = (
        RatioEstimate(
            value=ratio.value[case, arm],
            variance=ratio.variance[case, arm],
            clusters=ratio.clusters[case, arm],
        )
        for arm in (CONTROL, CANARY)
    )
    return control, canary


def threshold_buckets(thresholds_ms: Sequence[float | None]) -> IntArray:
    """The buckets whose upper edges are the thresholds, snapped upward by at most 2 %.

    Values in later buckets exceed them, exactly; ``LAST_BUCKET`` where there is no threshold.
    """
    known = np.array([threshold is not None for threshold in thresholds_ms], dtype=bool)
    given = bucket_of([threshold or 0.0 for threshold in thresholds_ms])
    return np.where(known, given, LAST_BUCKET).astype(np.int64)


@lru_cache(maxsize=REMEMBERED)
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
        histograms=grains[HISTOGRAM].to_numpy()[known],
        clusters=grains[CLUSTERS].to_numpy()[known],
    )
    return rows, foreign


def _single(requests: FloatArray, units: FloatArray, held: Clustered) -> BoolArray:
    """Whether a case's units make one request each, from requests and units of shape (N, 2)."""
    # An arm without requests says nothing; one whose buckets are missing must not count as single.
    spread = np.where(requests > 0, held.dispersion, 1.0)
    few = requests.sum(axis=1) <= SINGLE_REQUESTS * units.sum(axis=1)
    return np.asarray(few & (spread.mean(axis=1) <= SINGLE_DISPERSION))


def _timed(rows: _Rows, cases: Sequence[Case], asked: BoolArray) -> tuple[_Rows, FloatArray]:
    """The rows with their slow and timed requests, and the latency of the cases that are asked."""
    thresholds = [case.decision.latency_threshold_ms for case in cases]
    codes = HistogramRows(case=rows.case, arm=rows.arm, codes=rows.histograms)
    above, latency = counted(codes, threshold_buckets(thresholds), asked)
    # Without a threshold no request counts as timed: nothing is known, which is not "none slow".
    known = np.array([each is not None for each in thresholds], dtype=bool)[rows.case]
    counts = dict(rows.counts)
    counts["n_slow"] = np.where(known, counts["n_failed"] + above, 0)
    counts["n_timed"] = np.where(known, counts["n_failed"] + counts["n_latency"], 0)
    return replace(rows, counts=counts), latency


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
