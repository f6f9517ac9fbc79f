"""Money spent over the hours: as it was, with decisions, and with the best arms in hindsight."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.metrics import DAY_S, HOUR_S
from optimizer.report.backtest.figures import TargetFigures
from optimizer.report.backtest.scenarios import UNCHANGED, Scenarios, chosen
from optimizer.report.backtest.value import DECISIONS, arm_scenario, cumulated

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Money spent by the end of each hour, USD, all of one shape (H,).

    half_width: of the interval of ``decided``, straight between the ends of days; nan = unknown.
    """

    hour_s: npt.NDArray[np.int64]
    spent: FloatArray
    decided: FloatArray
    best: FloatArray
    half_width: FloatArray


def curves_of(
    scenarios: Scenarios, targets: Sequence[TargetFigures], hours: range
) -> dict[str, Series]:
    """The curves by target, and of all together under the empty name."""
    names = [figures.target for figures in targets]
    best = {
        figures.target: arm_scenario(figures.best.name)
        for figures in targets
        if figures.best.name != UNCHANGED
    }
    groups = {"": names} | {name: [name] for name in names}
    return {label: _series(scenarios, group, best, hours) for label, group in groups.items()}


def _series(
    scenarios: Scenarios, names: Sequence[str], best: Mapping[str, str], hours: range
) -> Series:
    index = pd.Index(list(hours), dtype="int64")
    calls = scenarios.calls[scenarios.calls["target"].isin(list(names))]
    spent = calls.groupby("cell_s")["spend_usd"].sum().reindex(index, fill_value=0.0)
    pairs = [(DECISIONS, name) for name in names]
    saved = [
        chosen(scenarios.costs.hours, each)
        .groupby("cell_s")["saving_usd"]
        .sum()
        .reindex(index, fill_value=0.0)
        for each in (pairs, [(best[name], name) for name in names if name in best])
    ]
    return Series(
        hour_s=index.to_numpy(),
        spent=spent.cumsum().to_numpy(dtype=np.float64),
        decided=(spent - saved[0]).cumsum().to_numpy(dtype=np.float64),
        best=(spent - saved[1]).cumsum().to_numpy(dtype=np.float64),
        half_width=_half_width(cumulated(chosen(scenarios.costs.spread, pairs)), hours),
    )


def _half_width(by_day: Mapping[int, float], hours: range) -> FloatArray:
    """Half of the interval at the end of each hour: 0 before the first day, full at the last end.

    Examples:
        >>> _half_width({0: 4.0}, range(7_200, 21_600, 3_600)).tolist()
        [1.0, 2.0, 3.0, 4.0]
    """
    ends = np.array(hours, dtype=np.float64) + HOUR_S
    if not by_day:
        return np.zeros(ends.size)
    moments = [max(min(by_day), hours.start), *(min(day + DAY_S, hours.stop) for day in by_day)]
    return np.interp(ends, moments, [0.0, *by_day.values()])
