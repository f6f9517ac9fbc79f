"""The score of the Numenta Anomaly Benchmark, release 1.1.

An alarm inside an anomaly window is worth the more the earlier it is, of several the earliest one
counts; an alarm outside costs the more the longer after a window it is; a missed window costs one
weight. One threshold holds for all series; it is the one with the largest score. A detector that
never alarms has 0, one that alarms in the first point of every window and nowhere else has 100.

References:
    Lavin and Ahmad (2015), Evaluating real-time anomaly detection algorithms: the Numenta anomaly
    benchmark, arXiv 1510.03336, section II; positions in and after a window as in the published
    scorer: a point's place before the end of its window counts itself, places after a window are
    relative to its length less one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.nab.corpus import Labelled, Profile, Windows

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

PROBATION: Final = 0.15
"""Share of a series at its beginning that is not scored, of at most ``LONGEST`` points."""
LONGEST: Final = 5_000
FAR: Final = 3.0
"""Relative distance after a window from which an alarm is as wrong as can be."""
OUTSIDE: Final = -1
UNSCORED: Final = -2


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The best score of a detector under one profile, and the threshold that reaches it."""

    value: float
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarms:
    """Alarms of a group of series: windows, those found, false alarms, weeks outside windows."""

    series: int
    windows: int
    found: int
    false: int
    weeks: float

    @property
    def false_per_week(self) -> float:
        """False alarms in a week of one series."""
        return self.false / self.weeks


def worth(position: npt.ArrayLike) -> FloatArray:
    """What an alarm is worth: 1 early in a window (-1), 0 at its end (0), -1 long after it.

    Examples:
        >>> worth([-1.0, -0.5, 0.0, 1.0, 3.0]).round(5).tolist()
        [0.98661, 0.84828, 0.0, -0.98661, -1.0]
    """
    place = np.asarray(position, dtype=np.float64)
    return np.where(place >= FAR, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(place, FAR))) - 1.0)


def worths(points: int, windows: Windows) -> tuple[FloatArray, IntArray]:
    """What an alarm at each point is worth before weights, and the window it lies in.

    The window is its number, ``OUTSIDE`` or, in the probation, ``UNSCORED``.
    """
    index = np.arange(points)
    value, of = np.full(points, -1.0), np.full(points, OUTSIDE)
    begins = [*(first for first, _ in windows), points]
    for number, (first, last) in enumerate(windows):
        width, following = last - first + 1, begins[number + 1]
        inside, after = slice(first, last + 1), slice(last + 1, following)
        value[inside] = worth((index[inside] - last - 1) / width) / float(worth(-1.0))
        # A window of one point has no length to measure a distance by: all after it is far.
        value[after] = worth((index[after] - last) / max(width - 1, 1e-9))
        of[inside] = number
    of[: probation(points)] = UNSCORED
    return value, of


def probation(points: int) -> int:
    """Points at the beginning that are not scored."""
    return int(min(np.floor(PROBATION * points), PROBATION * LONGEST))


def best(corpus: Sequence[Labelled], scores: Mapping[str, FloatArray], profile: Profile) -> Score:
    """The largest score that one threshold over all series reaches."""
    values, thresholds = by_threshold(corpus, scores, profile)
    chosen = int(np.argmax(values))
    return Score(value=float(values[chosen]), threshold=float(thresholds[chosen]))


def at_threshold(
    corpus: Sequence[Labelled],
    scores: Mapping[str, FloatArray],
    profile: Profile,
    threshold: float,
) -> float:
    """The score of alarms at this threshold and above."""
    values, thresholds = by_threshold(corpus, scores, profile)
    return float(values[np.flatnonzero(thresholds >= threshold)[-1]])


def by_threshold(
    corpus: Sequence[Labelled], scores: Mapping[str, FloatArray], profile: Profile
) -> tuple[FloatArray, FloatArray]:
    """The score at every threshold, from that of no alarm (inf) down to that of alarms only."""
    parts, windows = [], 0
    for each in corpus:
        value, of = worths(len(each.values), each.windows)
        scored = of != UNSCORED
        number = np.where(of >= 0, of + windows, OUTSIDE)
        parts.append((scores[each.name][scored], value[scored], number[scored]))
        windows += len(each.windows)
    strength, value, number = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(-strength, kind="stable")
    strength, value, number = strength[order], value[order], number[order]
    gain = np.where(number == OUTSIDE, profile.false_positive * value, 0.0)
    reachable = np.unique(number[number != OUTSIDE])
    for window in reachable:
        inside = np.flatnonzero(number == window)
        held = np.maximum.accumulate(profile.true_positive * value[inside])
        held = np.maximum(held, -profile.false_negative)
        gain[inside] = np.diff(held, prepend=-profile.false_negative)
    null = -profile.false_negative * reachable.size
    perfect = profile.true_positive * reachable.size
    last = np.append(strength[1:] != strength[:-1], [True])
    total = null + np.concatenate([[0.0], np.cumsum(gain)[last]])
    thresholds = np.concatenate([[np.inf], strength[last]])
    return 100.0 * (total - null) / (perfect - null), thresholds


def alarms(
    corpus: Sequence[Labelled], scores: Mapping[str, FloatArray], threshold: float
) -> dict[str, Alarms]:
    """What the alarms at a threshold find and cry wolf over, by group of series."""
    groups: dict[str, list[tuple[int, int, int, float]]] = {}
    for each in corpus:
        _, of = worths(len(each.values), each.windows)
        alarm = scores[each.name] >= threshold
        outside = of == OUTSIDE
        scored_s = each.at_s[-1] - each.at_s[probation(len(each.values))]
        weeks = scored_s / (7 * 86_400) * outside.sum() / (of != UNSCORED).sum()
        found = np.unique(of[alarm & (of >= 0)]).size
        row = (len(each.windows), found, int((alarm & outside).sum()), float(weeks))
        groups.setdefault(each.group, []).append(row)
    return {
        name: Alarms(
            series=len(rows),
            windows=sum(row[0] for row in rows),
            found=sum(row[1] for row in rows),
            false=sum(row[2] for row in rows),
            weeks=sum(row[3] for row in rows),
        )
        for name, rows in groups.items()
    }
