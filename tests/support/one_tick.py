"""A process of its own that takes one step of a rollout, and may be told to die on the way.

``python one_tick.py DIRECTORY DECISION NOW(ISO) RUN_ID [POINT]``
"""

import sys
from datetime import datetime
from pathlib import Path

from killing import Killing, KillingLedger
from optimizer.errors import ConflictError
from optimizer.loop.reconcile import reconcile
from optimizer.loop.steps import tick
from optimizer.storage import SqlLedger
from rollout_scene import acting, equipment, file_gateway


def main() -> int:
    directory, decision_id, now_text, run_id, *rest = sys.argv[1:]
    now = datetime.fromisoformat(now_text)
    point = rest[0] if rest else ""
    place = Path(directory)
    ledger = SqlLedger.open(f"sqlite:///{place / 'ledger.db'}")
    given = equipment(
        place,
        now=now,
        ledger=KillingLedger(ledger, point),  # type: ignore[arg-type] - passes everything on
        gateway=Killing(file_gateway(place, now), point),  # type: ignore[arg-type] - as above
    )
    who = acting(now, run_id)
    if not point:
        reconcile(given, acting=who)
    try:
        tick(given, decision_id, acting=who, as_of=now)
    except ConflictError as error:
        print(f"held: {error}", file=sys.stderr)  # noqa: T201 - the parent reads it
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
