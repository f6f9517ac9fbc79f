"""Figures: what counts as a saving, what as a cost, and that nothing is counted twice."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from optimizer.decision import Decision, Event, State, event_hash
from optimizer.evidence import DecisionId, Impact, ProposalId
from optimizer.policy import Policy
from optimizer.report import Chapter, Story, account, render
from optimizer.report.story import is_chained

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
FIRST = {"bot": "large"}


def chapter(candidate: str, state: State, *, hours: tuple[int, int | None]) -> Chapter:
    begun, ended = hours
    decision = Decision(
        id=DecisionId(f"d-{candidate}"),
        proposal_id=ProposalId("p-1"),
        target="bot",
        strategy="pareto",
        baseline="large",
        candidate=candidate,
        rationale="cheaper",
        expected=Impact(),
        created_at=START,
        created_by="optimize",
        config_hash="c",
        state=state,
        ended_at=None if ended is None else START + ended * HOUR,
    )
    event = Event(
        decision_id=decision.id,
        seq=1,
        at=START + begun * HOUR,
        kind="stage",
        from_state=State.DEPLOYING,
        to_state=State.DEPLOYING,
        actor="rollout",
        reason="the canary gets 5 %",
    )
    event = replace(event, hash=event_hash(event))
    return Chapter(decision=decision, events=(event,), looks=(), arms={}, chained=True)


def story(*chapters: Chapter) -> Story:
    return Story(chapters=chapters, proposals=(), policies={"bot": Policy()})


def calls(
    arm: str, part: str, cost_usd: float, *, n: int = 100, score: float = 0.5
) -> pd.DataFrame:
    hours = np.linspace(0, 10, n, endpoint=False)
    return pd.DataFrame(
        {
            "ts_s": START.timestamp() + hours * 3600,
            "target": "bot",
            "arm": arm,
            "slice": part,
            "status": "ok",
            "cost_usd": cost_usd,
            "score": score + 0.01 * np.sin(hours),
        }
    )


def test_only_requests_of_promoted_arms_count_as_saved() -> None:
    log = pd.concat([calls("large", "control", 0.01), calls("small", "canary", 0.004)])

    kept = account(
        log,
        story(chapter("small", State.COMPLETED, hours=(0, 10))),
        first=FIRST,
        last={"bot": "small"},
    )
    dropped = account(
        log,
        story(chapter("small", State.ROLLED_BACK, hours=(0, 10))),
        first=FIRST,
        last=FIRST,
    )

    assert kept.total("net_usd") == pytest.approx(100 * 0.006)
    assert dropped.total("net_usd") == 0
    assert dropped.targets[0].canary_requests == 100


def test_what_a_dearer_canary_cost_is_charged() -> None:
    log = pd.concat([calls("large", "control", 0.01), calls("huge", "canary", 0.03)])

    figures = account(
        log, story(chapter("huge", State.ROLLED_BACK, hours=(0, 10))), first=FIRST, last=FIRST
    )

    assert figures.total("exploration_usd") == pytest.approx(100 * 0.02)
    assert figures.total("net_usd") == pytest.approx(-100 * 0.02)


def test_a_cheap_failure_does_not_hide_a_dear_one() -> None:
    log = pd.concat(
        [
            calls("large", "control", 0.01),
            calls("huge", "canary", 0.03),
            calls("tiny", "canary", 0.001),
        ]
    )
    told = story(
        chapter("huge", State.ROLLED_BACK, hours=(0, 5)),
        chapter("tiny", State.ROLLED_BACK, hours=(5, 10)),
    )

    figures = account(log, told, first=FIRST, last=FIRST)

    assert figures.total("net_usd") == pytest.approx(-100 * 0.02)


def test_requests_before_and_after_a_canary_are_not_its_own() -> None:
    log = pd.concat([calls("large", "control", 0.01), calls("small", "canary", 0.004)])

    figures = account(
        log, story(chapter("small", State.ROLLED_BACK, hours=(2, 5))), first=FIRST, last=FIRST
    )

    assert figures.caught[0].requests == 30
    assert figures.caught[0].hours == 3


def test_quality_is_compared_side_by_side() -> None:
    log = pd.concat(
        [
            calls("large", "control", 0.01, score=0.5),
            calls("large", "baseline", 0.01, score=0.9),
            calls("small", "canary", 0.004, score=0.6),
        ]
    )

    figures = account(
        log,
        story(chapter("small", State.COMPLETED, hours=(0, 10))),
        first=FIRST,
        last={"bot": "small"},
    )
    gap = figures.targets[0].quality_gap

    assert gap is not None
    assert gap.value == pytest.approx(0.1)


def test_a_changed_event_breaks_the_chain() -> None:
    (event,) = chapter("small", State.COMPLETED, hours=(0, 10)).events

    assert is_chained([event])
    assert not is_chained([replace(event, reason="something else")])
    assert not is_chained([event, event])


def test_the_page_is_self_contained_and_escapes_what_it_shows() -> None:
    log = pd.concat([calls("large", "control", 0.01), calls("small", "canary", 0.004)])
    told = chapter("small", State.COMPLETED, hours=(0, 10))
    told = replace(told, decision=replace(told.decision, rationale="<script>alert(1)</script>"))

    figures = account(log, story(told), first=FIRST, last={"bot": "small"})
    page = render(
        figures, story(told), log, title="Report", first=FIRST, notes={}, disagreements=()
    )

    assert "<script" not in page
    assert not any(mark in page for mark in ("src=", "@import", "url(", 'href="http'))
    assert "&lt;script&gt;" in page
    assert "nan" not in page
