"""What strategies tell is stored, and people hear of it once."""

import dataclasses
import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from optimizer.evidence import Considered, Insight, Scene, Severity
from optimizer.integrations.file_notifier import FileNotifier
from optimizer.loop.alerts import raise_alerts, with_told
from optimizer.loop.decide import gather, propose
from optimizer.loop.equipment import Equipment
from optimizer.strategies.threshold import Threshold
from rollout_scene import HOUR, START, TARGET, equipment


def told(severity: Severity, target: str = TARGET) -> Considered:
    insight = Insight(
        analyzer="threshold",
        kind="trigger:latency",
        severity=severity,
        target=target,
        title="p95 9000 ms above 3000 ms",
        description=f"large of {target} is slow; nothing is proposed",
        start=START,
        end=START,
    )
    return Considered(strategy="threshold", target=target, insights=(insight,))


def installed(place: Path) -> Equipment:
    notifier = FileNotifier(path=place / "messages.jsonl", clock=lambda: START)
    return dataclasses.replace(
        equipment(place), notifiers=(notifier,), strategies={"threshold": Threshold()}
    )


def messages(place: Path) -> list[dict[str, str]]:
    path = place / "messages.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def scene(given: Equipment, hours: int = 0) -> Scene:
    return with_told(given, gather(given, as_of=START + hours * HOUR))


def test_an_hour_that_runs_twice_tells_nothing_twice(tmp_path: Path) -> None:
    given = installed(tmp_path)

    first = raise_alerts(given, START, [told(Severity.ERROR)])
    again = raise_alerts(given, START, [told(Severity.ERROR)])

    assert (len(first), len(again)) == (1, 0)
    (message,) = messages(tmp_path)
    assert message["severity"] == "error"
    assert message["title"] == f"{TARGET}: p95 9000 ms above 3000 ms"


def test_many_sick_targets_are_one_message_led_by_the_worst(tmp_path: Path) -> None:
    given = installed(tmp_path)
    storm = [told(Severity.WARNING, f"t{n}") for n in range(20)]

    raise_alerts(given, START, [*storm, told(Severity.CRITICAL, "worst")])

    (message,) = messages(tmp_path)
    assert message["severity"] == "critical"
    assert message["title"].startswith("worst: ")
    assert message["title"].endswith("(and 20 targets)")
    assert all(f"t{n}: " in message["body"] for n in range(20))


def test_what_is_unknown_is_stored_and_nobody_is_called(tmp_path: Path) -> None:
    given = installed(tmp_path)

    raise_alerts(given, START, [told(Severity.INFO)])

    assert messages(tmp_path) == []
    assert len(given.ledger.runs.insights(since=START)) == 1


def test_strategies_know_what_they_told_in_earlier_hours(tmp_path: Path) -> None:
    given = installed(tmp_path)
    raise_alerts(given, START, [told(Severity.ERROR)])

    assert scene(given).told == ()
    assert [at for at, _ in scene(given, hours=1).told] == [START]
    assert scene(given, hours=8 * 24).told == ()


def only_proposes(_scene: Scene, _insights: Sequence[Insight]) -> Sequence[object]:
    return ()


def test_a_strategy_without_a_word_beside_its_proposals_is_asked_for_these(tmp_path: Path) -> None:
    given = installed(tmp_path)
    empty = dataclasses.replace(scene(given), now=START + timedelta(hours=1))

    assert propose(only_proposes, empty, ()) == []  # type: ignore[arg-type]
    assert [each.target for each in propose(Threshold(), empty, ())] == [TARGET]
