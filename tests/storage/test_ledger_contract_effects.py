"""The laws of intents, allocations, snapshots, baselines and pauses, on each database."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger_samples import MINUTE, NOW, PLAIN, TEXT, allocations, decision, event, intent, stored
from optimizer.allocation import Allocation, whole
from optimizer.decision import State, amend, move
from optimizer.errors import ConflictError
from optimizer.ports import Lease, Snapshot
from optimizer.storage import SqlLedger

ANY_RECORD = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
FRESH = count()


def taken(ledger: SqlLedger, target: str = "chat", holder: str = "run-1") -> Lease:
    lease = ledger.effects.acquire(target, holder, now=NOW, ttl_s=60)
    assert lease is not None
    return lease


def finish(ledger: SqlLedger, key: str, lease: Lease, **changes: Any) -> None:  # noqa: ANN401
    arguments: dict[str, Any] = {
        "status": "applied",
        "read_back": {"share": 0.05},
        "decision": None,
        "events": [],
        "baseline": None,
        "at": NOW,
    }
    ledger.effects.finish(key, lease=lease, **(arguments | changes))


@ANY_RECORD
@given(data=st.data())
def test_an_intent_and_its_allocation_return_as_they_were_stored(
    ledger: SqlLedger, data: st.DataObject
) -> None:
    target = f"target-{next(FRESH)}"
    allocation = data.draw(allocations(target))
    base = intent(decision(target=target), key=target, decision_id=None, allocation=allocation)
    wanted = replace(
        base,
        reason=data.draw(TEXT),
        then_state=data.draw(st.none() | st.sampled_from(State)),
        then_stage=data.draw(st.none() | st.integers(-1, 9)),
    )

    found = ledger.effects.begin(wanted, None, [], lease=taken(ledger, target))

    assert found == wanted
    assert ledger.effects.open_intents(target) == [wanted]
    assert ledger.effects.desired(target) == allocation


@ANY_RECORD
@given(
    allocation=allocations(), arms=st.dictionaries(TEXT, st.dictionaries(TEXT, PLAIN), max_size=2)
)
def test_a_snapshot_returns_as_it_was_stored(
    ledger: SqlLedger, allocation: Allocation, arms: dict[str, dict[str, object]]
) -> None:
    made = stored(ledger, f"id-{next(FRESH)}", target=f"target-{next(FRESH)}")
    snapshot = Snapshot(
        id=made.id,
        target="chat",
        decision_id=made.id,
        allocation=allocation,
        arms=arms,
        taken_at=NOW,
        sha256="00",
    )

    ledger.effects.save_snapshot(snapshot)
    ledger.effects.save_snapshot(replace(snapshot, sha256="11"))

    assert ledger.effects.snapshot(made.id) == snapshot


def test_without_a_snapshot_there_is_none(ledger: SqlLedger) -> None:
    assert ledger.effects.snapshot(decision().id) is None


def test_begin_stores_the_intent_and_the_new_version_together(ledger: SqlLedger) -> None:
    made = stored(ledger)
    after = move(made, State.VALIDATING, NOW)

    ledger.effects.begin(intent(made), after, [event(after)], lease=taken(ledger))

    assert ledger.decisions.get(made.id) == after
    assert len(ledger.decisions.events(made.id)) == 2
    assert ledger.effects.open_intents() == [intent(made)]


def test_a_step_begun_twice_is_one_step(ledger: SqlLedger) -> None:
    made = stored(ledger)
    after = move(made, State.VALIDATING, NOW)
    first = ledger.effects.begin(intent(made), after, [event(after)], lease=taken(ledger))
    other = intent(made, generation=7, key=first.key, reason="another")

    again = ledger.effects.begin(other, after, [event(after)], lease=taken(ledger))

    assert again == first
    assert len(ledger.decisions.events(made.id)) == 2
    assert ledger.effects.desired("chat") == first.allocation


def test_begin_is_all_or_nothing(ledger: SqlLedger) -> None:
    made = stored(ledger)
    ahead = replace(made, version=5)

    with pytest.raises(ConflictError):
        ledger.effects.begin(intent(made), ahead, [event(ahead)], lease=taken(ledger))

    assert ledger.effects.open_intents() == []
    assert ledger.effects.desired("chat") is None


@pytest.mark.parametrize("generation", [1, 2, 3])
def test_a_generation_is_above_every_one_before(ledger: SqlLedger, generation: int) -> None:
    made = stored(ledger)
    ledger.effects.begin(intent(made, 3), None, [], lease=taken(ledger))

    with pytest.raises(ConflictError, match="3"):
        ledger.effects.begin(intent(made, generation, key="k"), None, [], lease=taken(ledger))


def test_an_allocation_of_another_target_is_refused(ledger: SqlLedger) -> None:
    made = stored(ledger)
    elsewhere = intent(made, allocation=whole("other", "large", generation=1))

    with pytest.raises(ValueError, match="other"):
        ledger.effects.begin(elsewhere, None, [], lease=taken(ledger))


def test_of_eight_steps_of_one_generation_one_begins(ledger: SqlLedger) -> None:
    made = stored(ledger)
    lease = taken(ledger)

    def begin(number: int) -> bool:
        try:
            ledger.effects.begin(intent(made, key=f"k{number}"), None, [], lease=lease)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(begin, range(8)))

    assert sum(results) == 1
    assert len(ledger.effects.open_intents("chat")) == 1


def test_finish_closes_the_intent_and_stores_what_follows(ledger: SqlLedger) -> None:
    made = stored(ledger)
    lease = taken(ledger)
    begun = ledger.effects.begin(intent(made), None, [], lease=lease)
    after = amend(made, stage=0)

    finish(
        ledger,
        begun.key,
        lease,
        decision=after,
        events=[event(after, kind="stage")],
        baseline=("chat", "small"),
    )

    assert ledger.effects.open_intents() == []
    assert ledger.decisions.get(made.id) == after
    assert ledger.decisions.events(made.id)[-1].kind == "stage"
    assert ledger.effects.baselines() == {"chat": "small"}


@pytest.mark.parametrize("status", ["applied", "failed"])
def test_finishing_twice_is_finishing_once(ledger: SqlLedger, status: str) -> None:
    made = stored(ledger)
    lease = taken(ledger)
    begun = ledger.effects.begin(intent(made), None, [], lease=lease)
    after = amend(made)
    finish(ledger, begun.key, lease, status=status, decision=after, events=[event(after)])

    finish(ledger, begun.key, lease, status=status, decision=after, events=[event(after)])

    assert ledger.decisions.get(made.id).version == 1
    assert len(ledger.decisions.events(made.id)) == 2


def test_a_closed_intent_never_ends_differently(ledger: SqlLedger) -> None:
    made = stored(ledger)
    lease = taken(ledger)
    begun = ledger.effects.begin(intent(made), None, [], lease=lease)
    finish(ledger, begun.key, lease, status="failed", read_back=None)

    with pytest.raises(ConflictError, match="failed"):
        finish(ledger, begun.key, lease, baseline=("chat", "small"))

    assert ledger.effects.baselines() == {}


def test_finish_is_all_or_nothing(ledger: SqlLedger) -> None:
    made = stored(ledger)
    lease = taken(ledger)
    begun = ledger.effects.begin(intent(made), None, [], lease=lease)

    with pytest.raises(ConflictError):
        finish(ledger, begun.key, lease, decision=replace(made, version=9))

    assert ledger.effects.open_intents() == [begun]


def test_an_unknown_intent_is_a_key_error(ledger: SqlLedger) -> None:
    with pytest.raises(KeyError, match="nothing"):
        finish(ledger, "nothing", taken(ledger))


def test_open_intents_come_oldest_first(ledger: SqlLedger) -> None:
    for target, age in (("a", 1), ("b", 3), ("c", 2)):
        made = stored(ledger, target, target=target)
        begun = intent(made, created_at=NOW - age * MINUTE)
        ledger.effects.begin(begun, None, [], lease=taken(ledger, target))

    assert [found.target for found in ledger.effects.open_intents()] == ["b", "c", "a"]
    assert [found.target for found in ledger.effects.open_intents("c")] == ["c"]


def test_desired_is_the_newest_allocation_of_each_target(ledger: SqlLedger) -> None:
    one, two = stored(ledger, "d1", target="one"), stored(ledger, "d2", target="two")
    lease = taken(ledger, "one")
    for generation in (1, 2, 10):
        ledger.effects.begin(intent(one, generation), None, [], lease=lease)
    ledger.effects.begin(intent(two, 4), None, [], lease=taken(ledger, "two"))

    assert ledger.effects.desired_all() == {
        "one": intent(one, 10).allocation,
        "two": intent(two, 4).allocation,
    }
    assert ledger.effects.desired("one") == intent(one, 10).allocation
    assert ledger.effects.desired("three") is None


def test_the_last_baseline_is_in_force(ledger: SqlLedger) -> None:
    made = stored(ledger)
    lease = taken(ledger)
    for generation, arm in ((1, "small"), (2, "tiny")):
        begun = ledger.effects.begin(intent(made, generation), None, [], lease=lease)
        finish(ledger, begun.key, lease, baseline=("chat", arm))

    assert ledger.effects.baselines() == {"chat": "tiny"}


def test_a_pause_lasts_until_it_is_taken_back(ledger: SqlLedger) -> None:
    ledger.effects.pause("chat", at=NOW, actor="ann", reason="first")
    ledger.effects.pause("chat", at=NOW, actor="ann", reason="second")
    ledger.effects.pause(None, at=NOW, actor="bob", reason="all")
    assert ledger.effects.paused() == {"chat": "second", "*": "all"}

    ledger.effects.resume(None, at=NOW, actor="bob", reason="over")

    assert ledger.effects.paused() == {"chat": "second"}
    log = ledger.runs.audit_log(limit=9)
    assert [entry["operation"] for entry in log] == ["resume", "pause", "pause", "pause"]
    assert log[0]["detail"] == {"target": "*", "reason": "over"}
