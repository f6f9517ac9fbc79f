"""The rules to beat, each asked after every hour whether the canary is rolled back.

A rule sees cumulative requests and failures of both arms, independent-request statistics
throughout, as its users run it. It answers for all rollouts and hours at once; the first yes ends a
rollout. What a rule promises is tested on worlds without harm, not taken from its name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from bench.rollouts.design import ALPHA
from bench.rollouts.plan import CANARY, CONTROL, Plan
from bench.rollouts.world import FAILURE, Sums
from optimizer.statistics.anytime import TIGHTEST_PROMOTE, half_width_multiplier
from optimizer.statistics.evalues import closed_form_log_evalue
from optimizer.statistics.sequential import (
    boundaries,
    mid_p_z,
    obrien_fleming_spending,
    pocock_spending,
)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

SUCCESS: Final = 0.97
"""Share of successes below which a threshold rule's check fails."""
MIN_REQUESTS: Final = 100
MIN_EVENTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Cumulative requests and failures after each planned hour, shape (R, L, 2), and their z.

    Where a rule's variance is asymptotic, ``enough`` says that its burn-in is over, shape (R, L).
    """

    plan: Plan
    n: IntArray
    k: IntArray
    z: FloatArray
    enough: BoolArray


Rule = Callable[[Evidence], BoolArray]


def evidence(sums: Sums) -> Evidence:
    """What every rule sees."""
    planned = sums.plan.planned_hours
    n, k = (sums.by_hour(table)[:, :planned] for table in (sums.n, sums.events[FAILURE]))
    z = mid_p_z(k[..., CANARY], n[..., CANARY], k[..., CONTROL], n[..., CONTROL])
    enough = (n.min(axis=-1) >= MIN_REQUESTS) & (k.sum(axis=-1) >= MIN_EVENTS)
    return Evidence(plan=sums.plan, n=n, k=k, z=z, enough=enough)


def first(fails: BoolArray, plan: Plan) -> IntArray:
    """The window at whose end a rule first says no, shape (R,); beyond all for never."""
    hour = np.where(fails.any(axis=1), fails.argmax(axis=1) + 1, plan.hours + 1)
    return np.asarray(hour * plan.windows_an_hour - 1)


def threshold(failed_checks: int) -> Rule:
    """So many hourly checks whose share of successes is too low; a check without requests fails.

    References:
        Flagger, ``threshold`` and ``request-success-rate``.
    """

    def fails(seen: Evidence) -> BoolArray:
        n, k = (np.diff(table[..., CANARY], axis=1, prepend=0) for table in (seen.n, seen.k))
        failed = n - k < SUCCESS * n
        return np.asarray(np.cumsum(failed | (n == 0), axis=1) >= failed_checks)

    return fails


def peeking(hours: Callable[[Plan], list[int]]) -> Rule:
    """A test at the full level at each of these hours."""

    def fails(seen: Evidence) -> BoolArray:
        asked = np.zeros(seen.z.shape, dtype=bool)
        asked[:, np.array(hours(seen.plan)) - 1] = True
        with np.errstate(invalid="ignore"):
            return np.asarray(asked & (seen.z >= -special.ndtri(ALPHA)))

    return fails


def mixture(seen: Evidence) -> BoolArray:
    """The mixture sequential probability ratio test.

    References:
        Johari, Pekelis and Walsh (2015). Always valid inference. arXiv 1512.04922, in the form of
        Statsig: ``|D| / sqrt(V) > sqrt((V + T) / T * (-2 log alpha - log(V / (V + T))))`` with
        ``T = isf(alpha) ** 2 * (v_c + v_e) / N``.
    """
    difference, variance = _difference(seen)
    rate = seen.k / np.maximum(seen.n, 1)
    spread = (rate * (1.0 - rate)).sum(axis=-1)
    tau = special.ndtri(ALPHA) ** 2 * spread / np.maximum(seen.n.sum(axis=-1), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        limit = np.sqrt(
            (variance + tau) / tau * (-2.0 * np.log(ALPHA) - np.log(variance / (variance + tau)))
        )
        return np.asarray(seen.enough & (difference / np.sqrt(variance) > limit))


def sequence(seen: Evidence) -> BoolArray:
    """The asymptotic confidence sequence, one-sided, tightest at 5,000 requests.

    References:
        Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas. arXiv 2103.06476.
    """
    difference, variance = _difference(seen)
    multiplier = half_width_multiplier(
        seen.n.sum(axis=-1), alpha=ALPHA, tightest_at=TIGHTEST_PROMOTE, two_sided=False
    )
    with np.errstate(invalid="ignore"):
        return np.asarray(seen.enough & (difference > multiplier * np.sqrt(variance)))


def evalue(seen: Evidence) -> BoolArray:
    """The conditional e-process of the counts, closed form."""
    share = 1.0 / (1.0 + seen.plan.control_ratio)
    found = closed_form_log_evalue(seen.k[..., CANARY], seen.k[..., CONTROL], share)
    return np.asarray(found >= -np.log(ALPHA))


def group_sequential(spending: Callable[..., FloatArray]) -> Rule:
    """Planned boundaries at the planned information, requests as units."""

    def fails(seen: Evidence) -> BoolArray:
        traffic = seen.plan.hourly_shares()[: seen.z.shape[1], CANARY]
        times = np.cumsum(traffic) / traffic.sum()
        bounds = _bounds(tuple(times.tolist()), spending)
        with np.errstate(invalid="ignore"):
            return np.asarray(seen.z >= bounds)

    return fails


RULES: Final[Mapping[str, Rule]] = {
    "success >= 97 %, threshold 1": threshold(1),
    "success >= 97 %, threshold 5": threshold(5),
    "z test every hour": peeking(lambda plan: list(range(1, plan.planned_hours + 1))),
    "z test after each stage": peeking(
        lambda plan: list(range(plan.stage_hours, plan.planned_hours + 1, plan.stage_hours))
    ),
    "z test once at the end": peeking(lambda plan: [plan.planned_hours]),
    "mixture SPRT": mixture,
    "asymptotic confidence sequence": sequence,
    "count e-process": evalue,
    "O'Brien-Fleming, requests as units": group_sequential(obrien_fleming_spending),
    "Pocock, requests as units": group_sequential(pocock_spending),
}


@lru_cache(maxsize=64)
def _bounds(times: tuple[float, ...], spending: Callable[..., FloatArray]) -> FloatArray:
    return boundaries(times, list(spending(times, alpha=ALPHA)))


def _difference(seen: Evidence) -> tuple[FloatArray, FloatArray]:
    """Difference of the failure rates and its variance from smoothed counts, shape (R, L)."""
    size = np.maximum(seen.n, 1)
    smooth = (seen.k + 1.0) / (size + 2.0)
    rate = seen.k / size
    variance = (smooth * (1.0 - smooth) / size).sum(axis=-1)
    return rate[..., CANARY] - rate[..., CONTROL], variance
