"""The laws of what hours keep of their discoveries, on each supported database."""

import json
from datetime import timedelta

import pytest

from ledger_samples import NOW
from optimizer.cycle import recalled
from optimizer.storage import SqlLedger

HOUR = timedelta(hours=1)


def test_an_hour_reads_the_newest_one_before_it_and_never_itself_or_a_later_one(
    ledger: SqlLedger,
) -> None:
    for hours in (3, 0, 1):
        ledger.decisions.keep_discoveries(NOW + hours * HOUR, {"hour": hours})

    def read(hours: float) -> object:
        return ledger.decisions.discoveries(before=NOW + hours * HOUR)

    assert read(0) is None
    assert [read(hours) for hours in (1, 2, 3, 3.5)] == [{"hour": hours} for hours in (0, 1, 1, 3)]


def test_an_hour_that_is_kept_again_is_kept_once(ledger: SqlLedger) -> None:
    for state in ({"try": 1}, {"try": 2}):
        ledger.decisions.keep_discoveries(NOW, state)

    assert ledger.decisions.discoveries(before=NOW + HOUR) == {"try": 2}
    assert ledger.decisions.discoveries(before=NOW) is None


@pytest.mark.parametrize("p", [[0.2, 0.001, 1e-300], [0.3]])
def test_a_state_returns_as_it_was_kept(ledger: SqlLedger, p: list[float]) -> None:
    fresh = recalled(None, alpha=0.1, now=NOW)
    state = {**fresh.snapshot(), "apart": fresh.apart.test_p_values(p).after.snapshot()}
    made = recalled(state, alpha=0.1, now=NOW)
    assert made != fresh

    ledger.decisions.keep_discoveries(NOW, made.snapshot())

    kept = ledger.decisions.discoveries(before=NOW + HOUR)
    assert recalled(kept, alpha=0.1, now=NOW) == made


def test_a_week_of_tests_every_hour_stays_a_small_row() -> None:
    state = recalled(None, alpha=0.1, now=NOW)
    procedure = state.apart
    for _ in range(7 * 24):
        procedure = procedure.test_p_values([0.5, 0.01]).after

    text = json.dumps({**state.snapshot(), "apart": procedure.snapshot()})

    assert len(text) < 10_000
