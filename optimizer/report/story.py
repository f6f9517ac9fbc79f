"""What the ledger tells: every decision with its log, its looks and what it changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from optimizer.decision import Decision, Event, State, event_hash
from optimizer.evidence import Check, Proposal
from optimizer.policy import Policy
from optimizer.ports import Ledger, Look
from optimizer.report.tails import Tails, read_tails

WORDS = {
    "failure_rate": "failures",
    "latency_exceedance": "latency",
    "latency_ms": "latency",
    "fallback_rate": "fallbacks",
    "cost_usd": "cost",
}
"""What people call a metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """One decision; ``chained`` says whether its log's hashes follow from each other.

    ``tails``: the slow end of both arms' latency at the looks of the canary.
    """

    decision: Decision
    events: tuple[Event, ...]
    looks: tuple[Look, ...]
    arms: Mapping[str, Mapping[str, object]]
    chained: bool
    tails: tuple[Tails, ...] = ()

    @property
    def deciding(self) -> Check | None:
        """The check that rolled the decision back: the failed one with the clearest harm."""
        for look in reversed(self.looks):
            failed = [check for check in look.verdict.checks if check.outcome.value == "fail"]
            if failed:
                return max(failed, key=_clarity)
        return None

    @property
    def is_promoted(self) -> bool:
        """Whether the candidate was promoted and not taken back."""
        return self.decision.state in {State.DEPLOYED, State.MONITORING, State.COMPLETED}

    @property
    def ended(self) -> str:
        """The decision's state, with what brought it there: ``rolled back: quality``."""
        state = self.decision.state.value.replace("_", " ")
        if self.decision.state is not State.ROLLED_BACK:
            return state
        check = self.deciding
        return f"{state}: {'expired' if check is None else WORDS.get(check.metric, check.metric)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Every decision, oldest first, and what became of the proposals."""

    chapters: tuple[Chapter, ...]
    proposals: tuple[tuple[Proposal, str, str], ...]
    policies: Mapping[str, Policy]

    def of(self, target: str) -> tuple[Chapter, ...]:
        """The target's decisions, oldest first."""
        return tuple(chapter for chapter in self.chapters if chapter.decision.target == target)


def read_story(ledger: Ledger, policies: Mapping[str, Policy], *, since: datetime) -> Story:
    """The story since a moment."""
    decisions = [d for d in ledger.decisions.find() if d.created_at >= since]
    return Story(
        chapters=tuple(_chapter(ledger, decision) for decision in decisions),
        proposals=tuple(ledger.decisions.proposals(since=since)),
        policies=policies,
    )


def is_chained(events: Sequence[Event]) -> bool:
    """Whether every event's hash covers its content and its predecessor's hash."""
    before = ""
    for event in events:
        if event.prev_hash != before or event.hash != event_hash(event):
            return False
        before = event.hash
    return bool(events)


def _chapter(ledger: Ledger, decision: Decision) -> Chapter:
    events = tuple(ledger.decisions.events(decision.id))
    snapshot = ledger.effects.snapshot(decision.id)
    looks = tuple(ledger.decisions.looks(decision.id))
    return Chapter(
        decision=decision,
        events=events,
        looks=looks,
        arms={} if snapshot is None else snapshot.arms,
        chained=is_chained(events),
        tails=read_tails(ledger, decision, looks),
    )


def _clarity(check: Check) -> float:
    """How far the lower limit of harm lies above what is tolerated, in margins."""
    if check.harm_lower is None:
        return 0.0
    return (check.harm_lower - (check.tolerance or 0.0)) / (check.margin or 1.0)
