"""The right to act alone, earned by promises kept.

What every promotion did is measured against its holdback and compared with what its strategy had
promised. A strategy whose promises provably fail more often than they may needs a person's approval
until its record is better again. What it starts then is measured as before, so it can be.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, nan
from typing import Final

import numpy as np

from optimizer.evidence import Impact, Settled
from optimizer.statistics.calibration import deviates, log_evidence, missed

ALPHA: Final = 0.05
"""Chance that an honest strategy ever loses the right."""

REMEMBERED: Final = 50
"""Newest promotions of a strategy that count, so that it can earn the right again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackRecord:
    """What a strategy's promises were worth.

    settled: promotions that were measured; missed: of those, where a promised interval and the
    measured one disagree; log_e: evidence that more are missed than may be; bias_pct: mean of the
    realised less the expected saving, percentage points, None = unknown.
    """

    strategy: str
    settled: int
    missed: int
    log_e: float
    bias_pct: float | None

    @property
    def is_trusted(self) -> bool:
        """Whether nothing is proven against the strategy."""
        return self.log_e < log(1.0 / ALPHA)

    @property
    def sentence(self) -> str:
        """What is known, e.g. for the one who is asked to approve."""
        bias = "" if self.bias_pct is None else f", savings off by {self.bias_pct:+.1f} points"
        return (
            f"{self.missed} of {self.settled} measured promotions of {self.strategy} missed what "
            f"it promised{bias} (log e-value {self.log_e:.2f}, limit {log(1.0 / ALPHA):.2f})"
        )


def track_records(settled: Sequence[Settled]) -> Mapping[str, TrackRecord]:
    """The record of each strategy, from its newest promotions; oldest first in ``settled``.

    A decision without both a promise and a measurement, each with limits, says nothing: one that is
    measured on a split that is not the planned one has no limits. An arm that was tried on a prior
    counts like any other, by what the prior gave limits to.

    Examples:
        >>> track_records([])
        {}
    """
    by_strategy: dict[str, list[Settled]] = defaultdict(list)
    for each in settled:
        by_strategy[each.strategy].append(each)
    return {name: _record(name, rows[-REMEMBERED:]) for name, rows in sorted(by_strategy.items())}


def _record(strategy: str, rows: Sequence[Settled]) -> TrackRecord:
    # Shape (decisions, metrics, 2): saving in percent and quality, each with its half width.
    expected, actual = (
        np.asarray([_with_halves(side) for side in sides])
        for sides in ([row.expected for row in rows], [row.actual for row in rows])
    )
    found = deviates(expected[..., 0], expected[..., 1], actual[..., 0], actual[..., 1])
    count, misses = int((~np.isnan(found)).any(axis=1).sum()), int(missed(found).sum())
    gaps = actual[:, 0, 0] - expected[:, 0, 0]
    gaps = gaps[np.isfinite(gaps)]
    return TrackRecord(
        strategy=strategy,
        settled=count,
        missed=misses,
        log_e=log_evidence(misses, count - misses),
        bias_pct=float(gaps.mean()) if gaps.size else None,
    )


def _with_halves(impact: Impact) -> tuple[tuple[float, float], ...]:
    saving = (impact.cost_reduction_lower_pct, impact.cost_reduction_upper_pct)
    quality = (impact.quality_delta_lower, impact.quality_delta_upper)
    return _centre(impact.cost_reduction_pct, *saving), _centre(impact.quality_delta, *quality)


def _centre(value: float | None, low: float | None, high: float | None) -> tuple[float, float]:
    if value is None or low is None or high is None:
        return (nan if value is None else value), nan
    return value, (high - low) / 2.0
