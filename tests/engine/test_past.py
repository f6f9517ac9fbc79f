"""A log played back: every row once, nothing early, canaries as a split would have sent them."""

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backtest_scene import START, LoggedArm, logged, past_of
from optimizer.allocation import canary
from optimizer.engine import Engine, Spool
from optimizer.engine.past import Past, deliver
from optimizer.metrics import HOUR_S

HOURS = 3
BEGIN_S = int(START.timestamp())
ARMS = {
    "large": LoggedArm(share=0.8, cost_usd=0.004),
    "small": LoggedArm(share=0.2, cost_usd=0.001),
}
SPLIT = canary(
    "chat",
    baseline="large",
    candidate="small",
    share=0.1,
    control_share=0.1,
    generation=1,
    salt="salt",
    decision_id="d-1",
)


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    log = logged(ARMS, hours=HOURS, per_hour=2_000)
    return past_of(tmp_path_factory.mktemp("past"), ARMS, log, HOURS)


def slices(past: Past, folder: Path) -> dict[tuple[str, str], int]:
    """How many calls of each arm play each slice in the first hour, under the split."""
    spool = Spool(folder)
    found = deliver(past, spool, start_s=BEGIN_S, end_s=BEGIN_S + HOUR_S, splits=[SPLIT])
    own = Engine(spool, past.engine.limits).aggregate(
        range(BEGIN_S, BEGIN_S + HOUR_S, 300), calls=found.files[:1], feedback=()
    )
    sums = own.groupby(["arm", "slice"], as_index=False)["n"].sum()
    rows = zip(sums["arm"], sums["slice"], sums["n"], strict=True)
    return {(str(arm), str(part)): int(n) for arm, part, n in rows}


def test_every_call_and_every_score_is_handed_on_once(past: Past, tmp_path: Path) -> None:
    calls, scores = logged(ARMS, hours=HOURS, per_hour=2_000)
    spool = Spool(tmp_path)

    found = [
        deliver(past, spool, start_s=BEGIN_S + hour * HOUR_S, end_s=BEGIN_S + (hour + 1) * HOUR_S)
        for hour in range(HOURS + 1)
    ]

    assert sum(each.n_rows for each in found) == len(calls) + len(scores)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(factor=st.floats(min_value=0.1, max_value=100.0), score=st.sampled_from([0.0, 0.5, 1.0]))
def test_rows_after_an_hour_do_not_change_what_is_handed_on_of_it(
    past: Past, tmp_path_factory: pytest.TempPathFactory, factor: float, score: float
) -> None:
    calls, scores = logged(ARMS, hours=HOURS, per_hour=2_000)
    cut = pd.Timestamp(BEGIN_S + HOUR_S, unit="s", tz="UTC")
    calls.loc[calls["ts"] >= cut, "cost_usd"] *= factor
    scores.loc[scores["ts"] >= cut, "score"] = score
    folder = tmp_path_factory.mktemp("later")
    other = past_of(folder, ARMS, (calls, scores), HOURS)

    mine, theirs = (
        deliver(each, Spool(folder / name), start_s=BEGIN_S, end_s=BEGIN_S + HOUR_S, splits=[SPLIT])
        for name, each in (("a", past), ("b", other))
    )

    assert [file.name for file in mine.files] == [file.name for file in theirs.files]


def test_canary_and_control_are_as_large_as_the_split_would_have_made_them(
    past: Past, tmp_path: Path
) -> None:
    found = slices(past, tmp_path)

    total = sum(found.values())
    assert found["small", "canary"] == pytest.approx(0.1 * total, rel=0.25)
    assert found["large", "control"] == pytest.approx(0.1 * total, rel=0.25)
    assert found["large", "baseline"] + found["small", "baseline"] > 0.7 * total


def test_both_shrink_alike_where_the_log_holds_too_few_of_one(tmp_path: Path) -> None:
    rare = {
        "large": LoggedArm(share=0.97, cost_usd=0.004),
        "small": LoggedArm(share=0.03, cost_usd=0.001),
    }
    log = logged(rare, hours=HOURS, per_hour=4_000, propensities=False)
    past = past_of(tmp_path, rare, log, HOURS)

    found = slices(past, tmp_path / "played")

    assert ("small", "baseline") not in found  # all of them play
    ratio = found["large", "control"] / found["small", "canary"]
    assert 0.6 < ratio < 1.6


def test_an_arm_without_calls_plays_nothing_and_neither_does_its_control(tmp_path: Path) -> None:
    alone = {"large": LoggedArm(share=1.0, cost_usd=0.004)}

    past = past_of(tmp_path, alone, logged(alone, hours=HOURS), HOURS)

    found = slices(past, tmp_path / "played")

    assert set(found) == {("large", "baseline")}


def test_calls_play_in_proportion_to_one_over_their_propensity(tmp_path: Path) -> None:
    calls, scores = logged(ARMS, hours=HOURS, per_hour=6_000)
    # Half of the sessions were sent to the small arm twice as often as the other half.
    often = calls["session_id"].str[-1].isin(list("02468"))
    p = np.where(often, 0.3, 0.15)
    keep = np.random.default_rng(3).random(calls["session_id"].nunique())
    point = calls["session_id"].map(dict(zip(calls["session_id"].unique(), keep, strict=True)))
    calls["arm"] = np.where(point < p, "small", "large")
    calls["propensity"] = np.where(calls["arm"] == "small", p, 1.0 - p)
    past = past_of(tmp_path, ARMS, (calls, scores), HOURS)
    spool = Spool(tmp_path / "played")

    found = deliver(past, spool, start_s=BEGIN_S, end_s=BEGIN_S + HOUR_S, splits=[SPLIT])

    rows = duckdb.execute(
        "SELECT session_id, slice FROM read_parquet(?)", [str(spool.path(found.files[0].name))]
    ).df()
    playing = rows[rows["slice"] == "canary"]["session_id"].str[-1].isin(list("02468"))
    assert 0.4 < playing.mean() < 0.6
