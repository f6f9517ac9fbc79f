"""Which shifts are the model's own: shared by arms that share nothing else, or beyond doubt.

The laws kept here: a shift that a target's traffic explains is no model's, a few arms of many do
not speak for their model, and the order of the shifts decides nothing.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.metrics import HOUR_S
from optimizer.statistics.runs import ALARM

SEVERAL: Final = 2
LARGE_SHIFT: Final = 2.0
"""Median score from which a confirmed shift of one arm is beyond doubt, standard deviations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When a shift is the model's.

    alone: measures that the model alone makes, so that one arm may prove it; together: measures
    that its provider's load makes too, so that several arms are needed; traffic: measures that only
    the requests make; same_s: seconds within which shifts are one; share: of a model's judged arms
    that must show it together; strong: height of the cumulative sum beyond doubt.
    """

    alone: Collection[str]
    together: Collection[str]
    traffic: Collection[str]
    same_s: int = 3 * HOUR_S
    share: float = 1 / 3
    strong: float = 2 * ALARM


def model_changes(shifts: pd.DataFrame, judged: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    """The shifts that say that a model changed, the strongest one of each arm.

    Args:
        shifts: with target, arm, model, measure, side, start_s, height, shift_z, confirmed.
        judged: target, arm, model and measure of every series that was long enough to judge.
        rule: when a shift is the model's.

    Returns:
        The rows with arms_changed (arms of the model that show the same within ``same_s``),
        arms_judged and hour_s (the median beginning of those), by target and arm.
    """
    of = ["model", "measure"]
    own = shifts[shifts["measure"].isin([*rule.alone, *rule.together])]
    own = own[~own.index.isin(_explained(shifts, rule))]
    total = judged.groupby(of).size().rename("arms_judged").reset_index()
    own = own.merge(total, on=of, how="left").sort_values("start_s", kind="stable")
    parts = [_counted(part, rule) for _, part in own.groupby([*of, "side"], sort=True)]
    if not parts:
        return own.assign(arms_changed=0, hour_s=0)
    counted = pd.concat(parts)
    told = counted[_convincing(counted, rule)].sort_values(
        ["target", "arm", "height", "measure"], ascending=[True, True, False, True]
    )
    return told.drop_duplicates(["target", "arm"]).reset_index(drop=True)


def _counted(part: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    begin = part["start_s"].to_numpy()
    low = np.searchsorted(begin, begin - rule.same_s, side="left")
    high = np.searchsorted(begin, begin + rule.same_s, side="right")
    return part.assign(arms_changed=high - low, hour_s=begin[(low + high - 1) // 2])


def _convincing(counted: pd.DataFrame, rule: Rule) -> npt.NDArray[np.bool_]:
    several = (counted["arms_changed"] >= SEVERAL) & (
        counted["arms_changed"] >= rule.share * counted["arms_judged"]
    )
    strong = (counted["height"] >= rule.strong) | (
        counted["confirmed"].astype(bool) & (counted["shift_z"].abs() >= LARGE_SHIFT)
    )
    alone = counted["measure"].isin(list(rule.alone))
    return np.asarray(several | (strong & alone), dtype=np.bool_)


def _explained(shifts: pd.DataFrame, rule: Rule) -> npt.NDArray[np.int64]:
    """Labels of shifts with other requests in the same arm, or the same in another model there."""
    left = shifts.assign(change=shifts.index)
    other = shifts[["target", "arm", "model", "measure", "side", "start_s"]]
    requests = other[other["measure"].isin(list(rule.traffic))]
    inside = left.merge(requests, on=["target", "arm"], suffixes=("", "_other"))
    beside = left.merge(other, on=["target", "measure", "side"], suffixes=("", "_other"))
    beside = beside[beside["model"] != beside["model_other"]]
    both = pd.concat([inside, beside], ignore_index=True)
    near = (both["start_s"] - both["start_s_other"]).abs() <= rule.same_s
    return np.asarray(both["change"][near].unique(), dtype=np.int64)
