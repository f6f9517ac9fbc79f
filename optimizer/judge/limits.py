"""Limits of harm, absolute or relative, at a number of standard errors that a test allows.

Harm is oriented so that positive is worse: ``s (R_e - R_c)`` in the metric's unit, or
``s (R_e / R_c - 1)`` where it is relative to control. Scaling a metric changes no relative limit.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from optimizer.statistics.anytime import half_width_multiplier
from optimizer.statistics.clusters import NEAR_ZERO_SE, RatioEstimate, t_to_z, welch

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# The one-sided sequence is defined for an error below one half.
LARGEST_ALPHA: Final = 0.499


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """Harm of each case with its limits, shape (n,); nan where it is not known.

    lower is what roll-back reads and upper what promotion reads, each at an alpha of its own;
    variance is that of value.
    """

    value: FloatArray
    lower: FloatArray
    upper: FloatArray
    variance: FloatArray


def limits(
    canary: RatioEstimate,
    control: RatioEstimate,
    *,
    sign: int,
    relative: BoolArray,
    lower: FloatArray,
    upper: FloatArray,
    wide: tuple[RatioEstimate, RatioEstimate] | None = None,
) -> Harm:
    """Harm with its limits.

    Args:
        canary: estimates of shape (n,).
        control: the same of control.
        sign: +1 where lower is better, -1 where higher is better.
        relative: whether harm is a fraction of control's value, shape (n,).
        lower: standard errors from the value down to its lower limit, as normal deviates, shape
            (n,).
        upper: the same up to its upper limit.
        wide: canary and control with the variances of the upper limit, where these are others.

    References:
        Normal deviates are replaced by t deviates of the same tail. Relative limits: Fieller
        (1954), JRSS B 16:175.
    """
    value, (variance, df) = sign * (canary.value - control.value), welch(canary, control)
    wide = (canary, control) if wide is None else wide
    wide_variance, wide_df = welch(*wide)
    down, up = _t_deviate(lower, df), _t_deviate(upper, wide_df)
    se, wide_se = np.sqrt(variance), np.sqrt(wide_variance)
    lowest, highest = value - down * se, value + up * wide_se
    if not relative.any():
        return Harm(value=value, lower=lowest, upper=highest, variance=variance)
    with np.errstate(invalid="ignore", divide="ignore"):
        lift = sign * (canary.value / control.value - 1.0)
        spread = (
            canary.variance / control.value**2
            + control.variance * canary.value**2 / control.value**4
        )
        ratios = [fieller(canary, control, down), fieller(*wide, up)]
        low, high = (ratios[0][0], ratios[1][1]) if sign > 0 else (ratios[0][1], ratios[1][0])
        return Harm(
            value=np.where(relative, lift, value),
            lower=np.where(relative, sign * (low - 1.0), lowest),
            upper=np.where(relative, sign * (high - 1.0), highest),
            variance=np.where(relative, spread, variance),
        )


def anytime_deviate(units: FloatArray, alpha: FloatArray, tightest_at: float) -> FloatArray:
    """Standard errors to the limit of the confidence sequence that holds at every look.

    Args:
        units: requests of both arms together, shape (n,).
        alpha: chance that the limit is ever wrong, shape (n,).
        tightest_at: units at which it is tightest.

    References:
        Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas. arXiv 2103.06476.
    """
    return half_width_multiplier(
        units, alpha=np.minimum(alpha, LARGEST_ALPHA), tightest_at=tightest_at, two_sided=False
    )


def deviate_beyond(
    canary: RatioEstimate,
    control: RatioEstimate,
    *,
    sign: int,
    relative: BoolArray,
    limit: FloatArray,
) -> FloatArray:
    """The normal deviate of harm beyond a limit, positive where the estimate is worse; shape (n,).

    A limit below zero asks for a gain. A relative limit needs no division by control, so that a
    control near zero breaks nothing, and scaling the metric changes nothing.

    References:
        Welch (1947), Satterthwaite (1946): degrees of freedom of ``R_e - h R_c``, ``h = 1 + s m``.
    """
    h = np.where(relative, 1.0 + sign * limit, 1.0)
    variance, df = welch(canary, control, h)
    allowance = np.where(relative, 0.0, limit)
    beyond = sign * (canary.value - h * control.value) - allowance
    return t_to_z(beyond / np.sqrt(variance), df)


def fieller(
    canary: RatioEstimate, control: RatioEstimate, deviate: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Limits of the ratio canary : control, where the arms are independent; nan near zero.

    References:
        Fieller (1954): the h with ``(R_e - h R_c)^2 = c^2 (V_e + h^2 V_c)``.

    Examples:
        >>> from optimizer.statistics.clusters import RatioEstimate
        >>> one = RatioEstimate(value=np.array([10.0]), variance=np.array([0.01]),
        ...                     clusters=np.array([50]))
        >>> low, high = fieller(one, one, np.array([2.0]))
        >>> round(float(low[0]), 4), round(float(high[0]), 4)
        (0.9721, 1.0287)
    """
    c2 = deviate**2
    base = control.value**2 - c2 * control.variance
    cross = canary.value * control.value
    # The deviate of a few clusters is so wide that its square overflows on its way to unknown.
    with np.errstate(over="ignore"):
        root = np.sqrt(np.maximum(cross**2 - base * (canary.value**2 - c2 * canary.variance), 0.0))
    known = (base > 0) & ~near_zero(control)
    scale = np.where(known, base, np.nan)
    return (cross - root) / scale, (cross + root) / scale


def near_zero(control: RatioEstimate) -> BoolArray:
    """Whether control's value is too close to zero for a relative statement."""
    return np.asarray(np.abs(control.value) < NEAR_ZERO_SE * np.sqrt(control.variance))


def _t_deviate(deviate: FloatArray, df: FloatArray) -> FloatArray:
    """The t deviate with the tail of a normal one, for a variance known with df."""
    return np.asarray(-special.stdtrit(df, special.ndtr(-deviate)))
