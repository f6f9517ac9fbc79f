"""The published measurements that the simulated world is made of, each with its source.

``bench/published_table.py`` regenerates both tables from the data sets they quote.
"""

import csv
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.resources import files
from typing import Any

_HERE = "optimizer.integrations.simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedArm:
    """One arm as it was measured.

    quality_points: (mean, size) of ten equal parts of the sorted scores; cost_usd: mean of a
    request with its sd; failure_rate: background of all hosts; refused_rate: share of requests that
    was refused with status 429 when ``refused_at_concurrency`` requests ran at once; prior_*: what
    was published elsewhere, and is all that is known before the arm has traffic of its own.
    """

    name: str
    model: str
    provider: str
    n: int
    quality_mean: float
    quality_sd: float
    quality_points: tuple[tuple[float, int], ...]
    cost_usd: float
    cost_sd: float
    input_tokens: float
    output_tokens: float
    input_usd_per_mtok: float
    output_usd_per_mtok: float
    latency_p50_ms: float
    latency_p95_ms: float
    failure_rate: float
    refused_rate: float
    refused_at_concurrency: float
    prior_quality: float
    prior_n: int
    prior_cost_usd: float
    prior_latency_ms: float
    prior_source: str
    source: str
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTarget:
    """One target: its baseline and its arms, the baseline first."""

    name: str
    task_type: str
    arms: tuple[PublishedArm, ...]

    @property
    def baseline(self) -> PublishedArm:
        """The arm in force at the start."""
        return self.arms[0]

    def arm(self, name: str) -> PublishedArm:
        """The arm of that name.

        Raises:
            KeyError: there is none.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise KeyError(name)


@lru_cache
def published() -> tuple[PublishedTarget, ...]:
    """Every target, in the table's order.

    Examples:
        >>> [target.name for target in published()][:2]
        ['code-refactoring', 'bug-fixing']
    """
    rows: dict[str, list[dict[str, str]]] = {}
    for row in _rows("published.csv"):
        rows.setdefault(row["target"], []).append(row)
    return tuple(
        PublishedTarget(
            name=name,
            task_type=group[0]["task_type"],
            arms=tuple(
                _arm(row) for row in sorted(group, key=lambda row: row["is_baseline"] != "1")
            ),
        )
        for name, group in rows.items()
    )


@lru_cache
def hourly_shape() -> tuple[float, ...]:
    """Rate of each hour of the day relative to the mean, 24 values.

    Examples:
        >>> len(hourly_shape()), round(sum(hourly_shape()) / 24, 1)
        (24, 1.0)
    """
    return tuple(float(row["relative_rate"]) for row in _rows("hours.csv"))


def _rows(name: str) -> list[dict[str, str]]:
    text = (files(_HERE) / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


_TEXTS = frozenset({"model", "provider", "prior_source", "source", "licence"})
_COUNTS = frozenset({"n", "prior_n"})


def _arm(row: dict[str, str]) -> PublishedArm:
    values: dict[str, Any] = {"name": row["arm"], "quality_points": _points(row["quality_points"])}
    for item in fields(PublishedArm):
        if item.name not in values:
            text = row[item.name]
            kind = str if item.name in _TEXTS else int if item.name in _COUNTS else float
            values[item.name] = kind(text)
    return PublishedArm(**values)


def _points(text: str) -> tuple[tuple[float, int], ...]:
    """``0.25x17 0.5x17`` as means with sizes."""
    points = (part.split("x") for part in text.split())
    return tuple((float(mean), int(size)) for mean, size in points)
