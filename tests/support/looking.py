"""Looks at a planned rollout, hour by hour, that carry on what was spent as the ledger does."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd

from judging import LOOSE
from optimizer.evidence import Looks, RampPlan, Spent, Verdict
from optimizer.judge import Case, judge
from optimizer.policy import Guardrail, Policy
from rollouts import HOUR, T0, World, case, grains

HOURS = 8
HOURLY = 200
PLAN = RampPlan(hours=HOURS, requests=HOURS * HOURLY, extended=1.5 * HOURS * HOURLY)
SIMPLE = replace(LOOSE, guardrails=(Guardrail(metric="failure_rate", margin=0.02),))
LAST_STAGE = len(LOOSE.stages) - 1


def made(
    world: World, *, hours: int = HOURS, seed: int = 7, targets: Sequence[str] = ("checkout",)
) -> pd.DataFrame:
    """Hourly traffic, all of it in the first window of each hour."""
    rng = np.random.default_rng(seed)
    return grains(rng, world, targets=targets, windows=hours, step_s=3_600)


def planned(policy: Policy = LOOSE, *, plan: RampPlan = PLAN, **changes: object) -> Case:
    return case(policy=policy, plan=plan, **changes)  # type: ignore[arg-type]


def end_of(hour: int) -> datetime:
    return T0 + hour * HOUR


def seen(frame: pd.DataFrame, given: Case, hour: int, *, looking: bool = True) -> Verdict:
    """The verdict at the end of an hour."""
    until = end_of(hour)
    verdicts = judge([given], frame, now=until, data_until=until, looking=looking)
    return verdicts[given.decision.id]


def carried(given: Case, verdict: Verdict) -> Case:
    """The case at the next look, as the ledger gives it back."""
    return replace(given, spent=verdict.spent)


def hourly(frame: pd.DataFrame, given: Case, hours: Sequence[int]) -> list[Verdict]:
    """The verdicts of looks that carry on what was spent."""
    verdicts: list[Verdict] = []
    for hour in hours:
        verdicts.append(seen(frame, given, hour))
        given = carried(given, verdicts[-1])
    return verdicts


def harm_looks(verdict: Verdict, metric: str = "failure_rate") -> Looks:
    return next(each.harm for each in verdict.spent if each.metric == metric)


def together(
    frame: pd.DataFrame, cases: Sequence[Case], hours: Sequence[int]
) -> list[dict[str, Verdict]]:
    """The verdicts on many targets at each look, carrying on what was spent."""
    spent: dict[str, tuple[Spent, ...]] = {}
    found: list[dict[str, Verdict]] = []
    for hour in hours:
        until = end_of(hour)
        now = [replace(each, spent=spent.get(each.decision.target, ())) for each in cases]
        verdicts = judge(now, frame, now=until, data_until=until)
        found.append({each.decision.target: verdicts[each.decision.id] for each in cases})
        spent = {target: verdict.spent for target, verdict in found[-1].items()}
    return found
