"""What people are told of sick targets, and of targets of which nothing can be said."""

from collections.abc import Iterator

from optimizer.evidence import Insight, Scene, Severity
from optimizer.metrics import HOUR_S, at
from optimizer.strategies.threshold.case import Case
from optimizer.strategies.threshold.record import is_told
from optimizer.strategies.threshold.settings import NAME, Settings
from optimizer.strategies.threshold.ways import Way

NO_DATA = "no_data"
TRIGGERED = "trigger:"
"""Before the name of a trigger, in the kind of an insight."""
GRAVE = frozenset({Severity.ERROR, Severity.CRITICAL})


def sick(scene: Scene, case: Case, arm: str, chosen: Way, settings: Settings) -> Iterator[Insight]:
    """What fired on a target and what is done, unless that was told within the cooldown.

    Where something grave has no way out, that is critical.
    """
    first, severity, attempts = case.first, case.first.severity, case.record.attempts
    if chosen.row is not None:
        what = f"{chosen.row.arm} is proposed: {chosen.response.value}"
    elif attempts >= settings.max_attempts:
        severity = Severity.CRITICAL
        what = (
            f"{attempts} ways out were tried and {settings.max_attempts} are allowed: a person is "
            "needed"
        )
    elif chosen.missed:
        severity = Severity.CRITICAL if severity in GRAVE else severity
        what = f"nothing is proposed: {'; '.join(chosen.missed)}"
    else:
        what = "nothing is proposed: it is only told"
    yield from _unless_told(
        scene,
        settings,
        Insight(
            analyzer=NAME,
            kind=f"{TRIGGERED}{first.trigger}",
            severity=severity,
            target=first.target,
            arm=arm,
            title=first.sentence,
            description=f"{case.wrong(arm)}; {what}",
            start=first.since,
            end=scene.now,
            caveat="wrong if other requests came; the canary of a way out compares both arms",
        ),
    )


def unknown(scene: Scene, name: str, why: str, settings: Settings) -> Iterator[Insight]:
    """That nothing can be said of a target, and why, unless that was told within the cooldown."""
    end = at(int(scene.now.timestamp()) // HOUR_S * HOUR_S)
    yield from _unless_told(
        scene,
        settings,
        Insight(
            analyzer=NAME,
            kind=NO_DATA,
            severity=Severity.INFO,
            target=name,
            title="no trigger can fire",
            description=f"{name}: {why}",
            start=end,
            end=end,
            caveat="unknown, not fine",
        ),
    )


def _unless_told(scene: Scene, settings: Settings, insight: Insight) -> Iterator[Insight]:
    if not is_told(scene.told, insight, scene.now, settings.cooldown):
        yield insight
