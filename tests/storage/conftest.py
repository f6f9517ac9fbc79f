"""The ledger under test: an empty one, on each supported database."""

from collections.abc import Iterator

import pytest

from optimizer.storage import SqlLedger


@pytest.fixture
def ledger(database_url: str) -> Iterator[SqlLedger]:
    """An empty ledger at the newest revision."""
    opened = SqlLedger.open(database_url, pool_size=9)
    yield opened
    opened.close()
