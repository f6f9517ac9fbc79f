"""The laws of leases: one holder at a time, tokens that only grow, old tokens without effect."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from ledger_samples import MINUTE, NOW, event, intent, stored
from optimizer.decision import amend
from optimizer.errors import ConflictError
from optimizer.ports import Lease
from optimizer.storage import SqlLedger

TTL_S = 60


def acquire(ledger: SqlLedger, holder: str, now: timedelta = timedelta()) -> Lease | None:
    return ledger.effects.acquire("chat", holder, now=NOW + now, ttl_s=TTL_S)


def certainly(lease: Lease | None) -> Lease:
    assert lease is not None
    return lease


def test_a_lease_lasts_its_time(ledger: SqlLedger) -> None:
    lease = acquire(ledger, "a")

    assert lease == Lease(target="chat", holder="a", token=1, expires_at=NOW + MINUTE)


def test_a_valid_lease_keeps_others_out(ledger: SqlLedger) -> None:
    acquire(ledger, "a")

    assert acquire(ledger, "b", timedelta(seconds=59)) is None


def test_targets_are_leased_apart(ledger: SqlLedger) -> None:
    acquire(ledger, "a")

    assert ledger.effects.acquire("mail", "b", now=NOW, ttl_s=TTL_S) is not None


def test_an_expired_lease_is_taken_over(ledger: SqlLedger) -> None:
    acquire(ledger, "a")

    assert certainly(acquire(ledger, "b", MINUTE)).token == 2


def test_a_holder_extends_its_own_under_a_new_token(ledger: SqlLedger) -> None:
    acquire(ledger, "a")

    again = certainly(acquire(ledger, "a", timedelta(seconds=30)))

    assert (again.token, again.expires_at) == (2, NOW + timedelta(seconds=90))


def test_tokens_grow_over_a_release(ledger: SqlLedger) -> None:
    ledger.effects.release(certainly(acquire(ledger, "a")))

    assert certainly(acquire(ledger, "b")).token == 2


def test_an_old_token_releases_nothing(ledger: SqlLedger) -> None:
    old = certainly(acquire(ledger, "a"))
    acquire(ledger, "b", MINUTE)

    ledger.effects.release(old)

    assert acquire(ledger, "c", MINUTE) is None


def test_of_eight_at_once_one_gets_the_lease(ledger: SqlLedger) -> None:
    with ThreadPoolExecutor(8) as pool:
        leases = list(pool.map(lambda number: acquire(ledger, f"run-{number}"), range(8)))

    assert [lease.token for lease in leases if lease] == [1]


def test_every_grant_under_a_crowd_has_its_own_token(ledger: SqlLedger) -> None:
    def take_and_give(number: int) -> list[int]:
        tokens = []
        for turn in range(5):
            lease = acquire(ledger, f"{number}:{turn}")
            if lease is not None:
                tokens.append(lease.token)
                ledger.effects.release(lease)
        return tokens

    with ThreadPoolExecutor(8) as pool:
        grants = [token for tokens in pool.map(take_and_give, range(8)) for token in tokens]

    assert sorted(grants) == list(range(1, len(grants) + 1))


@pytest.mark.parametrize("why", ["taken over", "released", "forged", "of another target"])
def test_a_lease_that_is_not_current_changes_nothing(ledger: SqlLedger, why: str) -> None:
    made = stored(ledger)
    lease = certainly(acquire(ledger, "a"))
    begun = ledger.effects.begin(intent(made), None, [], lease=lease)
    if why == "taken over":
        acquire(ledger, "b", MINUTE)
    elif why == "released":
        ledger.effects.release(lease)
    elif why == "forged":
        lease = replace(lease, token=9)
    else:
        other = ledger.effects.acquire("mail", "a", now=NOW, ttl_s=TTL_S)
        lease = certainly(other)
    after = amend(made)

    with pytest.raises(ConflictError, match="lease"):
        ledger.decisions.update(after, [event(after)], lease=lease)
    with pytest.raises(ConflictError, match="lease"):
        ledger.effects.begin(intent(made, 2), after, [event(after)], lease=lease)
    with pytest.raises(ConflictError, match="lease"):
        ledger.effects.finish(
            begun.key,
            status="applied",
            read_back=None,
            decision=after,
            events=[event(after)],
            baseline=("chat", "small"),
            at=NOW,
            lease=lease,
        )

    assert ledger.decisions.get(made.id) == made
    assert len(ledger.decisions.events(made.id)) == 1
    assert ledger.effects.open_intents() == [begun]
    assert ledger.effects.baselines() == {}


def test_a_current_lease_lets_the_update_through(ledger: SqlLedger) -> None:
    made = stored(ledger)
    after = amend(made)

    ledger.decisions.update(after, [], lease=acquire(ledger, "a"))

    assert ledger.decisions.get(made.id) == after


def test_writes_under_many_leases_in_a_crowd_never_interleave(ledger: SqlLedger) -> None:
    """Each holder reads and adds one under its lease; the sum counts the successes exactly."""
    made = stored(ledger)

    def work(number: int) -> int:
        done = 0
        for turn in range(4):
            lease = ledger.effects.acquire(
                "chat", f"run-{number}", now=NOW + (10 * number + turn) * MINUTE, ttl_s=TTL_S
            )
            if lease is None:
                continue
            before = ledger.decisions.get(made.id)
            try:
                ledger.decisions.update(amend(before, look=before.look + 1), [], lease=lease)
            except ConflictError:
                continue
            done += 1
        return done

    with ThreadPoolExecutor(8) as pool:
        total = sum(pool.map(work, range(8)))

    assert total >= 1
    assert ledger.decisions.get(made.id).look == total
