"""What every test may ask for: a private Prefect home, databases, Hypothesis profiles."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from postgres_server import PostgresServer, PostgresUnavailableError

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}

# "ci" gives the same examples each time; "nightly" explores.
settings.register_profile("default", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=2_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "default"))

PREFECT_HOME = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Keeps the tests away from the Prefect and PostgreSQL servers of whoever runs them."""
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "OPTIMIZER_", "PG"))]:
        del os.environ[name]
    config.stash[PREFECT_HOME] = tempfile.mkdtemp(prefix="prefect-")
    os.environ.update(
        PREFECT_HOME=config.stash[PREFECT_HOME],
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_SERVER_UI_V2_ENABLED="false",
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="90",
        MPLBACKEND="agg",  # plots are drawn without a screen
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leaves nothing behind."""
    shutil.rmtree(config.stash[PREFECT_HOME], ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL server; where none can run, CI fails and others skip, and say why."""
    server = PostgresServer()
    try:
        server.__enter__()
    except PostgresUnavailableError as reason:
        if IN_CI:
            raise
        pytest.skip(f"NOT TESTED ON POSTGRESQL: {reason}")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_url(postgres_server: PostgresServer) -> str:
    """The SQLAlchemy URL of the server's maintenance database; tests leave it as it is."""
    return postgres_server.url("postgres")


@pytest.fixture
def postgres_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The SQLAlchemy URL of an empty PostgreSQL database that this test alone uses."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The SQLAlchemy URL of an empty database; the test runs once on each supported backend."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    url: str = request.getfixturevalue("postgres_database_url")
    return url
