"""The ledger under test: an empty one, on each supported database."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text

from optimizer.storage import SqlLedger
from optimizer.storage.tables import METADATA
from postgres_server import PostgresServer


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to copy: migrating once is quicker than for every test."""
    path = tmp_path_factory.mktemp("ledger") / "migrated.db"
    SqlLedger.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture(scope="session")
def shared_postgres_url(postgres_server: PostgresServer) -> str:
    """A migrated database that the tests of this folder use one after the other."""
    url = postgres_server.url(postgres_server.create_database())
    SqlLedger.open(url).close()
    return url


@pytest.fixture
def emptied_postgres_url(shared_postgres_url: str) -> str:
    """The shared database without a row."""
    engine = create_engine(shared_postgres_url, poolclass=NullPool)
    with engine.begin() as connection:
        # The logs refuse to be emptied; a superuser may switch their triggers off.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        names = ", ".join(METADATA.tables)
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))
    return shared_postgres_url


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty ledger at the newest revision, once on each supported database."""
    if request.param == "sqlite":
        path = shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "ledger.db")
        return f"sqlite:///{path}"
    url: str = request.getfixturevalue("emptied_postgres_url")
    return url


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[SqlLedger]:
    """An empty ledger at the newest revision."""
    opened = SqlLedger.open(ledger_url, pool_size=9)
    yield opened
    opened.close()
