"""What strategies tell beside what they propose: stored, and told to people once a run."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from optimizer.evidence import Considered, Insight, Scene, Severity
from optimizer.loop.equipment import Equipment
from optimizer.loop.tell import Message, tell

MEMORY = timedelta(days=7)
"""How far back strategies know what they told."""


def with_told(equipment: Equipment, scene: Scene) -> Scene:
    """The scene with what strategies told before this hour."""
    told = _told(equipment, scene.now - MEMORY)
    return replace(scene, told=tuple((at, each) for at, each in told if at < scene.now))


def raise_alerts(
    equipment: Equipment, as_of: datetime, considered: Sequence[Considered]
) -> tuple[Insight, ...]:
    """Store what is new, and tell people of what is more than information, in one message.

    The same hour twice tells nothing twice. What was told before a run died may be told again.
    """
    known = [each for _, each in _told(equipment, as_of)]
    news = [each for one in considered for each in one.insights if each not in known]
    tell(equipment, message_of([each for each in news if each.severity is not Severity.INFO]))
    equipment.ledger.runs.add_insights(as_of, news)
    return tuple(news)


def message_of(insights: Sequence[Insight]) -> Message | None:
    """One message, however many targets are sick at once; None where there is nothing to say."""
    if not insights:
        return None
    levels = list(Severity)
    worst = sorted(insights, key=lambda each: -levels.index(each.severity))
    targets = dict.fromkeys(each.target for each in worst)
    first, *others = targets
    return Message(
        title=f"{first}: {worst[0].title}" + (f" (and {len(others)} targets)" if others else ""),
        body="\n".join(f"{each.target}: {each.description}." for each in worst),
        severity=worst[0].severity.value,
        decision_id=None,
    )


def _told(equipment: Equipment, since: datetime) -> Sequence[tuple[datetime, Insight]]:
    names = list(equipment.strategies)
    return equipment.ledger.runs.insights(since=since, analyzers=names)
