"""A ledger and a gateway in memory: what the loop needs of its ports, without a database.

They keep the ports' laws that the loop relies on: compare-and-set on versions, leases with tokens,
generations that only grow, one decision in flight a target, charges that count once completed.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NoReturn

import pandas as pd

from bench.world.no_experiments import NoExperiments
from optimizer.aggregates import KEYS, empty
from optimizer.allocation import Allocation
from optimizer.decision import Decision, Event, State
from optimizer.errors import ConflictError, UnavailableError
from optimizer.evidence import HISTORY_SUMS, Anchor, DecisionId, Past, Proposal, Spent
from optimizer.ports import Intent, Json, Lease, Look, Snapshot


@dataclass(slots=True)
class MemoryAggregates:
    """Aggregates by width and window, and each width's windows as one frame while none changes."""

    frames: dict[int, dict[int, pd.DataFrame]] = field(default_factory=lambda: defaultdict(dict))
    whole: dict[int, pd.DataFrame] = field(default_factory=dict)

    def replace_windows(
        self, width_s: int, windows: Sequence[int], frame: pd.DataFrame, *, clean: Mapping[int, int]
    ) -> None:
        """Make ``frame`` all there is for those windows."""
        self.whole.pop(width_s, None)
        for start_s in windows:
            self.frames[width_s][start_s] = frame[frame["window_start_s"] == start_s]

    def load(
        self,
        width_s: int,
        *,
        start_s: int,
        end_s: int,
        targets: Sequence[str] | None = None,
        slices: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Aggregates whose window starts in ``[start_s, end_s)``, sorted by key."""
        if width_s not in self.whole:
            held = pd.concat([empty(), *self.frames[width_s].values()], ignore_index=True)
            self.whole[width_s] = held.sort_values(list(KEYS), ignore_index=True)
        frame = self.whole[width_s]
        chosen = (frame["window_start_s"] >= start_s) & (frame["window_start_s"] < end_s)
        if slices is not None:
            chosen &= frame["slice"].isin(slices)
        if targets is not None:
            chosen &= frame["target"].isin(targets)
        return frame[chosen].reset_index(drop=True)

    def history(self, width_s: int, *, start_s: int, end_s: int) -> pd.DataFrame:
        """Sums of each target, arm and window, slices added up; sorted by those three."""
        frame = self.load(width_s, start_s=start_s, end_s=end_s)
        keys = ["target", "arm", "window_start_s"]
        return frame.groupby(keys, sort=True)[list(HISTORY_SUMS)].sum().reset_index()

    def newest_s(self, width_s: int) -> int | None:
        """Start of the newest stored window."""
        return max(self.frames[width_s], default=None)

    def prune(self, width_s: int, *, before_s: int) -> int:
        """Delete older windows; returns how many rows went."""
        self.whole.pop(width_s, None)
        old = [start for start in self.frames[width_s] if start < before_s]
        return sum(len(self.frames[width_s].pop(start)) for start in old)


@dataclass(slots=True)
class MemoryLeases:
    """Who may act on which target."""

    held: dict[str, tuple[str | None, int, datetime]] = field(default_factory=dict)

    def acquire(self, target: str, holder: str, *, now: datetime, ttl_s: int) -> Lease | None:
        """A lease with a fresh token, or None while somebody else's is valid."""
        owner, token, expires_at = self.held.get(target, (None, 0, now))
        if owner not in {None, holder} and expires_at > now:
            return None
        until = now + timedelta(seconds=ttl_s)
        self.held[target] = (holder, token + 1, until)
        return Lease(target=target, holder=holder, token=token + 1, expires_at=until)

    def release(self, lease: Lease) -> None:
        """Give the lease back; an older token changes nothing."""
        owner, token, until = self.held[lease.target]
        self.held[lease.target] = (None if token == lease.token else owner, token, until)

    def check(self, lease: Lease | None, target: str) -> None:
        """Refuse a lease that is not the target's current one.

        Raises:
            ConflictError: it is another target's, was given back, or somebody got a newer one.
        """
        if lease is not None:
            owner, token, _ = self.held.get(target, (None, 0, None))
            if (lease.target, lease.holder, lease.token) != (target, owner, token):
                raise ConflictError(f"lease {lease.token} on {lease.target} is not current")


@dataclass(slots=True)
class MemoryDecisions:
    """Proposals' outcomes, decisions, their events, looks and charges."""

    leases: MemoryLeases
    stored: dict[DecisionId, Decision] = field(default_factory=dict)
    outcomes: dict[str, tuple[datetime, tuple[Proposal, str, str]]] = field(default_factory=dict)
    logs: dict[DecisionId, list[Event]] = field(default_factory=lambda: defaultdict(list))
    seen: dict[DecisionId, list[Look]] = field(default_factory=lambda: defaultdict(list))
    charged: dict[tuple[DecisionId, str], Anchor] = field(default_factory=dict)
    flying: dict[str, DecisionId] = field(default_factory=dict)
    tested: dict[datetime, Mapping[str, Json]] = field(default_factory=dict)

    def add_proposals(self, at: datetime, proposals: Sequence[tuple[Proposal, str, str]]) -> None:
        """Store each proposal with what became of it; same id = no change."""
        for outcome in proposals:
            self.outcomes.setdefault(outcome[0].id, (at, outcome))

    def proposals(self, *, since: datetime) -> Sequence[tuple[Proposal, str, str]]:
        """Stored proposals with outcome and reason, oldest first."""
        return [outcome for at, outcome in self.outcomes.values() if at >= since]

    def keep_discoveries(self, as_of: datetime, state: Mapping[str, Json]) -> None:
        """Make ``state`` what the hour at ``as_of`` ended with."""
        self.tested[as_of] = state

    def discoveries(self, *, before: datetime) -> Mapping[str, Json] | None:
        """What the newest hour before that moment ended with."""
        newest = max((at for at in self.tested if at < before), default=None)
        return None if newest is None else self.tested[newest]

    def create(self, decision: Decision, events: Sequence[Event]) -> bool:
        """Store a new decision; False if its target has one in flight or the id exists."""
        if decision.id in self.stored or decision.target in self.flying:
            return False
        self._store(decision, events)
        return True

    def get(self, decision_id: DecisionId) -> Decision:
        """The decision; KeyError if there is none."""
        return self.stored[decision_id]

    def find(
        self,
        *,
        states: Sequence[State] | None = None,
        target: str | None = None,
        since: datetime | None = None,
    ) -> Sequence[Decision]:
        """Decisions, oldest first; ``since`` leaves out those that ended before that moment."""
        return [
            each
            for each in self.stored.values()
            if (states is None or each.state in states)
            and target in {None, each.target}
            and (since is None or each.ended_at is None or each.ended_at >= since)
        ]

    def update(self, decision: Decision, events: Sequence[Event], *, lease: Lease | None) -> None:
        """Store the decision's new version, by compare-and-set.

        Raises:
            ConflictError: the stored version is another one, or the lease is no longer current.
        """
        self.leases.check(lease, decision.target)
        if self.stored[decision.id].version != decision.version - 1:
            raise ConflictError(f"version {decision.version - 1} of {decision.id} is gone")
        self._store(decision, events)

    def events(self, decision_id: DecisionId) -> Sequence[Event]:
        """The decision's log, in order."""
        return self.logs[decision_id]

    def add_look(self, look: Look) -> None:
        """Store a look; the first of a decision and time stays."""
        looks = self.seen[look.decision_id]
        if not looks or looks[-1].at != look.at:
            looks.append(look)

    def looks(self, decision_id: DecisionId) -> Sequence[Look]:
        """Looks, oldest first."""
        return self.seen[decision_id]

    def spent(self, decisions: Sequence[DecisionId]) -> Mapping[DecisionId, tuple[Spent, ...]]:
        """What the planned looks of those decisions have spent; none without a look."""
        newest = {name: self.seen[name][-1].verdict.spent for name in decisions if self.seen[name]}
        return {name: spent for name, spent in newest.items() if spent}

    def past(self, *, since: datetime) -> Sequence[Past]:
        """Ended rollouts, oldest first."""
        ended = [
            Past(
                target=each.target,
                arm=each.candidate,
                state=each.state.value,
                ended_at=each.ended_at,
                reason=each.reason,
                strategy=each.strategy,
                before=each.baseline,
                deployed_at=each.deployed_at,
            )
            for each in self.stored.values()
            if each.ended_at is not None and each.ended_at >= since
        ]
        return sorted(ended, key=lambda past: past.ended_at)

    def charge_anchor(
        self, decision_id: DecisionId, anchor: Anchor, *, at: datetime, settled: bool
    ) -> None:
        """Set what this promotion cost."""
        self.charged[decision_id, anchor.metric] = anchor

    def anchors(self) -> Mapping[tuple[str, str], Anchor]:
        """Sums per (target, metric) over completed decisions."""
        sums: dict[tuple[str, str], Anchor] = {}
        for (decision_id, metric), charge in self.charged.items():
            if self.stored[decision_id].state is State.COMPLETED:
                before = sums.get((charge.target, metric))
                sums[charge.target, metric] = (
                    charge
                    if before is None
                    else replace(
                        before,
                        harm=before.harm + charge.harm,
                        variance=before.variance + charge.variance,
                        promotions=before.promotions + 1,
                    )
                )
        return sums

    def move_anchor(self, target: str, *, at: datetime, actor: str, reason: str) -> None:
        """Forget earlier charges of the target."""
        for key in [key for key, charge in self.charged.items() if charge.target == target]:
            del self.charged[key]

    def _store(self, decision: Decision, events: Sequence[Event]) -> None:
        self.stored[decision.id] = decision
        self.logs[decision.id].extend(events)
        if decision.state.is_final:
            self.flying.pop(decision.target, None)
        else:
            self.flying[decision.target] = decision.id


@dataclass(slots=True)
class MemoryEffects:
    """Intents, allocations, snapshots, baselines, pauses and leases."""

    leases: MemoryLeases
    decisions: MemoryDecisions
    intents: dict[str, Intent] = field(default_factory=dict)
    open: dict[str, Intent] = field(default_factory=dict)
    wanted: dict[str, Allocation] = field(default_factory=dict)
    snapshots: dict[DecisionId, Snapshot] = field(default_factory=dict)
    in_force: dict[str, str] = field(default_factory=dict)
    pauses: dict[str, str] = field(default_factory=dict)

    def begin(
        self, intent: Intent, decision: Decision | None, events: Sequence[Event], *, lease: Lease
    ) -> Intent:
        """Write the intent and the decision's new version together; same key = the stored intent.

        Raises:
            ConflictError: version, generation or lease moved.
        """
        self.leases.check(lease, intent.target)
        if intent.key in self.intents:
            return self.intents[intent.key]
        newest = self.wanted.get(intent.target)
        if newest is not None and intent.allocation.generation <= newest.generation:
            raise ConflictError(f"generation of {intent.key} is not above {newest.generation}")
        if decision is not None:
            self.decisions.update(decision, events, lease=lease)
        self.wanted[intent.target] = intent.allocation
        self.intents[intent.key] = self.open[intent.key] = intent
        return intent

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
        """Close the intent and store what follows.

        Raises:
            ConflictError: version or lease moved.
        """
        intent = self.intents[key]
        self.leases.check(lease, intent.target)
        if self.open.pop(key, None) is None:
            return
        self.intents[key] = replace(intent, status=status)
        if decision is not None:
            self.decisions.update(decision, events, lease=lease)
        if baseline is not None:
            self.in_force[baseline[0]] = baseline[1]

    def open_intents(self, target: str | None = None) -> Sequence[Intent]:
        """Intents begun and not finished, oldest first."""
        return [each for each in self.open.values() if target in {None, each.target}]

    def desired(self, target: str) -> Allocation | None:
        """The allocation of the highest generation written for the target."""
        return self.wanted.get(target)

    def desired_all(self) -> Mapping[str, Allocation]:
        """The same for every target."""
        return self.wanted

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Store it; a decision's first snapshot stays."""
        self.snapshots.setdefault(snapshot.decision_id, snapshot)

    def snapshot(self, decision_id: DecisionId) -> Snapshot | None:
        """What to restore for the decision."""
        return self.snapshots.get(decision_id)

    def baselines(self) -> Mapping[str, str]:
        """The arm in force per target, where it differs from the configuration's."""
        return self.in_force

    def pause(self, target: str | None, *, at: datetime, actor: str, reason: str) -> None:
        """Stop promotions and new rollouts of the target, None = of all."""
        self.pauses["*" if target is None else target] = reason

    def resume(self, target: str | None, *, at: datetime, actor: str, reason: str) -> None:
        """Take the pause back."""
        self.pauses.pop("*" if target is None else target, None)

    def paused(self) -> Mapping[str, str]:
        """Paused targets -> reason; the key ``*`` stands for all."""
        return self.pauses

    def acquire(self, target: str, holder: str, *, now: datetime, ttl_s: int) -> Lease | None:
        """A lease with a fresh token, or None while somebody else's is valid."""
        return self.leases.acquire(target, holder, now=now, ttl_s=ttl_s)

    def release(self, lease: Lease) -> None:
        """Give the lease back."""
        self.leases.release(lease)


class MemoryLedger:
    """The ledger of a replay; aggregates are handed to it, so it has no intake and logs no runs."""

    def __init__(self) -> None:
        leases = MemoryLeases()
        self.aggregates = MemoryAggregates()
        self.experiments = NoExperiments()
        self.decisions = MemoryDecisions(leases=leases)
        self.effects = MemoryEffects(leases=leases, decisions=self.decisions)

    @property
    def intake(self) -> NoReturn:
        """Nothing is pulled in a replay."""
        raise UnavailableError("a replay pulls nothing: it has no intake")

    @property
    def runs(self) -> NoReturn:
        """Runs of a replay are not recorded."""
        raise UnavailableError("a replay keeps no record of runs")


@dataclass(slots=True)
class MemoryGateway:
    """A gateway that holds what it was given."""

    name: str = "memory"
    held: dict[str, Allocation] = field(default_factory=dict)

    def apply(self, allocation: Allocation, *, arms: Mapping[str, Mapping[str, object]]) -> None:
        """Make ``allocation`` the published one.

        Raises:
            ConflictError: a newer generation is held.
        """
        current = self.held.get(allocation.target)
        if current is not None and current.generation > allocation.generation:
            raise ConflictError(f"{allocation.target} holds generation {current.generation}")
        self.held[allocation.target] = allocation

    def read(self, target: str) -> Allocation | None:
        """The allocation in force."""
        return self.held.get(target)
