"""What is judged: a decision with its policy, its phase, and the margins that are left to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import sqrt
from types import MappingProxyType

from optimizer.decision import Decision, State
from optimizer.evidence import Anchor, RampPlan, Spent
from optimizer.metrics import METRICS, MetricKind
from optimizer.policy import Guardrail, Policy

LOOK_SHARE = 0.8
"""Part of alpha_rollback that the planned looks of the canary spend."""

MONITOR_SHARE = 0.1
"""Part that the tests without a plan spend beside them; as much is kept for after promotion."""

WEIGHTS: Mapping[str, float] = MappingProxyType({"failure_rate": 25.0})
GUARDRAIL_WEIGHT = 6.0
GOAL_WEIGHT = 3.0
"""How the checks of a rollout share its error (Bonferroni): failures, which strike first and hurt
most, get most of it. With the usual three guardrails and the goal: .025, .006, .006 and .003."""

ANCHOR_Z = 1.645
"""Standard errors by which earlier losses are taken to be larger than estimated (95 %)."""

GUARDRAIL = "guardrail"
GOAL = "goal"

WATCHED = (State.DEPLOYED, State.MONITORING)
"""States of a promoted candidate. A tuple, because it is asked of every case many times and finds a
member by identity; a set would call the hash of the enumeration, which is slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A decision to be judged; ``spent`` is what its planned looks have spent so far.

    ``anchors`` is keyed by (target, metric), as the ledger gives it, WITHOUT what this decision
    itself was charged; keys of other targets are ignored.
    """

    decision: Decision
    policy: Policy
    spent: tuple[Spent, ...] = ()
    anchors: Mapping[tuple[str, str], Anchor] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def is_watched(self) -> bool:
        """Whether the candidate is promoted and is compared with its holdback."""
        return self.decision.state in WATCHED

    @property
    def asks_goal(self) -> bool:
        """Whether the policy's goal must be reached; an urgent change leaves a broken arm."""
        return not self.decision.urgent

    @property
    def evidence_from(self) -> datetime | None:
        """Start of the evidence: of the canary, or of full traffic once promoted."""
        return self.decision.deployed_at if self.is_watched else self.decision.evidence_from

    @property
    def control_ratio(self) -> float:
        """Planned control units to one canary unit, > 0; 1 where no control is planned."""
        held = self.policy.holdback_share
        if not self.is_watched:
            return self.policy.control_ratio
        return held / (1.0 - held) if held > 0 else 1.0

    @property
    def plan(self) -> RampPlan | None:
        """The ramp's plan; none once promoted, when looks go on for as long as it takes."""
        return None if self.is_watched else self.decision.plan

    @property
    def in_last_stage(self) -> bool:
        """Whether the next step is promotion."""
        return self.decision.stage >= len(self.policy.stages) - 1

    def alphas(self, metric: str, role: str) -> tuple[float, float]:
        """Chances that one check ever rolls a harmless rollout back in this phase.

        The first is that of its planned looks, 0 where there is no plan; the second that of its
        test without a plan. Over all checks and phases they add up to the policy's alpha_rollback.
        """
        weights = [_weight(rail.metric, GUARDRAIL) for rail in self.policy.guardrails]
        part = _weight(metric, role) / (sum(weights) + _weight("", GOAL))
        alpha = self.policy.alpha_rollback * part
        if self.plan is not None:
            return alpha * LOOK_SHARE, alpha * MONITOR_SHARE
        return 0.0, alpha * (MONITOR_SHARE if self.is_watched else LOOK_SHARE + MONITOR_SHARE)

    @property
    def spent_by_check(self) -> Mapping[tuple[str, str], Spent]:
        """What planned looks have spent, by the metric and role of their check.

        Looks at evidence that no longer counts, because its arms changed, spent none of the new.
        """
        since, spent = self.evidence_from, reversed(self.spent)
        return {(each.metric, each.role): each for each in spent if each.since == since}

    def remaining(self, guardrail: Guardrail) -> float:
        """The guardrail's margin less what earlier promotions may have cost already.

        Zero or less means that nothing is left to give up.

        Examples:
            >>> from optimizer.policy import Guardrail
            >>> rail = Guardrail(metric="quality", margin=0.02, anchored=True)
            >>> lost = Anchor(target="t", metric="quality", reference_arm="a", harm=0.005)
            >>> margin_left(rail, lost)
            0.015
        """
        anchor = self.anchors.get((self.decision.target, guardrail.metric))
        if anchor is not None and anchor.reference_arm == self.decision.candidate:
            # The way back to the reference gives nothing up: it returns what promotions took.
            return guardrail.margin
        return margin_left(guardrail, anchor)


def _weight(metric: str, role: str) -> float:
    return GOAL_WEIGHT if role == GOAL else WEIGHTS.get(metric, GUARDRAIL_WEIGHT)


def margin_left(guardrail: Guardrail, anchor: Anchor | None) -> float:
    """``margin - max(0, harm + 1.645 sqrt(variance))`` where anchored, else the margin."""
    if not guardrail.anchored or anchor is None:
        return guardrail.margin
    return guardrail.margin - max(0.0, anchor.harm + ANCHOR_Z * sqrt(anchor.variance))


def rollback_tolerance(guardrail: Guardrail, remaining: float) -> float:
    """Harm above which a canary is rolled back: zero or more, at most the margin that is left."""
    if guardrail.tolerance is not None:
        return max(0.0, min(guardrail.tolerance, remaining))
    score = METRICS[guardrail.metric].kind is MetricKind.SCORE
    return max(0.0, remaining) if score else 0.0
