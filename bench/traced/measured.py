"""What was measured at real endpoints: how long answers took, how often none came, their price.

Latencies and failures are kept by stratum (an endpoint, a kind of task, a model in a region),
because requests of one stratum resemble each other far more than those of two. What a table marks
as missing is left out: latencies of zero are no latencies.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.world.coderouter import BASELINE, RESULTS

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

LLMPERF: Final = Path("llmperf_leaderboard", "individual.csv.gz")
FASTEST: Final = Path("thefastest_ai", "snapshots.csv.gz")
CODE_ROUTER: Final = Path("coderouterbench", RESULTS)
NO_ANSWER: Final = (429, -1)
"""Error codes of requests without an answer; -100, a short answer, has a real latency."""
SATURATED: Final = 0.5
"""Share of failures beyond which an endpoint counts as saturated."""
FEWEST: Final = 20
"""Rows a stratum needs."""
MS: Final = 1_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Measured rows by stratum.

    chance: of each stratum, shape (E,); fails: share of its requests without an answer, shape (E,);
    latency_ms: of the answered rows, stratum after stratum, shape (M,); first, size: where a
    stratum's rows begin and how many there are, shape (E,).
    """

    name: str
    chance: FloatArray
    fails: FloatArray
    latency_ms: FloatArray
    first: IntArray
    size: IntArray

    @property
    def failure_rate(self) -> float:
        """Share of all requests without an answer."""
        return float(self.chance @ self.fails)

    def strata(self, n: int, numbers: np.random.Generator) -> IntArray:
        """The stratum of each of n units."""
        return np.asarray(numbers.choice(len(self.chance), n, p=self.chance))

    def latencies(self, stratum: IntArray, numbers: np.random.Generator) -> FloatArray:
        """A measured latency for each request, ms."""
        place = (numbers.random(stratum.size) * self.size[stratum]).astype(np.int64)
        return np.asarray(self.latency_ms[self.first[stratum] + place])

    def weights(self) -> FloatArray:
        """The chance of each row, shape (M,)."""
        return np.repeat(self.chance / self.size, self.size)


def endpoints(data: Path, *, failure_rate: float) -> Measured:
    """LLMPerf's endpoints; those that are saturated get as many requests as make the failure rate.

    The others share the rest equally, as the benchmark did.

    Raises:
        ValueError: the endpoints cannot make that failure rate.
    """
    rows = pd.read_csv(data / LLMPERF)
    rows["failed"] = rows["error_code"].isin(NO_ANSWER)
    rows["latency_ms"] = rows["end_to_end_latency_s"].where(~rows["failed"]) * MS
    found = _by_stratum("LLMPerf", rows, ["provider", "model"])
    sick = found.fails > SATURATED
    if not sick.any() or sick.all():
        raise ValueError("no endpoint is saturated, or all are")
    high, low = (float(found.fails[group].mean()) for group in (sick, ~sick))
    share = (failure_rate - low) / (high - low)
    if not 0.0 < share < 1.0:
        raise ValueError(f"failure rates of {low:.4f} and {high:.4f} do not make {failure_rate}")
    chance = np.where(sick, share / sick.sum(), (1.0 - share) / (~sick).sum())
    return replace(found, chance=chance)


def first_tokens(data: Path) -> Measured:
    """TheFastest.ai's times to first token; a stratum is a model as seen from one region."""
    rows = pd.read_csv(data / FASTEST)
    rows["latency_ms"] = rows["ttft_s"].where(rows["ttft_s"] > 0) * MS
    return _by_stratum("TheFastest.ai", rows, ["model", "region"])


def tasks(data: Path) -> Measured:
    """CodeRouterBench's latencies of its strongest model; a stratum is a kind of task."""
    rows = pd.read_csv(data / CODE_ROUTER)
    rows = rows[rows["model"] == BASELINE].copy()
    rows["latency_ms"] = rows["latency_ms"].where(rows["latency_ms"] > 0)
    return _by_stratum("CodeRouterBench", rows, ["dimension"])


def _by_stratum(name: str, rows: pd.DataFrame, by: list[str]) -> Measured:
    """Rows with ``latency_ms`` (nan for none) and perhaps ``failed``, by stratum."""
    groups = [group for _, group in rows.groupby(by, sort=True)]
    kept = [group for group in groups if group["latency_ms"].notna().sum() >= FEWEST]
    if not kept:
        raise ValueError(f"{name}: no stratum has {FEWEST} latencies")
    answered = [group["latency_ms"].dropna().to_numpy(dtype=np.float64) for group in kept]
    size = np.array([len(values) for values in answered])
    fails = [float(group["failed"].mean()) if "failed" in group else 0.0 for group in kept]
    return Measured(
        name=name,
        chance=np.full(len(kept), 1.0 / len(kept)),
        fails=np.array(fails),
        latency_ms=np.concatenate(answered),
        first=np.cumsum(size) - size,
        size=size,
    )
