"""Tasks of a backtest: read the log, walk its hours, tell what came of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect import task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from optimizer.loop import backtest
from optimizer.loop.equipment import Equipment
from optimizer.report.backtest import Backtest, tell, text
from tasks.options import EFFECT, PURE

KEY = "backtest"
DAY_HOURS = 24


@task(name="read_log", timeout_seconds=6 * 3600, **EFFECT)
def read_log(
    equipment: Equipment,
    now: datetime,
    *,
    start: datetime | None,
    end: datetime | None,
    targets: Sequence[str],
) -> backtest.Read:
    """Read everything the sources hold; no cursor is looked at and none moves."""
    return backtest.read(equipment, now=now, start=start, end=end, targets=targets)


@task(name="walk_hours", timeout_seconds=24 * 3600, **PURE)
def walk_hours(equipment: Equipment, found: backtest.Read) -> backtest.Walked:
    """Decide every hour of the period on what was known then; the UI shows how far it is."""
    shown = create_progress_artifact(progress=0.0, description="hours of the period")

    def progress(_what: str, done: int, of: int | None) -> None:
        if of and (done % DAY_HOURS == 0 or done == of):
            update_progress_artifact(artifact_id=_id(shown), progress=100.0 * done / of)

    return backtest.walk(equipment, found, progress=progress)


@task(name="tell_backtest", timeout_seconds=3600, **PURE)
def tell_backtest(equipment: Equipment, walked: backtest.Walked) -> Backtest:
    """Value what was decided, and leave a page and a table in the UI."""
    found = tell(walked, equipment.ledger, equipment.policies)
    create_markdown_artifact(
        key=KEY, markdown=text.markdown(found), description=text.headline(found)
    )
    create_table_artifact(
        key=f"{KEY}-targets", table=text.by_target(found), description="what would have been saved"
    )
    return found


def _id(created: Any) -> UUID:  # noqa: ANN401 - Prefect says UUID or a coroutine of one
    return UUID(str(created))
