"""Scored calls summed by their chance: against a plain loop, and only of the hours asked for."""

from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from intake_scene import NOON, NOON_S, batch, call, engine_at, frame, ingest, of, spooled
from optimizer.engine import Engine
from optimizer.metrics import HOUR_S
from optimizer.observations import EXPLORED, Kind
from optimizer.ports import SpoolFile

EARLIER, LATER = NOON_S - 2 * HOUR_S, NOON_S - HOUR_S


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return engine_at(tmp_path / "spool")


def at(minutes: float) -> str:
    return (NOON - timedelta(minutes=minutes)).isoformat()


def asked(
    engine: Engine, hours: dict[str, list[int]], files: list[SpoolFile]
) -> dict[str, pd.DataFrame]:
    return engine.explored(
        hours,
        calls=[file for file in files if file.dataset == "calls"],
        feedback=[file for file in files if file.dataset == "feedback"],
    )


def test_calls_are_summed_as_a_plain_loop_sums_them(engine: Engine) -> None:
    rng = np.random.default_rng(1)
    rows = [
        call(
            number,
            ts=at(float(rng.uniform(0.1, 119.9))),
            arm=str(rng.choice(["large", "small"])),
            session_id=f"s{rng.integers(0, 60)}",
            quality=round(float(rng.uniform(0, 1)), 3) if rng.random() < 0.8 else None,
            propensity=float(rng.choice([0.25, 0.75])) if rng.random() < 0.9 else None,
        )
        for number in range(600)
    ]
    judged: list[dict[str, Any]] = [
        {"request_id": f"r{number}", "ts": at(-1), "score": round(float(rng.uniform(0, 1)), 3)}
        for number in range(0, 600, 3)
    ]
    calls = ingest(engine, batch(frame(rows)))
    scores = ingest(engine, batch(frame(judged), kind=Kind.FEEDBACK), known_calls=calls.files)

    found = asked(engine, {"chat": [EARLIER, LATER]}, [*calls.files, *scores.files])["chat"]

    newest = {row["request_id"]: row["score"] for row in judged}
    sums: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for record in spooled(engine, calls).to_dict("records"):
        score: Any = newest.get(record["request_id"], record["quality"])
        if score is None or np.isnan(score):
            continue
        hour = record["window_start_s"] // HOUR_S * HOUR_S
        chance = -1.0 if np.isnan(record["propensity"]) else record["propensity"]
        cell = sums[hour, record["arm"], chance, record["cluster"]]
        for place, value in enumerate((1, round(score * 1e6), round(score * score * 1e9))):
            cell[place] += value
    assert list(found.columns) == list(EXPLORED)
    keys = found.fillna({"propensity": -1.0})[list(EXPLORED[:4])].itertuples(index=False)
    values = found[list(EXPLORED[4:])].to_numpy().tolist()
    assert dict(zip(map(tuple, keys), values, strict=True)) == dict(sums)


def test_only_the_hours_asked_for_are_summed(engine: Engine) -> None:
    scored = {"quality": 1.0, "propensity": 0.5}
    rows = [
        call(1, ts=at(90), **scored),
        call(2, ts=at(30), **scored),
        call(3, ts=at(90), target="search", **scored),
        call(4, ts=at(30), target="search", **scored),
    ]
    files = list(ingest(engine, batch(frame(rows))).files)

    found = asked(engine, {"chat": [EARLIER], "search": [LATER]}, files)

    assert {name: list(rows["hour_start_s"]) for name, rows in found.items()} == {
        "chat": [EARLIER],
        "search": [LATER],
    }
    assert asked(engine, {"chat": [EARLIER - HOUR_S]}, files) == {}
    assert asked(engine, {"chat": [EARLIER]}, []) == {}


def test_a_call_without_a_score_says_nothing(engine: Engine) -> None:
    rows = [call(1, propensity=0.5), call(2, propensity=0.5, quality=0.5)]
    files = list(ingest(engine, batch(frame(rows))).files)

    found = asked(engine, {"chat": [LATER]}, files)["chat"]

    assert found["n"].tolist() == [1]


def test_the_order_of_files_shows_nowhere(engine: Engine) -> None:
    parts = [
        ingest(
            engine,
            batch(frame([call(n, quality=0.5, propensity=0.5, session_id=f"s{n % 3}")])),
        )
        for n in range(6)
    ]
    files = [file for part in parts for file in of(part, "calls")]

    forth = asked(engine, {"chat": [LATER]}, files)["chat"]
    back = asked(engine, {"chat": [LATER]}, files[::-1])["chat"]

    pd.testing.assert_frame_equal(forth, back)


@pytest.mark.parametrize("chance", [0.0, -0.1, 1.5])
def test_a_chance_that_none_can_be_never_reaches_the_spool(engine: Engine, chance: float) -> None:
    found = ingest(engine, batch(frame([call(1, propensity=chance)])))

    assert (found.n_kept, dict(found.by_reason)) == (0, {"out_of_range": 1})
