"""Real arrivals as days of requests: when each came, in which unit, and its tokens.

A day has 24 looks of 12 windows each, whatever its length: Azure's traces of 2023 last an hour, and
are replayed as they are with a look every two and a half minutes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

AZURE: Final = "azure_llm_trace"
LOOKS: Final = 24
WINDOWS: Final = 12
"""Windows of a look."""
SESSION_REQUESTS: Final = 10
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """Requests of a day in no order, each field of shape (N,).

    window: from 0 to 287; unit: from 0 on, what is assigned to an arm; tokens: input and output.
    """

    window: IntArray
    unit: IntArray
    input_tokens: FloatArray
    output_tokens: FloatArray

    def __post_init__(self) -> None:
        if not self.window.size:
            raise ValueError("a day without requests cannot be replayed")

    @property
    def volume(self) -> float:
        """Requests by look."""
        return self.window.size / LOOKS

    @property
    def units(self) -> int:
        """How many units there are."""
        return int(self.unit.max()) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Days to replay, in order. A single day has no day before, and forecasts itself."""

    days: tuple[Day, ...]

    def pair(self, number: int) -> tuple[Day, Day]:
        """A day before and the day that is replayed, round and round."""
        if len(self.days) == 1:
            return self.days[0], self.days[0]
        at = number % (len(self.days) - 1)
        return self.days[at], self.days[at + 1]


def azure(data: Path, name: str, *, at_once: int, span_s: float | None = None) -> Traffic:
    """One trace of the Azure Public Dataset, every request at its own time.

    Args:
        data: directory of the data sets.
        name: the trace's, such as ``2023_conv``.
        at_once: sessions that run at once. The trace names none: every ``at_once``-th request
            belongs to the same session until it has ten.
        span_s: seconds from the first request that are replayed; none for all.
    """
    rows = azure_rows(data, name)
    times = rows["TIMESTAMP"].to_numpy()
    seconds = (times - times[0]) / np.timedelta64(1, "s")
    span = float(seconds[-1]) if span_s is None else span_s
    kept = rows[seconds <= span]
    windows = LOOKS * WINDOWS
    number = np.arange(len(kept))
    block = at_once * SESSION_REQUESTS
    return Traffic(
        days=(
            Day(
                window=np.minimum(seconds[: len(kept)] / span * windows, windows - 1).astype(
                    np.int64
                ),
                unit=number // block * at_once + number % at_once,
                input_tokens=kept["ContextTokens"].to_numpy(dtype=np.float64),
                output_tokens=kept["GeneratedTokens"].to_numpy(dtype=np.float64),
            ),
        )
    )


def azure_rows(data: Path, name: str) -> pd.DataFrame:
    """A trace in time order."""
    path = data / AZURE / f"azure_{name}.csv.gz"
    rows = pd.read_csv(path, parse_dates=["TIMESTAMP"])
    return rows.sort_values("TIMESTAMP", kind="stable", ignore_index=True)
