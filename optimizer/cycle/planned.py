"""What is frozen when a decision starts: the latency threshold and the plan of its looks."""

import math
from collections.abc import Mapping

import pandas as pd

from optimizer.evidence import Proposal, RampPlan, Scene
from optimizer.metrics import HOUR_S
from optimizer.statistics import arms, ramp


def latency_thresholds_ms(scene: Scene, hours: pd.DataFrame) -> Mapping[str, float]:
    """Upper histogram edge of each baseline's p95 of the last days, ms, where one is known."""
    pool = arms.pooled(_of_baselines(scene, hours), ("target",))
    edges = arms.quantile_edges(pool, 0.95)
    return {
        str(name): float(edge)
        for name, edge in zip(pool.frame["target"], edges, strict=True)
        if math.isfinite(edge)
    }


def _of_baselines(scene: Scene, hours: pd.DataFrame) -> pd.DataFrame:
    in_force = {
        name: scene.baselines.get(name, target.baseline) for name, target in scene.targets.items()
    }
    return arms.serving(hours, in_force)


def measured_shares(scene: Scene, hours: pd.DataFrame) -> Mapping[str, Mapping[str, float]]:
    """The share of each baseline's requests in which a metric is known, from mature hours."""
    now_s = int(scene.now.timestamp())
    cut = {
        name: now_s - int(policy.label_maturity.total_seconds())
        for name, policy in scene.policies.items()
    }
    return arms.measured_shares(arms.mature(_of_baselines(scene, hours), cut))


def ramp_plan(
    scene: Scene,
    proposal: Proposal,
    rates: Mapping[str, float],
    measured: Mapping[str, Mapping[str, float]],
) -> RampPlan | None:
    """What the rollout's looks are spread over; None where no plan check was made."""
    rate, policy = rates.get(proposal.target), scene.policies[proposal.target]
    if rate is None or proposal.planned_hours is None:
        return None
    return ramp.ramp_plan(
        requests_per_hour=rate,
        shares=policy.shares(exploratory=proposal.exploratory),
        bake_hours=[stage.bake_time.total_seconds() / HOUR_S for stage in policy.stages],
        min_requests=[stage.min_requests for stage in policy.stages],
        planned_hours=proposal.planned_hours,
        longest_stage_hours=policy.hold_expires_after.total_seconds() / HOUR_S,
        measured=measured.get(proposal.target, {}),
    )
