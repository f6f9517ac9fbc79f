"""What the ledger remembers of a target: how its arm in force came to be, and earlier ways out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from optimizer.evidence import Insight, Past, Scene, Severity
from optimizer.strategies.threshold.settings import NAME, Settings

COMPLETED: Final = "completed"
ABORTED: Final = frozenset({"rolled_back", "cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One target's past, as far as a way out depends on it.

    since: when the arm in force got full share, None = it was not promoted here; good: the arm that
    was in force before, None = that was left because it was sick, or nothing was promoted; aborted,
    left: arms that were rolled back, and that were left by a way out, within the policy's
    ``retry_after``; attempts: ways out that ended within it; ended_at: when the last one did.
    """

    since: datetime | None = None
    good: str | None = None
    aborted: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()
    attempts: int = 0
    ended_at: datetime | None = None

    @property
    def ours(self) -> bool:
        """Whether the arm in force was promoted here."""
        return self.since is not None

    def way_back(self, since: datetime) -> tuple[str | None, str]:
        """The arm to roll back to when something began at ``since``, or None and why.

        What began before the promotion was not brought by it.
        """
        if self.since is None:
            return None, "the arm in force was not promoted here"
        if self.good is None:
            return None, "what was before it was left because it was sick"
        if since < self.since:
            return None, "it began before the arm in force was promoted"
        return self.good, ""


def record_of(scene: Scene, name: str) -> Record:
    """The record of a target."""
    past = [each for each in scene.past if each.target == name]
    wait = scene.policies[name].retry_after
    recent = [each for each in past if scene.now - each.ended_at < wait]
    ways = [each for each in recent if each.strategy == NAME]
    in_force = scene.baselines.get(name, scene.targets[name].baseline)
    promoted = [each for each in past if each.state == COMPLETED]
    last: Past | None = max(promoted, key=lambda each: each.ended_at, default=None)
    if last is not None and last.arm != in_force:
        last = None
    return Record(
        since=None if last is None else last.deployed_at or last.ended_at,
        good=None if last is None or last.strategy == NAME else last.before or None,
        aborted=frozenset(each.arm for each in recent if each.state in ABORTED),
        left=frozenset(each.before for each in ways if each.state == COMPLETED),
        attempts=len(ways),
        ended_at=max((each.ended_at for each in ways), default=None),
    )


def cools(scene: Scene, record: Record, settings: Settings) -> bool:
    """Whether the last way out has just ended, so that a change against the past may be its own."""
    return record.ended_at is not None and scene.now - record.ended_at < settings.cooldown


def paced(scene: Scene, name: str) -> str | None:
    """Why the target may not change yet, whatever is broken: its last change is too young."""
    recent = [at for at in scene.changes.get(name, ()) if at <= scene.now]
    wait = scene.policies[name].cooldown
    if recent and scene.now - max(recent) < wait:
        return f"last change at {max(recent).isoformat()}, cooldown {wait}"
    return None


def is_told(
    told: Sequence[tuple[datetime, Insight]],
    insight: Insight,
    now: datetime,
    cooldown: timedelta,
) -> bool:
    """Whether the same was told of the target within the cooldown, as severe or more."""
    levels = list(Severity)
    return any(
        now - at < cooldown
        and (each.target, each.kind) == (insight.target, insight.kind)
        and levels.index(each.severity) >= levels.index(insight.severity)
        for at, each in told
    )
