"""Checks on the data themselves, for the evidence page: what every verdict rests on."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat
from math import log
from typing import Final

from optimizer.evidence import Check, Outcome, Reason
from optimizer.judge.bulk import build
from optimizer.judge.health import SRM_ALARM

HEALTH: Final = "health"
"""Role of these checks."""

LOG_SRM_ALARM: Final = log(SRM_ALARM)

REMEMBERED: Final = 64
"""Checks that are made once and then shared, since most cases have the same ones."""


def split_checks(log_e: Sequence[float]) -> list[Check]:
    """Of each log e-value whether units are split as planned."""
    broken = [each >= LOG_SRM_ALARM for each in log_e]
    return build(
        Check,
        metric=repeat("sample_ratio"),
        role=repeat(HEALTH),
        outcome=[Outcome.INCONCLUSIVE if each else Outcome.PASS for each in broken],
        reason=[Reason.SRM if each else Reason.NONE for each in broken],
        method=repeat("beta-binomial e-process on units"),
        detail=[f"log e-value {each:.2f}, alarm at {LOG_SRM_ALARM:.2f}" for each in log_e],
    )


@lru_cache(maxsize=REMEMBERED)
def control_check(failing: str | None, limit: float, *, stuck: bool) -> Check:
    """Whether control keeps its limit on failures; failing: what is said where it does not."""
    return Check(
        metric="control",
        role=HEALTH,
        outcome=Outcome.INCONCLUSIVE if stuck else Outcome.PASS,
        reason=Reason.CONTROL_SICK if stuck else Reason.NONE,
        method="Bernoulli confidence sequence",
        detail=f"limit {limit:.4f} on control's failures" if failing is None else failing,
    )


@lru_cache(maxsize=REMEMBERED)
def circuit_check(lost: int) -> Check:
    """Whether the circuit is closed; lost: requests in a row that failed where it is not."""
    return Check(
        metric="circuit",
        role=HEALTH,
        outcome=Outcome.FAIL if lost else Outcome.PASS,
        reason=Reason.CIRCUIT if lost else Reason.NONE,
        method="count, without statistics",
        detail=f"{lost} requests in a row failed" if lost else "closed",
    )
