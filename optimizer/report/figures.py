"""Money, quality and harm of a run, from the traffic log and the recorded decisions.

A saving is counted only for requests that were served by an arm that was promoted. What canaries
that were taken back cost beyond the baseline is charged against it; what they saved is not
credited.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.report.story import Chapter, Story

Z_95 = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A mean with its standard error; nan where nothing was measured."""

    value: float
    se: float
    n: int

    @property
    def half_width(self) -> float:
        """Half the 95 % interval."""
        return Z_95 * self.se


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFigures:
    """What became of one target.

    spend_usd: of all requests; base_usd: what the same requests would have cost at the measured
    mean of the arm that served at the start; saving_usd: of requests served by promoted arms;
    exploration_usd: what canaries that were taken back cost beyond that mean, never below 0;
    canary_requests: that such canaries served; quality_gap: promoted arm minus its concurrent
    control, None where nothing was promoted.
    """

    target: str
    first_arm: str
    last_arm: str
    requests: int
    spend_usd: float
    base_usd: float
    saving_usd: float
    exploration_usd: float
    canary_requests: int
    quality_before: Mean
    quality_after: Mean
    quality_gap: Mean | None
    outcomes: Mapping[str, int]

    @property
    def net_usd(self) -> float:
        """Saving less the cost of exploring."""
        return self.saving_usd - self.exploration_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Caught:
    """A canary that was taken back: how many requests it had served, and after how long."""

    chapter: Chapter
    requests: int
    hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The run."""

    targets: tuple[TargetFigures, ...]
    caught: tuple[Caught, ...]
    until_s: float

    def total(self, name: str) -> float:
        """Sum of a number over targets."""
        return float(sum(getattr(figures, name) for figures in self.targets))


def account(
    log: pd.DataFrame, story: Story, *, first: Mapping[str, str], last: Mapping[str, str]
) -> Figures:
    """The figures of a run.

    Args:
        log: one row a call: ts_s, target, arm, slice, status, cost_usd, score (nan = none).
        story: its decisions.
        first: the arm in force at the start, by target.
        last: the arm in force at the end, by target.
    """
    by_target = {str(name): rows for name, rows in log.groupby("target")}
    empty = log.iloc[:0]
    return Figures(
        targets=tuple(
            _target(name, by_target.get(name, empty), story.of(name), arm, last[name])
            for name, arm in first.items()
        ),
        caught=tuple(
            _caught(chapter, by_target.get(chapter.decision.target, empty))
            for chapter in story.chapters
            if chapter.decision.state.value in {"rolled_back", "rolling_back"}
        ),
        until_s=float(log["ts_s"].max()) if len(log) else float("nan"),
    )


def mean_of(values: npt.ArrayLike) -> Mean:
    """Mean and standard error of the known values.

    Examples:
        >>> mean_of([0.2, 0.4, float("nan")])
        Mean(value=0.30..., se=0.1..., n=2)
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if known.size < 2:  # noqa: PLR2004 - a standard error needs two
        return Mean(value=float("nan"), se=float("nan"), n=known.size)
    return Mean(
        value=float(known.mean()), se=float(known.std(ddof=1) / np.sqrt(known.size)), n=known.size
    )


def span(chapter: Chapter) -> tuple[float, float]:
    """When the decision held traffic, Unix seconds; the end is infinite while it does."""
    applied = [event.at for event in chapter.events if event.kind == "stage"]
    ended = chapter.decision.ended_at
    start = applied[0].timestamp() if applied else float("inf")
    return start, ended.timestamp() if ended is not None else float("inf")


def concurrent(chapter: Chapter, rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Requests of canary and control that a decision assigned at the same time."""
    start, end = span(chapter)
    during = rows[(rows["ts_s"] >= start) & (rows["ts_s"] < end)]
    decision = chapter.decision
    return (
        during[(during["slice"] == "canary") & (during["arm"] == decision.candidate)],
        during[(during["slice"] == "control") & (during["arm"] == decision.baseline)],
    )


def _target(
    name: str, rows: pd.DataFrame, chapters: Sequence[Chapter], first: str, last: str
) -> TargetFigures:
    arm = rows["arm"]
    base_cost = float(rows["cost_usd"][arm == first].mean())
    promoted = [chapter for chapter in chapters if chapter.is_promoted]
    kept = arm.isin([chapter.decision.candidate for chapter in promoted]).to_numpy()
    extra = rows["cost_usd"].to_numpy() - base_cost
    tried = ~kept & (arm != first).to_numpy()
    by_arm = pd.Series(extra[tried]).groupby(arm[tried].to_numpy()).sum()
    return TargetFigures(
        target=name,
        first_arm=first,
        last_arm=promoted[-1].decision.candidate if promoted else last,
        requests=len(rows),
        spend_usd=float(rows["cost_usd"].sum()),
        base_usd=base_cost * len(rows),
        saving_usd=-float(extra[kept].sum()),
        exploration_usd=float(by_arm.clip(lower=0).sum()),
        canary_requests=int(tried.sum()),
        quality_before=mean_of(rows["score"][arm == first]),
        quality_after=mean_of(
            rows["score"][arm == (promoted[-1].decision.candidate if promoted else last)]
        ),
        quality_gap=_gap(promoted[-1], rows) if promoted else None,
        outcomes=Counter(chapter.ended for chapter in chapters),
    )


def _gap(chapter: Chapter, rows: pd.DataFrame) -> Mean:
    canary, control = (mean_of(part["score"]) for part in concurrent(chapter, rows))
    return Mean(
        value=canary.value - control.value,
        se=float(np.hypot(canary.se, control.se)),
        n=min(canary.n, control.n),
    )


def _caught(chapter: Chapter, rows: pd.DataFrame) -> Caught:
    start, end = span(chapter)
    canary, _ = concurrent(chapter, rows)
    return Caught(chapter=chapter, requests=len(canary), hours=(end - start) / 3600)
