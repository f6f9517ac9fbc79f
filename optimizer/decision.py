"""A decision: the recorded life of one proposal, as a state machine.

::

    PENDING -> VALIDATING -+-> VALIDATION_FAILED #
                           +-> AWAITING_APPROVAL -+-> CANCELLED # (rejected, expired)
                           |                      v
                           +----------------> DEPLOYING -> DEPLOYED -> MONITORING -> COMPLETED #
                                                |  |           |            |
                     DEPLOYMENT_FAILED # <------+  +-----------+------------+-> ROLLING_BACK
                                                                                |
    every state without traffic that is not final -> CANCELLED #    ROLLED_BACK # <-+-> CANCELLED #

``#`` marks final states. Transitions are checked here, stored by compare-and-set on ``version``,
and appended to the decision's event log, each event hashed over its predecessor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from types import MappingProxyType

from optimizer.evidence import DecisionId, Impact, ProposalId, RampPlan
from optimizer.recorded import chain_hash, check_arrow


class State(Enum):
    """Where a decision stands."""

    PENDING = "pending"
    VALIDATING = "validating"
    VALIDATION_FAILED = "validation_failed"
    AWAITING_APPROVAL = "awaiting_approval"
    DEPLOYING = "deploying"
    DEPLOYED = "deployed"
    MONITORING = "monitoring"
    COMPLETED = "completed"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    DEPLOYMENT_FAILED = "deployment_failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self in FINAL

    @property
    def holds_traffic(self) -> bool:
        """Whether the candidate may be serving requests."""
        return self in TRAFFIC


FINAL = frozenset(
    {
        State.VALIDATION_FAILED,
        State.COMPLETED,
        State.ROLLED_BACK,
        State.DEPLOYMENT_FAILED,
        State.CANCELLED,
    }
)
TRAFFIC = frozenset({State.DEPLOYING, State.DEPLOYED, State.MONITORING, State.ROLLING_BACK})

TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.PENDING: frozenset({State.VALIDATING, State.CANCELLED}),
        State.VALIDATING: frozenset(
            {
                State.VALIDATION_FAILED,
                State.AWAITING_APPROVAL,
                State.DEPLOYING,
                State.CANCELLED,
            }
        ),
        State.AWAITING_APPROVAL: frozenset({State.DEPLOYING, State.CANCELLED}),
        State.DEPLOYING: frozenset({State.DEPLOYED, State.ROLLING_BACK, State.DEPLOYMENT_FAILED}),
        State.DEPLOYED: frozenset({State.MONITORING, State.ROLLING_BACK}),
        State.MONITORING: frozenset({State.COMPLETED, State.ROLLING_BACK}),
        State.ROLLING_BACK: frozenset({State.ROLLED_BACK, State.CANCELLED}),
        State.VALIDATION_FAILED: frozenset(),
        State.COMPLETED: frozenset(),
        State.ROLLED_BACK: frozenset(),
        State.DEPLOYMENT_FAILED: frozenset(),
        State.CANCELLED: frozenset(),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One proposal on its way.

    stage: index into the policy's stages, -1 before the first is applied; stage_entered_at: when
    its allocation was read back; evidence_from: start of the first whole window after the first
    allocation was proven, evidence older than that never counts; look: number of looks taken;
    hold_reason: why the last look did not move it; latency_threshold_ms: the baseline's p95 frozen
    at start, None = no latency known; plan: of the ramp, None = judged by tests that need no plan;
    approved_by: who agreed; abort_to: the final state a roll-back in progress leads to; generation:
    of the last allocation written for it.
    """

    id: DecisionId
    proposal_id: ProposalId
    target: str
    strategy: str
    baseline: str
    candidate: str
    rationale: str
    expected: Impact
    created_at: datetime
    created_by: str
    config_hash: str
    exploratory: bool = False
    urgent: bool = False
    state: State = State.PENDING
    version: int = 0
    stage: int = -1
    stage_entered_at: datetime | None = None
    evidence_from: datetime | None = None
    look: int = 0
    hold_reason: str = ""
    latency_threshold_ms: float | None = None
    plan: RampPlan | None = None
    approval_asked_at: datetime | None = None
    approved_by: str | None = None
    deployed_at: datetime | None = None
    ended_at: datetime | None = None
    abort_to: State | None = None
    reason: str = ""
    generation: int = 0
    salt: str = ""
    actual: Impact | None = None

    def __post_init__(self) -> None:
        """Refuse a decision that changes nothing."""
        if self.baseline == self.candidate:
            msg = f"candidate {self.candidate!r} of {self.target} already is the baseline"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry of a decision's log.

    kind: transition (state changed), stage (a stage was proven applied), hold (first hold of a
    reason), approval, drift, note. ``evidence`` is JSON-able; ``hash`` covers everything else and
    the predecessor's hash.
    """

    decision_id: DecisionId
    seq: int
    at: datetime
    kind: str
    from_state: State
    to_state: State
    actor: str
    reason: str
    run_id: str = ""
    evidence: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    prev_hash: str = ""
    hash: str = ""


def event_hash(event: Event) -> str:
    """SHA-256 over the event's content and its predecessor's hash, hex."""
    return chain_hash(event)


def move(decision: Decision, to: State, now: datetime, **changes: object) -> Decision:
    """The decision in its next state, with ``version`` one higher and ``changes`` applied.

    Raises:
        IllegalTransitionError: the state machine has no such arrow.
    """
    check_arrow(f"decision {decision.id}", decision.state, to, TRANSITIONS)
    moved = replace(
        decision,
        state=to,
        version=decision.version + 1,
        ended_at=now if to.is_final else decision.ended_at,
    )
    return replace(moved, **changes)  # type: ignore[arg-type]


def amend(decision: Decision, **changes: object) -> Decision:
    """The decision in the same state, with ``version`` one higher and ``changes`` applied."""
    return replace(decision, version=decision.version + 1, **changes)  # type: ignore[arg-type]
