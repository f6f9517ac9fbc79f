"""Whether a log can say anything of a policy, and how many more requests it takes if it cannot.

The refusals are tried in a fixed order: chances that are not known, then arms that were hardly ever
drawn, then weights that leave too few requests. The order matters: weights of arms without support
look harmless, because the requests that would show the opposite are missing.

References:
    Effective sample size: Kish (1965), Survey Sampling; Owen (2013), Monte Carlo theory, methods
    and examples, chapter 9.3. That a log without support must be refused: the four rows of the
    Open Bandit data in the tests (Saito et al. 2021, arXiv 2008.07146).
"""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.statistics.offpolicy import ips
from optimizer.statistics.offpolicy_log import Log, clipped, importance

LEAST_CHANCE: Final = 0.005
UNSUPPORTED_MAX: Final = 0.05
MEAN_WEIGHT: Final = (0.8, 1.25)
MEAN_WEIGHT_SE: Final = 4.0
CLIPPED_MAX: Final = 0.10
ESS_MIN: Final = 500.0
ESS_SHARE_MIN: Final = 0.05
SHARE_MAX: Final = 0.05

_CERTAIN: Final = 1.0 - 1e-9


class Lack(Enum):
    """What a log lacks."""

    NO_PROPENSITY = "no_propensity"
    LOW_OVERLAP = "low_overlap"
    LOW_ESS = "low_ess"
    MIN_CLUSTERS = "min_clusters"
    DISAGREEMENT = "disagreement"
    MIN_SAMPLE = "min_sample"
    WIDE_INTERVAL = "wide_interval"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a log says nothing of a policy.

    sentence: every limit that is broken, with its number; needed: further requests, drawn with
    known chances, after which the log could answer; None = no number of them mends this log.
    """

    lack: Lack
    sentence: str
    needed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How far a log covers a policy; all but the counts are fractions or ratios, nan = unknown.

    Attributes:
        n: requests in the log.
        unknown: requests whose propensity is missing.
        certain: whether no request could have gone to another arm.
        mean_weight: of a request; about 1 where the propensities are right.
        mean_weight_se: its standard error over clusters.
        ess: requests of equal weight that the log is worth.
        max_share: the largest share of all weight that one request holds.
        clipped_mass: share of all weight beyond the largest that is used.
        unsupported: share of the policy on arms with a chance below :data:`LEAST_CHANCE`.
        total_weight: sum of the weights.
        squared_weight: sum of their squares.
    """

    n: float
    unknown: float
    certain: bool
    mean_weight: float
    mean_weight_se: float
    ess: float
    max_share: float
    clipped_mass: float
    unsupported: float
    total_weight: float
    squared_weight: float


def overlap(log: Log, policy: npt.ArrayLike) -> Overlap:
    """How far the log covers the policy.

    Args:
        log: what was logged.
        policy: the policy's chance of every arm for each cell, shape (R, A).

    Examples:
        >>> from optimizer.statistics.offpolicy_log import always, log_of
        >>> log = log_of([0, 0, 0, 1], [0.75, 0.75, 0.75, 0.25], [1.0, 1.0, 0.0, 1.0])
        >>> found = overlap(log, always(log, 1))
        >>> found.mean_weight, found.ess, found.max_share
        (1.0, 1.0, 1.0)
    """
    weight, size = importance(log, policy), log.size
    total = float((log.n * weight).sum())
    squares = float((log.n * weight**2).sum())
    beyond = float((log.n * (weight - clipped(weight))).sum())
    thin = (np.asarray(policy) * ~(log.chances >= LEAST_CHANCE)).sum(axis=-1)
    # The mean weight is what the policy is worth where every reward is 1.
    ones = Log(
        arm=log.arm,
        propensity=log.propensity,
        chances=log.chances,
        n=log.n,
        total=log.n,
        squares=log.n,
        cluster=log.cluster,
        segment=log.segment,
    )
    mean = ips(ones, weight)
    return Overlap(
        n=size,
        unknown=float(log.n[np.isnan(weight)].sum()),
        certain=bool(np.all(log.propensity >= _CERTAIN)),
        mean_weight=mean.value,
        mean_weight_se=math.sqrt(mean.variance),
        ess=total**2 / squares if squares > 0 else 0.0,
        max_share=float(weight.max(initial=0.0)) / total if total > 0 else math.nan,
        clipped_mass=beyond / total if total > 0 else math.nan,
        unsupported=float((log.n * thin).sum()) / size if size else math.nan,
        total_weight=total,
        squared_weight=squares,
    )


