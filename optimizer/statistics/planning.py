"""Whether a rollout can answer its question before it starts: units, hours, and limits of rates.

The law kept here: a plan is refused with the number of hours it would need, never run in the hope
of an answer. All sizes are of independent units; clustered requests enter through the design
effect.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from optimizer.statistics.anytime import TIGHTEST_PROMOTE, half_width_multiplier
from optimizer.statistics.crossing import PLANNED_SHARE

FloatArray = npt.NDArray[np.float64]

# The last bound of the promotion plan (O'Brien-Fleming spending of 0.8 alpha at alpha = 0.05).
GROUP_SEQUENTIAL_BOUND: Final = 1.7614
POWER: Final = 0.8
# Halvings of a bracket: the relative error of the solution is below 1e-15.
HALVINGS: Final = 60
Z_95: Final = 1.959963984540054


def promotion_bound(alpha: npt.ArrayLike) -> FloatArray:
    """Standard errors at the planned end of a ramp whose promotion may err with chance alpha.

    Taken as one look with the 80 % of alpha that the planned end may spend: looks before it spend
    almost nothing, by O'Brien-Fleming's spending.

    Examples:
        >>> round(float(promotion_bound(0.05)), 4)
        1.7507
    """
    return np.asarray(-special.ndtri(PLANNED_SHARE * np.asarray(alpha, dtype=np.float64)))


def units_needed(
    variance: npt.ArrayLike,
    margin: npt.ArrayLike,
    *,
    bound: npt.ArrayLike = GROUP_SEQUENTIAL_BOUND,
    power: float = POWER,
    design_effect: npt.ArrayLike = 1.0,
    control_ratio: npt.ArrayLike = 1.0,
) -> FloatArray:
    """Canary units a planned ramp needs to show that harm is below a margin, when there is none.

    Args:
        variance: variance of one unit, in the metric's unit squared; ``p (1 - p)`` for a rate.
        margin: largest tolerated harm, in the metric's unit, > 0.
        bound: standard errors at the last look; 1.7614 closes the promotion plan.
        power: chance to show it, in (0, 1).
        design_effect: variance relative to independent units, > 0.
        control_ratio: control units to one canary unit, > 0.

    Returns:
        Canary units, a real number to be rounded up, the broadcast shape; nan where an
        argument is, or where variance is not positive.

    Raises:
        ValueError: margin is not positive.

    References:
        ``n = (bound + z_power) ** 2 * 2 * variance * design_effect / margin ** 2`` for equal arms;
        Jennison and Turnbull (2000), Group Sequential Methods.

    Examples:
        >>> float(np.ceil(units_needed(0.02 * 0.98, 0.01, bound=1.6448536)))
        2424.0
    """
    reach = np.asarray(bound, dtype=np.float64) + special.ndtri(power)
    return np.asarray(reach**2 * _unit_cost(variance, margin, design_effect, control_ratio))


def units_needed_anytime(
    variance: npt.ArrayLike,
    margin: npt.ArrayLike,
    *,
    alpha: npt.ArrayLike,
    power: float = POWER,
    design_effect: npt.ArrayLike = 1.0,
    control_ratio: npt.ArrayLike = 1.0,
    tightest_at: float = TIGHTEST_PROMOTE,
) -> FloatArray:
    """Canary units until the one-sided confidence sequence shows that harm is below a margin.

    Args:
        variance: variance of one unit, in the metric's unit squared.
        margin: largest tolerated harm, in the metric's unit, > 0.
        alpha: error of the sequence over all looks, in (0, 1/2).
        power: chance to show it at that size, in (0, 1).
        design_effect: variance relative to independent units, > 0.
        control_ratio: control units to one canary unit, > 0.
        tightest_at: units of both arms the sequence is tuned to, > 0: those of whoever judges.

    Returns:
        Canary units n that solve ``(m(n) + z_power) * se(n) = margin``, m(n) the sequence's
        multiplier at n; the broadcast shape, nan where an argument is.

    Raises:
        ValueError: margin is not positive, or alpha is outside its range.

    References:
        Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas. arXiv 2103.06476, for the multiplier.

    Examples:
        >>> float(np.ceil(units_needed_anytime(0.02 * 0.98, 0.01, alpha=0.05)))
        5211.0
    """
    cost = _unit_cost(variance, margin, design_effect, control_ratio)
    cost = np.where(np.isfinite(cost), cost, np.nan)
    arms = 1.0 + np.asarray(control_ratio, dtype=np.float64)
    error = np.asarray(alpha, dtype=np.float64)
    z_power = special.ndtri(power)
    cost, arms, error = np.broadcast_arrays(cost, arms, error)

    def required(n: FloatArray) -> FloatArray:
        units = n * arms
        reach = half_width_multiplier(units, alpha=error, tightest_at=tightest_at, two_sided=False)
        return np.asarray((reach + z_power) ** 2 * cost)

    # What is required grows with the logarithm of the size, so doubling soon suffices.
    low, high = np.zeros_like(cost), tightest_at / arms
    high = high + required(high)
    while np.any(short := required(high) > high):
        high = np.where(short, 2.0 * high, high)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        enough = required(middle) <= middle
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high


def hours_needed(
    units: npt.ArrayLike,
    units_per_hour: npt.ArrayLike,
    *,
    shares: npt.ArrayLike,
    stage_hours: npt.ArrayLike,
    label_rate: npt.ArrayLike = 1.0,
) -> FloatArray:
    """Hours of a ramp until the canary has a number of units.

    The last stage lasts as long as needed.

    Args:
        units: canary units needed, any shape.
        units_per_hour: the target's whole traffic, units an hour, broadcast with units.
        shares: the canary's share of traffic in each stage, fractions in (0, 1], shape (S,).
        stage_hours: planned hours of each stage, > 0, shape (S,).
        label_rate: fraction of units that get a label, in [0, 1]; 1 for metrics of every unit. The
            label's delay comes on top.

    Returns:
        Hours from the start, the broadcast shape; inf without traffic or labels, nan if units is.

    Raises:
        ValueError: shares or stage_hours is outside its range or the shapes differ.

    Examples:
        >>> ramp = {"shares": [0.05, 0.10, 0.25, 0.50], "stage_hours": [6, 6, 6, 6]}
        >>> [round(float(hours), 3) for hours in hours_needed([600, 9695], 2000, **ramp)]
        [6.0, 22.895]
    """
    share = np.asarray(shares, dtype=np.float64)
    hours = np.asarray(stage_hours, dtype=np.float64)
    if share.ndim != 1 or share.shape != hours.shape or share.size == 0:
        raise ValueError(
            f"shares and stage_hours need one value a stage, got {share.shape}, {hours.shape}"
        )
    if not (np.all((share > 0) & (share <= 1)) and np.all(hours > 0)):
        raise ValueError("shares lie in (0, 1] and stage_hours are positive")
    wanted, rate = np.broadcast_arrays(
        np.asarray(units, dtype=np.float64),
        np.asarray(units_per_hour, dtype=np.float64) * np.asarray(label_rate, dtype=np.float64),
    )
    # Hours at full traffic that yield the units, walked through the ladder's cumulated share-hours.
    exposure = np.divide(wanted, rate, out=np.full(wanted.shape, np.inf), where=rate > 0)
    reached = np.concatenate([[0.0], np.cumsum(share * hours)])
    elapsed = np.concatenate([[0.0], np.cumsum(hours)])
    beyond = np.maximum(exposure - reached[-1], 0.0) / share[-1]
    return np.asarray(np.interp(exposure, reached, elapsed) + beyond)


def wilson_interval(
    k: npt.ArrayLike, n: npt.ArrayLike, *, z: float = Z_95
) -> tuple[FloatArray, FloatArray]:
    """Limits of a rate at one look, from k of n independent units; nan without any unit.

    Args:
        k: units that failed, any shape, 0 <= k <= n.
        n: units, broadcast with k.
        z: normal deviate of the two-sided level.

    Returns:
        Lower and upper limits, the broadcast shape, in [0, 1].

    References:
        Wilson (1927). Probable inference, the law of succession, and statistical inference. JASA
        22:209.

    Examples:
        >>> [round(float(limit), 4) for limit in wilson_interval(100, 2000)]
        [0.0413, 0.0604]
    """
    failures, units = np.broadcast_arrays(
        np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64)
    )
    size = np.where(units > 0, units, np.nan)
    p = failures / size
    centre = p + z**2 / (2.0 * size)
    half = z * np.sqrt(p * (1.0 - p) / size + z**2 / (4.0 * size**2))
    scale = 1.0 + z**2 / size
    return (
        np.clip((centre - half) / scale, 0.0, 1.0),
        np.clip((centre + half) / scale, 0.0, 1.0),
    )


def _unit_cost(
    variance: npt.ArrayLike,
    margin: npt.ArrayLike,
    design_effect: npt.ArrayLike,
    control_ratio: npt.ArrayLike,
) -> FloatArray:
    """Variance of the difference for one canary unit, in squared margins."""
    limit = np.asarray(margin, dtype=np.float64)
    if np.any(limit <= 0):
        raise ValueError(
            "margin must be positive: no number of units shows that harm is below zero"
        )
    spread = np.asarray(variance, dtype=np.float64)
    # A variance of zero was measured on too few units: it would promise an answer from none.
    one_unit = np.where(spread > 0, spread, np.nan) * np.asarray(design_effect, dtype=np.float64)
    arms = 1.0 + 1.0 / np.asarray(control_ratio, dtype=np.float64)
    return np.asarray(one_unit * arms / limit**2)
