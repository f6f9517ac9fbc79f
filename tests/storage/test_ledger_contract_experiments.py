"""What the ledger promises of experiments, on each supported database."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from ledger_samples import MINUTE, NOW, allocations, grains, of
from optimizer.allocation import Allocation
from optimizer.errors import ConflictError
from optimizer.experiment.design import Design
from optimizer.experiment.life import (
    Entry,
    Experiment,
    ExperimentId,
    ExperimentState,
    amend,
    draft,
    move,
)
from optimizer.experiment.standing import even
from optimizer.metrics import GRAIN_S
from optimizer.recorded import chain_hash
from optimizer.storage import SqlLedger


def made(name: str = "which", target: str = "chat") -> Experiment:
    return draft(Design(name=name, target=target, arms=("large", "small")), NOW, actor="optimize")


def entry(before: Experiment, after: Experiment, reason: str = "because") -> Entry:
    return Entry(
        experiment_id=after.id,
        seq=0,
        at=NOW,
        kind="transition",
        from_state=before.state,
        to_state=after.state,
        actor="optimize",
        reason=reason,
        evidence={"shares": {"large": 0.5}},
    )


def begun(ledger: SqlLedger, name: str = "which", target: str = "chat") -> Experiment:
    new = made(name, target)
    assert ledger.experiments.create(new, [entry(new, new)])
    after = move(
        new, ExperimentState.RUNNING, NOW, baseline="large", started_at=NOW, shares=even(new)
    )
    ledger.experiments.update(after, [entry(new, after)], lease=None)
    return after


def test_what_is_stored_is_read_back(ledger: SqlLedger) -> None:
    stored = begun(ledger)

    assert ledger.experiments.get(stored.id) == stored
    assert ledger.experiments.find(target="chat") == [stored]
    assert ledger.experiments.find(target="other") == []
    assert ledger.experiments.find(states=[ExperimentState.DRAFT]) == []


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.none() | allocations(),
    drawn=of(Entry, seq=st.just(0), evidence=st.just({"a": [1, None]})),
    dropped=st.lists(st.sampled_from(["small"]), max_size=1).map(tuple),
)
def test_any_experiment_comes_back_exactly(
    ledger: SqlLedger, before: Allocation | None, drawn: Entry, dropped: tuple[str, ...]
) -> None:
    new = replace(made(), before=before, dropped=dropped, configs={"large": {"model": "m"}})
    new = replace(new, id=ExperimentId(f"x-{hash((repr(new), repr(drawn)))}"))
    first = replace(drawn, experiment_id=new.id)

    ledger.experiments.create(new, [first])

    assert ledger.experiments.get(new.id) == new
    (back,) = ledger.experiments.entries(new.id)
    assert replace(back, seq=0, prev_hash="", hash="") == replace(first, prev_hash="", hash="")


def test_the_same_id_is_stored_once(ledger: SqlLedger) -> None:
    stored = begun(ledger)

    assert not ledger.experiments.create(made(), [])

    assert ledger.experiments.get(stored.id) == stored
    assert len(ledger.experiments.entries(stored.id)) == 2


def test_an_unknown_one_is_a_key_error(ledger: SqlLedger) -> None:
    with pytest.raises(KeyError):
        ledger.experiments.get(ExperimentId("x-0"))


def test_a_version_is_replaced_once(ledger: SqlLedger) -> None:
    stored = begun(ledger)
    ledger.experiments.update(amend(stored, leader="small"), [], lease=None)

    with pytest.raises(ConflictError, match="version 1 is gone"):
        ledger.experiments.update(amend(stored, leader="large"), [], lease=None)

    assert ledger.experiments.get(stored.id).leader == "small"


def test_a_lease_that_somebody_else_got_meanwhile_stores_nothing(ledger: SqlLedger) -> None:
    stored = begun(ledger)
    old = ledger.effects.acquire("chat", "one", now=NOW, ttl_s=60)
    assert old is not None
    assert ledger.effects.acquire("chat", "other", now=NOW + 2 * MINUTE, ttl_s=60)

    with pytest.raises(ConflictError):
        ledger.experiments.update(amend(stored, leader="small"), [], lease=old)

    assert ledger.experiments.get(stored.id) == stored


def test_a_target_has_one_in_flight(ledger: SqlLedger) -> None:
    begun(ledger)
    begun(ledger, "which", "mail")

    with pytest.raises(ConflictError):
        begun(ledger, "other")

    flying = ledger.experiments.find(states=[ExperimentState.RUNNING], target="chat")
    assert [each.name for each in flying] == ["which"]


def test_entries_are_numbered_and_chained(ledger: SqlLedger) -> None:
    stored = begun(ledger)
    ledger.experiments.update(
        amend(stored), [entry(stored, stored, "a"), entry(stored, stored, "b")], lease=None
    )

    log = ledger.experiments.entries(stored.id)

    assert [each.seq for each in log] == [1, 2, 3, 4]
    assert [each.prev_hash for each in log] == ["", *(each.hash for each in log[:-1])]
    assert all(chain_hash(each) == each.hash for each in log)


def test_a_stranger_s_entry_is_refused(ledger: SqlLedger) -> None:
    stored, other = begun(ledger), made("other")

    with pytest.raises(ValueError, match="do not belong"):
        ledger.experiments.update(amend(stored), [entry(other, other)], lease=None)

    assert ledger.experiments.get(stored.id) == stored


@pytest.mark.parametrize(
    "act", ["UPDATE experiment_log SET reason = 'x'", "DELETE FROM experiment_log"]
)
def test_the_log_only_grows(ledger: SqlLedger, ledger_url: str, act: str) -> None:
    stored = begun(ledger)
    engine = create_engine(ledger_url, poolclass=NullPool)

    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text(act))

    assert len(ledger.experiments.entries(stored.id)) == 2


def test_aggregates_of_its_slice_are_kept(ledger: SqlLedger) -> None:
    frame = grains(("chat", "small", "experiment", 0))

    ledger.aggregates.replace_windows(GRAIN_S, [0], frame, clean={})

    assert list(ledger.aggregates.load(GRAIN_S, start_s=0, end_s=300)["slice"]) == ["experiment"]