def refusal(found: Overlap) -> Refusal | None:
    """Why nothing is estimated from such a log; None where it can be.

    Examples:
        >>> from optimizer.statistics.offpolicy_log import always, log_of
        >>> log = log_of([0, 0, 0, 1], [0.75, 0.75, 0.75, 0.25], [1.0, 1.0, 0.0, 1.0])
        >>> why = refusal(overlap(log, always(log, 1)))
        >>> why.lack.value, why.needed, why.sentence
        ('low_ess', 1996, 'ESS 1 of 4 requests (at least 500), max share 1 (at most 0.05)')
    """
    if not found.n or found.unknown or found.certain:
        why = (
            f"propensity unknown in {found.unknown:,.0f} of {found.n:,.0f} requests"
            if found.unknown or not found.n
            else f"each of {found.n:,.0f} requests had only one arm to go to"
        )
        return Refusal(lack=Lack.NO_PROPENSITY, sentence=why, needed=round(ESS_MIN))
    thin, few = _thin(found), _few(found)
    broken = [*thin, *few]
    if not broken:
        return None
    if not any(each.needed is None for each in broken):
        needed: int | None = max(each.needed or 0 for each in broken)
    else:
        needed = None
    return Refusal(
        lack=Lack.LOW_OVERLAP if thin else Lack.LOW_ESS,
        sentence=", ".join(each.sentence for each in broken),
        needed=needed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Broken:
    sentence: str
    needed: int | None


def _thin(found: Overlap) -> list[_Broken]:
    """The limits of overlap that are broken. A further request brings weight 1 on average."""
    n, mean, low, high = found.n, found.mean_weight, *MEAN_WEIGHT
    broken = []
    if found.unsupported > UNSUPPORTED_MAX:
        needed = n * (found.unsupported / UNSUPPORTED_MAX - 1.0)
        broken.append(
            _broken(f"unsupported mass {found.unsupported:.2f} (at most {UNSUPPORTED_MAX})", needed)
        )
    if not low <= mean <= high:
        needed = (mean - high) * n / (high - 1.0) if mean > high else (low - mean) * n / (1.0 - low)
        broken.append(_broken(f"mean weight {mean:.3f} (between {low} and {high})", needed))
    elif abs(mean - 1.0) > MEAN_WEIGHT_SE * found.mean_weight_se:
        # Chances that are wrong stay wrong however many requests carry them.
        broken.append(
            _broken(
                f"mean weight {mean:.3f} is {abs(mean - 1.0) / found.mean_weight_se:.1f} standard "
                f"errors from 1 (at most {MEAN_WEIGHT_SE:g})",
                None,
            )
        )
    if found.clipped_mass > CLIPPED_MAX:
        needed = found.total_weight * (found.clipped_mass / CLIPPED_MAX - 1.0)
        broken.append(
            _broken(f"clipped mass {found.clipped_mass:.2f} (at most {CLIPPED_MAX})", needed)
        )
    return broken


def _few(found: Overlap) -> list[_Broken]:
    """The limits of effective size that are broken."""
    n, ess = found.n, found.ess
    broken = []
    if ess < ESS_MIN:
        needed = n * (ESS_MIN / ess - 1.0) if ess > 0 else ESS_MIN
        broken.append(
            _broken(f"ESS {ess:,.0f} of {n:,.0f} requests (at least {ESS_MIN:g})", needed)
        )
    elif ess < ESS_SHARE_MIN * n:
        broken.append(
            _broken(
                f"ESS {ess:,.0f} of {n:,.0f} requests (at least {ESS_SHARE_MIN:.0%})",
                _evened(found),
            )
        )
    if not found.max_share <= SHARE_MAX:
        needed = found.total_weight * (found.max_share / SHARE_MAX - 1.0)
        broken.append(_broken(f"max share {found.max_share:.2g} (at most {SHARE_MAX})", needed))
    return broken


def _evened(found: Overlap) -> float:
    """Requests of weight 1 until the effective size is a large enough share of all.

    The larger root of ``(W + k) ** 2 = s (n + k) (W2 + k)``.
    """
    s, total, squares = ESS_SHARE_MIN, found.total_weight, found.squared_weight
    half = total - s * (found.n + squares) / 2.0
    constant = total**2 - s * found.n * squares
    return (math.sqrt(half**2 - (1.0 - s) * constant) - half) / (1.0 - s)


def _broken(sentence: str, needed: float | None) -> _Broken:
    known = needed is not None and math.isfinite(needed)
    return _Broken(sentence=sentence, needed=math.ceil(needed) if known and needed else None)
