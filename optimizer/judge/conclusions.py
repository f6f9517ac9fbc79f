"""What the tests of a check conclude: planned looks where there is a plan, anytime ones beside.

Harm is proven by a planned look, or by the test that needs no plan and has an error of its own.
Promotion is read at planned looks of the last stage; without a plan it is read at every look from
the confidence sequence.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from optimizer.judge.limits import Harm, anytime_deviate, deviate_beyond, limits
from optimizer.judge.looks import Budget, Taken, steady, take
from optimizer.judge.questions import Question
from optimizer.statistics.anytime import TIGHTEST_PROMOTE, TIGHTEST_ROLLBACK
from optimizer.statistics.clusters import RatioEstimate
from optimizer.statistics.crossing import promotion_spending
from optimizer.statistics.sequential import pocock_spending

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """An exact test of harm, shape (n,): where it decides, and its deviate for planned looks.

    ``proven`` is what its test without a plan says, which needs no floor.
    """

    decides: BoolArray
    z: FloatArray
    proven: BoolArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Concluded:
    """The conclusions of n cases, shape (n,).

    harm: with its limits; failed, passed: what is proven; z: the deviate of harm beyond the
    tolerance that the looks read; look, promotion: the planned looks, if any were taken.
    """

    harm: Harm
    failed: BoolArray
    passed: BoolArray
    z: FloatArray
    look: Taken
    promotion: Taken


def conclude(
    question: Question,
    canary: RatioEstimate,
    control: RatioEstimate,
    rows: FloatArray,
    *,
    readable: BoolArray,
    promotable: BoolArray,
    exact: Exact | None = None,
    alike: tuple[RatioEstimate, RatioEstimate] | None = None,
) -> Concluded:
    """Put the tests of harm and of promotion to n cases.

    Args:
        question: what is asked.
        canary: estimates, shape (n,).
        control: the same of control.
        rows: the metric's rows so far, shape (n, 2), control first.
        readable: where the floors of the tests of harm are met.
        promotable: where those of promotion are.
        exact: an exact test of harm, where there is one.
        alike: canary and control with the variances that promotion reads, where these are others.
    """
    wide = (canary, control) if alike is None else alike
    sign, relative = question.metric.direction.harm_sign, question.relative
    units = rows.sum(axis=1)
    bounds = [
        anytime_deviate(units, alpha, tightest)
        for alpha, tightest in (
            (question.alpha_lower, TIGHTEST_ROLLBACK),
            (question.alpha_upper, TIGHTEST_PROMOTE),
        )
    ]
    against = [
        deviate_beyond(*arms, sign=sign, relative=relative, limit=limit)
        for arms, limit in (
            ((canary, control), question.tolerance),
            (wide, question.margin),
        )
    ]
    z = against[0]
    with np.errstate(invalid="ignore"):
        proven = readable & (z >= bounds[0])
    if exact is not None:
        z = np.where(exact.decides, exact.z, z)
        proven = np.where(exact.decides, exact.proven, proven)
    look, promotion = _looks(
        question, (z, -against[1]), rows, readable=readable, promotable=promotable
    )
    failed = proven | steady(look, z, question.schedule.patient)
    with np.errstate(invalid="ignore"):
        unplanned = promotable & (-against[1] >= bounds[1])
    # A crossing that is to be confirmed is no time to promote.
    passed = np.where(question.schedule.has_plan, promotion.crossed & ~look.crossed, unplanned)
    lower = np.where(readable, np.fmin(look.bound, bounds[0]), np.nan)
    upper = np.where(promotion.taken, promotion.bound, bounds[1])
    harm = limits(
        canary, control, sign=sign, relative=relative, lower=lower, upper=upper, wide=wide
    )
    return Concluded(
        harm=harm,
        failed=failed,
        passed=np.asarray(passed & ~question.spent_margin, dtype=bool),
        z=z,
        look=look,
        promotion=promotion,
    )


def shown(question: Question, found: Concluded, lower: FloatArray, upper: FloatArray) -> Harm:
    """Harm with limits that never contradict the tests that decided, wherever these are known.

    The estimate's limits and a test differ where the test is exact, tolerates a blip, or has
    degrees of freedom of its own.
    """
    tolerance, margin = question.tolerance, question.margin
    looked = ~question.schedule.has_plan | found.promotion.taken
    with np.errstate(invalid="ignore"):
        above, below = np.nextafter(tolerance, np.inf), np.nextafter(margin, -np.inf)
        lower = np.where(found.failed, np.fmax(lower, above), np.fmin(lower, tolerance))
        lower = np.where(np.isnan(found.harm.lower) & ~found.failed, np.nan, lower)
        open_ = looked & ~found.passed & ~question.spent_margin & np.isfinite(upper)
        upper = np.where(open_, np.maximum(upper, margin), upper)
        upper = np.where(found.passed & np.isfinite(upper), np.minimum(upper, below), upper)
    return Harm(value=found.harm.value, lower=lower, upper=upper, variance=found.harm.variance)


def _looks(
    question: Question,
    deviates: tuple[FloatArray, FloatArray],
    rows: FloatArray,
    *,
    readable: BoolArray,
    promotable: BoolArray,
) -> tuple[Taken, Taken]:
    """The planned looks at harm and at promotion; deviates: of harm, and of room to the margin."""
    schedule = question.schedule
    fraction = schedule.fraction(rows)
    look = take(
        deviates[0],
        fraction,
        schedule.harm,
        due=schedule.looking & readable,
        until=schedule.until,
        budget=Budget(
            alpha=schedule.alpha,
            spending=pocock_spending,
            closing=schedule.ending,
            end=np.ones(fraction.size),
        ),
    )
    promotion = take(
        deviates[1],
        fraction,
        schedule.promotion,
        due=schedule.looking & schedule.final & promotable,
        until=schedule.until,
        budget=Budget(
            alpha=schedule.alpha_promote,
            spending=promotion_spending(schedule.extension[:, None]),
            closing=np.zeros(fraction.size, dtype=bool),
            end=schedule.extension,
        ),
    )
    return look, promotion
