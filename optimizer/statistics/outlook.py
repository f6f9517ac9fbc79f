"""What may be expected of every arm of many targets, relative to the arm in force.

An arm with traffic of its own is described by it; an arm without is described by what is published
(its prior) and by its price at the baseline's mean tokens. Published levels differ from production
levels, so a prior is compared with the baseline's prior of the same source where there is one. All
costs are ratios to the baseline's, so that no currency or scale decides anything.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from optimizer.statistics import arms
from optimizer.statistics.arms import Row
from optimizer.targets import Arm, Target

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Columns = dict[str, npt.NDArray[np.generic]]

NAN: Final = float("nan")
Z_95: Final = 1.959963984540054
EVEN: Final = 0.5
SURE: Final = 0.9


def outlook(
    targets: Mapping[str, Target],
    baselines: Mapping[str, str],
    recent: pd.DataFrame,
    labelled: pd.DataFrame,
    *,
    min_requests: int,
    min_labels: int,
) -> pd.DataFrame:
    """One row for every arm of every target, sorted by target and arm.

    Args:
        targets: the catalogue; a target whose baseline is none of its arms is left out.
        baselines: the arm in force by target, where it is not the configured one.
        recent: aggregates, any slices; rows of other targets and arms are ignored.
        labelled: the part of ``recent`` whose quality is mature.
        min_requests: rows from which traffic of its own describes an arm's cost and speed.
        min_labels: scored rows from which they describe its quality.

    Returns:
        Beside the columns of :func:`optimizer.statistics.arms.measured` (0 and nan without
        traffic): ``is_base``, ``enabled``; ``quality_from``, ``cost_from`` in own, prior, price,
        nothing; ``quality_gap`` and ``gap_variance`` against the baseline; ``quality_expected``;
        ``base_cost_usd``, ``cost_ratio``, ``log_ratio_variance``; ``log_latency_ratio`` and its
        ``log_latency_variance``; ``p95_expected_ms``; ``slow_gap`` and ``slow_gap_variance``
        (share beyond the baseline's p95); ``failure_expected``; ``n_labelled``: requests in mature
        windows. nan = unknown.
    """
    book = _catalogue(targets, baselines)
    if book.empty:
        return book
    book = _with_traffic(book, recent, labelled)
    base = _of_baseline(book)
    book = book.assign(**_quality(book, base, min_labels))
    book = book.assign(**_cost(book, base, min_requests))
    book = book.assign(**_latency(book, base, min_requests))
    own = (book["n"] >= min_requests).to_numpy()
    prior = book["prior_failure_rate"].to_numpy()
    return book.assign(failure_expected=np.where(own, book["failure_rate"], prior))


def chance_above(value: npt.ArrayLike, variance: npt.ArrayLike, limit: npt.ArrayLike) -> FloatArray:
    """P(x > limit) of normal x; without variance 1, 1/2 or 0 as the value lies; nan if unknown.

    Examples:
        >>> [round(float(p), 3) for p in chance_above([0.02, 0.0], [1e-4, 0.0], [0.0, 0.0])]
        [0.977, 0.5]
    """
    with np.errstate(invalid="ignore"):
        gap = np.asarray(value, dtype=np.float64) - np.asarray(limit, dtype=np.float64)
    gap, sd = np.broadcast_arrays(gap, np.sqrt(np.asarray(variance, dtype=np.float64)))
    side = np.select([gap > 0, gap < 0, gap == 0], [np.inf, -np.inf, 0.0], default=np.nan)
    scaled = np.divide(gap, sd, out=side, where=(sd > 0) & np.isfinite(gap))
    return np.where(np.isnan(sd), np.nan, special.ndtr(scaled))


def predictions(row: Row, base: Row) -> tuple[dict[str, Any], ...]:
    """What is expected of an arm (canary) and of the arm in force (control), metric by metric.

    Args:
        row: the arm's row of the outlook, as a named tuple.
        base: the row of its target's baseline.

    Returns:
        For quality, cost_usd, failure_rate and latency_p95_ms the fields of an estimate; None where
        nothing is known.
    """
    cost = row.base_cost_usd
    values = (
        ("quality", "score", row.quality_expected, base.quality_expected, row.n_quality),
        ("cost_usd", "USD/request", row.cost_ratio * cost, cost, row.n_cost),
        ("failure_rate", "share", row.failure_expected, base.failure_expected, row.n),
        ("latency_p95_ms", "ms", row.p95_expected_ms, base.p95_expected_ms, row.n_latency),
    )
    sizes = (base.n_quality, base.n_cost, base.n, base.n_latency)
    half = {"quality": Z_95 * math.sqrt(row.gap_variance)}
    return tuple(
        {
            "metric": metric,
            "unit": unit,
            "effect": known(canary - control),
            "lower": known(canary - control - half.get(metric, NAN)),
            "upper": known(canary - control + half.get(metric, NAN)),
            "canary": known(canary),
            "control": known(control),
            "n_canary": int(n),
            "n_control": int(n_base),
            "method": "prediction from own traffic, price and prior",
        }
        for (metric, unit, canary, control, n), n_base in zip(values, sizes, strict=True)
    )


def known(value: float) -> float | None:
    """The value, or None where it is no finite number."""
    return float(value) if math.isfinite(value) else None


def dominated_by(book: pd.DataFrame, eligible: BoolArray) -> pd.Series:
    """For each row the smallest name of an eligible arm that dominates it, None where none does.

    An arm dominates if it is better with probability of at least 1/2 in quality, cost and latency,
    and above 0.9 in one of them; an unknown axis counts as even. The baseline is always eligible.

    References:
        Statistical specification, cost-constrained choice: the Pareto set under uncertainty.
    """
    columns = [
        "target",
        "arm",
        "quality_gap",
        "gap_variance",
        "log_cost",
        "log_ratio_variance",
        "log_latency_ratio",
        "log_latency_variance",
    ]
    with np.errstate(divide="ignore"):
        rows = book.assign(log_cost=np.log(book["cost_ratio"].to_numpy()), row=range(len(book)))
    rivals = rows[eligible | book["is_base"].to_numpy()][columns]
    pairs = rows[[*columns, "row"]].merge(rivals, on="target", suffixes=("", "_rival"))
    pairs = pairs[pairs["arm"] != pairs["arm_rival"]]
    chances = np.column_stack(
        [
            _better(pairs, "quality_gap", "gap_variance", sign=1),
            _better(pairs, "log_cost", "log_ratio_variance", sign=-1),
            _better(pairs, "log_latency_ratio", "log_latency_variance", sign=-1),
        ]
    )
    wins = pairs[(chances.min(axis=1) >= EVEN) & (chances.max(axis=1) > SURE)]
    smallest = wins.groupby("row")["arm_rival"].min()
    named = [smallest.get(row) for row in range(len(book))]
    return pd.Series(named, index=book.index, dtype=object)


def _better(pairs: pd.DataFrame, value: str, variance: str, *, sign: int) -> FloatArray:
    own, rival = (pairs[name].to_numpy(dtype=np.float64) for name in (value, f"{value}_rival"))
    with np.errstate(invalid="ignore"):
        gap = np.where(own == rival, 0.0, sign * (rival - own))
    spread = pairs[variance].to_numpy() + pairs[f"{variance}_rival"].to_numpy()
    chance = chance_above(gap, np.nan_to_num(spread), 0.0)
    return np.where(np.isnan(chance), EVEN, chance)


def _catalogue(targets: Mapping[str, Target], baselines: Mapping[str, str]) -> pd.DataFrame:
    rows = [
        (name, in_force, *_described(arm))
        for name, target in sorted(targets.items())
        for in_force in (baselines.get(name, target.baseline),)
        if any(arm.name == in_force for arm in target.arms)
        for arm in sorted(target.arms, key=lambda arm: arm.name)
    ]
    columns = [
        "target",
        "in_force",
        "arm",
        "enabled",
        "price_input",
        "price_output",
        "price_cached",
        "prior_quality",
        "prior_n",
        "prior_cost_usd",
        "prior_latency_ms",
        "prior_failure_rate",
        "prior_source",
    ]
    book = pd.DataFrame(rows, columns=columns)
    return book.assign(is_base=book["arm"] == book["in_force"])


def _described(arm: Arm) -> tuple[object, ...]:
    price: tuple[float, ...] = (NAN, NAN, NAN)
    if arm.price is not None:
        # Price is linear in its tokens: one token of each kind gives the three coefficients.
        price = (
            arm.price.cost_usd(1.0, 0.0),
            arm.price.cost_usd(0.0, 1.0),
            arm.price.cost_usd(1.0, 0.0, 1.0),
        )
    prior: tuple[object, ...] = (NAN, 0, NAN, NAN, NAN, "")
    if arm.prior is not None:
        p = arm.prior
        known = (p.quality, p.n, p.cost_usd, p.latency_ms, p.failure_rate)
        prior = (*(NAN if value is None else value for value in known), p.source)
    return (arm.name, arm.enabled, *price, *prior)


def _with_traffic(book: pd.DataFrame, recent: pd.DataFrame, labelled: pd.DataFrame) -> pd.DataFrame:
    """The catalogue with each arm's pooled sums; quality from the mature rows alone."""
    keys = ["target", "arm"]
    pool = arms.pooled(recent, keys)
    scored = arms.measured(arms.pooled(labelled, keys, latency=False))
    quality = ["n_quality", "quality", "quality_variance"]
    own = arms.measured(pool).drop(columns=quality)
    own = own.merge(_slow(book, pool), on=keys, how="left")
    scored = scored[[*keys, "n", *quality]].rename(columns={"n": "n_labelled"})
    joined = book.merge(own, on=keys, how="left").merge(scored, on=keys, how="left")
    counts = [name for name in joined.columns if name.startswith("n_") or name == "n"]
    return joined.assign(**{name: joined[name].fillna(0).astype(np.int64) for name in counts})


def _slow(book: pd.DataFrame, pool: arms.Pool) -> pd.DataFrame:
    """Requests slower than the target's baseline p95; failed ones count as slow."""
    frame = pool.frame[["target", "arm"]]
    edge = arms.quantile_edges(pool, 0.95)
    in_force = frame["target"].map(dict(zip(book["target"], book["in_force"], strict=True)))
    of_base = (frame["arm"] == in_force).to_numpy()
    known = dict(zip(frame["target"][of_base], edge[of_base], strict=True))
    limit = frame["target"].map(known).to_numpy(dtype=np.float64)
    slower = arms.slower_than(pool, np.nan_to_num(limit, nan=np.inf))
    failed = pool.frame["n_failed"].to_numpy()
    return frame.assign(
        n_slow=np.where(np.isnan(limit), 0, slower + failed),
        n_timed=np.where(np.isnan(limit), 0, pool.frame["n_latency"].to_numpy() + failed),
    )


def _of_baseline(book: pd.DataFrame) -> pd.DataFrame:
    """The row of each row's baseline, same length and order."""
    base = book[book["is_base"]].set_index("target")
    return base.loc[book["target"]].set_index(book.index)


def _quality(book: pd.DataFrame, base: pd.DataFrame, min_labels: int) -> Columns:
    is_base = book["is_base"].to_numpy()
    base_own = (base["n_quality"] >= min_labels).to_numpy()
    own = base_own & (book["n_quality"] >= min_labels).to_numpy()
    same = _same_source(book, base)
    published, base_published = book["prior_quality"].to_numpy(), base["prior_quality"].to_numpy()
    level = np.where(base_own & ~same, base["quality"].to_numpy(), base_published)
    level_variance = np.where(
        base_own & ~same,
        base["quality_variance"].to_numpy(),
        _prior_variance(base_published, base["prior_n"].to_numpy()),
    )
    gap = np.where(own, book["quality"] - base["quality"], published - level)
    variance = np.where(
        own,
        book["quality_variance"] + base["quality_variance"],
        _prior_variance(published, book["prior_n"].to_numpy()) + level_variance,
    )
    known = ~np.isnan(gap) | is_base
    gap, variance = np.where(is_base, 0.0, gap), np.where(is_base, 0.0, variance)
    start = np.where(base_own, base["quality"].to_numpy(), base_published)
    return {
        "quality_from": np.where(
            own, "own", np.where(known & ~is_base, "prior", np.where(base_own, "own", "nothing"))
        ),
        "quality_gap": gap,
        "gap_variance": variance,
        "quality_expected": np.clip(start + gap, 0.0, 1.0),
    }


def _same_source(book: pd.DataFrame, base: pd.DataFrame) -> BoolArray:
    source = book["prior_source"].to_numpy()
    same = (source == base["prior_source"].to_numpy()) & (source != "")
    return np.asarray(same & base["prior_quality"].notna().to_numpy(), dtype=np.bool_)


def _prior_variance(quality: FloatArray, n: npt.NDArray[np.int64]) -> FloatArray:
    """Largest variance of a mean of n scores in [0, 1]; without n it is taken at its word."""
    size = n.astype(np.float64)
    smoothed = (quality * size + EVEN) / (size + 1.0)
    return np.where(size > 0, smoothed * (1.0 - smoothed) / np.maximum(size, 1.0), 0.0)


def _cost(book: pd.DataFrame, base: pd.DataFrame, min_requests: int) -> Columns:
    is_base = book["is_base"].to_numpy()
    base_own = (base["n_cost"] >= min_requests).to_numpy()
    own = base_own & (book["n_cost"] >= min_requests).to_numpy()
    listed, base_listed = _list_price(book, base), _list_price(base, base)
    published = book["prior_cost_usd"].to_numpy()
    base_published = np.where(
        book["prior_source"] == base["prior_source"], base["prior_cost_usd"].to_numpy(), np.nan
    )
    base_cost = np.where(base_own, base["cost_usd"].to_numpy(), base_listed)
    ratios = [
        np.where(own, _ratio(book["cost_usd"].to_numpy(), base["cost_usd"].to_numpy()), np.nan),
        # Like with like: list price against list price, at the same tokens.
        _ratio(listed, base_listed),
        _ratio(listed, base_cost),
        _ratio(published, base_published),
        _ratio(published, base_cost),
    ]
    table = np.column_stack(ratios)
    first = np.argmax(~np.isnan(table), axis=1)
    ratio = table[np.arange(len(table)), first]
    origin = np.array(["own", "price", "price", "prior", "prior"])[first]
    variance = (book["log_cost_variance"] + base["log_cost_variance"]).to_numpy()
    return {
        "cost_from": np.where(np.isnan(ratio), "nothing", origin),
        "base_cost_usd": base_cost,
        "cost_ratio": np.where(is_base, 1.0, ratio),
        "log_ratio_variance": np.where(is_base, 0.0, np.where(own, variance, np.nan)),
    }


def _list_price(book: pd.DataFrame, base: pd.DataFrame) -> FloatArray:
    """List price of the baseline's mean request, USD."""
    total, cached = base["mean_input"].to_numpy(), base["mean_cached"].to_numpy()
    return np.asarray(
        np.maximum(total - cached, 0.0) * book["price_input"].to_numpy()
        + cached * book["price_cached"].to_numpy()
        + base["mean_output"].to_numpy() * book["price_output"].to_numpy()
    )


def _ratio(value: FloatArray, reference: FloatArray) -> FloatArray:
    return arms.divide(value, np.nan_to_num(reference))


def _latency(book: pd.DataFrame, base: pd.DataFrame, min_requests: int) -> Columns:
    is_base = book["is_base"].to_numpy()
    base_own = (base["n_latency"] >= min_requests).to_numpy()
    own = base_own & (book["n_latency"] >= min_requests).to_numpy()
    centre, spread = _log_latency(book)
    base_centre, base_spread = _log_latency(base)
    published = _ratio(book["prior_latency_ms"].to_numpy(), base["prior_latency_ms"].to_numpy())
    published = np.where(book["prior_source"] == base["prior_source"], published, np.nan)
    with np.errstate(divide="ignore"):
        ratio = np.where(own, centre - base_centre, np.log(published))
    share, base_share = _slow_share(book), _slow_share(base)
    gap = np.where(own, share[0] - base_share[0], np.nan)
    expected = np.where(own, book["p95_ms"], base["p95_ms"] * np.exp(ratio))
    return {
        "log_latency_ratio": np.where(is_base, 0.0, ratio),
        "log_latency_variance": np.where(is_base, 0.0, np.where(own, spread + base_spread, 0.0)),
        "p95_expected_ms": np.where(is_base, base["p95_ms"], expected),
        "slow_gap": np.where(is_base, 0.0, gap),
        "slow_gap_variance": np.where(own, share[1] + base_share[1], np.nan),
    }


def _log_latency(book: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    """Mean of ln latency and the variance of that mean."""
    n = book["n_latency"].to_numpy(dtype=np.float64)
    mean = arms.divide(book["log_latency_e6"].to_numpy(dtype=np.float64), n) * 1e-6
    square = arms.divide(book["log_latency_sq_e6"].to_numpy(dtype=np.float64), n) * 1e-6
    rows = (np.maximum(square - mean**2, 0.0) * n + 1.0) / (n + 1.0)
    return mean, arms.divide(rows, n)


def _slow_share(book: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    n = book["n_timed"].to_numpy(dtype=np.float64)
    share = (book["n_slow"].to_numpy(dtype=np.float64) + 1.0) / (n + 2.0)
    return share, arms.divide(share * (1.0 - share), n)
