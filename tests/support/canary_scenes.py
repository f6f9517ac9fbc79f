"""Worlds, ramps and limits in which the bench and the judge are asked the same."""

from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pandas as pd

from bench.rollouts import design
from bench.rollouts.design import Design
from bench.rollouts.design import Guardrail as Watched
from bench.rollouts.plan import Plan
from bench.rollouts.running import chance, drawn
from bench.rollouts.world import COST, FAILURE, LABELS, QUALITY, SLOW, Sums, Units, World
from optimizer.judge import Case
from optimizer.judge.case import GOAL, GUARDRAIL
from optimizer.policy import Guardrail, Policy, SafetyLimits
from rollouts import decision
from window_grains import THRESHOLD_MS, grains, ramp_plan, target

SHARES_A, SHARES_B = (0.05, 0.10, 0.25, 0.50), (0.05, 0.06, 0.08, 0.10)
PLAN = Plan(volume=2_000.0, shares=SHARES_A, stage_hours=2)
SELDOM = replace(PLAN, volume=300.0, stage_hours=3)
MUCH_CONTROL = replace(PLAN, shares=SHARES_B, control_ratio=9.0)
METRICS = {
    "failure_rate": Watched(name=FAILURE, alpha=1.0, margin=0.01),
    "latency_exceedance": Watched(name=SLOW, alpha=1.0, margin=0.02),
    "quality": Watched(
        name=QUALITY,
        alpha=1.0,
        sign=-1,
        share=False,
        denominator=LABELS,
        measured=design.LABELLED,
        margin=0.02,
    ),
    "cost_usd": Watched(name=COST, alpha=1.0, share=False, margin=0.0),
}
ONE = ("failure_rate",)
THREE = ("failure_rate", "latency_exceedance", "quality")
OF_SESSIONS = ("failure_rate", "quality")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A world, a ramp and what is watched; with more than failures the goal is a lower cost."""

    world: World
    plan: Plan = PLAN
    metrics: tuple[str, ...] = ONE
    rollouts: int = 8

    @property
    def policy(self) -> Policy:
        """The judge's limits: no limit on control itself, no tolerance, labels as they come."""
        rails = [
            Guardrail(metric=name, margin=METRICS[name].margin or 1.0, tolerance=0.0)
            for name in self.metrics
        ]
        return Policy(
            guardrails=tuple(rails),
            safety=SafetyLimits(failure_rate_max=1.0),
            control_ratio=self.plan.control_ratio,
            stages=tuple(
                replace(stage, share=share)
                for stage, share in zip(Policy().stages, self.plan.shares, strict=True)
            ),
            label_maturity=timedelta(hours=self.world.maturity_hours),
        )

    def cases(self) -> list[Case]:
        """One case a rollout."""
        # An urgent decision is judged by its guardrails alone.
        made = decision(
            plan=ramp_plan(self.plan, labelled=design.LABELLED),
            urgent=self.metrics == ONE,
            latency_threshold_ms=THRESHOLD_MS,
        )
        return [
            Case(
                decision=replace(made, id=target(row), target=target(row)),  # type: ignore[arg-type]
                policy=self.policy,
            )
            for row in range(self.rollouts)
        ]

    def design(self) -> Design:
        """The bench's design with the errors that the judge gives each check."""
        case = self.cases()[0]
        roles = [(name, GUARDRAIL) for name in self.metrics]
        roles += [] if self.metrics == ONE else [("cost_usd", GOAL)]
        return Design(
            guardrails=tuple(
                replace(METRICS[name], alpha=case.alphas(name, role)[0]) for name, role in roles
            ),
            monitors=case.alphas("failure_rate", GUARDRAIL)[1],
        )

    def sums(self, seed: int) -> Sums:
        """The windows of its rollouts."""
        return drawn(self.world, self.plan, self.rollouts, chance("agreement", seed))

    def grains(self, seed: int) -> pd.DataFrame:
        """What the judge reads: scores stand where their requests do, mature or not."""
        told = replace(self, world=replace(self.world, maturity_hours=0))
        return grains(told.sums(seed), np.random.default_rng(seed))


SCENES = {
    "harmless": Scene(world=World(), rollouts=12),
    "shared drift": Scene(world=World(drift_sd=0.5), rollouts=12),
    "x1.5": Scene(world=World(effect=1.5), rollouts=12),
    "x2": Scene(world=World(effect=2.0)),
    "x2, seldom": Scene(world=World(effect=2.0), plan=SELDOM),
    "x1.5, much control": Scene(world=World(effect=1.5), plan=MUCH_CONTROL),
    "hours lost": Scene(world=World(missing=0.3, effect=1.3), rollouts=12),
    "most hours lost": Scene(world=World(missing=0.8, effect=1.5), rollouts=12),
    "later harm": Scene(world=World(effect=2.5, harm_from_hour=5)),
    "three guardrails": Scene(world=World(means=True), metrics=THREE),
    "three, cheaper": Scene(world=World(means=True, cost_effect=0.7), metrics=THREE),
    "three, hours lost": Scene(
        world=World(means=True, missing=0.3, cost_effect=0.7, slow_effect=1.3), metrics=THREE
    ),
    "three, worse": Scene(
        world=World(means=True, quality_loss=0.015, slow_effect=1.3, cost_effect=1.05),
        metrics=THREE,
    ),
    "sessions": Scene(world=World(means=True, units=Units.SPAN), metrics=OF_SESSIONS),
    "sessions, cheaper": Scene(
        world=World(means=True, units=Units.SPAN, cost_effect=0.7),
        plan=replace(PLAN, volume=6_000.0),
        metrics=OF_SESSIONS,
        rollouts=6,
    ),
    "sessions, x2": Scene(world=World(units=Units.SPAN, effect=2.0)),
    "sessions, x3, seldom": Scene(
        world=World(units=Units.SPAN, effect=3.0, missing=0.2), plan=SELDOM
    ),
    "sessions in a minute, x2": Scene(world=World(units=Units.MINUTE, effect=2.0)),
    "bursts": Scene(world=World(means=True, units=Units.BURST), metrics=OF_SESSIONS),
    "bursts, x3, hours lost": Scene(
        world=World(units=Units.BURST, effect=3.0, missing=0.2), plan=SELDOM
    ),
    "three, scores mature": Scene(
        world=World(means=True, maturity_hours=1, quality_loss=0.01, cost_effect=0.7),
        metrics=THREE,
    ),
}
