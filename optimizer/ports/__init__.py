"""Ports: what the loop needs from the outside, as Protocols.

Every adapter passes the contract suite of its port. Calls are idempotent where they write; an
adapter raises :class:`~optimizer.errors.UnavailableError` when its counterpart does not answer and
:class:`~optimizer.errors.ConflictError` when somebody else was first.
"""

from optimizer.ports.effects import (
    Dispatcher,
    Gateway,
    Notifier,
    PolicyPoint,
    PriceBook,
)
from optimizer.ports.intake_store import (
    AggregateStore,
    CursorState,
    Intake,
    IntakeStore,
    SpoolFile,
)
from optimizer.ports.ledger import (
    DecisionStore,
    EffectStore,
    ExperimentStore,
    Intent,
    Lease,
    Ledger,
    Look,
    RunStore,
    Snapshot,
)
from optimizer.ports.sources import (
    Batch,
    FileInput,
    FrameInput,
    Json,
    Mapped,
    Reject,
    Source,
)

__all__ = [
    "AggregateStore",
    "Batch",
    "CursorState",
    "DecisionStore",
    "Dispatcher",
    "EffectStore",
    "ExperimentStore",
    "FileInput",
    "FrameInput",
    "Gateway",
    "Intake",
    "IntakeStore",
    "Intent",
    "Json",
    "Lease",
    "Ledger",
    "Look",
    "Mapped",
    "Notifier",
    "PolicyPoint",
    "PriceBook",
    "Reject",
    "RunStore",
    "Snapshot",
    "Source",
    "SpoolFile",
]
