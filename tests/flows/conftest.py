"""One Prefect server for all flow tests; it costs about ten seconds, so no test gets it unasked."""

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
def prefect_harness() -> Iterator[None]:
    """A Prefect server on a temporary database, without the heartbeat thread of each flow run."""
    from prefect.settings import (  # noqa: PLC0415 - importing Prefect takes a second
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        temporary_settings,
    )
    from prefect.testing.utilities import prefect_test_harness  # noqa: PLC0415 - as above

    with (
        prefect_test_harness(server_startup_timeout=60),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield


@pytest.fixture
def closed_afterwards() -> Iterator[None]:
    """Ledgers that flows opened in this process are closed."""
    from flows.equipped import close_all  # noqa: PLC0415 - as above

    yield
    close_all()
