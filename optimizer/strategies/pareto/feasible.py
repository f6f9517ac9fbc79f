"""Which arms keep the constraints, and which of those is the cheapest: whole columns.

References:
    Statistical specification, cost-constrained choice; Wu et al. (2016), arXiv 1602.04282.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.evidence import Anchor, Scene
from optimizer.metrics import DAY_S
from optimizer.policy import Guardrail
from optimizer.statistics import arms
from optimizer.statistics.arms import Row
from optimizer.statistics.outlook import chance_above, dominated_by, outlook
from optimizer.strategies.pareto.settings import Settings

ABORTED: Final = frozenset({"rolled_back", "cancelled"})
GATES: Final = frozenset({"disabled", "recently_rolled_back", "no_evidence", "safety"})
Z_ONE_SIDED: Final = 1.6448536269514722
SLOW_SHARE: Final = 0.05
"""Share of the baseline's requests beyond its own p95."""

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


def judged(scene: Scene, settings: Settings) -> pd.DataFrame:
    """Every arm of every idle target, with ``reason`` against it, ``chosen`` and the numbers.

    A target is idle if nothing of it is in flight, it is not paused and its goal is its cost.
    """
    names = _idle(scene)
    now_s = int(scene.now.timestamp())
    recent = arms.within(scene.hours, start_s=now_s - settings.days * DAY_S, end_s=now_s)
    recent = recent[recent["target"].isin(names)]
    cuts = {
        name: now_s - int(scene.policies[name].label_maturity.total_seconds()) for name in names
    }
    book = outlook(
        {name: scene.targets[name] for name in names},
        scene.baselines,
        recent,
        arms.mature(recent, cuts),
        min_requests=settings.min_requests,
        min_labels=settings.min_labels,
    )
    if book.empty:
        return book.assign(chosen=False)
    book = book.merge(_limits(scene, book, settings), on="target", how="left")
    return _chosen(_reasoned(_chances(book), scene, settings))


def rests_on_prior(row: Row) -> bool:
    """Whether the arm's cost, or its quality where that is guarded, is not known from its own."""
    return row.cost_from != "own" or bool(row.guards_quality and row.quality_from != "own")


def remaining_margin(guardrail: Guardrail | None, level: float, anchor: Anchor | None) -> float:
    """What earlier promotions have left of a guardrail's margin, in its unit; inf without one.

    Examples:
        >>> guard = Guardrail(metric="quality", margin=0.02, anchored=True)
        >>> spent = Anchor(target="t", metric="quality", reference_arm="a", harm=0.015)
        >>> round(remaining_margin(guard, 0.9, spent), 4)
        0.005
    """
    if guardrail is None:
        return float("inf")
    unit = level if guardrail.relative else 1.0
    if not guardrail.anchored or anchor is None:
        return guardrail.margin * unit
    spent = max(0.0, anchor.harm + Z_ONE_SIDED * math.sqrt(anchor.variance))
    return (guardrail.margin - spent) * unit


def _idle(scene: Scene) -> Sequence[str]:
    return [
        name
        for name in sorted(scene.targets)
        if name in scene.policies
        and name not in scene.in_flight
        and name not in scene.paused
        and scene.policies[name].goal.metric == "cost_usd"
    ]


