"""The part of the ledger that remembers decisions and effects, and the whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from optimizer.allocation import Allocation
from optimizer.decision import Decision, Event, State
from optimizer.evidence import Anchor, DecisionId, Insight, Past, Proposal, Spent, Verdict
from optimizer.experiment.life import Entry, Experiment, ExperimentId, ExperimentState
from optimizer.ports.intake_store import AggregateStore, IntakeStore
from optimizer.ports.sources import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to act on a target until ``expires_at``; ``token`` grows with every grant."""

    target: str
    holder: str
    token: int
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A step that was written down before it is applied.

    ``key`` is unique per decision and step; ``then_state`` and ``then_stage`` are what the decision
    becomes once the read-back proves the allocation.
    """

    key: str
    decision_id: DecisionId | None
    target: str
    move: str
    allocation: Allocation
    then_state: State | None
    then_stage: int | None
    reason: str
    created_at: datetime
    status: str = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The exact configuration of a target before its first change, with its checksum."""

    id: str
    target: str
    decision_id: DecisionId
    allocation: Allocation
    arms: Mapping[str, Mapping[str, object]]
    taken_at: datetime
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a rollout: the verdict and the move it led to."""

    decision_id: DecisionId
    at: datetime
    run: str
    verdict: Verdict
    move: str
    detail: str


class DecisionStore(Protocol):
    """Proposals, decisions, their events, looks and anchors."""

    def add_proposals(self, at: datetime, proposals: Sequence[tuple[Proposal, str, str]]) -> None:
        """Store each proposal with what became of it (outcome, reason).

        Same id = no change, unless it was held for want of an answer that has come since.
        """
        ...

    def proposals(self, *, since: datetime) -> Sequence[tuple[Proposal, str, str]]:
        """Stored proposals with outcome and reason, oldest first."""
        ...

    def keep_discoveries(self, as_of: datetime, state: Mapping[str, Json]) -> None:
        """Make ``state`` what the hour at ``as_of`` ended with; again = the newer one."""
        ...

    def discoveries(self, *, before: datetime) -> Mapping[str, Json] | None:
        """What the newest hour before that moment ended with, of those that kept something."""
        ...

    def create(self, decision: Decision, events: Sequence[Event]) -> bool:
        """Store a new decision with its first events.

        False (no change) if its target has one in flight or the id exists.
        """
        ...

    def get(self, decision_id: DecisionId) -> Decision:
        """The decision.

        Raises:
            KeyError: no such id.
        """
        ...

    def find(
        self,
        *,
        states: Sequence[State] | None = None,
        target: str | None = None,
        since: datetime | None = None,
    ) -> Sequence[Decision]:
        """Decisions, oldest first; ``since`` leaves out those that ended before that moment."""
        ...

    def update(self, decision: Decision, events: Sequence[Event], *, lease: Lease | None) -> None:
        """Store the decision's new version with its events, by compare-and-set on ``version - 1``.

        Event seq and hashes are filled in by the store.

        Raises:
            ConflictError: the stored version is another one, or the lease is no longer current.
        """
        ...

    def events(self, decision_id: DecisionId) -> Sequence[Event]:
        """The decision's log, in order."""
        ...

    def add_look(self, look: Look) -> None:
        """Store a look, one per decision and time, and what planned looks have spent.

        Of the latter the newest stays, by the end of its data: a run that comes late takes nothing
        back.
        """
        ...

    def spent(self, decisions: Sequence[DecisionId]) -> Mapping[DecisionId, tuple[Spent, ...]]:
        """What the planned looks of those decisions have spent; none without a look."""
        ...

    def looks(self, decision_id: DecisionId) -> Sequence[Look]:
        """Looks, oldest first."""
        ...

    def past(self, *, since: datetime) -> Sequence[Past]:
        """Ended rollouts, oldest first."""
        ...

    def charge_anchor(
        self, decision_id: DecisionId, anchor: Anchor, *, at: datetime, settled: bool
    ) -> None:
        """Set what this one promotion cost: ``anchor.harm`` and ``anchor.variance``."""
        ...

    def anchors(self) -> Mapping[tuple[str, str], Anchor]:
        """Sums per (target, metric) since the anchor was last moved."""
        ...

    def move_anchor(self, target: str, *, at: datetime, actor: str, reason: str) -> None:
        """Forget earlier charges of the target: today's baseline becomes the reference."""
        ...


