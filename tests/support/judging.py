"""One verdict on a world of known truth, at the end of its windows."""

from collections.abc import Mapping
from datetime import timedelta

import numpy as np
import pandas as pd

from optimizer.evidence import Check, Verdict
from optimizer.judge import Case, judge
from optimizer.policy import Guardrail, Policy
from rollouts import HOUR, T0, World, grains

LOOSE = Policy(
    guardrails=(
        Guardrail(metric="quality", margin=0.06, anchored=True),
        Guardrail(metric="failure_rate", margin=0.02),
        Guardrail(metric="latency_exceedance", margin=0.04),
        Guardrail(metric="latency_ms", margin=0.1, relative=True),
    )
)
GOOD = World()
WINDOWS = 24


def made(world: World, *, windows: int = WINDOWS, seed: int = 7) -> pd.DataFrame:
    return grains(np.random.default_rng(seed), world, windows=windows)


def look(
    frame: pd.DataFrame, given: Case, *, windows: int = WINDOWS, late: timedelta = HOUR
) -> Verdict:
    """The verdict at the end of the windows, when labels have matured."""
    end = T0 + windows * timedelta(minutes=5)
    return judge([given], frame, now=end + late, data_until=end)[given.decision.id]


def by_metric(verdict: Verdict) -> Mapping[str, Check]:
    return {check.metric: check for check in verdict.checks}
