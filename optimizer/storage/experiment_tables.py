"""The ledger's tables of experiments, as queries see them; the migrations make them."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, ForeignKey, Index, String, Table, text

from optimizer.experiment.life import IN_FLIGHT
from optimizer.storage.tables import METADATA, UtcTime


def _json(name: str, *, null: bool = False) -> Column[object]:
    return Column(name, JSON(none_as_null=True), nullable=null)


def _texts(*names: str) -> list[Column[str]]:
    return [Column(name, String, nullable=False) for name in names]


EXPERIMENTS = Table(
    "experiments",
    METADATA,
    Column("id", String, primary_key=True, nullable=False),
    *_texts("target", "name"),
    _json("design"),
    Column("created_at", UtcTime, nullable=False),
    *_texts("created_by"),
    Column("turn", BigInteger, nullable=False),
    *_texts("state"),
    Column("version", BigInteger, nullable=False),
    *_texts("salt", "baseline"),
    _json("before", null=True),
    _json("configs"),
    Column("start_asked", Boolean, nullable=False),
    Column("started_at", UtcTime),
    Column("running_since", UtcTime),
    Column("evidence_from", UtcTime),
    _json("shares"),
    _json("dropped"),
    Column("resting_since", UtcTime),
    Column("leader", String),
    Column("winner", String),
    _json("estimates"),
    Column("ends_as", String),
    Column("ended_at", UtcTime),
    *_texts("reason", "hold_reason"),
    Column("generation", BigInteger, nullable=False),
)
_FLYING = ", ".join(f"'{value}'" for value in sorted(state.value for state in IN_FLIGHT))
_IN_FLIGHT = text(f"state IN ({_FLYING})")
Index(
    "experiments_one_in_flight",
    EXPERIMENTS.c.target,
    unique=True,
    sqlite_where=_IN_FLIGHT,
    postgresql_where=_IN_FLIGHT,
)

EXPERIMENT_LOG = Table(
    "experiment_log",
    METADATA,
    Column("experiment_id", String, ForeignKey("experiments.id"), primary_key=True, nullable=False),
    Column("seq", BigInteger, primary_key=True, nullable=False, autoincrement=False),
    Column("at", UtcTime, nullable=False),
    *_texts("kind", "from_state", "to_state", "actor", "reason", "run_id"),
    _json("evidence"),
    *_texts("prev_hash", "hash"),
)
