"""How Prefect runs here: quiet, private, and with leases that outlive its server.

Applied before Prefect is imported, and only where the operator has set nothing else.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optimizer.settings.model import Observability

DEFAULTS = {
    # no telemetry, and no page that calls an outside host from the browser
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    # a new ephemeral database takes 13-15 s on a small machine; the default gives up at 20
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    # leases kept in memory leak a slot for good when the server restarts
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
    # a dead run is found by its silence; the default of 180 s would take nine minutes
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    # three quarters of Prefect's database are events; they are the window, not the record
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    # what the library logs is seen with the run it belongs to
    "PREFECT_LOGGING_EXTRA_LOGGERS": "optimizer",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}


def home_of(folder: Path) -> Path:
    """Where Prefect keeps its own database for the configuration in ``folder``."""
    return folder / ".llmopt" / "prefect"


def prepare(
    home: Path | None = None,
    *,
    quiet: bool = False,
    observability: "Observability | None" = None,
) -> None:
    """Put the defaults into the environment.

    ``home`` keeps Prefect's own database beside ours; ``observability`` says what is logged, and
    ``quiet`` that no more than warnings are.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if home is not None:
        os.environ.setdefault("PREFECT_HOME", str(home.resolve()))
        # Prefect makes its home, but not the directories above it.
        Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    if quiet:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "ERROR")
    if observability is not None:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", observability.log_level.upper())
        if observability.json_logging:
            os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER", "json")
