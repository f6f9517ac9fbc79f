"""The plan check: whether a rollout could answer its questions in time, before it starts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.evidence import Rejected, Scene
from optimizer.metrics import HOUR_S, METRICS
from optimizer.policy import Policy
from optimizer.statistics import arms, ramp
from optimizer.statistics.arms import Row
from optimizer.strategies.pareto.feasible import SLOW_SHARE, remaining_margin, rests_on_prior
from optimizer.strategies.pareto.settings import Settings

Units = npt.NDArray[np.float64]

SMALLEST_MARGIN: Final = 1e-9


def plans(
    scene: Scene, book: pd.DataFrame, rates: Mapping[str, float], settings: Settings
) -> dict[str, ramp.Reach | Rejected]:
    """For each target with a chosen arm how long its rollout takes, or why it is not started.

    Args:
        scene: the hour's scene.
        book: judged arms.
        rates: requests an hour by target.
        settings: of the strategy.
    """
    chosen = {str(row.target): row for row in arms.rows(book[book["chosen"]])}
    bases = {str(row.target): row for row in arms.rows(book[book["is_base"]])}
    asked: dict[str, list[ramp.Question]] = {}
    settled: dict[str, ramp.Reach | Rejected] = {}
    for name, row in chosen.items():
        base, policy = bases[name], scene.policies[name]
        refusal = _unmeasured(policy, row, base, rates.get(name))
        if refusal is None:
            asked[name] = _questions(scene, row, base, settings)
            refusal = _hopeless(row, asked[name])
        if refusal is not None:
            asked.pop(name, None)
            settled[name] = refusal
    units = _units(scene, asked, settings)
    for name in asked:
        settled[name] = _reachable(
            scene, chosen[name], bases[name], units[name], rate=rates[name], settings=settings
        )
    return settled


def _unmeasured(policy: Policy, row: Row, base: Row, rate: float | None) -> Rejected | None:
    if rate is None or base.n == 0:
        detail = f"{base.arm} had {base.n} requests, the target {rate or 0:.0f} an hour"
        return Rejected(arm=row.arm, reason="no_traffic", detail=detail)
    if any(g.metric == "quality" for g in policy.guardrails) and base.n_quality == 0:
        return Rejected(
            arm=row.arm,
            reason="no_quality_labels",
            detail=f"no quality labels: none of {base.n} requests of {base.arm} has a score older "
            f"than {policy.label_maturity}, so that the quality guardrail could never pass",
        )
    return None


def _hopeless(row: Row, questions: Sequence[ramp.Question]) -> Rejected | None:
    """A question whose margin is used up has no answer at any size."""
    lost = next((q for q in questions if not q.margin > SMALLEST_MARGIN), None)
    if lost is None:
        return None
    if lost.metric == "cost_usd":
        detail = f"expected saving {1 - row.cost_ratio:.3f} is no more than the goal's minimum gain"
        return Rejected(arm=row.arm, reason="not_reachable", detail=detail)
    label = METRICS[lost.metric].label
    return _spent(row, f"{lost.margin:.3g} of the margin of {label} is left")


def _questions(scene: Scene, row: Row, base: Row, settings: Settings) -> list[ramp.Question]:
    policy, name = scene.policies[str(row.target)], str(row.target)
    per_unit = base.n / base.n_units if base.n_units > 0 else 1.0
    effect = 1.0 + max(0.0, per_unit - 1.0) * settings.icc
    lag = policy.label_maturity.total_seconds() / HOUR_S
    asked = []
    for guardrail in policy.guardrails:
        level, variance, rate = _moments(guardrail.metric, base)
        margin = remaining_margin(guardrail, level, scene.anchors.get((name, guardrail.metric)))
        asked.append(
            ramp.Question(
                metric=guardrail.metric,
                variance=variance,
                margin=margin,
                label_rate=rate,
                lag_hours=lag if guardrail.metric == "quality" else 0.0,
                design_effect=effect,
                control_ratio=policy.control_ratio,
            )
        )
    # Both arms' costs scatter alike around their means: in shares of the baseline's mean.
    _, variance, rate = _moments("cost_usd", base)
    gain = 1.0 - row.cost_ratio - policy.goal.min_gain
    asked.append(
        ramp.Question(
            metric="cost_usd",
            variance=variance / base.cost_usd**2 if base.cost_usd > 0 else 0.0,
            margin=gain,
            label_rate=rate,
            design_effect=effect,
            control_ratio=policy.control_ratio,
        )
    )
    return asked


def _moments(metric: str, base: Row) -> tuple[float, float, float]:
    """Level and variance of one request of the baseline, and the share of requests measured."""
    if metric == "quality":
        rate = base.n_quality / base.n_labelled
        return base.quality, base.quality_variance * base.n_quality, rate
    if metric in {"failure_rate", "fallback_rate"}:
        hits = base.n_failed if metric == "failure_rate" else base.n_fallback
        share = (hits + 1.0) / (base.n + 2.0)
        return share, share * (1.0 - share), 1.0
    if metric == "latency_exceedance":
        return SLOW_SHARE, SLOW_SHARE * (1.0 - SLOW_SHARE), base.n_timed / base.n
    if metric == "latency_ms":
        spread = _log_spread(base.n_latency, base.log_latency_e6, base.log_latency_sq_e6)
        return base.latency_ms, base.latency_ms**2 * math.expm1(spread), base.n_latency / base.n
    variance = base.log_cost_variance * base.n_positive_cost * base.cost_usd**2
    return base.cost_usd, variance, base.n_cost / base.n


def _log_spread(n: float, total_e6: float, squares_e6: float) -> float:
    mean = total_e6 / n * 1e-6 if n > 0 else 0.0
    rows = max(0.0, squares_e6 / n * 1e-6 - mean**2) if n > 0 else 0.0
    return min(5.0, (rows * n + 1.0) / (n + 1.0))


def _units(
    scene: Scene, asked: Mapping[str, list[ramp.Question]], settings: Settings
) -> dict[str, Units]:
    """Canary requests each question needs; one pass over all targets."""
    flat = [
        (name, question, scene.policies[name].alpha_promote)
        for name, questions in asked.items()
        for question in questions
    ]
    alpha = np.array([error for _, _, error in flat], dtype=np.float64)
    units = ramp.units_for([question for _, question, _ in flat], alpha=alpha, power=settings.power)
    owners = np.array([name for name, _, _ in flat])
    return {name: units[owners == name] for name in asked}


def _reachable(
    scene: Scene, row: Row, base: Row, units: Units, *, rate: float, settings: Settings
) -> ramp.Reach | Rejected:
    policy = scene.policies[str(row.target)]
    # That none may be tried at all is said by validation.
    exploratory = rests_on_prior(row) and policy.exploration_share > 0
    shares = policy.shares(exploratory=exploratory)
    plan = _reach(policy, _questions(scene, row, base, settings), units, rate, shares)
    limit = policy.hold_expires_after.total_seconds() / HOUR_S
    if plan.longest_stage_hours <= limit:
        return plan
    detail = (
        f"plan check: the question of {METRICS[plan.metric].label} needs {plan.hours:.0f} h of "
        f"canary at {rate:.0f} requests an hour, {plan.longest_stage_hours:.0f} h of them in one "
        f"stage, which ends after {limit:g} h"
    )
    unspent = _questions(replace(scene, anchors={}), row, base, settings)
    alpha = np.full(len(unspent), policy.alpha_promote)
    again = ramp.units_for(unspent, alpha=alpha, power=settings.power)
    if _reach(policy, unspent, again, rate, shares).longest_stage_hours <= limit:
        return _spent(row, detail)
    return Rejected(arm=row.arm, reason="not_reachable", detail=detail)


def _reach(
    policy: Policy,
    questions: Sequence[ramp.Question],
    units: Units,
    rate: float,
    shares: Sequence[float],
) -> ramp.Reach:
    return ramp.reach(
        questions,
        units,
        requests_per_hour=rate,
        shares=shares,
        bake_hours=[stage.bake_time.total_seconds() / HOUR_S for stage in policy.stages],
        min_requests=[stage.min_requests for stage in policy.stages],
    )


def _spent(row: Row, detail: str) -> Rejected:
    return Rejected(
        arm=row.arm,
        reason="margin_spent",
        detail=f"margin spent; re-anchoring needs approval: {detail}",
    )
