"""The slow end of a canary's latency and of its control's: for reading, it decides nothing.

What decides is how many requests exceed a threshold, which needs no quantile. A reader asks for the
95th percentile in milliseconds all the same, and is shown how well it is known.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.aggregates import HISTOGRAM, unpack_histograms
from optimizer.bucket_edges import LAST_BUCKET, ZERO_BUCKET
from optimizer.decision import Decision
from optimizer.metrics import GRAIN_S
from optimizer.ports import Ledger, Look
from optimizer.statistics.quantiles import quantile, quantile_sequence

P: Final = 0.95
ALPHA: Final = 0.05
"""Chance that a limit of either arm is ever wrong; each arm has half of it."""

IntArray = npt.NDArray[np.int64]

_BUCKETS: Final = np.concatenate(([ZERO_BUCKET], np.arange(LAST_BUCKET + 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The 95th percentile of an arm's answered requests, ms, with its limits; n: how many.

    upper_ms is inf, and lower_ms -inf, where there are too few requests for a limit.
    """

    value_ms: float
    lower_ms: float
    upper_ms: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tails:
    """Both arms, from the start of the evidence until a look."""

    at: datetime
    canary: Tail
    control: Tail


def read_tails(ledger: Ledger, decision: Decision, looks: Sequence[Look]) -> tuple[Tails, ...]:
    """Canary and control at every look until the promotion, oldest first.

    Looks before which an arm was not answered at all are left out, and so is everything where the
    windows are past their keeping. Limits hold at every look together: they are a confidence
    sequence on ranks, exact at bucket edges.

    References:
        Howard and Ramdas (2022). Sequential estimation of quantiles with applications to A/B
        testing and best-arm identification. arXiv 1906.09712.
    """
    start, promoted = decision.evidence_from, decision.deployed_at
    seen = [look for look in looks if promoted is None or look.at <= promoted]
    if start is None or not seen:
        return ()
    until = np.array([int((look.verdict.data_until or look.at).timestamp()) for look in seen])
    grains = ledger.aggregates.load(
        GRAIN_S,
        start_s=int(start.timestamp()),
        end_s=int(until.max()),
        targets=[decision.target],
        slices=["canary", "control"],
    )
    canary, control = (
        _tails(grains[(grains["slice"] == part) & (grains["arm"] == arm)], until)
        for part, arm in (("canary", decision.candidate), ("control", decision.baseline))
    )
    both = zip(seen, canary, control, strict=True)
    return tuple(
        Tails(at=look.at, canary=one, control=other)
        for look, one, other in both
        if one.n and other.n
    )


def _tails(grains: pd.DataFrame, until: IntArray) -> list[Tail]:
    """What was known of one arm at each of those ends of the data."""
    row, bucket, count = unpack_histograms(grains[HISTOGRAM].tolist())
    ends = grains["window_start_s"].to_numpy(dtype=np.int64)[row] + GRAIN_S
    place = np.where(bucket == ZERO_BUCKET, 0, bucket.astype(np.int64) + 1)
    counts = np.stack(
        [
            np.bincount(place[known], count[known], minlength=_BUCKETS.size).astype(np.int64)
            for known in (ends <= end for end in until)
        ]
    )
    lower, upper = quantile_sequence(_BUCKETS, counts, p=P, alpha=ALPHA / 2)
    columns = (quantile(_BUCKETS, counts, P), lower, upper, counts.sum(axis=1))
    return [
        Tail(value_ms=float(value), lower_ms=float(low), upper_ms=float(high), n=int(n))
        for value, low, high, n in zip(*columns, strict=True)
    ]


def sentence(tails: Tails) -> str:
    """Both arms in words.

    Examples:
        >>> tail = Tail(value_ms=1234.5, lower_ms=1200.0, upper_ms=float("inf"), n=1500)
        >>> at = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
        >>> sentence(Tails(at=at, canary=tail, control=tail))  # doctest: +ELLIPSIS
        'canary 1,234 ms (at least 1,200 ms; 1,500 answered requests), control 1,234 ms ...'
    """
    return f"canary {_words(tails.canary)}, control {_words(tails.control)}"


def _words(tail: Tail) -> str:
    low, high = (f"{limit:,.0f} ms" for limit in (tail.lower_ms, tail.upper_ms))
    limits = {
        (True, True): f"{low} to {high}",
        (True, False): f"at least {low}",
        (False, True): f"at most {high}",
        (False, False): "limits unknown",
    }[math.isfinite(tail.lower_ms), math.isfinite(tail.upper_ms)]
    return f"{tail.value_ms:,.0f} ms ({limits}; {tail.n:,} answered requests)"
