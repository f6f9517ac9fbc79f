"""Traffic: what an hour of requests adds up to under the split in force.

An hour's requests arrive in its last five minutes: one grain an hour and slice is enough, because
no rule of the core reads when inside an hour a request came. Arrivals are Poisson, each request is
a unit of its own, and its outcome is one of the arm's rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.world.outcomes import CLUSTERED, NO_LATENCY, Outcomes
from optimizer.aggregates import (
    CLUSTERS,
    HISTOGRAM,
    KEYS,
    N_CLUSTERS,
    SUMS,
    pack_clusters,
    pack_histograms,
)
from optimizer.allocation import Allocation, SliceName
from optimizer.metrics import GRAIN_S

FloatArray = npt.NDArray[np.float64]

ROW_BY_ROW: Final = 20_000
"""Expected requests up to which drawing them one by one beats drawing every cell's count."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traffic:
    """One target's arms, its requests an hour, and its own stream of chance."""

    arms: Mapping[str, Outcomes]
    requests_per_hour: float
    chance: np.random.Generator


def streams(seed: int, names: Sequence[str]) -> dict[str, np.random.Generator]:
    """A stream of chance for each name; it depends on seed and name alone."""
    return {name: np.random.Generator(np.random.PCG64([seed, *name.encode()])) for name in names}


def hour(
    traffic: Mapping[str, Traffic], splits: Mapping[str, Allocation], *, end_s: int
) -> pd.DataFrame:
    """The 5-minute aggregates of the hour that ends at ``end_s`` (Unix seconds), every target."""
    keys: list[tuple[str, str, str, int]] = []
    sums: list[FloatArray] = []
    clusters: list[bytes] = []
    groups: list[FloatArray] = []
    buckets: list[npt.NDArray[np.int64]] = []
    counts: list[FloatArray] = []
    for target, own in traffic.items():
        for part in splits[target].slices:
            arm = own.arms[part.arm]
            expected = own.requests_per_hour * part.share
            count, code = _drawn(arm, expected, own.chance, part.name)
            if not count.any():
                continue
            timed = (arm.bucket != NO_LATENCY) & (count > 0)
            groups.append(np.full(int(timed.sum()), len(keys)))
            buckets.append(arm.bucket[timed])
            counts.append(count[timed])
            keys.append((target, part.arm, part.name.value, end_s - GRAIN_S))
            sums.append(arm.sums @ count)
            clusters.append(code)
    table = pd.DataFrame(keys, columns=list(KEYS)).astype({KEYS[-1]: np.int64})
    whole = np.rint(np.array(sums).reshape(-1, len(SUMS))).astype(np.int64)
    table[list(SUMS)] = whole
    packed = pack_histograms(
        np.concatenate([*groups, []]).astype(np.int64),
        np.concatenate([*buckets, []]).astype(np.int64),
        np.concatenate([*counts, []]).astype(np.int64),
        n_groups=len(keys),
    )
    table[HISTOGRAM] = pd.Series(packed, dtype="object")
    table[CLUSTERS] = pd.Series(clusters, dtype="object")
    return table


def _drawn(
    arm: Outcomes, expected: float, chance: np.random.Generator, name: SliceName
) -> tuple[FloatArray, bytes]:
    """How often each row came, shape (R,), and the hash buckets' bytes where the slice has them."""
    if name is SliceName.BASELINE:
        return chance.poisson(expected * arm.chance).astype(np.float64), b""
    size = arm.chance.size
    if expected > ROW_BY_ROW:
        cells = chance.poisson(expected * arm.chance / N_CLUSTERS, size=(N_CLUSTERS, size))
    else:
        n = chance.poisson(expected)
        rows = np.searchsorted(np.cumsum(arm.chance)[:-1], chance.random(n), side="right")
        keys = chance.integers(N_CLUSTERS, size=n) * size + rows
        cells = np.bincount(keys, minlength=N_CLUSTERS * size).reshape(N_CLUSTERS, size)
    table = cells.astype(np.float64)
    return table.sum(axis=0), pack_clusters(np.rint(arm.sums[list(CLUSTERED)] @ table.T))
