"""Change points: where the level of one series moved, by penalised least squares.

The laws kept here: neither scale nor level of the series matters, a segment has at least
``MIN_SIZE`` known values, and a series too short to hold two segments has no change point.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from ruptures import KernelCPD  # type: ignore[import-untyped]  # it ships no types

FloatArray = npt.NDArray[np.float64]

MIN_SIZE: Final = 12
PENALTY: Final = 3.0
"""Times ``log n``: what a change point must explain, for values that are nearly independent."""


def change_points(
    values: npt.ArrayLike, *, penalty: float = PENALTY, min_size: int = MIN_SIZE
) -> tuple[int, ...]:
    """The positions at which a new level begins, ascending; empty where there is none.

    Args:
        values: one series, nan = unknown, shape (H,); residuals of an autoregression, because
            correlation alone looks like a change of level.
        penalty: times ``log n``, per change point, in variances of the values.
        min_size: known values that a level lasts at least.

    References:
        Killick, Fearnhead and Eckley (2012), Optimal detection of changepoints with a linear
        computational cost, arXiv 1101.1438. Variance: half the mean square of successive
        differences, von Neumann (1941), Ann. Math. Statist. 12:367.

    Examples:
        >>> wave = np.tile([1.0, -1.0, 0.5, -0.5], 12)
        >>> change_points(wave + np.repeat([0.0, 6.0], 24))
        (24,)
        >>> change_points(wave)
        ()
    """
    series = np.asarray(values, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(series))
    if known.size < 2 * min_size:
        return ()
    level = series[known] - np.median(series[known])
    deviation = np.sqrt(np.mean(np.diff(level) ** 2) / 2.0)
    if not deviation > 0:
        return ()
    # PELT in C, for the kernel whose cost is least squares: a thousand times faster than Pelt.
    search = KernelCPD(kernel="linear", min_size=min_size)
    ends = search.fit((level / deviation)[:, None]).predict(pen=penalty * np.log(known.size))
    return tuple(int(known[end]) for end in ends[:-1])
