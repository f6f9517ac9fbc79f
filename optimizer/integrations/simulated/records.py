"""Log lines as an application writes them, with the little dirt that real logs have."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.client import Choice

FloatArray = npt.NDArray[np.float64]

CALLS = "calls"
FEEDBACK = "feedback"

HALVED_RATE = 5e-4
DOUBLED_RATE = 1e-3
LATE_RATE = 2e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Dirt:
    """What was spoiled on purpose: lines cut in half, written twice, or half an hour late."""

    halved: int = 0
    doubled: int = 0
    late: int = 0

    def __add__(self, other: "Dirt") -> "Dirt":
        """Both together."""
        return Dirt(
            halved=self.halved + other.halved,
            doubled=self.doubled + other.doubled,
            late=self.late + other.late,
        )


def moments(at_s: FloatArray) -> list[str]:
    """ISO 8601 in UTC, milliseconds."""
    stamps = np.floor(at_s * 1000).astype("datetime64[ms]")
    return [str(stamp) for stamp in np.datetime_as_string(stamps, unit="ms", timezone="UTC")]


def prefix(choice: Choice) -> str:
    """The part of a line that says which arm was assigned, without the session."""
    fields = {
        "target": choice.target,
        "arm": choice.arm,
        "slice": choice.slice,
        "propensity": round(choice.propensity, 6),
        "generation": choice.generation,
        "served_model": choice.config["model"],
    }
    return json.dumps(fields)[1:-1]


def call_lines(frame: pd.DataFrame) -> list[str]:
    """One JSON line a call; an unknown latency is left out."""
    return [
        f'{{"request_id": "{request_id}", "ts": "{ts}", {assigned}, "session_id": "{session}", '
        f'"status": "{status}", {timed}"input_tokens": {given}, "output_tokens": {made}, '
        f'"cost_usd": {cost:.9f}}}\n'
        for request_id, ts, assigned, session, status, timed, given, made, cost in zip(
            frame["request_id"],
            moments(frame["at_s"].to_numpy()),
            frame["assigned"],
            frame["session_id"],
            frame["status"],
            [
                "" if np.isnan(latency) else f'"latency_ms": {latency:.1f}, '
                for latency in frame["latency_ms"]
            ],
            frame["input_tokens"],
            frame["output_tokens"],
            frame["cost_usd"],
            strict=True,
        )
    ]


def feedback_lines(frame: pd.DataFrame) -> list[str]:
    """One JSON line a score."""
    return [
        f'{{"request_id": "{request_id}", "ts": "{ts}", "score": {score:.6f}, '
        '"scorer": "grader"}\n'
        for request_id, ts, score in zip(
            frame["request_id"], moments(frame["due_s"].to_numpy()), frame["score"], strict=True
        )
    ]


def soiled(lines: Sequence[str], rng: np.random.Generator) -> tuple[list[str], list[str], Dirt]:
    """Lines to write now, lines to write next time, and what was done to them."""
    luck = rng.uniform(0, 1, len(lines))
    halved = luck < HALVED_RATE
    doubled = ~halved & (luck < HALVED_RATE + DOUBLED_RATE)
    late = ~halved & ~doubled & (luck < HALVED_RATE + DOUBLED_RATE + LATE_RATE)
    written: list[str] = []
    for line, cut, twice, later in zip(lines, halved, doubled, late, strict=True):
        if later:
            continue
        written.append(line[: len(line) // 2] + "\n" if cut else line)
        if twice:
            written.append(line)
    kept = [line for line, later in zip(lines, late, strict=True) if later]
    return written, kept, Dirt(halved=int(halved.sum()), doubled=int(doubled.sum()), late=len(kept))


def read_calls(directory: Path) -> pd.DataFrame:
    """The traffic log as it stands on disk: every readable call once, the earliest line of it.

    An independent reading of the same files that the optimizer pulls: columns request_id, ts_s,
    target, arm, slice, status, cost_usd.
    """
    names = ("request_id", "ts", "target", "arm", "slice", "status", "cost_usd")
    seen: dict[str, tuple[object, ...]] = {}
    for path in sorted((directory / CALLS).glob("*.jsonl")):
        for record in _records(path):
            seen.setdefault(record["request_id"], tuple(record[name] for name in names))
    frame = pd.DataFrame(seen.values(), columns=list(names))
    stamps = frame.pop("ts").str.removesuffix("Z").to_numpy(dtype="datetime64[ms]")
    return frame.assign(ts_s=stamps.astype(np.int64) / 1000)


def read_scores(directory: Path) -> pd.DataFrame:
    """The scores on disk, the newest of each request: request_id, score, at_s."""
    scores: dict[str, tuple[float, float]] = {}
    for path in sorted((directory / FEEDBACK).glob("*.jsonl")):
        for record in _records(path):
            at = datetime.fromisoformat(record["ts"]).astimezone(UTC).timestamp()
            scores[record["request_id"]] = max(
                (at, record["score"]), scores.get(record["request_id"], (0.0, 0.0))
            )
    return pd.DataFrame(
        [(name, score, at) for name, (at, score) in scores.items()],
        columns=["request_id", "score", "at_s"],
    )


def _records(path: Path) -> list[dict[str, Any]]:
    """Every line that is a whole object."""
    whole = [
        line
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("{") and line.endswith("}")
    ]
    found: list[dict[str, Any]] = json.loads(f"[{','.join(whole)}]")
    return found
