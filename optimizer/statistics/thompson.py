"""How the next batch's units are split among arms: top-two Thompson sampling with a floor.

The laws kept here: shares add to 1 and none falls below the floor's part, so every arm keeps a
known, positive chance that later estimates can divide by; the same generator state gives the same
shares; renaming the arms renames the shares.

The shares hold for one whole batch and are logged with each unit. Means of arms after an adaptive
allocation are biased; what may be said of them is in ``declaring``.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.statistics.declaring import MIN_UNITS, NONE, Race

FloatArray = npt.NDArray[np.float64]

DRAWS: Final = 4_000
FLOOR: Final = 0.10
"""Share of traffic that is spread evenly over all arms, whatever the evidence says (gamma)."""


def top_two(
    race: Race,
    rng: np.random.Generator,
    *,
    draws: int = DRAWS,
    floor: float = FLOOR,
    min_units: int = MIN_UNITS,
) -> FloatArray:
    """The shares of the next batch, shape (..., K).

    Half of a unit's chance goes to the arm that is best in a posterior draw, half to the runner-up:
    ``p = floor / K + (1 - floor) (P(first) + P(second)) / 2``, over draws from
    ``Beta(1 + successes, 1 + failures)``. Uniform until every arm has its first units. With two
    arms both are always the first two, so the split is even and nothing is drawn.

    Args:
        race: so far, shape (...).
        rng: the generator; its seed is stored with the shares.
        draws: posterior draws for each target.
        floor: gamma, in [0, 1].
        min_units: units of every arm before the shares may leave the uniform.

    Raises:
        ValueError: floor is outside [0, 1] or draws is not positive.

    References:
        Russo (2016), Simple Bayesian algorithms for best-arm identification, arXiv 1602.08448, with
        beta = 1/2; batches: Perchet, Rigollet, Chassang and Snowberg (2015), arXiv 1505.00369.

    Examples:
        >>> from optimizer.statistics.declaring import new_race, observe
        >>> race = observe(new_race(3), [200, 200, 200], [190, 188, 120])
        >>> shares = top_two(race, np.random.default_rng(1))
        >>> [round(float(share), 2) for share in shares]
        [0.48, 0.48, 0.03]
    """
    _check(floor, draws)
    arms = race.arms
    uniform = np.full(race.units.shape, 1.0 / arms)
    if arms == 2:  # noqa: PLR2004 - first and runner-up are all there are
        return uniform
    a, b = 1.0 + race.successes, 1.0 + race.units - race.successes
    drawn = rng.beta(a[..., None], b[..., None], size=(*a.shape, draws))
    shares = floor / arms + (1.0 - floor) * _first_two(drawn)
    ready = np.all(race.units >= min_units, axis=-1)
    return np.where(ready[..., None], shares, uniform)


def top_two_means(
    mean: npt.ArrayLike,
    variance: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    draws: int = DRAWS,
    floor: float = FLOOR,
) -> FloatArray:
    """The shares of the next batch where rewards are scores, not successes, shape (..., K).

    As :func:`top_two`, over draws from ``Normal(mean, variance)``; uniform where a mean or a
    variance is unknown.

    Args:
        mean: posterior mean of each arm's reward, higher is better, shape (..., K).
        variance: its posterior variance, >= 0, same shape.
        rng: the generator; its seed is stored with the shares.
        draws: posterior draws for each target.
        floor: gamma, in [0, 1].

    Raises:
        ValueError: floor is outside [0, 1] or draws is not positive.

    References:
        As :func:`top_two`.

    Examples:
        >>> shares = top_two_means([0.7, 0.8, 0.3], [1e-3] * 3, np.random.default_rng(1))
        >>> [round(float(share), 2) for share in shares]
        [0.48, 0.48, 0.03]
    """
    _check(floor, draws)
    centre = np.asarray(mean, dtype=np.float64)
    spread = np.sqrt(np.asarray(variance, dtype=np.float64))
    arms = centre.shape[-1]
    uniform = np.full(centre.shape, 1.0 / arms)
    known = np.all(np.isfinite(centre) & np.isfinite(spread), axis=-1)
    if arms == 2 or not known.any():  # noqa: PLR2004 - first and runner-up are all there are
        return uniform
    centre, spread = np.nan_to_num(centre), np.nan_to_num(spread)
    drawn = rng.normal(centre[..., None], spread[..., None], size=(*centre.shape, draws))
    shares = floor / arms + (1.0 - floor) * _first_two(drawn)
    return np.where(known[..., None], shares, uniform)


def after_declaration(leader: npt.ArrayLike, *, arms: int, floor: float = FLOOR) -> FloatArray:
    """The shares while an arm is declared: all to it but the floor, which all share, (..., K).

    Args:
        leader: the declared arm, shape (...); where it is -1 the shares are uniform.
        arms: K.
        floor: gamma, in [0, 1].

    Raises:
        ValueError: floor is outside [0, 1].

    Examples:
        >>> [round(float(share), 3) for share in after_declaration(1, arms=4)]
        [0.025, 0.925, 0.025, 0.025]
    """
    _check(floor)
    named = np.asarray(leader, dtype=np.int64)[..., None]
    shares = floor / arms + (1.0 - floor) * (named == np.arange(arms))
    return np.where(named == NONE, 1.0 / arms, shares)


def _first_two(drawn: FloatArray) -> FloatArray:
    """How often each arm is first or second in a draw, halved; (..., K) from (..., K, draws)."""
    first = drawn.argmax(axis=-2)
    np.put_along_axis(drawn, first[..., None, :], -np.inf, axis=-2)
    second = drawn.argmax(axis=-2)
    names = np.arange(drawn.shape[-2])[:, None]
    counted = (first[..., None, :] == names).sum(axis=-1) + (second[..., None, :] == names).sum(
        axis=-1
    )
    return np.asarray(counted / (2.0 * drawn.shape[-1]))


def _check(floor: float, draws: int = DRAWS) -> None:
    if draws < 1:
        raise ValueError(f"draws is positive, got {draws}")
    if not 0.0 <= floor <= 1.0:
        raise ValueError(f"floor lies in [0, 1], got {floor!r}")
