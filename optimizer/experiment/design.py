"""What an operator asks an experiment to find out, and what it may use for it."""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

METRICS = ("quality", "failure_rate")
"""What arms can be compared by: scores, or the share of units that did not fail."""
FEWEST_ARMS = 2
MOST_ARMS = 8


class Rule(Enum):
    """How the experiment's traffic is split among its arms."""

    UNIFORM = "uniform"
    """evenly, until an arm is declared the best (A/B test)"""
    TOP_TWO = "top_two"
    """more to the arms that may be the best, by top-two Thompson sampling (bandit)"""
    TUNING = "tuning"
    """evenly: a point that tuning asked for beside the arm in force"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """The question and its limits; frozen when the experiment starts.

    share: of the target's traffic, fraction, the rest stays on the baseline; min_duration: nothing
    is declared before; max_duration: without a declaration it ends then, with no winner; delta:
    chance ever to declare an arm that is worse than another; floor: share of the experiment's
    traffic that all arms share evenly, whatever the evidence says; daily_budget_usd: what the arms
    beside the baseline may cost a UTC day, None = no limit; auto: starts by itself; keep_running:
    goes on after a declaration, and watches whether the leader still leads.

    Raises:
        ValueError: naming the field, its value and the bound.
    """

    name: str
    target: str
    arms: tuple[str, ...]
    metric: str = "quality"
    rule: Rule = Rule.UNIFORM
    share: float = 0.2
    min_duration: timedelta = timedelta(hours=24)
    max_duration: timedelta = timedelta(days=7)
    delta: float = 0.05
    floor: float = 0.1
    daily_budget_usd: float | None = None
    auto: bool = False
    keep_running: bool = False

    def __post_init__(self) -> None:
        """Check ranges and names."""
        if not FEWEST_ARMS <= len(self.arms) <= MOST_ARMS or len(set(self.arms)) < len(self.arms):
            msg = f"arms must be {FEWEST_ARMS} to {MOST_ARMS} different ones: {list(self.arms)}"
            raise ValueError(msg)
        if self.metric not in METRICS:
            msg = f"metric {self.metric!r} is none of {list(METRICS)}"
            raise ValueError(msg)
        if not 0 < self.share <= 1:
            msg = f"share = {self.share} lies outside (0, 1]"
            raise ValueError(msg)
        if not 0 < self.delta < 1:
            msg = f"delta = {self.delta} lies outside (0, 1)"
            raise ValueError(msg)
        if not 0 <= self.floor <= 1:
            msg = f"floor = {self.floor} lies outside [0, 1]"
            raise ValueError(msg)
        if not timedelta(0) <= self.min_duration < self.max_duration:
            msg = (
                f"min_duration {self.min_duration} must not be negative and lies below "
                f"max_duration {self.max_duration}"
            )
            raise ValueError(msg)
        if self.keep_running and self.rule is not Rule.TOP_TWO:
            msg = f"keep_running of {self.name} needs the rule {Rule.TOP_TWO.value}"
            raise ValueError(msg)
