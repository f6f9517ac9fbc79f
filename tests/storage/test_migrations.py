"""The same migrations make, unmake and guard the ledger's tables on each supported database."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, NullPool, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError

from house import ROOT
from ledger_samples import MINUTE, NOW, decision, event, intent, stored
from optimizer.decision import State, amend, move
from optimizer.errors import ConfigError
from optimizer.storage import SqlLedger
from optimizer.storage.migrate import VERSION_TABLE, head, revisions
from optimizer.storage.tables import METADATA, UtcTime

OPEN = "import sys; from optimizer.storage import SqlLedger; SqlLedger.open(sys.argv[1]).close()"
VIEWS = {"deployments", "rollbacks"}


@contextmanager
def raw(url: str) -> Iterator[Connection]:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        yield connection


def tables(url: str) -> set[str]:
    with raw(url) as connection:
        found = inspect(connection)
        return {*found.get_table_names(), *found.get_view_names()}


def objects(url: str) -> list[str]:
    """Everything the database lists, with its definition where it keeps one."""
    query = (
        "SELECT type || name || coalesce(sql, '') FROM sqlite_master"
        if url.startswith("sqlite")
        else "SELECT relkind::text || relname FROM pg_class "
        "WHERE relnamespace = 'public'::regnamespace "
        "UNION ALL SELECT 'trigger' || tgname FROM pg_trigger WHERE NOT tgisinternal "
        "UNION ALL SELECT 'constraint' || conname || pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace"
    )
    with raw(url) as connection:
        return sorted(connection.execute(text(query)).scalars())


def test_migrating_makes_every_table_and_view(database_url: str) -> None:
    ledger = SqlLedger.open(database_url)

    assert ledger.revision() == head()
    assert tables(database_url) == {*METADATA.tables, *VIEWS, VERSION_TABLE}
    ledger.close()


def test_what_the_migrations_make_is_what_the_queries_expect(database_url: str) -> None:
    SqlLedger.open(database_url).close()

    def same_type(_context: object, _inspected: object, *types: object) -> bool | None:
        return False if any(isinstance(kind, UtcTime) for kind in types) else None

    with raw(database_url) as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": same_type}
        )
        assert compare_metadata(context, METADATA) == []


def test_down_leaves_nothing_and_up_again_makes_the_same(database_url: str) -> None:
    ledger = SqlLedger.open(database_url)
    stored(ledger)
    before = objects(database_url)

    ledger.migrate("base")

    assert ledger.revision() is None
    assert tables(database_url) == {VERSION_TABLE}
    ledger.migrate()
    assert objects(database_url) == before
    assert ledger.decisions.find() == []
    ledger.close()


def test_each_revision_is_reached_from_above_and_left_for_the_newest(database_url: str) -> None:
    ledger = SqlLedger.open(database_url)
    before = objects(database_url)

    for revision in revisions():
        ledger.migrate(revision)
        assert ledger.revision() == revision
        ledger.migrate()
        assert objects(database_url) == before

    ledger.close()


def test_a_revision_that_does_not_exist_is_refused(ledger: SqlLedger) -> None:
    with pytest.raises(ConfigError, match="r9999"):
        ledger.migrate("r9999")


def test_migrating_again_changes_nothing(database_url: str) -> None:
    ledger = SqlLedger.open(database_url)
    made = stored(ledger)

    ledger.migrate()
    ledger.migrate(head())

    assert ledger.decisions.get(made.id) == made
    ledger.close()


def test_two_processes_that_start_at_once_both_succeed(database_url: str) -> None:
    command = [sys.executable, "-W", "error", "-c", OPEN, database_url]

    started = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]

    for process in started:
        _, complaint = process.communicate(timeout=120)
        assert process.returncode == 0, complaint
    assert tables(database_url) >= set(METADATA.tables)


def test_threads_that_start_at_once_all_succeed(database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(SqlLedger.open, [database_url] * 4))

    assert {ledger.revision() for ledger in opened} == {head()}
    for ledger in opened:
        ledger.close()


def test_an_empty_database_is_refused_when_migrating_is_not_allowed(database_url: str) -> None:
    with pytest.raises(ConfigError, match="migrate it"):
        SqlLedger.open(database_url, migrate=False)

    assert tables(database_url) == set()


def test_a_current_database_opens_without_migrating(ledger_url: str) -> None:
    ledger = SqlLedger.open(ledger_url, migrate=False)

    assert ledger.revision() == head()
    ledger.close()


def test_a_newer_database_is_refused(database_url: str) -> None:
    SqlLedger.open(database_url).close()
    with raw(database_url) as connection:
        connection.execute(text("UPDATE optimizer_revision SET version_num = 'r9999'"))

    with pytest.raises(ConfigError, match="r9999"):
        SqlLedger.open(database_url)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE decision_events SET reason = 'another'",
        "DELETE FROM decision_events",
        "UPDATE audit_log SET actor = 'nobody'",
        "DELETE FROM audit_log",
    ],
)
def test_the_logs_only_grow(ledger: SqlLedger, ledger_url: str, statement: str) -> None:
    refused(ledger, ledger_url, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT OR REPLACE INTO decision_events SELECT * FROM decision_events",
        "INSERT OR REPLACE INTO audit_log SELECT * FROM audit_log",
    ],
)
def test_sqlite_replaces_no_entry(tmp_path: Path, statement: str) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = SqlLedger.open(url)

    refused(ledger, url, statement)

    ledger.close()


@pytest.mark.parametrize("log", ["decision_events", "audit_log"])
def test_postgresql_truncates_no_log(emptied_postgres_url: str, log: str) -> None:
    ledger = SqlLedger.open(emptied_postgres_url)

    refused(ledger, emptied_postgres_url, f"TRUNCATE {log}")

    ledger.close()


def refused(ledger: SqlLedger, url: str, statement: str) -> None:
    """The statement fails because a log is append-only, and changes nothing."""
    made = stored(ledger)
    ledger.runs.audit(at=NOW, actor="ann", operation="look", detail={})
    before = (ledger.decisions.events(made.id), ledger.runs.audit_log(limit=9))

    with pytest.raises(DBAPIError, match="append-only"), raw(url) as connection:
        connection.execute(text(statement))

    assert (ledger.decisions.events(made.id), ledger.runs.audit_log(limit=9)) == before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE decisions SET state = 'asleep'",
        "UPDATE decisions SET abort_to = 'deploying'",
        "UPDATE decisions SET candidate = baseline",
        "UPDATE decisions SET version = -1",
        "UPDATE decisions SET stage = -2",
        "UPDATE decisions SET look = -1",
        "UPDATE decisions SET generation = -1",
        "UPDATE decisions SET target = NULL",
    ],
)
def test_impossible_decisions_are_refused(ledger: SqlLedger, ledger_url: str, change: str) -> None:
    stored(ledger)

    with pytest.raises(DBAPIError), raw(ledger_url) as connection:
        connection.execute(text(change))


def test_operators_find_deployments_and_rollbacks(ledger: SqlLedger, ledger_url: str) -> None:
    made = stored(ledger)
    waiting = decision("d2", target="mail")
    ledger.decisions.create(waiting, [event(waiting)])
    lease = ledger.effects.acquire("chat", "run", now=NOW, ttl_s=60)
    assert lease is not None
    ledger.effects.begin(intent(made), None, [], lease=lease)
    deploying = amend(made, state=State.DEPLOYING)
    ledger.decisions.update(deploying, [], lease=lease)
    back = move(deploying, State.ROLLING_BACK, NOW)
    ledger.decisions.update(
        back,
        [event(deploying, to=State.ROLLING_BACK, actor="guard", reason="harm"), event(back)],
        lease=lease,
    )
    done = move(back, State.ROLLED_BACK, NOW + MINUTE, reason="harm")
    ledger.decisions.update(done, [event(back, to=State.ROLLED_BACK)], lease=lease)

    with raw(ledger_url) as connection:
        deployed = connection.execute(
            text("SELECT decision_id, state, completed_at, reason FROM deployments")
        ).all()
        rolled = connection.execute(
            text("SELECT decision_id, from_state, triggered_by, reason, status FROM rollbacks")
        ).all()

    assert [tuple(row) for row in deployed] == [("d1", "rolled_back", None, "harm")]
    assert [tuple(row) for row in rolled] == [("d1", "deploying", "guard", "harm", "completed")]
