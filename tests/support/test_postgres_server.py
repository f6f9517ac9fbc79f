import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text

import postgres_server
from postgres_server import PostgresServer, PostgresUnavailableError


def test_the_server_is_a_real_postgresql(postgres_database_url: str) -> None:
    engine = create_engine(postgres_database_url)

    with engine.connect() as connection:
        version = connection.execute(text("SELECT version()")).scalar_one()
    engine.dispose()

    assert version.startswith("PostgreSQL ")


@pytest.mark.parametrize("name", ["first", "second"])
def test_each_test_has_a_database_of_its_own(postgres_database_url: str, name: str) -> None:
    engine = create_engine(postgres_database_url)

    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mine (name text)"))
        connection.execute(text("INSERT INTO mine VALUES (:name)"), {"name": name})
        rows = connection.execute(text("SELECT name FROM mine")).scalars().all()
    engine.dispose()

    assert rows == [name]


def test_every_backend_answers_through_the_same_fixture(database_url: str) -> None:
    engine = create_engine(database_url)

    with engine.connect() as connection:
        answer = connection.execute(text("SELECT 1")).scalar_one()
    engine.dispose()

    assert answer == 1
    assert make_url(database_url).get_backend_name() in {"sqlite", "postgresql"}


@pytest.mark.slow
def test_the_server_runs_from_a_copy_where_its_account_cannot_reach_the_installation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgres_server, "reachable_by_others", lambda _: False)

    try:
        with PostgresServer() as server:
            url = server.url(server.create_database())
            engine = create_engine(url)
            with engine.connect() as connection:
                answer = connection.execute(text("SELECT 1")).scalar_one()
            engine.dispose()
    except PostgresUnavailableError as reason:
        pytest.skip(str(reason))

    assert answer == 1


@pytest.mark.slow
def test_a_stopped_server_leaves_nothing_behind() -> None:
    try:
        server = PostgresServer().__enter__()
    except PostgresUnavailableError as reason:
        pytest.skip(str(reason))
    directory = server.socket_directory

    server.stop()

    assert not directory.exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(host=str(directory), user="postgres", dbname="postgres")
