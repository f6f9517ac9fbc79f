"""The labelled series of the Numenta Anomaly Benchmark: values, times, windows, cost matrices."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Windows = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """One series.

    name: its file; group: its folder; at_s: Unix seconds, not descending, shape (N,); values,
    shape (N,); windows: first and last index of each anomaly window, ascending.
    """

    name: str
    group: str
    at_s: IntArray
    values: FloatArray
    windows: Windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a detection is worth and a miss and a false alarm cost."""

    true_positive: float
    false_positive: float
    false_negative: float


def read_corpus(data: Path) -> tuple[Labelled, ...]:
    """Every series of the directory ``nab``, by name.

    Raises:
        FileNotFoundError: the data set is not there.
    """
    marked: Mapping[str, Any] = json.loads((data / "nab" / "combined_windows.json").read_text())
    rows = duckdb.execute(
        "SELECT file, epoch(timestamp::TIMESTAMP)::BIGINT AS at_s, value FROM read_parquet(?)",
        [str(data / "nab" / "nab.parquet")],
    ).df()
    found = []
    for name, part in rows.groupby("file", sort=True):
        # Stable: equal times stay in the order of the file.
        ordered = part.sort_values("at_s", kind="stable")
        at_s = ordered["at_s"].to_numpy(dtype=np.int64)
        found.append(
            Labelled(
                name=str(name),
                group=str(name).split("/", maxsplit=1)[0],
                at_s=at_s,
                values=ordered["value"].to_numpy(dtype=np.float64),
                windows=tuple((_index(at_s, a), _index(at_s, b)) for a, b in marked[str(name)]),
            )
        )
    return tuple(found)


def _index(at_s: IntArray, moment: str) -> int:
    second = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
    return int(np.searchsorted(at_s, int(second)))


def read_profiles(data: Path) -> dict[str, Profile]:
    """The published cost matrices, by name."""
    given = json.loads((data / "nab" / "profiles.json").read_text())
    return {
        name: Profile(
            true_positive=each["CostMatrix"]["tpWeight"],
            false_positive=each["CostMatrix"]["fpWeight"],
            false_negative=each["CostMatrix"]["fnWeight"],
        )
        for name, each in given.items()
    }
