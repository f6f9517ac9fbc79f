"""How Prefect runs here: quiet, private, and with leases that outlive its server.

Applied before Prefect is imported, and only where the operator has set nothing else.
"""

import os
from pathlib import Path

DEFAULTS = {
    # no telemetry, and no page that calls an outside host from the browser
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    # a new ephemeral database takes 13-15 s on a small machine; the default gives up at 20
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    # leases kept in memory leak a slot for good when the server restarts
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
    # three quarters of Prefect's database are events; they are the window, not the record
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}


def prepare(home: Path | None = None, *, quiet: bool = False) -> None:
    """Put the defaults into the environment; ``home`` keeps Prefect's own database beside ours."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if home is not None:
        os.environ.setdefault("PREFECT_HOME", str(home.resolve()))
    if quiet:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "ERROR")
