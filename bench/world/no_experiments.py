"""The part of a ledger that remembers experiments, where there are none."""

from collections.abc import Sequence
from typing import NoReturn

from optimizer.experiment.life import Entry, Experiment, ExperimentId, ExperimentState
from optimizer.ports import Lease


class NoExperiments:
    """No experiment is ever stored here."""

    def create(self, experiment: Experiment, entries: Sequence[Entry]) -> NoReturn:
        """Not called: replays start none."""
        raise AssertionError(experiment.id)

    def get(self, experiment_id: ExperimentId) -> NoReturn:
        """There is none of that id."""
        raise KeyError(experiment_id)

    def find(
        self, *, states: Sequence[ExperimentState] | None = None, target: str | None = None
    ) -> Sequence[Experiment]:
        """None."""
        return ()

    def update(
        self, experiment: Experiment, entries: Sequence[Entry], *, lease: Lease | None
    ) -> NoReturn:
        """Not called, as above."""
        raise AssertionError(experiment.id)

    def entries(self, experiment_id: ExperimentId) -> NoReturn:
        """There is none of that id."""
        raise KeyError(experiment_id)