def _limits(scene: Scene, book: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """One row a target: the policy's limits in absolute units."""
    base = book[book["is_base"]]
    rows = []
    for name, quality, failures in zip(
        base["target"], base["quality_expected"], base["failure_rate"], strict=True
    ):
        policy = scene.policies[name]
        guard = {g.metric: g for g in policy.guardrails}
        rows.append(
            {
                "target": name,
                "guards_quality": "quality" in guard,
                "margin": remaining_margin(
                    guard.get("quality"), quality, scene.anchors.get((name, "quality"))
                ),
                "slow_margin": remaining_margin(
                    guard.get("latency_exceedance"),
                    SLOW_SHARE,
                    scene.anchors.get((name, "latency_exceedance")),
                ),
                "failure_margin": remaining_margin(
                    guard.get("failure_rate"),
                    failures,
                    scene.anchors.get((name, "failure_rate")),
                ),
                "failure_max": policy.safety.failure_rate_max,
                "p95_max": policy.safety.latency_p95_ms_max,
                "quality_min": policy.safety.quality_min,
                "min_gain": policy.goal.min_gain or settings.min_gain,
                "retry_after": policy.retry_after,
            }
        )
    return pd.DataFrame(rows)


def _chances(book: pd.DataFrame) -> pd.DataFrame:
    """The probability that each arm keeps each constraint; nan = nothing of its own is known."""
    base = _of_baseline(book)
    failure, base_failure = _smoothed(book), _smoothed(base)
    with np.errstate(divide="ignore"):
        log_ratio = np.log(book["cost_ratio"].to_numpy())
    own_cost = (book["cost_from"] == "own").to_numpy()
    spread = np.where(own_cost, book["log_ratio_variance"].to_numpy(), 0.0)
    slow = book["slow_margin"].to_numpy() - book["slow_gap"].to_numpy()
    failing = base_failure[0] + book["failure_margin"].to_numpy() - failure[0]
    return book.assign(
        log_ratio=log_ratio,
        log_wanted=np.log1p(-book["min_gain"].to_numpy()),
        p_quality=chance_above(book["quality_gap"] + book["margin"], book["gap_variance"], 0.0),
        p_latency=chance_above(slow, book["slow_gap_variance"], 0.0),
        p_failures=chance_above(failing, failure[1] + base_failure[1], 0.0),
        p_saving=chance_above(np.log1p(-book["min_gain"].to_numpy()), spread, log_ratio),
        p_cheaper=chance_above(0.0, spread, log_ratio),
    )


def _reasoned(book: pd.DataFrame, scene: Scene, settings: Settings) -> pd.DataFrame:
    """The first reason against each arm, "" where there is none."""
    sure = 1.0 - settings.delta
    own_quality = (book["quality_from"] == "own").to_numpy()
    # A published level may be wrong by its own uncertainty: it opens a canary, it proves nothing.
    gap, spread = book["quality_gap"] + book["margin"], np.sqrt(book["gap_variance"])
    plausible = (gap + Z_ONE_SIDED * spread >= 0).to_numpy()
    keeps = np.where(own_quality, book["p_quality"].to_numpy() >= sure, plausible)
    own_cost = (book["cost_from"] == "own").to_numpy()
    cheaper = (book["log_ratio"] <= book["log_wanted"] + 1e-12).to_numpy() & (
        ~own_cost | (book["p_saving"] >= settings.saving_chance).to_numpy()
    )
    tests = {
        "disabled": ~book["enabled"].to_numpy(dtype=np.bool_),
        "recently_rolled_back": _recently_aborted(scene, book),
        "no_evidence": _unknown(book, settings),
        "margin_spent": (book["margin"] <= 0).to_numpy(),
        "safety": _unsafe(book),
        "quality": book["guards_quality"].to_numpy(dtype=np.bool_) & ~keeps,
        "latency": (book["p_latency"] < sure).to_numpy(),
        "failures": (book["n"] >= settings.min_requests).to_numpy()
        & (book["p_failures"] <= settings.delta).to_numpy(),
        "not_cheaper": ~cheaper,
    }
    reason = np.select(list(tests.values()), list(tests), default="")
    return book.assign(reason=np.where(book["is_base"], "baseline", reason))


def _chosen(book: pd.DataFrame) -> pd.DataFrame:
    """The cheapest arm of each target without a reason against it, ties by name."""
    dominator = dominated_by(book, ~book["reason"].isin(GATES).to_numpy())
    beaten = (book["reason"] == "") & dominator.notna()
    book = book.assign(dominator=dominator, reason=np.where(beaten, "dominated", book["reason"]))
    feasible = book[book["reason"] == ""].sort_values(["target", "cost_ratio", "arm"])
    chosen = book.index.isin(feasible.drop_duplicates("target").index)
    left = (book["reason"] == "") & ~chosen
    return book.assign(chosen=chosen, reason=np.where(left, "costlier", book["reason"]))


def _of_baseline(book: pd.DataFrame) -> pd.DataFrame:
    base = book[book["is_base"]].set_index("target")
    return base.loc[book["target"]].set_index(book.index)


def _smoothed(book: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    """Failure share and its variance, never 0; nan without requests."""
    n = book["n"].to_numpy(dtype=np.float64)
    share = (book["n_failed"].to_numpy(dtype=np.float64) + 1.0) / (n + 2.0)
    return np.where(n > 0, share, np.nan), arms.divide(share * (1.0 - share), n)


def _recently_aborted(scene: Scene, book: pd.DataFrame) -> BoolArray:
    waits: Mapping[str, timedelta] = dict(zip(book["target"], book["retry_after"], strict=True))
    aborted = {
        (past.target, past.arm)
        for past in scene.past
        if past.state in ABORTED
        and past.target in waits
        and scene.now - past.ended_at < waits[past.target]
    }
    pairs = zip(book["target"], book["arm"], strict=True)
    return np.fromiter((pair in aborted for pair in pairs), dtype=np.bool_, count=len(book))


def _unknown(book: pd.DataFrame, settings: Settings) -> BoolArray:
    """Arms of which neither traffic nor a prior says what the choice needs."""
    prior = book[["prior_quality", "prior_cost_usd", "prior_latency_ms"]].notna().any(axis=1)
    seen = (book["n"] >= settings.min_requests) | prior
    quality = ~book["guards_quality"].astype(bool) | (book["quality_from"] != "nothing")
    return np.asarray(~(seen & quality & book["cost_ratio"].notna()), dtype=np.bool_)


def _unsafe(book: pd.DataFrame) -> BoolArray:
    """Arms predicted beyond a safety limit that they do not bring nearer."""
    base = _of_baseline(book)
    unsafe = np.zeros(len(book), dtype=np.bool_)
    for column, limit, sign in (
        ("failure_expected", "failure_max", 1.0),
        ("p95_expected_ms", "p95_max", 1.0),
        ("quality_expected", "quality_min", -1.0),
    ):
        value, reference = sign * book[column].to_numpy(), sign * base[column].to_numpy()
        bound = sign * book[limit].to_numpy()
        unsafe |= (value > bound) & ~((reference > bound) & (value < reference))
    return unsafe
