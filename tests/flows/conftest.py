"""One Prefect server for all flow tests; it costs about ten seconds, so no test gets it unasked."""

from collections.abc import Iterator

import pytest


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
