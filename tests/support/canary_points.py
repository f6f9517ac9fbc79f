"""Points of a time series, put before the judge as the requests they could be made of.

Other canary judges see one point a window: the mean of a positive quantity, or a number of errors.
The judge sees requests, grouped by session. What turns one into the other, and what it assumes:

- control and canary get ``REQUESTS`` each, shared equally by their windows, every request a session
  of its own; an arm without points has had no requests;
- a mean is that of its window's requests, exactly. Points scatter only because their requests do: a
  request's standard deviation is its window's mean, times the points' coefficient of variation,
  times the root of the requests in a window. The requests then say as much of the arm's mean as the
  points do; where all points are equal, so are all requests;
- requests are gamma distributed, the scatter of positive quantities;
- a quantity is scaled, which changes no decision: to a mean of a second where it stands for a
  latency, to at most 1 where it stands for a score. Less of a latency is no harm, more of a score
  neither;
- a number of errors is that of its window's failed requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.aggregates import (
    CLUSTER_FIELDS,
    CLUSTERS,
    HISTOGRAM,
    KEYS,
    N_CLUSTERS,
    SUMS,
    empty,
    pack_clusters,
    pack_histogram,
)
from optimizer.evidence import Outcome, Verdict
from optimizer.judge import judge
from optimizer.policy import Guardrail, Policy
from optimizer.statistics.quantiles import bucket_of
from rollouts import BASELINE, CANDIDATE, HOUR, T0, case

Floats = npt.NDArray[np.float64]
Quantity = Literal["latency_ms", "quality", "failure_rate"]

REQUESTS: Final = 300
"""An arm's requests: above every floor, and shared equally by 2, 3, 5, 6, 10, 15, 30, 60 points."""
SEEDS: Final = range(5)
USUAL_MARGIN: Final = 0.25
"""Harm below which a guardrail passes, in units of the mean; Kayenta's production tolerance."""
SECOND_MS: Final = 1_000.0

WORSE: Final = "worse"
NO_HARM: Final = "no harm seen"
NO_DATA: Final = "no data"
UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Two arms' points, and the metric they stand for.

    tolerance: relative to control, where a tool asks for a ratio of means; None = no harm at all,
    whatever control's size, which a guardrail in the quantity's own unit says.
    """

    control: Sequence[float]
    canary: Sequence[float]
    metric: Quantity = "latency_ms"
    tolerance: float | None = None


def answer(series: Series) -> str:
    """What the judge says to the series in every draw of its requests, else all that it says."""
    return " or ".join(sorted({in_words(verdict(series, seed)) for seed in SEEDS}))


def in_words(found: Verdict) -> str:
    """The verdict as other tools would put it.

    Proven harm is "worse"; "no harm seen" is what lets a stage advance, as a passing metric does
    elsewhere. It is not yet the proof that a promotion needs.
    """
    if found.outcome is Outcome.FAIL:
        return WORSE
    if found.outcome is Outcome.NO_DATA:
        return NO_DATA
    return NO_HARM if found.stage_outcome is Outcome.PASS else UNKNOWN


def verdict(series: Series, seed: int) -> Verdict:
    """The judge's verdict, with the one guardrail that the series is about, and no goal."""
    frame, unit = grains(series, np.random.default_rng(seed))
    relative, tolerance = series.tolerance is not None, series.tolerance or 0.0
    margin = max(USUAL_MARGIN, tolerance) if relative else USUAL_MARGIN * unit
    rail = Guardrail(metric=series.metric, margin=margin, tolerance=tolerance, relative=relative)
    windows = max(len(series.control), len(series.canary), 1)
    end = T0 + windows * timedelta(minutes=5)
    # An urgent decision is asked for its guardrails alone.
    given = case(policy=Policy(guardrails=(rail,)), urgent=True)
    return judge([given], frame, now=end + HOUR, data_until=end)[given.decision.id]


def grains(series: Series, chance: np.random.Generator) -> tuple[pd.DataFrame, float]:
    """Grains of both arms, one row a point, and the mean of all requests in the metric's unit."""
    draw = _failures if series.metric == "failure_rate" else _quantities
    arms = [draw(points, chance) for points in (series.control, series.canary)]
    both = np.concatenate([np.ravel(arm) for arm in arms])
    mean = float(both.mean()) if both.any() else 1.0
    size = {"failure_rate": 1.0, "latency_ms": mean, "quality": float(both.max(initial=mean))}
    scale = (SECOND_MS if series.metric == "latency_ms" else 1.0) / size[series.metric]
    rows = [
        _row(name, window, series.metric, requests * scale, chance)
        for name, arm in zip(("control", "canary"), arms, strict=True)
        for window, requests in enumerate(arm)
    ]
    frame = pd.DataFrame(rows)[[*KEYS, *SUMS, HISTOGRAM, CLUSTERS]] if rows else empty()
    return frame, mean * scale


def _quantities(points: Sequence[float], chance: np.random.Generator) -> Floats:
    """The requests of each window, shape (points, requests in a window)."""
    means = np.asarray(points, dtype=np.float64)
    if means.size == 0:
        return np.zeros((0, 0))
    each = REQUESTS // means.size
    spread = means.std(ddof=1) / means.mean() if means.size > 1 and means.any() else 0.0
    if spread == 0:
        return np.repeat(means[:, None], each, axis=1)
    drawn = chance.gamma(1.0 / (each * spread**2), size=(means.size, each))
    return np.asarray(means[:, None] * drawn / drawn.mean(axis=1, keepdims=True))


def _failures(points: Sequence[float], chance: np.random.Generator) -> Floats:
    """Which requests of each window failed, shape (points, requests in a window)."""
    errors = np.asarray(points, dtype=np.float64)
    each = REQUESTS // max(errors.size, 1)
    failed = (np.arange(each) < errors[:, None]).astype(np.float64)
    return chance.permuted(failed, axis=1)


def _row(
    name: str, window: int, metric: Quantity, requests: Floats, chance: np.random.Generator
) -> dict[str, object]:
    ones = np.ones(requests.size, dtype=np.int64)
    failed = (requests if metric == "failure_rate" else 0 * requests).astype(np.int64)
    answered = ones - failed
    latency_ms = requests if metric == "latency_ms" else SECOND_MS * ones
    values = {
        "n": ones,
        "n_failed": failed,
        "n_units": ones,
        "n_latency": answered,
        "latency_us": np.rint(latency_ms * answered * 1e3).astype(np.int64),
        "n_cost": ones,
        "n_positive_cost": ones,
        "cost_nusd": 1_000_000 * ones,
    }
    if metric == "quality":
        values |= {"n_quality": ones, "quality_e6": np.rint(requests * 1e6).astype(np.int64)}
    bucket = chance.integers(0, N_CLUSTERS, requests.size)
    cells = [
        np.bincount(bucket, weights=values.get(field, 0 * ones), minlength=N_CLUSTERS)
        for field in CLUSTER_FIELDS
    ]
    return {
        "target": "checkout",
        "arm": CANDIDATE if name == "canary" else BASELINE,
        "slice": name,
        "window_start_s": int(T0.timestamp()) + 300 * window,
        **{column: int(values.get(column, 0 * ones).sum()) for column in SUMS},
        HISTOGRAM: pack_histogram(bucket_of(latency_ms), answered),
        CLUSTERS: pack_clusters(np.stack(cells)),
    }
