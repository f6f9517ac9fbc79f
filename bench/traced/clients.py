"""ServeGen's clients as days of requests: rates by ten minutes, bursts, token sizes, all by client.

The rates are scaled to a volume with the bursts kept, as ServeGen scales its own workloads: a
client is a renewal process whose coefficient of variation is the one measured, and whose clock runs
at the client's rate.

References:
    ServeGen: workload characterization and generation of large language model serving in
    production, alibaba/ServeGen (Apache-2.0).
    The first gap of a stationary renewal process is a uniform part of a length-biased gap: Cox
    (1962), Renewal Theory.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from bench.rollouts.running import chance
from bench.traced.arrivals import (
    DAY_S,
    LOOKS,
    SESSION_REQUESTS,
    WINDOWS,
    Day,
    Traffic,
    azure_rows,
)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

SERVEGEN: Final = "servegen"
STEP_S: Final = 600
STEPS: Final = int(DAY_S) // STEP_S
WEIBULL: Final = "Weibull"
SPREAD: Final = "2023_conv"
"""The Azure trace whose rows spread token sizes around a client's mean."""
_SHAPES: Final[FloatArray] = np.geomspace(5.0, 0.1, 400)
_VARIATIONS: Final[FloatArray] = np.sqrt(
    np.exp(special.gammaln(1.0 + 2.0 / _SHAPES) - 2.0 * special.gammaln(1.0 + 1.0 / _SHAPES)) - 1.0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Gaps of mean 1 with a coefficient of variation, Weibull or Gamma."""

    variation: float
    weibull: bool

    def drawn(self, n: int, numbers: np.random.Generator) -> FloatArray:
        """So many gaps."""
        if self.weibull:
            return numbers.weibull(self._shape, n) / special.gamma(1.0 + 1.0 / self._shape)
        shape = self.variation**-2
        return numbers.gamma(shape, 1.0 / shape, n)

    def first(self, numbers: np.random.Generator) -> float:
        """From a moment that knows nothing of the process to the next request."""
        if self.weibull:
            biased = numbers.gamma(1.0 + 1.0 / self._shape) ** (1.0 / self._shape)
            gap = biased / float(special.gamma(1.0 + 1.0 / self._shape))
        else:
            shape = self.variation**-2
            gap = numbers.gamma(1.0 + shape, 1.0 / shape)
        return float(gap * numbers.random())

    @property
    def _shape(self) -> float:
        """Weibull's shape; beyond the table its end, a coefficient of variation of 429."""
        return float(np.interp(self.variation, _VARIATIONS, _SHAPES))

    def until(self, end: float, numbers: np.random.Generator) -> FloatArray:
        """Ascending times of a stationary process in [0, end)."""
        found = [np.array([self.first(numbers)])]
        more = int(end + 4.0 * self.variation * np.sqrt(end)) + 16
        while found[-1][-1] < end:
            found.append(found[-1][-1] + np.cumsum(self.drawn(more, numbers)))
        times = np.concatenate(found)
        return times[times < end]


def servegen(data: Path, model: str, *, volume: float, whole_clients: bool = False) -> Traffic:
    """Every day of one model.

    Args:
        data: directory of the data sets.
        model: ``m-small`` or ``m-large``.
        volume: mean requests an hour over all days.
        whole_clients: whether a client is one unit; else ten consecutive requests of one are.
    """
    rates, tokens = _tables(data, model)
    days = int(rates["t_s"].max() // DAY_S) + 1
    scale = volume / 3_600.0 / (rates["rate_rps"].sum() / (days * STEPS))
    spread = azure_rows(data, SPREAD)
    sizes = [
        spread[name].to_numpy(dtype=np.float64) / spread[name].mean()
        for name in ("ContextTokens", "GeneratedTokens")
    ]
    means = tokens.pivot_table(index="client", columns="quantity", values="mean")
    drawn = []
    for number in range(days):
        today = rates[rates["t_s"] // DAY_S == number]
        numbers = chance(f"servegen {model} {volume:g}", number)
        seconds, client = _day(today, scale, numbers)
        by_client = means.reindex(client).fillna(means.median())
        row = numbers.integers(0, len(spread), client.size)
        drawn.append(
            Day(
                window=(seconds / DAY_S * LOOKS * WINDOWS).astype(np.int64),
                unit=client if whole_clients else _sessions(client),
                input_tokens=by_client["input_tokens"].to_numpy() * sizes[0][row],
                output_tokens=by_client["output_tokens"].to_numpy() * sizes[1][row],
            )
        )
    return Traffic(days=tuple(drawn))


def _tables(data: Path, model: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rates and mean token sizes by client."""
    with duckdb.connect() as connection:
        return (
            connection.execute(
                "SELECT client, t_s, rate_rps, cv, dist FROM read_parquet(?) WHERE model = ? "
                "ORDER BY client, t_s",
                [str(data / SERVEGEN / "client_rates.parquet"), model],
            ).df(),
            connection.execute(
                "SELECT client, quantity, avg(mean) AS mean FROM read_parquet(?) WHERE model = ? "
                "GROUP BY client, quantity ORDER BY client, quantity",
                [str(data / SERVEGEN / "client_token_quantiles.parquet"), model],
            ).df(),
        )


def _day(
    rates: pd.DataFrame, scale: float, numbers: np.random.Generator
) -> tuple[FloatArray, IntArray]:
    """Seconds of the day and client of every request, client after client, in time order."""
    times, clients = [], []
    for client, own in rates.groupby("client", sort=True):
        expected = np.zeros(STEPS)
        step = (own["t_s"].to_numpy() % DAY_S // STEP_S).astype(np.int64)
        expected[step] = own["rate_rps"].to_numpy() * scale * STEP_S
        clock = np.concatenate([[0.0], np.cumsum(expected)])
        gaps = Gaps(
            variation=float(own["cv"].median()), weibull=own["dist"].mode().iloc[0] == WEIBULL
        )
        inside = gaps.until(float(clock[-1]), numbers)
        # A step without requests makes the clock stand still; its requests come when it goes on.
        at = np.searchsorted(clock, inside, side="right") - 1
        times.append((at + (inside - clock[at]) / expected[at]) * STEP_S)
        clients.append(np.full(inside.size, client, dtype=np.int64))
    return np.concatenate(times), np.concatenate(clients)


def _sessions(client: IntArray) -> IntArray:
    """Ten consecutive requests of a client are a unit; clients stand one after another."""
    begins = np.flatnonzero(np.diff(client, prepend=-1))
    length = np.diff(np.append(begins, client.size))
    number = np.arange(client.size) - np.repeat(begins, length)
    new = number % SESSION_REQUESTS == 0
    return np.cumsum(new) - 1
