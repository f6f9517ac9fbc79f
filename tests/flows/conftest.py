"""One Prefect server for all flow tests; it costs about ten seconds, so no test gets it unasked."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

# Prefect leaves the sockets of its clients to the garbage collector when an event loop ends.
LEFT_OPEN = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Flow tests are not failed by what Prefect leaves open."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(LEFT_OPEN)


@pytest.fixture(scope="session")
def prefect_harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server on a temporary database, without what makes each flow run slow.

    That is the heartbeat thread, logs that are sent to the server, and all the certificates there
    are, which Prefect's client loads for every task to talk to this machine without TLS.
    """
    import certifi  # noqa: PLC0415 - as Prefect
    from prefect.settings import (  # noqa: PLC0415 - importing Prefect takes a second
        PREFECT_API_SSL_CERT_FILE,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_LOGGING_TO_API_ENABLED,
        temporary_settings,
    )
    from prefect.testing.utilities import prefect_test_harness  # noqa: PLC0415 - as above

    certificate, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----\n")
    one = tmp_path_factory.mktemp("trust") / "one.pem"
    one.write_text(certificate + end)
    quick = {
        PREFECT_API_SSL_CERT_FILE: str(one),
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }
    with prefect_test_harness(server_startup_timeout=60), temporary_settings(quick):
        yield
    # While the last test's filters hold: what Prefect left open would fail the whole session.
    gc.collect()


@pytest.fixture
def closed_afterwards() -> Iterator[None]:
    """Ledgers that flows opened in this process are closed."""
    from flows.equipped import close_all  # noqa: PLC0415 - as above

    yield
    close_all()
