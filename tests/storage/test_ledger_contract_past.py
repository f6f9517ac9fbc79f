"""The laws of what the ledger remembers of ended rollouts, on each supported database."""

from ledger_samples import MINUTE, NOW, stored
from optimizer.decision import State, amend
from optimizer.evidence import Past
from optimizer.storage import SqlLedger


def test_past_is_what_ended_but_for_failed_validation(ledger: SqlLedger) -> None:
    for number, state in enumerate(State):
        made = stored(ledger, f"d{number}", target=f"t{number}")
        ended_at = NOW + number * MINUTE if state.is_final else None
        after = amend(made, state=state, ended_at=ended_at, reason="why")
        ledger.decisions.update(after, [], lease=None)

    found = ledger.decisions.past(since=NOW)

    assert [past.state for past in found] == [
        "completed",
        "rolled_back",
        "deployment_failed",
        "cancelled",
    ]
    ended = NOW + list(State).index(State.CANCELLED) * MINUTE
    assert ledger.decisions.past(since=ended) == [found[-1]]


def test_it_names_who_proposed_what_was_before_and_since_when_it_served_alone(
    ledger: SqlLedger,
) -> None:
    made = stored(ledger)
    ended = NOW + MINUTE
    after = amend(
        made, state=State.COMPLETED, ended_at=ended, deployed_at=NOW, reason="the effect is settled"
    )
    ledger.decisions.update(after, [], lease=None)

    assert ledger.decisions.past(since=NOW) == [
        Past(
            target=made.target,
            arm="small",
            state="completed",
            ended_at=ended,
            reason="the effect is settled",
            strategy="pareto",
            before="large",
            deployed_at=NOW,
        )
    ]
