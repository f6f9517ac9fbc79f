"""The past run again: it acts on nothing, knows nothing early, and says what cannot be known."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from backtest_scene import (
    LARGE,
    NOW,
    SMALL,
    LoggedArm,
    conducted,
    configured,
    hours_after,
    logged,
    write_log,
)
from optimizer import settings, wiring
from optimizer.engine.spool import CALLS, FEEDBACK
from optimizer.errors import ConfigError, DataError
from optimizer.loop.backtest import Walked, read, walk
from optimizer.loop.observe import EVER_S
from optimizer.report.backtest import Backtest
from optimizer.report.backtest.page import render
from optimizer.report.backtest.text import markdown

BOTH = {"large": LARGE, "small": SMALL}
OFFERED = {"chat": ("large", "small")}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Backtest, Walked]:
    """A log in which the small arm is a quarter of the cost and as good."""
    directory = tmp_path_factory.mktemp("plain")
    write_log(directory, logged(BOTH))
    config = configured(directory, OFFERED)
    return config, *conducted(config)


def test_a_cheaper_equal_arm_is_promoted_and_its_saving_holds_the_truth(
    plain: tuple[Path, Backtest, Walked],
) -> None:
    (chat,) = plain[1].targets
    (decision,) = plain[1].decisions

    assert decision.outcome == "promoted"
    assert chat.basis == "randomised"
    # Half of the log's calls were large's: sending a share of all to small saves half the gap each.
    truth = decision.worth.elsewhere * 0.5 * (LARGE.cost_usd - SMALL.cost_usd)
    assert chat.decided.saving.lower < truth < chat.decided.saving.upper
    assert chat.decided.saving.value == pytest.approx(truth, rel=0.05)
    assert chat.decided.quality.lower < 0 < chat.decided.quality.upper


def test_the_curve_ends_with_the_interval_that_is_told(
    plain: tuple[Path, Backtest, Walked],
) -> None:
    found = plain[1]

    half = found.curves[""].half_width
    saving = found.total.decided.saving
    assert half[-1] == pytest.approx(saving.upper - saving.value)
    assert found.curves[""].decided[-1] == pytest.approx(found.total.spent.usd - saving.value)


@pytest.mark.slow
def test_an_arm_that_is_baseline_and_control_at_once_is_counted_once(tmp_path: Path) -> None:
    calls, scores = logged({**BOTH, "large": replace(LARGE, cost_usd=0.016)}, hours=14)
    # The tiny arm is in the log only after the small one was promoted.
    late = (calls["ts"] >= hours_after(7)) & (calls["session_id"].str[-1].isin(list("0123")))
    calls.loc[late, "arm"] = "tiny"
    calls.loc[late, "cost_usd"] *= 0.02
    write_log(tmp_path, (calls.drop(columns="propensity"), scores))

    found, walked = conducted(configured(tmp_path, {"chat": ("large", "small", "tiny")}))

    hours = walked.shares.groupby("cell_s")["arm"].agg(set)
    assert {"small", "tiny"} in hours.tolist()
    assert not walked.shares.duplicated(["target", "arm", "cell_s"]).any()
    assert walked.shares.groupby("cell_s")["share"].sum().max() <= 1.0 + 1e-9
    assert [each.candidate for each in found.decisions][:2] == ["small", "tiny"]


@pytest.mark.slow
def test_files_that_are_no_longer_needed_do_not_pile_up(tmp_path: Path) -> None:
    calls, scores = logged(BOTH, hours=26, per_hour=60)
    year = pd.Timedelta(days=364)  # whatever the day of this test, the log is old
    write_log(
        tmp_path, (calls.assign(ts=calls["ts"] - year), scores.assign(ts=scores["ts"] - year))
    )
    place = tmp_path / "place"
    place.mkdir()
    config = settings.load(configured(tmp_path, OFFERED), {})
    equipment = wiring.rehearse(config, place, clock=lambda: NOW)

    try:
        walk(equipment, read(equipment, now=NOW))
        intake = equipment.ledger.intake
        named = {
            file.name
            for kind in (CALLS, FEEDBACK)
            for file in intake.files(kind, start_s=-EVER_S, end_s=EVER_S)
        }
    finally:
        wiring.close(equipment)

    left = {path.name for path in (place / "spool").rglob("*.parquet")}
    assert left == named
    assert len(left) < 26  # the first day was merged


@pytest.mark.slow
def test_the_same_log_gives_the_same_bytes(plain: tuple[Path, Backtest, Walked]) -> None:
    again = conducted(plain[0])[0]

    assert render(again, title="x") == render(plain[1], title="x")
    assert markdown(again) == markdown(plain[1])


def test_nothing_of_the_installation_is_touched(plain: tuple[Path, Backtest, Walked]) -> None:
    directory = plain[0].parent

    # Neither ledger nor spool, allocation or message has come to the configuration and the logs.
    assert {path.name for path in directory.rglob("*")} == {
        "optimizer.yaml",
        "calls.csv",
        "scores.csv",
    }


@pytest.mark.slow
@pytest.mark.parametrize("hour", [1, 3])
def test_what_comes_later_changes_no_earlier_decision(
    plain: tuple[Path, Backtest, Walked], tmp_path: Path, hour: int
) -> None:
    calls, scores = logged(BOTH)
    until = hours_after(hour)
    late = calls["ts"] >= until
    calls.loc[late, "cost_usd"] *= 50
    calls.loc[late, "status"] = "error"
    scores.loc[scores["ts"] >= until, "score"] = 0.0
    write_log(tmp_path, (calls, scores))

    found, walked = conducted(configured(tmp_path, OFFERED))

    # The configuration is another file with the same words, so that ids are the same too.
    mine, plains = (
        [(each.id, each.at) for each in run.decisions if each.at <= until]
        for run in (found, plain[1])
    )
    assert mine == plains
    # What is in force in the hour that begins at the cut was decided without it.
    splits, plain_splits = (
        each.shares[each.shares["cell_s"] <= until.timestamp()] for each in (walked, plain[2])
    )
    pd.testing.assert_frame_equal(splits, plain_splits)
    assert not plain_splits.empty


@pytest.mark.slow
def test_a_label_that_came_late_is_not_seen_before(tmp_path: Path) -> None:
    calls, scores = logged(BOTH)
    scores["ts"] = scores["ts"].where(scores["ts"] > hours_after(6), pd.Timestamp(hours_after(6)))
    write_log(tmp_path, (calls, scores))

    found = conducted(configured(tmp_path, OFFERED))[0]

    assert all(each.at > hours_after(6) for each in found.decisions)
    assert any(each.reason == "no_evidence" or "quality" in each.reason for each in found.left)


@pytest.mark.slow
def test_an_arm_without_requests_saves_nothing_and_is_counted_as_unknown(tmp_path: Path) -> None:
    write_log(tmp_path, logged({"large": LoggedArm(share=1.0, cost_usd=0.004)}, hours=5))
    config = configured(tmp_path, OFFERED)
    prior = "prior: {quality: 0.9, n: 1000, cost_usd: %s, latency_ms: 400, source: bench}"
    text = config.read_text()
    for arm, cost in (("large", "0.004"), ("small", "0.001")):
        text = text.replace(f"'model': 'm-{arm}'", f"'model': 'm-{arm}', {prior % cost}")
    config.write_text(text)

    (decision,) = (found := conducted(config)[0]).decisions

    assert decision.outcome == "unknown"
    assert decision.worth.saving.value != decision.worth.saving.value
    assert found.total.decided.unknown_requests > 0
    assert found.total.decided.unknown_usd > 0
    assert found.total.swap.saving.value == found.total.best.saving.value == 0.0
    assert any("holds no requests" in note for note in found.notes)


def test_hindsight_saves_at_least_the_best_swap_which_saves_at_least_nothing(
    tmp_path: Path,
) -> None:
    weak = replace(SMALL, quality=0.6)
    write_log(
        tmp_path,
        logged(BOTH, hours=4),
        logged({"large": LARGE, "small": weak}, target="summary", hours=4, seed=2),
    )

    found = conducted(configured(tmp_path, {**OFFERED, "summary": ("large", "small")}))[0]

    total = found.total
    # The weak arm would break a guardrail on one target, so that nobody may swap everywhere.
    assert total.swap.name == "no change"
    assert total.best.saving.value > total.swap.saving.value == 0.0
    assert {each.target: each.best.name for each in found.targets} == {
        "chat": "small",
        "summary": "no change",
    }


def test_worse_arms_in_the_log_do_not_make_another_arm_look_harmless(tmp_path: Path) -> None:
    arms = {
        "large": LoggedArm(share=0.4, cost_usd=0.004, quality=0.95),
        "weak": LoggedArm(share=0.3, cost_usd=0.001, quality=0.75),
        "worst": LoggedArm(share=0.3, cost_usd=0.001, quality=0.3),
    }
    write_log(tmp_path, logged(arms, hours=2))

    found = conducted(configured(tmp_path, {"chat": tuple(arms)}))[0]

    # Weak is better than what was served on average, and worse than the arm in force.
    assert found.targets[0].in_force == "large"
    assert found.targets[0].best.name == "no change"


def test_a_log_without_propensities_is_told_to_be_observed(tmp_path: Path) -> None:
    write_log(tmp_path, logged(BOTH, hours=3, propensities=False))

    found = conducted(configured(tmp_path, OFFERED))[0]

    assert found.targets[0].basis == "as observed, not randomised"
    assert any("not assigned by known chances" in note for note in found.notes)


def test_propensities_that_do_not_fit_the_log_are_not_used(tmp_path: Path) -> None:
    calls, scores = logged(BOTH, hours=3)
    calls["propensity"] = calls["arm"].map({"large": 0.9, "small": 0.1})
    write_log(tmp_path, (calls, scores))

    found = conducted(configured(tmp_path, OFFERED))[0]

    assert "do not fit" in found.targets[0].basis


@pytest.mark.slow
def test_where_a_person_would_be_asked_the_answer_is_assumed(tmp_path: Path) -> None:
    write_log(tmp_path, logged(BOTH))

    found = conducted(configured(tmp_path, OFFERED, approval=True))[0]

    assert [each.outcome for each in found.decisions] == ["promoted"]


def test_the_period_bounds_what_is_counted(plain: tuple[Path, Backtest, Walked]) -> None:
    found = conducted(plain[0], start=hours_after(4), end=hours_after(6))[0]

    calls, _ = logged(BOTH)
    inside = (calls["ts"] >= hours_after(4)) & (calls["ts"] < hours_after(6))
    assert found.total.spent.requests == int(inside.sum())
    # The hours before are known at the first hour: nothing has to be learned anew.
    assert found.decisions[0].at == hours_after(4)


@pytest.mark.parametrize(("start", "end"), [(5, 5), (6, 5)])
def test_a_period_without_an_hour_is_refused(
    plain: tuple[Path, Backtest, Walked], start: int, end: int
) -> None:
    with pytest.raises(ConfigError, match="is not before"):
        conducted(plain[0], start=hours_after(start), end=hours_after(end))


def test_a_period_that_the_log_does_not_hold_is_refused_at_once(
    plain: tuple[Path, Backtest, Walked],
) -> None:
    with pytest.raises(DataError, match=r"no call of chat .* it reaches from 2026-03-02T00"):
        conducted(plain[0], start=hours_after(100), end=hours_after(10_000))


def test_a_log_of_other_targets_is_told_with_the_reason(tmp_path: Path) -> None:
    write_log(tmp_path, logged(BOTH, hours=1))

    with pytest.raises(DataError, match="unknown_target"):
        conducted(configured(tmp_path, {"other": ("large", "small")}))
