"""The laws of what planned looks have spent, on each supported database."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import count

from hypothesis import HealthCheck, given, settings

from ledger_samples import MINUTE, NOW, of, stored
from optimizer.decision import Decision
from optimizer.evidence import DecisionId, Looks, Outcome, Reason, Spent, Verdict, spent_until
from optimizer.ports import Look
from optimizer.storage import SqlLedger

ANY_RECORD = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
FRESH = count()


@ANY_RECORD
@given(verdict=of(Verdict))
def test_what_looks_have_spent_returns_as_it_was_stored(
    ledger: SqlLedger, verdict: Verdict
) -> None:
    made = stored(ledger, f"id-{next(FRESH)}", target=f"target-{next(FRESH)}")
    look = Look(decision_id=made.id, at=NOW, run="r", verdict=verdict, move="hold", detail="")

    ledger.decisions.add_look(look)

    planned = spent_until(verdict.spent) is not None
    assert ledger.decisions.spent([made.id]) == ({made.id: verdict.spent} if planned else {})


def spending(made: Decision, hour: int, *, at: int | None = None, looks: int = 1) -> Look:
    """The look of one hour, at minute ``at`` of the log, that has spent something."""
    until = NOW + timedelta(hours=hour)
    taken = Looks(fractions=tuple(0.1 * n for n in range(1, looks + 1)), until=until, spent=0.01)
    verdict = Verdict(
        decision_id=made.id,
        at=until,
        outcome=Outcome.INCONCLUSIVE,
        stage_outcome=Outcome.PASS,
        reason=Reason.NONE,
        sentence="",
        spent=(
            Spent(metric="quality", role="guardrail"),
            Spent(metric="failure_rate", role="guardrail", harm=taken),
        ),
    )
    moment = NOW + (hour if at is None else at) * MINUTE
    return Look(decision_id=made.id, at=moment, run="r", verdict=verdict, move="hold", detail="")


def test_of_what_looks_have_spent_the_newest_stays(ledger: SqlLedger) -> None:
    made = stored(ledger)
    first, second = spending(made, 1), spending(made, 2, looks=2)

    for look in (first, second):
        ledger.decisions.add_look(look)
        assert ledger.decisions.spent([made.id]) == {made.id: look.verdict.spent}


def test_a_run_that_comes_late_takes_back_nothing_that_was_spent(ledger: SqlLedger) -> None:
    made = stored(ledger)
    late, newest = spending(made, 1, at=9), spending(made, 2, looks=2)

    for look in (newest, late):
        ledger.decisions.add_look(look)

    assert ledger.decisions.spent([made.id]) == {made.id: newest.verdict.spent}
    assert ledger.decisions.looks(made.id) == [newest, late]


def test_a_look_that_spends_nothing_takes_nothing_back(ledger: SqlLedger) -> None:
    made = stored(ledger)
    taken = spending(made, 1)
    ledger.decisions.add_look(taken)
    promoted = replace(taken.verdict, spent=())

    ledger.decisions.add_look(replace(taken, at=NOW + 2 * MINUTE, verdict=promoted))

    assert ledger.decisions.spent([made.id]) == {made.id: taken.verdict.spent}


def test_what_was_spent_is_stored_even_where_the_look_was(ledger: SqlLedger) -> None:
    made = stored(ledger)
    guard, hourly = spending(made, 1, at=5), spending(made, 2, at=5, looks=2)

    for look in (replace(guard, verdict=replace(guard.verdict, spent=())), hourly):
        ledger.decisions.add_look(look)

    assert ledger.decisions.spent([made.id]) == {made.id: hourly.verdict.spent}


def test_of_runs_at_once_the_newest_spending_stays(ledger: SqlLedger) -> None:
    made = stored(ledger)
    looks = [spending(made, hour) for hour in range(1, 9)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ledger.decisions.add_look, looks))

    assert ledger.decisions.spent([made.id]) == {made.id: looks[-1].verdict.spent}


def test_each_decision_has_spent_its_own_and_any_number_is_asked_at_once(
    ledger: SqlLedger,
) -> None:
    looked = [stored(ledger, f"d{n}", target=f"t{n}") for n in range(3)]
    stored(ledger, "unseen", target="other")
    for hour, made in enumerate(looked, start=1):
        ledger.decisions.add_look(spending(made, hour))
    many = [DecisionId(f"nobody-{n}") for n in range(1_200)]

    found = ledger.decisions.spent([*many, *(made.id for made in looked), DecisionId("unseen")])

    assert {name: spent_until(spent) for name, spent in found.items()} == {
        f"d{n}": NOW + timedelta(hours=n + 1) for n in range(3)
    }
    assert ledger.decisions.spent([]) == {}
