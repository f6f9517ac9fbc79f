"""One run's work on experiments: in this process, or in one that kills itself on the way.

``python one_trial.py DIRECTORY NOW RUN POINT NTH``
"""

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from experiment_scene import design, trial
from killing import Killing
from optimizer.experiment.design import Rule
from optimizer.loop.experiments import run_all
from optimizer.loop.reconcile import reconcile
from optimizer.storage import SqlLedger
from rollout_scene import acting, file_gateway

ASKED = design(rule=Rule.TOP_TWO)


class KillingTrials:
    """A ledger whose effects and experiments may kill."""

    def __init__(self, inner: SqlLedger, point: str, nth: int) -> None:
        self._inner = inner
        self.effects = Killing(inner.effects, point, nth)
        self.experiments = Killing(inner.experiments, point, nth)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the ledger
        return getattr(self._inner, name)


def take(directory: Path, now: datetime, run_id: str, *, as_of: datetime | None = None) -> None:
    """Reconcile, then the steps of experiments, as every run does."""
    given = trial(directory, ASKED, now=now)
    who = acting(now, run_id)
    reconcile(given, acting=who)
    run_all(given, acting=who, as_of=as_of or now)


def die(directory: Path, now: datetime, run_id: str, point: str, nth: int) -> None:
    """The same, and kill this very process at the point, the nth time it is passed."""
    ledger = SqlLedger.open(f"sqlite:///{directory / 'ledger.db'}")
    given = trial(
        directory,
        ASKED,
        now=now,
        ledger=KillingTrials(ledger, point, nth),
        gateway=Killing(file_gateway(directory, now), point, nth),
    )
    run_all(given, acting=acting(now, run_id), as_of=now)


if __name__ == "__main__":
    place, moment, run, at, nth_time = sys.argv[1:]
    die(Path(place), datetime.fromisoformat(moment), run, at, int(nth_time))
