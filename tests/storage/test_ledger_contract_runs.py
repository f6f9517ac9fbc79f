"""The laws of runs, insights and the audit log, on each supported database."""

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger_samples import MINUTE, NOW, of
from optimizer.evidence import Insight, Severity
from optimizer.storage import SqlLedger

ANY_RECORD = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
FRESH = count()


def insight(title: str, target: str = "chat") -> Insight:
    return Insight(
        analyzer="cost",
        kind="spike",
        severity=Severity.WARNING,
        target=target,
        title=title,
        description="",
        start=NOW,
        end=NOW,
        metrics={"cost": 1.5},
    )


@ANY_RECORD
@given(insights=st.lists(of(Insight), max_size=3))
def test_insights_return_as_they_were_stored(ledger: SqlLedger, insights: list[Insight]) -> None:
    as_of = NOW + next(FRESH) * MINUTE

    ledger.runs.add_insights(as_of, insights)

    found = [entry for at, entry in ledger.runs.insights(since=as_of) if at == as_of]
    assert all(entry in insights for entry in found)
    assert all(entry in found for entry in insights)


def test_the_same_hour_twice_adds_no_insight(ledger: SqlLedger) -> None:
    for _ in range(2):
        ledger.runs.add_insights(NOW, [insight("a"), insight("b")])

    assert len(ledger.runs.insights(since=NOW)) == 2


def test_insights_come_oldest_first(ledger: SqlLedger) -> None:
    ledger.runs.add_insights(NOW + MINUTE, [insight("late")])
    ledger.runs.add_insights(NOW, [insight("z", "z"), insight("a", "a")])

    titles = [entry.title for _, entry in ledger.runs.insights(since=NOW)]

    assert titles == ["a", "z", "late"]
    assert len(ledger.runs.insights(since=NOW + MINUTE)) == 1


def test_insights_of_one_who_claims_them_can_be_asked_for(ledger: SqlLedger) -> None:
    mine = replace(insight("mine"), analyzer="threshold")
    ledger.runs.add_insights(NOW, [insight("others"), mine])

    found = ledger.runs.insights(since=NOW, analyzers=["threshold"])

    assert [entry for _, entry in found] == [mine]
    assert ledger.runs.insights(since=NOW, analyzers=[]) == []


def test_a_run_is_running_until_it_ends(ledger: SqlLedger) -> None:
    for at in (NOW, NOW + MINUTE):
        ledger.runs.start_run("r1", "optimize", as_of=NOW, at=at, config_hash="c")

    begun = {
        "id": "r1",
        "flow": "optimize",
        "as_of": NOW.isoformat(),
        "started_at": NOW.isoformat(),
        "config_hash": "c",
        "ended_at": None,
        "status": "running",
        "summary": None,
    }
    assert ledger.runs.runs(limit=5) == [begun]

    ledger.runs.end_run("r1", at=NOW + MINUTE, status="completed", summary={"held": 3})

    ended = {"ended_at": (NOW + MINUTE).isoformat(), "status": "completed", "summary": {"held": 3}}
    assert ledger.runs.runs(limit=5) == [begun | ended]


def test_an_unknown_run_is_a_key_error(ledger: SqlLedger) -> None:
    with pytest.raises(KeyError, match="r9"):
        ledger.runs.end_run("r9", at=NOW, status="completed", summary={})


def test_runs_come_newest_first_up_to_the_limit(ledger: SqlLedger) -> None:
    for number in range(3):
        ledger.runs.start_run(
            f"r{number}", "guard", as_of=NOW, at=NOW + number * MINUTE, config_hash=""
        )

    assert [run["id"] for run in ledger.runs.runs(limit=2)] == ["r2", "r1"]


def test_the_audit_log_comes_newest_first_up_to_the_limit(ledger: SqlLedger) -> None:
    for number in range(3):
        ledger.runs.audit(at=NOW, actor="ann", operation=f"o{number}", detail={"n": number})

    newest, second = ledger.runs.audit_log(limit=2)

    assert newest == {
        "id": 3,
        "at": NOW.isoformat(),
        "actor": "ann",
        "operation": "o2",
        "detail": {"n": 2},
    }
    assert second["operation"] == "o1"