class EffectStore(Protocol):
    """Intents, allocations, snapshots, baselines, pauses and leases."""

    def begin(
        self, intent: Intent, decision: Decision | None, events: Sequence[Event], *, lease: Lease
    ) -> Intent:
        """Write the intent and the decision's new version together; same key = the stored intent.

        Raises:
            ConflictError: version, generation or lease moved.
        """
        ...

    def finish(
        self,
        key: str,
        *,
        status: str,
        read_back: Mapping[str, Json] | None,
        decision: Decision | None,
        events: Sequence[Event],
        baseline: tuple[str, str] | None,
        at: datetime,
        lease: Lease,
    ) -> None:
        """Close the intent (``applied`` or ``failed``) and store what follows, in one transaction.

        ``baseline`` (target, arm) sets the arm in force.

        Raises:
            ConflictError: version or lease moved.
        """
        ...

    def open_intents(self, target: str | None = None) -> Sequence[Intent]:
        """Intents begun and not finished, oldest first."""
        ...

    def desired(self, target: str) -> Allocation | None:
        """The allocation of the highest generation written for the target."""
        ...

    def desired_all(self) -> Mapping[str, Allocation]:
        """The same for every target."""
        ...

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Store it; same id = no change."""
        ...

    def snapshot(self, decision_id: DecisionId) -> Snapshot | None:
        """What to restore for the decision."""
        ...

    def baselines(self) -> Mapping[str, str]:
        """The arm in force per target, where it differs from the configuration's."""
        ...

    def pause(self, target: str | None, *, at: datetime, actor: str, reason: str) -> None:
        """Stop promotions and new rollouts of the target, None = of all."""
        ...

    def resume(self, target: str | None, *, at: datetime, actor: str, reason: str) -> None:
        """Take the pause back."""
        ...

    def paused(self) -> Mapping[str, str]:
        """Paused targets -> reason; the key ``*`` stands for all."""
        ...

    def acquire(self, target: str, holder: str, *, now: datetime, ttl_s: int) -> Lease | None:
        """A lease with a fresh token, or None while somebody else's is valid."""
        ...

    def release(self, lease: Lease) -> None:
        """Give the lease back; an older token changes nothing."""
        ...


class ExperimentStore(Protocol):
    """Experiments and their logs."""

    def create(self, experiment: Experiment, entries: Sequence[Entry]) -> bool:
        """Store a new experiment with its first entries; False (no change) if the id exists."""
        ...

    def get(self, experiment_id: ExperimentId) -> Experiment:
        """The experiment.

        Raises:
            KeyError: no such id.
        """
        ...

    def find(
        self, *, states: Sequence[ExperimentState] | None = None, target: str | None = None
    ) -> Sequence[Experiment]:
        """Experiments, oldest first."""
        ...

    def update(
        self, experiment: Experiment, entries: Sequence[Entry], *, lease: Lease | None
    ) -> None:
        """Store the experiment's new version with its entries, by compare-and-set.

        Numbers and hashes of the entries are filled in by the store.

        Raises:
            ConflictError: the stored version is another one, the lease is no longer current, or
                another experiment is in flight on the target.
        """
        ...

    def entries(self, experiment_id: ExperimentId) -> Sequence[Entry]:
        """The experiment's log, in order."""
        ...


class RunStore(Protocol):
    """Runs, insights and operator events."""

    def start_run(
        self, run_id: str, flow: str, *, as_of: datetime, at: datetime, config_hash: str
    ) -> None:
        """Note that a run began; again = no change."""
        ...

    def end_run(
        self, run_id: str, *, at: datetime, status: str, summary: Mapping[str, Json]
    ) -> None:
        """Note how it ended."""
        ...

    def runs(self, *, limit: int) -> Sequence[Mapping[str, Json]]:
        """Newest first."""
        ...

    def add_insights(self, as_of: datetime, insights: Sequence[Insight]) -> None:
        """Store insights; the same hour twice changes nothing."""
        ...

    def insights(
        self, *, since: datetime, analyzers: Sequence[str] | None = None
    ) -> Sequence[tuple[datetime, Insight]]:
        """Stored insights, of those that claimed them, None = of all; oldest first."""
        ...

    def audit(
        self, *, at: datetime, actor: str, operation: str, detail: Mapping[str, Json]
    ) -> None:
        """Append an operator's act to the audit log."""
        ...

    def audit_log(self, *, limit: int) -> Sequence[Mapping[str, Json]]:
        """Newest first."""
        ...


class Ledger(Protocol):
    """The record of everything, in one SQL database."""

    @property
    def intake(self) -> IntakeStore:
        """Cursors and spool manifest."""
        ...

    @property
    def aggregates(self) -> AggregateStore:
        """Grains and roll-ups."""
        ...

    @property
    def decisions(self) -> DecisionStore:
        """Decisions and their evidence."""
        ...

    @property
    def effects(self) -> EffectStore:
        """Desired state and how it was applied."""
        ...

    @property
    def experiments(self) -> ExperimentStore:
        """Experiments and their logs."""
        ...

    @property
    def runs(self) -> RunStore:
        """Runs, insights and audit."""
        ...
