"""One tick of a rollout: in this process, or in one that kills itself on the way.

``python one_tick.py DIRECTORY DECISION NOW RUN POINT``
"""

import sys
from datetime import datetime
from pathlib import Path

from killing import Killing, KillingLedger
from optimizer.evidence import DecisionId
from optimizer.loop.reconcile import reconcile
from optimizer.loop.steps import tick
from optimizer.storage import SqlLedger
from rollout_scene import acting, equipment, file_gateway


def take(
    directory: Path,
    decision_id: str,
    now: datetime,
    run_id: str,
    *,
    as_of: datetime | None = None,
) -> None:
    """Reconcile and tick, as every run does; ``as_of`` earlier than ``now`` is a late run."""
    given = equipment(directory, now=now)
    reconcile(given, acting=acting(now, run_id))
    tick(given, DecisionId(decision_id), acting=acting(now, run_id), as_of=as_of or now)


def die(directory: Path, decision_id: str, now: datetime, run_id: str, point: str) -> None:
    """Tick, and kill this very process at the point."""
    ledger = SqlLedger.open(f"sqlite:///{directory / 'ledger.db'}")
    given = equipment(
        directory,
        now=now,
        ledger=KillingLedger(ledger, point),
        gateway=Killing(file_gateway(directory, now), point),
    )
    tick(given, DecisionId(decision_id), acting=acting(now, run_id), as_of=now)


if __name__ == "__main__":
    die(Path(sys.argv[1]), sys.argv[2], datetime.fromisoformat(sys.argv[3]), *sys.argv[4:])
