"""An experiment's hours as arrays: what each arm served, and how it was judged.

A batch is one closed hour. Its sizes are fixed before its outcomes, because the shares of an hour
depend on earlier hours alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.aggregates import CLUSTER_FIELDS, CLUSTERS, N_CLUSTERS, unpack_cluster_frame
from optimizer.allocation import SliceName

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SINGLE_REQUESTS: Final = 1.05
"""Requests a unit and hour up to which units count as making one request each."""
SINGLE_DISPERSION: Final = 1.3
"""Variance over mean of requests per hash bucket up to which units count as single."""
ROWS_AT_ONCE: Final = 512
"""Rows whose hash buckets are unpacked at once: about 5 MB."""
_SUMMED: Final = ("n", "n_failed", "n_units", "n_quality", "quality_e6", "quality_sq_e9")
_BUCKETS: Final = ("n", "n_failed", "n_quality", "quality_e6")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """W batches of K arms, in order of time.

    start_s: Unix seconds, shape (W,); sums: name -> shape (W, K); buckets: name -> shape
    (W, K, N_CLUSTERS).
    """

    start_s: IntArray
    sums: dict[str, IntArray]
    buckets: dict[str, FloatArray]

    @property
    def single(self) -> bool:
        """Whether units make one request each, over all batches."""
        n, units = self.sums["n"].sum(), self.sums["n_units"].sum()
        requests = self.buckets["n"].sum(axis=0)
        mean = requests.mean(axis=-1)
        seen = mean > 0
        spread = requests.var(axis=-1, ddof=1)[seen] / mean[seen]
        if not spread.size:
            return True
        few = n <= SINGLE_REQUESTS * units
        return bool(few and np.maximum(spread, 1.0).mean() <= SINGLE_DISPERSION)

    @property
    def binary(self) -> bool:
        """Whether every score is 0 or 1: only then do scores and their squares add up alike."""
        return bool(np.all(self.sums["quality_e6"] * 1000 == self.sums["quality_sq_e9"]))


def batches(rows: pd.DataFrame, target: str, arms: Sequence[str], *, from_s: int) -> Batches:
    """The batches of an experiment's arms from ``from_s`` on, Unix seconds.

    ``rows`` are aggregates of any slices; windows in which no arm served are left out.

    Raises:
        DataError: hash buckets that cannot be read.
    """
    own = rows[
        (rows["target"] == target)
        & (rows["slice"] == SliceName.EXPERIMENT.value)
        & rows["arm"].isin(list(arms))
        & (rows["window_start_s"] >= from_s)
    ]
    starts, batch = np.unique(own["window_start_s"].to_numpy(dtype=np.int64), return_inverse=True)
    arm = pd.Index(list(arms)).get_indexer(pd.Index(own["arm"]))
    shape = (len(starts), len(arms))
    sums = {name: np.zeros(shape, dtype=np.int64) for name in _SUMMED}
    for name in _SUMMED:
        np.add.at(sums[name], (batch, arm), own[name].to_numpy(dtype=np.int64))
    buckets = {name: np.zeros((*shape, N_CLUSTERS)) for name in _BUCKETS}
    codes = own[CLUSTERS].tolist()
    for first in range(0, len(codes), ROWS_AT_ONCE):
        some = slice(first, first + ROWS_AT_ONCE)
        cells = unpack_cluster_frame(codes[some])
        for name in _BUCKETS:
            place = (batch[some], arm[some])
            np.add.at(buckets[name], place, cells[:, CLUSTER_FIELDS.index(name)])
    return Batches(start_s=starts, sums=sums, buckets=buckets)
