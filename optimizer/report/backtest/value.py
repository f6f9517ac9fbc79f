"""What a log says of other splits of its traffic: savings and differences with their intervals.

A scenario sends shares of a target's requests to arms that served others of that hour; the rest is
served as it was. Law: a scenario that sends nothing elsewhere saves exactly nothing, and an hour in
which the log holds no priced request of an arm that would have served is unknown: it adds to no
saving, and is counted.

In each hour the requests sent to an arm are valued at the arm's mean in that hour (post-stratified,
so that busy or costly hours favour nobody); other metrics, whose values are fewer, at its mean of
the day. Means are self-normalised where requests carry propensities. Intervals are for traffic like
this one: the variance is that of the linearised estimate over hash buckets of sessions, with
deviations from the day's mean, so that an hour with one request does not seem certain.

References:
    Swaminathan and Joachims (2015), The self-normalized estimator for counterfactual learning,
    NeurIPS 28; Saerndal, Swensson and Wretman (1992), Model Assisted Survey Sampling, 5.5 and 7.6
    (linearisation, post-strata); Cochran (1977), Sampling Techniques, 5A.12 (collapsed strata);
    Liang and Zeger (1986), Biometrika 73:13 (variance over clusters).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import pandas as pd
from scipy import special

from optimizer.metrics import DAY_S, HOUR_S
from optimizer.statistics.clusters import effective_clusters
from optimizer.statistics.offpolicy import PolicyValue

NAN: Final = math.nan
DECISIONS: Final = "decisions"
"""The scenario of all decisions together."""

COST: Final = "cost_usd"
_ROUNDING: Final = 1e-12
WHO: Final = ["scenario", "target"]
HOUR: Final = [*WHO, "cell_s"]
CELL: Final = ["target", "arm", "cell_s"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A value with its 95 % limits; nan = unknown."""

    value: float
    lower: float
    upper: float

    def scaled(self, factor: float) -> "Amount":
        """The same in another unit; factor above 0."""
        return Amount(
            value=self.value * factor, lower=self.lower * factor, upper=self.upper * factor
        )


UNKNOWN: Final = Amount(value=NAN, lower=NAN, upper=NAN)
NOTHING: Final = Amount(value=0.0, lower=0.0, upper=0.0)


class Sums(Protocol):
    """Where sums over the log come from."""

    def cells(self, metric: str, width_s: int) -> pd.DataFrame:
        """target, arm, cell_s, n, total, weight, weighted."""
        ...

    def residuals(self, metric: str, width_s: int, wanted: pd.DataFrame) -> pd.DataFrame:
        """scenario, target, day_s, cluster, z, load."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Scenarios valued in money.

    hours: scenario, target, cell_s, share (sent elsewhere), requests, spend_usd, known, saving_usd;
    spread: scenario, target, day_s, cluster, z, load; prices: the hourly cells they rest on.
    """

    hours: pd.DataFrame
    spread: pd.DataFrame
    prices: pd.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """Scenarios valued in another metric.

    days: scenario, target, day_s, redirected (requests), known, change (summed over requests);
    spread: as of :class:`Costs`; levels: the metric's mean in the log, by target.
    """

    days: pd.DataFrame
    spread: pd.DataFrame
    levels: Mapping[str, float]


def value_costs(sums: Sums, shares: pd.DataFrame) -> Costs:
    """What scenarios would have saved.

    Args:
        sums: of the log.
        shares: scenario, target, arm, cell_s and share, at most one row each; hours that are not
            named are served as they were.
    """
    prices = sums.cells(COST, HOUR_S)
    joined = shares.merge(prices, on=CELL, how="left")
    joined["mean"] = joined["weighted"] / joined["weight"]
    joined["known"] = joined["n"].notna()
    joined["price"] = joined["share"] * joined["mean"]
    hours = joined.groupby(HOUR, sort=True, as_index=False).agg(
        share=("share", "sum"), price=("price", "sum"), known=("known", "all")
    )
    whole = prices.groupby(["target", "cell_s"], as_index=False).agg(
        requests=("n", "sum"), spend_usd=("total", "sum")
    )
    hours = hours.merge(whole, on=["target", "cell_s"], how="inner")
    saved = hours["share"] * hours["spend_usd"] - hours["requests"] * hours["price"]
    # An arm that served the whole hour already saves nothing, not a rounding error.
    real = hours["known"] & (saved.abs() > _ROUNDING * hours["spend_usd"])
    hours["saving_usd"] = saved.where(real, 0.0)
    wanted = _cost_weights(hours, shares, prices)
    spread = sums.residuals(COST, HOUR_S, wanted)
    return Costs(hours=hours.drop(columns="price"), spread=spread, prices=prices)


