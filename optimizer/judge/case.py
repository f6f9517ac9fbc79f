"""What is judged: a decision with its policy, its phase, and the margins that are left to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import sqrt
from types import MappingProxyType

from optimizer.decision import Decision, State
from optimizer.evidence import Anchor
from optimizer.metrics import METRICS, MetricKind
from optimizer.policy import Guardrail, Policy

WATCH_SHARE = 0.2
"""Part of alpha_rollback that is kept for the time after promotion; the canary spends the rest."""

ANCHOR_Z = 1.645
"""Standard errors by which earlier losses are taken to be larger than estimated (95 %)."""

WATCHED = frozenset({State.DEPLOYED, State.MONITORING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A decision to be judged.

    ``anchors`` is keyed by (target, metric), as the ledger gives it, WITHOUT what this decision
    itself was charged; keys of other targets are ignored.
    """

    decision: Decision
    policy: Policy
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
        return held / (1.0 - held) if self.is_watched and held > 0 else 1.0

    @property
    def alpha_rollback(self) -> float:
        """Chance that one required check ever rolls a harmless rollout back in this phase.

        The phases share the policy's chance, and within a phase the guardrails and the goal share
        it equally (Bonferroni), so the promise holds for the rollout as a whole.
        """
        phase = WATCH_SHARE if self.is_watched else 1.0 - WATCH_SHARE
        return self.policy.alpha_rollback * phase / (len(self.policy.guardrails) + 1)

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
        return margin_left(guardrail, anchor)


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
