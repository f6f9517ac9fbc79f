"""Planned looks: the times at which a ramp's tests may spend error, and what they spend.

A look is taken by the hourly run alone, once for each end of the data: the same run again finds the
look it took and repeats it, and the guard, which looks because minutes have passed, takes none. The
laws kept here: information never decreases along the looks, a look without new information spends
nothing, and looks that were missed are folded into the next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import chain, repeat
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from optimizer.evidence import Looks
from optimizer.judge.bulk import build
from optimizer.statistics.crossing import Spending, crosses

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Objects = npt.NDArray[np.object_]

SURE: Final = 1.0
"""Standard errors beyond the boundary at which a blip is no longer assumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The plans of n cases for one metric; all arrays have shape (n,).

    planned: canary rows of this metric at the planned end, nan = unplanned; extension: rows when
    the last hold expires, as a fraction of those; ratio: control rows to one canary row; looking:
    whether a look may be taken now; ending: whether the planned end has come; final: whether the
    next step is promotion; patient: whether one crossing alone may be a blip; alpha, alpha_promote:
    budgets; harm, promotion: the :class:`Looks` taken so far; until: end of the data.
    """

    planned: FloatArray
    extension: FloatArray
    ratio: FloatArray
    looking: BoolArray
    ending: BoolArray
    final: BoolArray
    patient: BoolArray
    alpha: FloatArray
    alpha_promote: FloatArray
    harm: Objects
    promotion: Objects
    until: datetime

    def part(self, where: slice) -> "Schedule":
        """The same for some of the cases."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        return Schedule(**{name: v if name == "until" else v[where] for name, v in values.items()})

    @property
    def has_plan(self) -> BoolArray:
        """Which cases are judged by planned looks."""
        return np.isfinite(self.planned)

    def fraction(self, rows: FloatArray) -> FloatArray:
        """Information so far over that of the plan; rows: shape (n, 2), control first.

        Information is that of a difference of two means, ``n_e n_c / (n_e + n_c)``, in rows, so
        that the plan needs no variance.
        """
        total = rows.sum(axis=1)
        seen = rows.prod(axis=1) / np.where(total > 0, total, np.nan)
        return np.asarray(seen / (self.planned * self.ratio / (1.0 + self.ratio)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The look of each case: whether one was taken, and what came of it, shape (n,).

    fraction, bound: nan where none was taken; looks: the :class:`Looks` after it.
    """

    taken: BoolArray
    crossed: BoolArray
    fraction: FloatArray
    bound: FloatArray
    looks: Objects


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How n cases may spend error, shape (n,).

    alpha: the whole; spending: the spending function; closing: whether a look now spends all that
    is left; end: fraction from which a look is the last one.
    """

    alpha: FloatArray
    spending: Spending
    closing: BoolArray
    end: FloatArray


def none_taken(earlier: Objects) -> Taken:
    """No look in any case."""
    nothing = np.full(earlier.size, np.nan)
    no = np.zeros(earlier.size, dtype=bool)
    return Taken(taken=no, crossed=no, fraction=nothing, bound=nothing, looks=earlier)


def take(
    z: FloatArray,
    fraction: FloatArray,
    earlier: Objects,
    *,
    due: BoolArray,
    until: datetime,
    budget: Budget,
) -> Taken:
    """Take the look of every case that is due one.

    Args:
        z: normal deviates, shape (n,); nan = no look.
        fraction: information fractions now, shape (n,).
        earlier: the :class:`Looks` before, shape (n,).
        due: whether a look may be taken.
        until: end of the data: a look that ended there already is repeated, and none is taken where
            one ended later.
        budget: what may be spent.
    """
    if not due.any():
        return none_taken(earlier)
    old: list[Looks] = earlier.tolist()
    ends = [each.until for each in old]
    repeated = np.array([end is not None and end == until for end in ends], dtype=bool)
    late = np.array([end is not None and end > until for end in ends], dtype=bool)
    closed = np.array([each.closed for each in old], dtype=bool)
    past = [
        each.fractions[:-1] if same else each.fractions
        for each, same in zip(old, repeated.tolist(), strict=True)
    ]
    again = np.array([each.fractions[-1] if each.fractions else np.nan for each in old])
    now = np.where(repeated, again, fraction)
    last = np.array([each[-1] if each else 0.0 for each in past], dtype=np.float64)
    with np.errstate(invalid="ignore"):
        taken = due & ~late & np.isfinite(z) & (now > last) & (repeated | ~closed)
        final = np.where(repeated, closed, budget.closing | (now >= budget.end))
    found = crosses(
        np.where(taken, z, np.nan),
        np.column_stack([_side_by_side(past), np.where(taken, now, np.nan)]),
        alpha=budget.alpha,
        spending=budget.spending,
        closing=budget.closing & final,
    )
    looks = earlier.copy()
    crossings = np.array([each.crossings for each in old], dtype=np.int64)
    # A look that is repeated counts once.
    streak = np.maximum(crossings - repeated, 0) + 1
    rows = np.flatnonzero(taken)
    seen = zip(rows.tolist(), now[rows].tolist(), strict=True)
    looks[rows] = build(
        Looks,
        fractions=[(*past[row], at) for row, at in seen],
        until=repeat(until),
        spent=found.spent[rows].tolist(),
        crossings=np.where(found.crossed, streak, 0)[rows].tolist(),
        closed=final[rows].tolist(),
    )
    return Taken(
        taken=taken,
        crossed=found.crossed,
        fraction=np.where(taken, now, np.nan),
        bound=found.bound,
        looks=looks,
    )


def _side_by_side(past: Sequence[tuple[float, ...]]) -> FloatArray:
    """Earlier fractions, the newest in the last column, nan before the first one of each row."""
    counts = np.fromiter(map(len, past), dtype=np.int64, count=len(past))
    width = int(counts.max(initial=0))
    times = np.full((len(past), width), np.nan)
    times[np.arange(width) >= width - counts[:, None]] = list(chain.from_iterable(past))
    return times


def steady(found: Taken, z: FloatArray, patient: BoolArray) -> BoolArray:
    """The crossings that count: all, or where a blip is tolerated those that last or are clear.

    It acts on a part of the crossings, so it needs no error of its own and spends none twice.
    """
    streak = np.array([each.crossings for each in found.looks.tolist()], dtype=np.int64)
    with np.errstate(invalid="ignore"):
        clear = z >= found.bound + SURE
    return np.asarray(found.crossed & (~patient | (streak > 1) | clear))
