"""Scores of arms: how good they are, against their own past and against each other.

The laws kept here: an arm's numbers depend on its own rows and those of its target's arm in force
alone; the order of rows changes nothing; too few labels are unknown, not average. A session's
requests are taken to be alike, so that many labels from few sessions count as few.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from optimizer.metrics import DAY_S, HOUR_S
from optimizer.statistics import arms
from optimizer.statistics.arms import MAD_TO_SD, divide
from optimizer.statistics.hourly import hourly, quality
from optimizer.statistics.screening import excess_and_variance
from optimizer.statistics.seasonal import DAY_HOURS, seasonal

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

Z_95: Final = 1.959963984540054
MILLIONTH: Final = 1e-6
LABELS: Final = ("n_quality", "quality_e6", "quality_sq_e9")
OWN: Final = ("recent", "usual", "t", "p_value", "days", "labels")
"""What :func:`against_itself` says of an arm."""


def levels(hours: pd.DataFrame) -> pd.DataFrame:
    """The mean score of each target and arm with its 95 % limits, in [0, 1].

    Columns: those of :func:`optimizer.statistics.arms.measured`, quality_low, quality_high,
    label_share (of requests) and per_unit (requests a session), the factor of the variance.
    """
    found = arms.measured(arms.pooled(hours, ("target", "arm"), latency=False))
    found = found.astype({"target": "str", "arm": "str"})
    n, units = (found[name].to_numpy(dtype=np.float64) for name in ("n", "n_units"))
    per_unit = np.where(units > 0, np.maximum(divide(n, units), 1.0), 1.0)
    half = Z_95 * np.sqrt(found["quality_variance"].to_numpy() * per_unit)
    return found.assign(
        quality_low=np.clip(found["quality"] - half, 0.0, 1.0),
        quality_high=np.clip(found["quality"] + half, 0.0, 1.0),
        label_share=divide(found["n_quality"].to_numpy(dtype=np.float64), n),
        per_unit=per_unit,
    )


def against_itself(
    history: pd.DataFrame, *, end_s: int, min_labels: int, min_days: int, noise: float
) -> pd.DataFrame:
    """Each arm's last day of scores against its own days before, hour of the week by hour.

    Every hour is compared with its usual level, which the last day has no part in; a day is the
    mean of its hours, weighted by labels. How far days go astray is the scatter of the days before,
    and never less than the last day's own sampling error or ``noise``.

    Args:
        history: target, arm, window_start_s, n and the sums of scores; whole hours.
        end_s: end of the last day, a whole hour, Unix seconds; later hours are left out.
        min_labels: labels a day needs.
        min_days: days before the last that an arm needs.
        noise: smallest spread of a day's log level.

    Returns:
        Columns target, arm and ``OWN``, one row an arm that can be compared: recent (mean score of
        the last day), usual (what its hours usually bring), t with days - 1 degrees of freedom,
        p_value (of so low a day), days (before the last) and labels (of the last).

    References:
        Prediction of one more value of a sample, ``t = (x - m) / (s sqrt(1 + 1/k))``, with median
        and MAD in the place of mean and deviation.
    """
    start = history["window_start_s"]
    rows = history[(history["n_quality"] > 0) & (start + HOUR_S <= end_s)]
    if rows.empty:
        names = {name: pd.Series(dtype="str") for name in ("target", "arm")}
        return pd.DataFrame(names | {name: pd.Series(dtype="float64") for name in OWN})
    span = -(-(end_s - int(rows["window_start_s"].min())) // DAY_S)
    begin_s = end_s - span * DAY_S
    series = hourly(rows, start_s=begin_s, end_s=end_s, columns=LABELS)
    measure = quality(series.sums)
    labels = series.sums["n_quality"]
    before = np.where(np.arange(labels.shape[1]) < labels.shape[1] - DAY_HOURS, measure.log, np.nan)
    usual = seasonal(before, series.start_s, error=measure.error, noise=noise).centre
    away, n = _of_days(measure.log - usual, labels)
    known = n >= min_labels
    days = known[:, :-1].sum(axis=1)
    chosen = np.flatnonzero(known[:, -1] & (days >= min_days))
    away, known, days = away[chosen], known[chosen], days[chosen]
    earlier = np.where(known[:, :-1], away[:, :-1], np.nan)
    middle = np.nanmedian(earlier, axis=1) if chosen.size else np.zeros(0)
    scatter = (
        np.nanmedian(np.abs(earlier - middle[:, None]), axis=1) * MAD_TO_SD
        if chosen.size
        else middle
    )
    last = labels[chosen, -DAY_HOURS:]
    error = np.nan_to_num(measure.error[chosen, -DAY_HOURS:])
    own = np.sqrt((last**2 * error**2).sum(axis=1)) / np.maximum(last.sum(axis=1), 1.0)
    t = (away[:, -1] - middle) / (np.fmax(np.fmax(scatter, own), noise) * np.sqrt(1 + 1 / days))
    total = series.sums["quality_e6"][chosen, -DAY_HOURS:].sum(axis=1) * MILLIONTH
    recent = total / np.maximum(last.sum(axis=1), 1.0)
    return pd.DataFrame(
        {
            "target": series.keys["target"].to_numpy()[chosen],
            "arm": series.keys["arm"].to_numpy()[chosen],
            "recent": recent,
            "usual": np.minimum(recent / np.exp(away[:, -1] - middle), 1.0),
            "t": t,
            "p_value": stats.t.cdf(t, np.maximum(days - 1, 1)),
            "days": days.astype(np.float64),
            "labels": last.sum(axis=1),
        }
    )


def _of_days(away: FloatArray, labels: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean of each day's hours weighted by labels, and its labels, shape (S, days)."""
    weight = np.where(np.isnan(away), 0.0, labels)
    days = (len(away), away.shape[1] // DAY_HOURS, DAY_HOURS)
    n = weight.reshape(days).sum(axis=2)
    return divide((np.nan_to_num(away) * weight).reshape(days).sum(axis=2), n), n


def between_arms(hours: pd.DataFrame, in_force: Mapping[str, str]) -> pd.DataFrame:
    """Every other arm against its target's arm in force, hour by hour in the same hours.

    Hours in which only one of them had traffic say nothing, so that neither the time of day nor a
    day on which an arm served alone looks like a difference.

    Returns:
        Columns target, arm; n_other and n_own, labels in hours where both had some; difference of
        the mean scores with its error; share_other and share_own, labelled shares in hours where
        both had requests; label_z, how unlike these are.

    References:
        Weights ``n m / (n + m)`` of an hour: Mantel and Haenszel (1959), JNCI 22:719, whose
        statistic label_z is, with its variance multiplied by the requests a session.
    """
    e, c, names, pair = _paired(hours, in_force)

    def added(values: FloatArray) -> FloatArray:
        total = np.bincount(pair, weights=values, minlength=len(names))
        return np.asarray(total, dtype=np.float64)

    per_unit = [
        np.nan_to_num(np.maximum(divide(added(side["n"]), added(side["n_units"])), 1.0), nan=1.0)
        for side in (e, c)
    ]
    n_e, n_c = e["n_quality"], c["n_quality"]
    weight = np.nan_to_num(divide(n_e * n_c, n_e + n_c))
    both = (weight > 0).astype(np.float64)
    gap = np.nan_to_num(divide(e["quality_e6"], n_e) - divide(c["quality_e6"], n_c))
    variance = sum(
        _row_variance(*(added(both * side[name]) for name in LABELS))
        * factor
        * added(np.nan_to_num(divide(weight**2, side["n_quality"])))
        for side, factor in zip((e, c), per_unit, strict=True)
    )
    total = added(weight)
    excess, spread = excess_and_variance(e["n"] - n_e, e["n"], c["n"] - n_c, c["n"])
    return names.assign(
        n_other=added(both * n_e),
        n_own=added(both * n_c),
        difference=divide(added(weight * gap), total) * MILLIONTH,
        error=divide(np.sqrt(variance), total),
        share_other=divide(added(n_e), added(e["n"])),
        share_own=divide(added(n_c), added(c["n"])),
        label_z=-divide(added(excess), np.sqrt(added(spread) * np.maximum(*per_unit))),
    )


def _paired(
    hours: pd.DataFrame, in_force: Mapping[str, str]
) -> tuple[dict[str, FloatArray], dict[str, FloatArray], pd.DataFrame, IntArray]:
    """Sums of other arms and of the arm in force in each hour both have, pair names, which pair."""
    columns = ("n", "n_units", *LABELS)
    (target, targets), (arm, known) = (_codes(hours[name]) for name in ("target", "arm"))
    start = hours["window_start_s"].to_numpy(dtype=np.int64)
    hour = start // HOUR_S - int(start.min() // HOUR_S if start.size else 0)
    span, width = int(hour.max(initial=0)) + 1, max(len(known), 1)
    # Slices of an arm are added up: one cell a target, hour and arm.
    cells, cell = np.unique((target * span + hour) * width + arm, return_inverse=True)
    sums = {name: _added(cell, hours[name]) for name in columns}
    moment, owner = cells // width, cells % width
    serving = pd.Series(targets).map(dict(in_force))
    code = pd.Index(known).get_indexer(pd.Index(serving))
    own = owner == code[moment // span] if cells.size else np.zeros(0, dtype=np.bool_)
    place = np.full(len(targets) * span + 1, -1, dtype=np.int64)
    place[moment[own]] = np.flatnonzero(own)
    other = np.flatnonzero(~own & (place[moment] >= 0))
    same = place[moment[other]]
    found, pair = np.unique(moment[other] // span * width + owner[other], return_inverse=True)
    names = pd.DataFrame(
        {
            "target": pd.Series(targets[found // width], dtype="str"),
            "arm": pd.Series(known[found % width], dtype="str"),
        }
    )
    return (
        {name: values[other] for name, values in sums.items()},
        {name: values[same] for name, values in sums.items()},
        names,
        np.asarray(pair, dtype=np.int64),
    )


def _added(cell: npt.NDArray[np.intp], values: pd.Series) -> FloatArray:
    total = np.bincount(cell, weights=values.to_numpy(dtype=np.float64))
    return np.asarray(total, dtype=np.float64)


def _codes(names: pd.Series) -> tuple[IntArray, npt.NDArray[np.object_]]:
    """The position of each name among the names in order, and these."""
    code, known = pd.factorize(names, sort=True)
    return np.asarray(code, dtype=np.int64), np.asarray(known, dtype=object)


def _row_variance(n: FloatArray, total_e6: FloatArray, squares_e9: FloatArray) -> FloatArray:
    """The variance of one score, with a row of variance 1/4 as a prior, so that it is never 0."""
    total, squares = total_e6 * MILLIONTH, squares_e9 * 1e-9
    centre = (0.5 + total) / (n + 1.0)
    spread = np.maximum(squares - 2.0 * centre * total + n * centre**2, 0.0)
    return np.asarray((0.25 + spread) / (n + 1.0))
