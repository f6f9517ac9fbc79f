"""Metrics and windows: what is measured, in which unit, and over which time.

A metric knows only how to *read* an aggregate: it is the ratio of two summed columns times a scale.
That makes every metric mergeable, and lets one variance formula (the delta method on ratios) serve
them all.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

GRAIN_S = 300
"""Width of the finest window, seconds."""

HOUR_S = 3_600
DAY_S = 86_400


class Direction(Enum):
    """Which way of a metric is better."""

    LOWER = "lower"
    HIGHER = "higher"

    @property
    def harm_sign(self) -> int:
        """+1 if a larger value is worse, -1 if a larger value is better."""
        return 1 if self is Direction.LOWER else -1


class MetricKind(Enum):
    """What values a metric's rows take; it decides which test applies."""

    SHARE = "share"
    """each row is 0 or 1"""
    SCORE = "score"
    """each row lies in [0, 1]"""
    AMOUNT = "amount"
    """each row is a non-negative quantity without an upper bound"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A named measurement: ``scale * sum(numerator) / sum(denominator)``.

    ``numerator`` and ``denominator`` are columns of the aggregate schema
    (see :mod:`optimizer.aggregates`); ``scale`` turns stored integers into ``unit``.
    """

    name: str
    unit: str
    direction: Direction
    kind: MetricKind
    numerator: str
    denominator: str
    scale: float = 1.0
    label: str


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            name="failure_rate",
            unit="share",
            direction=Direction.LOWER,
            kind=MetricKind.SHARE,
            numerator="n_failed",
            denominator="n",
            label="failed requests",
        ),
        Metric(
            name="fallback_rate",
            unit="share",
            direction=Direction.LOWER,
            kind=MetricKind.SHARE,
            numerator="n_fallback",
            denominator="n",
            label="requests served by another model than assigned",
        ),
        Metric(
            name="latency_exceedance",
            unit="share",
            direction=Direction.LOWER,
            kind=MetricKind.SHARE,
            numerator="n_slow",
            denominator="n_timed",
            label="requests slower than the baseline's p95",
        ),
        Metric(
            name="latency_ms",
            unit="ms",
            direction=Direction.LOWER,
            kind=MetricKind.AMOUNT,
            numerator="latency_us",
            denominator="n_latency",
            scale=1e-3,
            label="mean latency of answered requests",
        ),
        Metric(
            name="cost_usd",
            unit="USD/request",
            direction=Direction.LOWER,
            kind=MetricKind.AMOUNT,
            numerator="cost_nusd",
            denominator="n_cost",
            scale=1e-9,
            label="cost per request",
        ),
        Metric(
            name="quality",
            unit="score",
            direction=Direction.HIGHER,
            kind=MetricKind.SCORE,
            numerator="quality_e6",
            denominator="n_quality",
            scale=1e-6,
            label="quality",
        ),
    )
}
"""Every metric a policy may name. ``latency_exceedance`` reads columns that are derived from the
histogram and the threshold frozen at the start of a rollout."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Window:
    """Half-open interval ``[start, end)`` in UTC.

    Raises:
        ValueError: an end is naive, or ``start >= end``.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        """Refuse naive or empty intervals."""
        for name, value in (("start", self.start), ("end", self.end)):
            if value.tzinfo is None:
                msg = f"{name} has no time zone: {value.isoformat()}"
                raise ValueError(msg)
        if self.start >= self.end:
            msg = f"start {self.start.isoformat()} is not before end {self.end.isoformat()}"
            raise ValueError(msg)

    @property
    def start_s(self) -> int:
        """Start as Unix seconds."""
        return int(self.start.timestamp())

    @property
    def end_s(self) -> int:
        """End as Unix seconds."""
        return int(self.end.timestamp())


def floor_s(moment: datetime, width_s: int = GRAIN_S) -> int:
    """Start of the window that holds ``moment``, Unix seconds.

    Examples:
        >>> floor_s(datetime(2026, 1, 1, 0, 7, 30, tzinfo=UTC)) % HOUR_S
        300
    """
    return int(moment.timestamp()) // width_s * width_s


def ceil_s(moment: datetime, width_s: int = GRAIN_S) -> int:
    """First window start at or after ``moment``, Unix seconds.

    Examples:
        >>> ceil_s(datetime(2026, 1, 1, 0, 7, 30, tzinfo=UTC)) % HOUR_S
        600
        >>> ceil_s(datetime(2026, 1, 1, 0, 10, tzinfo=UTC)) % HOUR_S
        600
    """
    floor = floor_s(moment, width_s)
    exact = moment == datetime.fromtimestamp(floor, UTC)
    return floor if exact else floor + width_s


def at(seconds: int) -> datetime:
    """The moment ``seconds`` after the Unix epoch, aware UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def last_hours(end: datetime, hours: float) -> Window:
    """The window of ``hours`` hours that ends at ``end``."""
    return Window(start=end - timedelta(hours=hours), end=end)
