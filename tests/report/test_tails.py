"""The slow end of latency, as the report shows it: what it rests on, and that it says so."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optimizer.metrics import GRAIN_S
from optimizer.report import Chapter, Story, account, read_story, render
from optimizer.report.tails import read_tails
from rides import Ride
from rollout_scene import HOUR, START, TARGET

# Latencies of the scene are log-normal of median e^6 ms and sigma 0.5.
TRUE_P95_MS = float(np.exp(6 + 0.5 * 1.6448536269514722))


def ridden(directory: Path, place: str) -> Ride:
    ride = Ride(directory)
    ride.to(place)
    return ride


def told(ride: Ride) -> Chapter:
    (chapter,) = read_story(ride.given.ledger, ride.given.policies, since=START).chapters
    return chapter


def test_both_arms_are_known_within_limits_at_every_look_of_the_canary(tmp_path: Path) -> None:
    chapter = told(ridden(tmp_path, "second_stage"))

    assert [each.at for each in chapter.tails] == [
        look.at for look in chapter.looks if look.verdict.n_canary
    ]
    assert len(chapter.tails) >= 1
    for each in chapter.tails:
        for tail in (each.canary, each.control):
            assert tail.lower_ms <= TRUE_P95_MS <= tail.upper_ms
            assert tail.lower_ms <= tail.value_ms <= tail.upper_ms
            assert tail.value_ms == pytest.approx(TRUE_P95_MS, rel=0.05)
    last = chapter.tails[-1]
    assert (last.canary.n, last.control.n) == answered(chapter, tmp_path)


def answered(chapter: Chapter, directory: Path) -> tuple[int, int]:
    """Answered requests of canary and control until the last look's data end."""
    ride = Ride(directory)
    look = chapter.looks[-1]
    assert chapter.decision.evidence_from is not None
    assert look.verdict.data_until is not None
    grains = ride.given.ledger.aggregates.load(
        GRAIN_S,
        start_s=int(chapter.decision.evidence_from.timestamp()),
        end_s=int(look.verdict.data_until.timestamp()),
    )
    sums = grains.groupby("slice")["n_latency"].sum()
    return int(sums["canary"]), int(sums["control"])


def test_what_comes_after_the_promotion_is_left_out(tmp_path: Path) -> None:
    chapter = told(ridden(tmp_path, "completed"))
    promoted = chapter.decision.deployed_at

    assert promoted is not None
    assert chapter.tails
    assert max(each.at for each in chapter.tails) <= promoted < chapter.looks[-1].at


def test_windows_past_their_keeping_and_evidence_that_never_began_show_nothing(
    tmp_path: Path,
) -> None:
    ride = ridden(tmp_path, "second_stage")
    chapter, ledger = told(ride), ride.given.ledger

    unbegun = replace(chapter.decision, evidence_from=None)
    assert read_tails(ledger, unbegun, chapter.looks) == ()
    assert read_tails(ledger, chapter.decision, ()) == ()
    ledger.aggregates.prune(GRAIN_S, before_s=int((START + 99 * HOUR).timestamp()))
    assert told(ride).tails == ()


def page_of(ride: Ride, chapter: Chapter) -> str:
    log = pd.DataFrame(
        {
            "ts_s": START.timestamp() + np.arange(20) * 600.0,
            "target": TARGET,
            "arm": ["large", "small"] * 10,
            "slice": ["control", "canary"] * 10,
            "status": "ok",
            "cost_usd": 0.004,
            "score": 0.8,
        }
    )
    story = Story(chapters=(chapter,), proposals=(), policies=ride.given.policies)
    first = {TARGET: "large"}
    figures = account(log, story, first=first, last=first)
    return render(figures, story, log, title="Report", first=first, notes={}, disagreements=())


def test_the_page_shows_the_percentile_with_its_unit_and_that_it_does_not_decide(
    tmp_path: Path,
) -> None:
    ride = ridden(tmp_path, "second_stage")
    chapter = told(ride)

    page = page_of(ride, chapter)

    assert "for reading: it does not decide" in page
    assert "95th percentile of latency of answered requests, ms" in page
    last = chapter.tails[-1].canary
    assert f"canary {last.value_ms:,.0f} ms ({last.lower_ms:,.0f} ms to" in page
    # The scene's policy guards no latency.
    assert "No guardrail of this decision reads latency." in page
    assert "for reading" not in page_of(ride, replace(chapter, tails=()))


def test_the_page_names_the_guardrail_that_decides(tmp_path: Path) -> None:
    ride = ridden(tmp_path, "second_stage")
    chapter = told(ride)
    look = chapter.looks[-1]
    check = replace(look.verdict.checks[0], metric="latency_exceedance")
    guarded = replace(look, verdict=replace(look.verdict, checks=(check,)))
    decision = replace(chapter.decision, latency_threshold_ms=931.0)

    page = page_of(ride, replace(chapter, decision=decision, looks=(guarded,)))

    assert (
        "“more slow requests” above, the share of requests that failed or took more than 931 ms"
        in page
    )
