"""The laws of proposals, decisions, their logs, looks and anchors, on each supported database."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger_samples import (
    INSTANTS,
    MINUTE,
    NOW,
    PLAIN,
    TEXT,
    completed,
    decision,
    decisions,
    event,
    of,
    stored,
)
from optimizer.decision import Decision, State, amend, event_hash, move
from optimizer.errors import ConflictError, DataError
from optimizer.evidence import (
    Anchor,
    DecisionId,
    Outcome,
    Proposal,
    ProposalId,
    Reason,
    Verdict,
)
from optimizer.ports import Ledger, Look
from optimizer.storage import SqlLedger

ANY_RECORD = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
FRESH = count()


def test_it_is_a_ledger(ledger: SqlLedger) -> None:
    port: Ledger = ledger

    assert port.decisions.find() == []


@ANY_RECORD
@given(made=decisions())
def test_a_decision_returns_as_it_was_stored(ledger: SqlLedger, made: Decision) -> None:
    fresh = replace(made, id=DecisionId(f"id-{next(FRESH)}"), target=f"target-{next(FRESH)}")

    ledger.decisions.create(fresh, [event(fresh)])

    assert ledger.decisions.get(fresh.id) == fresh


@ANY_RECORD
@given(
    changes=st.fixed_dictionaries(
        {
            "at": INSTANTS,
            "kind": TEXT,
            "actor": TEXT,
            "reason": TEXT,
            "run_id": TEXT,
            "to_state": st.sampled_from(State),
            "evidence": st.dictionaries(TEXT, PLAIN, max_size=3),
        }
    )
)
def test_an_event_returns_as_it_was_stored(ledger: SqlLedger, changes: dict[str, Any]) -> None:
    made = decision(f"id-{next(FRESH)}", target=f"target-{next(FRESH)}")

    ledger.decisions.create(made, [event(made, **changes)])

    (found,) = ledger.decisions.events(made.id)
    assert found == replace(event(made, **changes), seq=1, hash=event_hash(found))


@ANY_RECORD
@given(verdict=of(Verdict))
def test_a_look_returns_as_it_was_stored(ledger: SqlLedger, verdict: Verdict) -> None:
    made = stored(ledger, f"id-{next(FRESH)}", target=f"target-{next(FRESH)}")
    look = Look(decision_id=made.id, at=NOW, run="r", verdict=verdict, move="hold", detail="")

    ledger.decisions.add_look(look)

    assert ledger.decisions.looks(made.id) == [look]


@ANY_RECORD
@given(proposal=of(Proposal))
def test_a_proposal_returns_as_it_was_stored(ledger: SqlLedger, proposal: Proposal) -> None:
    fresh = replace(proposal, id=ProposalId(f"p-{next(FRESH)}"))
    at = NOW + next(FRESH) * MINUTE

    ledger.decisions.add_proposals(at, [(fresh, "rejected", "too small")])

    assert ledger.decisions.proposals(since=at) == [(fresh, "rejected", "too small")]


def test_an_instant_of_another_zone_is_the_same_instant(ledger: SqlLedger) -> None:
    there = datetime.fromisoformat("2026-03-01T14:30:00.000001+05:30")

    made = stored(ledger, created_at=there)

    found = ledger.decisions.get(made.id).created_at
    assert found == there
    assert found.utcoffset() == timedelta(0)


def test_a_time_without_zone_is_refused(ledger: SqlLedger) -> None:
    made = decision(created_at=NOW.replace(tzinfo=None))

    with pytest.raises(DataError, match="time zone"):
        ledger.decisions.create(made, [event(made)])


def test_numbers_that_are_not_finite_do_not_stop_an_event(ledger: SqlLedger) -> None:
    made = decision()

    ledger.decisions.create(made, [event(made, evidence={"harm": float("nan"), "at": NOW})])

    (found,) = ledger.decisions.events(made.id)
    assert found.evidence == {"harm": "nan", "at": NOW.isoformat()}
    assert found.hash == event_hash(found)


def test_an_unknown_decision_is_a_key_error(ledger: SqlLedger) -> None:
    with pytest.raises(KeyError, match="nobody"):
        ledger.decisions.get(decision("nobody").id)


def test_a_target_has_one_decision_in_flight(ledger: SqlLedger) -> None:
    stored(ledger, "d1")
    second = decision("d2")

    assert not ledger.decisions.create(second, [event(second)])
    assert [found.id for found in ledger.decisions.find()] == ["d1"]


def test_an_ended_decision_makes_room(ledger: SqlLedger) -> None:
    completed(ledger, "d1")
    second = decision("d2")

    assert ledger.decisions.create(second, [event(second)])


def test_the_same_decision_twice_changes_nothing(ledger: SqlLedger) -> None:
    done = completed(ledger, "d1")
    again = decision("d1")

    assert not ledger.decisions.create(again, [event(again)])
    assert ledger.decisions.get(done.id) == done
    assert len(ledger.decisions.events(done.id)) == 2


def test_of_eight_at_once_one_gets_the_target(ledger: SqlLedger) -> None:
    def create(number: int) -> bool:
        made = decision(f"d{number}")
        return ledger.decisions.create(made, [event(made)])

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(create, range(8)))

    assert sum(results) == 1
    (found,) = ledger.decisions.find()
    assert [e.seq for e in ledger.decisions.events(found.id)] == [1]


def test_of_eight_updates_of_one_version_one_wins(ledger: SqlLedger) -> None:
    made = stored(ledger)

    def update(number: int) -> bool:
        after = amend(made, reason=str(number))
        try:
            ledger.decisions.update(after, [event(after, reason=str(number))], lease=None)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(update, range(8)))

    assert sum(results) == 1
    found = ledger.decisions.get(made.id)
    assert found.version == 1
    assert ledger.decisions.events(made.id)[-1].reason == found.reason


def test_a_refused_update_leaves_no_event(ledger: SqlLedger) -> None:
    made = stored(ledger)
    ahead = replace(made, version=2)

    with pytest.raises(ConflictError, match="version 1"):
        ledger.decisions.update(ahead, [event(ahead)], lease=None)

    assert len(ledger.decisions.events(made.id)) == 1


def test_a_decision_never_changes_its_target(ledger: SqlLedger) -> None:
    made = stored(ledger)

    with pytest.raises(ConflictError):
        ledger.decisions.update(amend(made, target="other"), [], lease=None)


def test_events_of_another_decision_are_refused(ledger: SqlLedger) -> None:
    made = stored(ledger)
    stranger = event(decision("d2"))

    with pytest.raises(ValueError, match="d2"):
        ledger.decisions.update(amend(made), [stranger], lease=None)

    assert ledger.decisions.get(made.id).version == 0


def test_the_log_is_one_chain(ledger: SqlLedger) -> None:
    made = stored(ledger)
    middle = move(made, State.VALIDATING, NOW)
    ledger.decisions.update(middle, [event(made), event(middle, reason="two")], lease=None)
    last = move(middle, State.DEPLOYING, NOW)
    ledger.decisions.update(last, [event(last, evidence={"share": -0.0})], lease=None)

    log = ledger.decisions.events(made.id)

    assert [entry.seq for entry in log] == [1, 2, 3, 4]
    assert log[0].prev_hash == ""
    assert all(later.prev_hash == earlier.hash for earlier, later in pairwise(log))
    assert all(entry.hash == event_hash(entry) for entry in log)
    assert len({entry.hash for entry in log}) == 4


def test_find_filters_and_sorts(ledger: SqlLedger) -> None:
    stored(ledger, "b", target="two", created_at=NOW + MINUTE)
    stored(ledger, "a", target="one", created_at=NOW + 2 * MINUTE)
    completed(ledger, "c", target="three")

    assert [found.id for found in ledger.decisions.find()] == ["c", "b", "a"]
    assert [found.id for found in ledger.decisions.find(target="one")] == ["a"]
    assert [found.id for found in ledger.decisions.find(states=[State.COMPLETED])] == ["c"]
    assert ledger.decisions.find(states=[]) == []


def test_what_ended_before_a_moment_can_be_left_out(ledger: SqlLedger) -> None:
    stored(ledger, "a", target="one", created_at=NOW - 9 * MINUTE)
    ended = completed(ledger, "b", target="two").ended_at
    assert ended is not None
    assert [found.id for found in ledger.decisions.find(since=ended)] == ["a", "b"]
    assert [found.id for found in ledger.decisions.find(since=ended + MINUTE)] == ["a"]


def test_the_first_proposal_of_an_id_stays(ledger: SqlLedger) -> None:
    made = Proposal(
        id=decision().proposal_id,
        strategy="pareto",
        target="chat",
        candidate="small",
        rationale="",
        expected=decision().expected,
    )
    ledger.decisions.add_proposals(NOW, [(made, "accepted", "")])

    ledger.decisions.add_proposals(NOW, [(made, "rejected", "again")])

    assert ledger.decisions.proposals(since=NOW) == [(made, "accepted", "")]
    assert ledger.decisions.proposals(since=NOW + MINUTE) == []


def test_a_held_proposal_takes_the_answer_that_came_later(ledger: SqlLedger) -> None:
    made = Proposal(
        id=decision().proposal_id,
        strategy="pareto",
        target="chat",
        candidate="small",
        rationale="",
        expected=decision().expected,
    )
    ledger.decisions.add_proposals(NOW, [(made, "policy_unavailable", "nobody answered")])

    ledger.decisions.add_proposals(NOW, [(made, "accepted", "")])
    ledger.decisions.add_proposals(NOW, [(made, "policy_unavailable", "nobody answered")])

    assert ledger.decisions.proposals(since=NOW) == [(made, "accepted", "")]


def test_the_first_look_of_a_time_stays(ledger: SqlLedger) -> None:
    made = stored(ledger)
    verdict = Verdict(
        decision_id=made.id,
        at=NOW,
        outcome=Outcome.PASS,
        stage_outcome=Outcome.PASS,
        reason=Reason.NONE,
        sentence="",
    )
    first = Look(decision_id=made.id, at=NOW, run="1", verdict=verdict, move="hold", detail="")
    later = replace(first, at=NOW + MINUTE)

    for look in (later, first, replace(first, run="2")):
        ledger.decisions.add_look(look)

    assert ledger.decisions.looks(made.id) == [first, later]


def charge(harm: float, variance: float = 0.25, arm: str = "large") -> Anchor:
    return Anchor(
        target="chat",
        metric="quality",
        reference_arm=arm,
        harm=harm,
        variance=variance,
        promotions=1,
    )


def test_anchors_sum_over_promotions(ledger: SqlLedger) -> None:
    for number, harm in enumerate((0.5, -0.25)):
        made = completed(ledger, f"d{number}")
        at = NOW + number * MINUTE
        ledger.decisions.charge_anchor(
            made.id, charge(harm, arm=f"arm{number}"), at=at, settled=True
        )

    (found,) = ledger.decisions.anchors().values()

    assert found == replace(charge(0.25, 0.5, "arm0"), promotions=2)


@pytest.mark.parametrize(
    ("first", "second", "harm"),
    [(False, False, 2.0), (False, True, 2.0), (True, True, 2.0), (True, False, 1.0)],
)
def test_a_settled_charge_replaces_a_provisional_one_and_never_back(
    ledger: SqlLedger, *, first: bool, second: bool, harm: float
) -> None:
    made = completed(ledger, "d1")

    ledger.decisions.charge_anchor(made.id, charge(1.0), at=NOW, settled=first)
    ledger.decisions.charge_anchor(made.id, charge(2.0), at=NOW, settled=second)

    assert ledger.decisions.anchors() == {("chat", "quality"): charge(harm)}


def test_only_completed_promotions_cost(ledger: SqlLedger) -> None:
    for number, state in enumerate(State):
        made = stored(ledger, f"d{number}", target=f"t{number}")
        ledger.decisions.update(amend(made, state=state), [], lease=None)
        cost = replace(charge(1.0), target=f"t{number}")
        ledger.decisions.charge_anchor(made.id, cost, at=NOW, settled=True)

    assert set(ledger.decisions.anchors()) == {
        (f"t{list(State).index(State.COMPLETED)}", "quality")
    }


def test_a_moved_anchor_forgets_what_completed_before(ledger: SqlLedger) -> None:
    before = completed(ledger, "before")
    ledger.decisions.charge_anchor(before.id, charge(1.0), at=NOW, settled=False)
    under_way = stored(ledger, "under_way")
    ledger.decisions.charge_anchor(under_way.id, charge(2.0), at=NOW, settled=False)

    ledger.decisions.move_anchor("chat", at=NOW + MINUTE, actor="ann", reason="accepted")

    assert ledger.decisions.anchors() == {}
    ledger.decisions.charge_anchor(before.id, charge(1.5), at=NOW + 2 * MINUTE, settled=True)
    ledger.decisions.update(amend(under_way, state=State.COMPLETED), [], lease=None)
    assert ledger.decisions.anchors() == {("chat", "quality"): charge(2.0)}
    (entry,) = ledger.runs.audit_log(limit=9)
    assert (entry["actor"], entry["operation"]) == ("ann", "move_anchor")


def test_a_charge_needs_its_decision(ledger: SqlLedger) -> None:
    with pytest.raises(ConflictError):
        ledger.decisions.charge_anchor(decision().id, charge(1.0), at=NOW, settled=True)
