"""When one arm of several may be called the best, looked at after every batch, forever.

Each ordered pair of arms runs a bet on "i fails no more often than j is false": the exact e-process
of counts, on the successes of one batch given that batch's sizes. Sizes are fixed before outcomes,
so neither adaptive allocation nor a drift that all arms share can forge evidence. The laws kept
here: the chance that an arm is ever declared that is not better than every other, an exact tie
included, is at most delta, whatever the allocation and the schedule of looks; batches in any order
give the same evidence; renaming the arms renames the verdict.

A unit counts once: a success is a unit all of whose requests in the batch succeeded. A declaration
opens a rollout; it promotes nothing. Data that chose a candidate never confirm it.

References:
    Turner, Ly and Gruenwald (2021), arXiv 2106.02693, for the e-values; Ramdas, Gruenwald, Vovk and
    Shafer (2023), arXiv 2210.01948, for looking at any time.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.statistics.evalues import GRID_SIZE, Side, exact_increments, log_evalue

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DELTA: Final = 0.05
MIN_UNITS: Final = 20
"""Units of every arm before any may be declared and before the split may be uneven."""
NONE: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """All that the batches so far say, for many targets (or simulated runs) at once.

    Attributes:
        units: units of each arm, shape (..., K).
        successes: those that succeeded, shape (..., K).
        log_ratios: summed grid of each ordered pair (i, j), "i succeeds more often than j", shape
            (..., K, K, 16); the diagonal stays 0.
    """

    units: IntArray
    successes: IntArray
    log_ratios: FloatArray

    @property
    def arms(self) -> int:
        """K, the number of arms."""
        return int(self.units.shape[-1])


def new_race(arms: int, shape: tuple[int, ...] = ()) -> Race:
    """The race before its first batch.

    Raises:
        ValueError: there are fewer than two arms.

    Examples:
        >>> new_race(3).log_ratios.shape
        (3, 3, 16)
    """
    if arms < 2:  # noqa: PLR2004 - one arm has nobody to beat
        raise ValueError(f"a best arm needs at least 2 arms, got {arms}")
    return Race(
        units=np.zeros((*shape, arms), dtype=np.int64),
        successes=np.zeros((*shape, arms), dtype=np.int64),
        log_ratios=np.zeros((*shape, arms, arms, GRID_SIZE)),
    )


def observe(race: Race, units: npt.ArrayLike, successes: npt.ArrayLike) -> Race:
    """The race after one more batch, whose sizes were fixed before its outcomes.

    Args:
        race: so far, shape (...).
        units: units of each arm in the batch, shape (..., K); none of one arm is fine.
        successes: those that succeeded, shape (..., K).

    Raises:
        ValueError: a count is negative, not whole or too large.

    Examples:
        >>> after = observe(new_race(2), [100, 100], [97, 90])
        >>> round(float(log_evalue(after.log_ratios)[0, 1]), 6)
        1.732891
    """
    counted, succeeded = np.asarray(units), np.asarray(successes)
    first, second = pairs(race.arms)
    added = exact_increments(
        succeeded[..., first],
        counted[..., first],
        succeeded[..., second],
        counted[..., second],
        side=Side.HIGHER,
    )
    log_ratios = race.log_ratios.copy()
    log_ratios[..., first, second, :] += added
    return Race(
        units=race.units + counted.astype(np.int64),
        successes=race.successes + succeeded.astype(np.int64),
        log_ratios=log_ratios,
    )


def best_log_evalues(race: Race) -> FloatArray:
    """Log e-value of each arm against "this is not the best", shape (..., K).

    The smallest over the other arms, because the claim is false as soon as it loses to one of them.
    Taken when an arm is declared, it may be handed to a procedure for multiple testing.

    Examples:
        >>> after = observe(new_race(2), [100, 100], [97, 90])
        >>> [round(float(value), 3) for value in best_log_evalues(after)]
        [1.733, -2.305]
    """
    pair = log_evalue(race.log_ratios)
    at = np.arange(race.arms)
    pair[..., at, at] = np.inf
    return np.asarray(pair.min(axis=-1))


def declared(
    race: Race,
    *,
    delta: float = DELTA,
    min_units: int = MIN_UNITS,
    rivals: int | None = None,
) -> IntArray:
    """The arm that may be called the best, shape (...); -1 where none may yet.

    Declares i if its evidence against each other arm reaches ``rivals / delta``.

    Args:
        race: so far.
        delta: chance ever to declare an arm that is not better than every other, in (0, 1).
        min_units: units every arm must have had.
        rivals: wrong pairs that share delta, those of all K arms if not told; see
            :func:`rival_pairs`.

    Raises:
        ValueError: delta is outside (0, 1).

    Examples:
        >>> race = new_race(2)
        >>> for _ in range(4):
        ...     race = observe(race, [100, 100], [97, 90])
        >>> int(declared(race)), int(declared(new_race(2)))
        (0, -1)
    """
    count = rival_pairs(race.arms, dropped=False) if rivals is None else rivals
    needed = _threshold(count, delta)
    strength = best_log_evalues(race)
    ready = np.all(race.units >= min_units, axis=-1)
    reached = ready & (strength.max(axis=-1) >= needed)
    return np.where(reached, strength.argmax(axis=-1), NONE)


def first_declared(
    units: npt.ArrayLike,
    successes: npt.ArrayLike,
    *,
    rivals: int,
    not_before: int = 0,
    delta: float = DELTA,
    min_units: int = MIN_UNITS,
) -> tuple[int, int]:
    """The first of W batches after which an arm may be called the best, and that arm.

    The same as :func:`observe` and :func:`declared` after every batch, so that a run that comes
    late names what the runs it stands for would have named.

    Args:
        units: units of each arm in each batch, shape (W, K), in order of time.
        successes: those that succeeded, same shape.
        rivals: wrong pairs that share delta; see :func:`rival_pairs`.
        not_before: batches that must have passed before anything is declared.
        delta: chance ever to declare an arm that is not better than every other, in (0, 1).
        min_units: units every arm must have had.

    Returns:
        Position of the batch and of the arm; -1 and -1 where none may be declared yet.

    Raises:
        ValueError: a count is negative, not whole or too large, or delta is outside (0, 1).

    Examples:
        >>> first_declared([[100, 100]] * 9, [[97, 90]] * 9, rivals=1)
        (1, 0)
    """
    counted, succeeded = np.asarray(units), np.asarray(successes)
    first, second = pairs(counted.shape[-1])
    added = exact_increments(
        succeeded[:, first],
        counted[:, first],
        succeeded[:, second],
        counted[:, second],
        side=Side.HIGHER,
    )
    path = log_evalue(np.cumsum(added, axis=0))
    size = counted.shape[-1]
    strength = np.full((len(counted), size, size), np.inf)
    strength[:, first, second] = path
    best = strength.min(axis=-1)
    ready = np.all(np.cumsum(counted, axis=0) >= min_units, axis=-1)
    ready &= np.arange(len(counted)) >= not_before
    reached = ready & (best.max(axis=-1, initial=-np.inf) >= _threshold(rivals, delta))
    if not reached.any():
        return NONE, NONE
    batch = int(reached.argmax())
    return batch, int(best[batch].argmax())


def rival_pairs(arms: int, *, dropped: bool) -> int:
    """How many pairs of arms may lead to a wrong declaration, and so share delta.

    With all K arms in the race a wrong one must beat a best one, which K may try: where arms are
    equally good, each of them too. Once arms are dropped for what was seen of them, the best of
    those that stay is chosen by data as well: then every ordered pair counts.

    Examples:
        >>> rival_pairs(4, dropped=False), rival_pairs(4, dropped=True)
        (4, 12)
    """
    return arms * (arms - 1) if dropped else arms


def pairs(arms: int) -> tuple[IntArray, IntArray]:
    """The ordered pairs of different arms as two index columns, K (K - 1) each."""
    first, second = np.nonzero(~np.eye(arms, dtype=bool))
    return first, second


def _threshold(rivals: int, delta: float) -> float:
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta lies in (0, 1), got {delta!r}")
    return float(np.log(rivals / delta))
