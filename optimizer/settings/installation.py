"""Sections about this installation: where it listens, where it keeps things, what it logs."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from optimizer.settings.values import Section


class Service(Section):
    """Where the server of this installation listens."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address `llmopt serve` binds to; loopback unless changed.",
    )
    port: int = Field(default=4200, ge=1, le=65535, description="Port of `llmopt serve`.")


class Database(Section):
    """Where the ledger and the spool of checked rows live."""

    connection_string: SecretStr = Field(
        default=SecretStr("sqlite:///optimizer.db"),
        description="SQLAlchemy URL of the ledger: `sqlite:///file` or `postgresql://user@host/name`.",
        json_schema_extra={"default": "sqlite:///optimizer.db"},
    )
    max_connections: int = Field(default=10, ge=1, le=1000, description="Connections at most.")
    timeout_secs: float = Field(
        default=30, gt=0, le=600, description="Longest wait for the database, seconds."
    )
    auto_migrate: bool = Field(
        default=True,
        description="Bring the schema up to date when opening; else refuse an old one.",
    )
    spool_directory: Path = Field(
        default=Path("spool"),
        description="Directory of checked rows (Parquet), kept until labels are mature; workers on "
        "several machines need a shared one.",
    )
    engine_memory_mb: int = Field(
        default=1024, ge=128, description="Memory limit of the aggregation engine, MB."
    )
    engine_threads: int = Field(default=2, ge=1, le=256, description="Threads of that engine.")


class Observability(Section):
    """What `llmopt serve`, `run`, `guard` and `maintain` say of themselves."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe message that is logged."
    )
    json_logging: bool = Field(default=False, description="One JSON object per log line.")