def _cost_weights(hours: pd.DataFrame, shares: pd.DataFrame, prices: pd.DataFrame) -> pd.DataFrame:
    """How each request's deviation moves each scenario's saving."""
    # Hours that save exactly nothing are no estimates.
    moved = hours[hours["saving_usd"] != 0.0][[*HOUR, "share", "requests"]]
    moved = moved.rename(columns={"share": "plain"})
    wanted = moved.merge(prices, on=["target", "cell_s"], how="inner")
    wanted = wanted.merge(shares, on=["scenario", *CELL], how="left")
    wanted["weighted"] = -wanted["requests"] * wanted["share"].fillna(0.0) / wanted["weight"]
    days = prices.assign(day_s=prices["cell_s"] // DAY_S * DAY_S)
    means = days.groupby(["target", "arm", "day_s"], as_index=False)[["weighted", "weight"]].sum()
    means["centre"] = means["weighted"] / means["weight"]
    wanted["day_s"] = wanted["cell_s"] // DAY_S * DAY_S
    wanted = wanted.merge(
        means[["target", "arm", "day_s", "centre"]], on=["target", "arm", "day_s"], how="left"
    )
    return wanted[["scenario", *CELL, "plain", "weighted", "centre"]]


def value_differences(sums: Sums, costs: Costs, shares: pd.DataFrame, metric: str) -> Differences:
    """What scenarios would have changed in a metric, in the hours whose cost is known."""
    known = costs.hours[costs.hours["known"]][[*HOUR, "share", "requests"]]
    sent = known.rename(columns={"share": "elsewhere"}).merge(shares, on=HOUR, how="inner")
    sent["change"] = sent["share"] * sent["requests"]
    left = known.merge(costs.prices, on=["target", "cell_s"], how="inner")
    left["change"] = -left["share"] * left["n"]
    moved = pd.concat(
        [frame[["scenario", *CELL, "change"]] for frame in (sent, left)], ignore_index=True
    )
    moved["cell_s"] = moved["cell_s"] // DAY_S * DAY_S
    moved = moved.groupby(["scenario", *CELL], sort=True, as_index=False).agg(
        change=("change", "sum")
    )
    moved = moved[moved["change"].abs() > 0]
    cells = sums.cells(metric, DAY_S)
    moved = moved.merge(cells, on=CELL, how="left")
    moved["known"] = moved["n"].notna()
    moved["centre"] = moved["weighted"] / moved["weight"]
    moved["difference"] = (moved["change"] * moved["centre"]).fillna(0.0)
    days = moved.groupby(HOUR, sort=True, as_index=False).agg(
        known=("known", "all"), change=("difference", "sum")
    )
    sizes = known.assign(
        redirected=known["share"] * known["requests"], cell_s=known["cell_s"] // DAY_S * DAY_S
    )
    days = days.merge(sizes.groupby(HOUR, as_index=False)["redirected"].sum(), on=HOUR, how="left")
    usable = moved.merge(days[days["known"]][HOUR], on=HOUR, how="inner")
    usable = usable.assign(plain=0.0, weighted=usable["change"] / usable["weight"])
    wanted = usable[["scenario", *CELL, "plain", "weighted", "centre"]]
    spread = sums.residuals(metric, DAY_S, wanted)
    whole = cells.groupby("target")[["total", "n"]].sum()
    return Differences(
        days=days.rename(columns={"cell_s": "day_s"}),
        spread=spread,
        levels={str(name): float(row.total / row.n) for name, row in whole.iterrows()},
    )


def amount(value: float, spread: pd.DataFrame) -> Amount:
    """The value with its limits, from the rows of its spread.

    Without a row nothing is estimated and the value is certain. Where the sessions that speak are
    worth fewer than 20 hash buckets, or differ in nothing, the limits are unknown.

    Examples:
        >>> rows = pd.DataFrame({"cluster": range(100), "z": [1.0, -1.0] * 50, "load": 1.0})
        >>> found = amount(5.0, rows)
        >>> round(found.lower, 2), round(found.upper, 2)
        (-14.94, 24.94)
        >>> amount(0.0, rows[:0])
        Amount(value=0.0, lower=0.0, upper=0.0)
    """
    if not spread["load"].sum() > 0:
        return Amount(value=value, lower=value, upper=value)
    half = _half_width(value, spread)
    return Amount(value=value, lower=value - half, upper=value + half)


def cumulated(spread: pd.DataFrame) -> dict[int, float]:
    """Half width of the interval of what was saved up to the end of each day, by the day's start.

    ``spread``: of the targets and the scenario that are added up.
    """
    days = sorted(int(day) for day in spread["day_s"].unique())
    return {day: _half_width(0.0, spread[spread["day_s"] <= day]) for day in days}


def _half_width(value: float, spread: pd.DataFrame) -> float:
    """Half of the 95 % interval of a value, from sums of deviations by hash bucket of sessions."""
    buckets = spread.groupby("cluster", sort=True)[["z", "load"]].sum()
    z = buckets["z"].to_numpy(dtype=np.float64)
    found = PolicyValue(
        value=value,
        # What is only rounding is no small error, but none that is known.
        influence=np.where(np.abs(z) > _ROUNDING * abs(value), z, 0.0),
        clusters=int(effective_clusters(buckets["load"])),
    )
    return float(special.stdtrit(found.clusters - 1, 0.975)) * math.sqrt(found.variance)


def arm_scenario(arm: str) -> str:
    """The name of the scenario that sends everything to the arm."""
    return f"arm {arm}"


def whole_swaps(arms: Mapping[str, Sequence[str]], hours: Iterable[int]) -> pd.DataFrame:
    """Shares of the scenarios that send everything to one arm, by target that offers it."""
    cells = pd.DataFrame({"cell_s": pd.Series(list(hours), dtype="int64")})
    pairs = pd.DataFrame(
        [(arm_scenario(name), target, name) for target, names in arms.items() for name in names],
        columns=["scenario", "target", "arm"],
        dtype="str",
    )
    return pairs.merge(cells, how="cross").assign(share=1.0)
