"""Hash buckets of units, read a block of cases at a time and reduced to what is asked of them.

The buckets of a case take 36 kB and what follows from them a hundredth of that: nobody needs them
for long, and a block stays in the processor's cache. The law kept here: what follows for one case
does not depend on the others of its block.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.aggregates import CLUSTER_FIELDS, N_CLUSTERS, unpack_cluster_frame
from optimizer.errors import DataError
from optimizer.metrics import METRICS
from optimizer.statistics.clusters import RatioEstimate, bucket_ratio

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

FIELD: Final = {name: position for position, name in enumerate(CLUSTER_FIELDS)}
MATURE_METRICS: Final = frozenset({"quality"})
"""Metrics whose rows arrive later than the request."""

CASES_AT_ONCE: Final = 256
"""Cases whose hash buckets are held in memory at once: about 10 MB."""
ROWS_AT_ONCE: Final = 128
"""Rows whose hash buckets are unpacked at once: about 1 MB."""

_METRICS: Final = tuple(each for each in METRICS.values() if each.numerator in FIELD)
_CELLS: Final = len(CLUSTER_FIELDS) * N_CLUSTERS


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketRows:
    """Rows with hash buckets, sorted by case: case, arm (0 control, 1 canary), maturity, bytes."""

    case: IntArray
    arm: IntArray
    mature: BoolArray
    codes: npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustered:
    """What hash buckets say of N cases, shape (N, 2), control first; nan where they are unreadable.

    ratios: metric -> its ratio with the variance over buckets, over mature rows where the metric's
    labels come late; unlabelled: share of mature answered requests that have no label; answered:
    how many these are; dispersion: variance over mean of requests a bucket, at least 1.
    """

    ratios: dict[str, RatioEstimate]
    unlabelled: RatioEstimate
    answered: FloatArray
    dispersion: FloatArray

    @property
    def clusters(self) -> IntArray:
        """How many buckets of equal size those of requests are worth."""
        return self.ratios["failure_rate"].clusters


def clustered(rows: BucketRows, cases: int) -> Clustered:
    """What follows from the hash buckets of N cases."""
    ratios = {metric.name: _unknown(cases) for metric in _METRICS}
    unlabelled, answered = _unknown(cases), np.zeros((cases, 2))
    dispersion = np.empty((cases, 2))
    for first in range(0, cases, CASES_AT_ONCE):
        block = np.arange(first, min(first + CASES_AT_ONCE, cases))
        everything, ripe, mature = _tables(rows, block)
        for metric in _METRICS:
            late = metric.name in MATURE_METRICS
            where, held = (ripe, mature) if late else (block, everything)
            y = held[:, :, FIELD[metric.numerator]] * metric.scale
            found = bucket_ratio(y, held[:, :, FIELD[metric.denominator]])
            _keep(found, ratios[metric.name], where)
        could_be = mature[:, :, FIELD["n"]] - mature[:, :, FIELD["n_failed"]]
        lacking = np.maximum(could_be - mature[:, :, FIELD["n_quality"]], 0.0)
        _keep(bucket_ratio(lacking, could_be), unlabelled, ripe)
        answered[ripe] = could_be.sum(axis=-1)
        dispersion[block] = _dispersion(everything[:, :, FIELD["n"]])
    return Clustered(ratios=ratios, unlabelled=unlabelled, answered=answered, dispersion=dispersion)


def _unknown(cases: int) -> RatioEstimate:
    """The ratio of cases without rows."""
    return RatioEstimate(
        value=np.full((cases, 2), np.nan),
        variance=np.full((cases, 2), np.nan),
        clusters=np.zeros((cases, 2), dtype=np.int64),
    )


def _keep(found: RatioEstimate, into: RatioEstimate, where: IntArray) -> None:
    """Put the ratio of some cases into that of all."""
    into.value[where], into.variance[where] = found.value, found.variance
    into.clusters[where] = found.clusters


def _dispersion(requests: FloatArray) -> FloatArray:
    """Variance over mean of requests, shape (cases, 2, buckets), at least 1; shape (cases, 2).

    It is the mean square of a unit's requests over their mean: the design effect of requests that
    agree wholly within a unit, hence a bound on any other.
    """
    mean = requests.mean(axis=-1)
    spread = requests.var(axis=-1, ddof=1) / np.where(mean > 0, mean, np.nan)
    return np.asarray(np.maximum(spread, 1.0))


def _tables(rows: BucketRows, block: IntArray) -> tuple[FloatArray, IntArray, FloatArray]:
    """Hash buckets of a block's cases in all windows; cases with mature rows, and buckets of these.

    Buckets have the shape (cases, 2, fields, buckets).
    """
    begin, end = np.searchsorted(rows.case, [block[0], block[-1] + 1])
    case, arm, is_mature = (each[begin:end] for each in (rows.case, rows.arm, rows.mature))
    ripe, rank = np.unique(case[is_mature], return_inverse=True)
    # Young rows and mature ones are added up apart, so that each is read and added once.
    place = (case - block[0]) * 2 + arm
    place[is_mature] = (block.size + rank) * 2 + arm[is_mature]
    order = np.argsort(place, kind="stable")
    place, codes = place[order], rows.codes[begin:end][order]
    alone = np.bincount(place).max(initial=0) == 1
    sums = np.zeros((2 * (block.size + ripe.size), _CELLS))
    for start in range(0, place.size, ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        cells = _readable(codes[part]).reshape(-1, _CELLS)
        owners, starts = np.unique(place[part], return_index=True)
        if alone:
            # One window only: reading what is zero would take as long as all the rest.
            sums[owners] = cells
            continue
        cells = cells.astype(np.float64)
        for owner, (first, last) in zip(
            owners.tolist(), pairwise([*starts.tolist(), len(cells)]), strict=True
        ):
            sums[owner] += cells[first:last].sum(axis=0)
    tables = sums.reshape(-1, 2, len(CLUSTER_FIELDS), N_CLUSTERS)
    everything, mature = tables[: block.size], tables[block.size :]
    everything[ripe - block[0]] += mature
    return everything, ripe.astype(np.int64), mature


def _readable(codes: npt.NDArray[np.object_]) -> FloatArray | IntArray:
    """Rows' hash buckets; nan where they are corrupt: nothing is concluded from them."""
    try:
        return unpack_cluster_frame(codes.tolist())
    except DataError:
        if codes.size == 1:
            return np.full((1, len(CLUSTER_FIELDS), N_CLUSTERS), np.nan)
        middle = codes.size // 2
        return np.concatenate([_readable(codes[:middle]), _readable(codes[middle:])])
