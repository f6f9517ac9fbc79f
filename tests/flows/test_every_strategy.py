"""Every strategy makes a decision that is carried out, and a proposal that is rightly refused.

Each story is one target whose application follows what is published. A new strategy brings a pair
of stories here, or a file of its own that is named in :data:`ELSEWHERE`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from flow_scene import Installation, installed
from optimizer.client import Allocations
from optimizer.cycle import Fate
from optimizer.decision import Decision, State
from optimizer.evidence import Proposal
from optimizer.wiring import STRATEGIES
from rollout_scene import HOUR, START, TARGET, propose

flowing = pytest.mark.usefixtures("prefect_harness", "closed_afterwards")

DELAY = timedelta(minutes=6)
LARGE, SMALL = "{name: large, model: large-1}", "{name: small, model: small-1}"
RETIRED = "offers: {deprecated_on: 2026-03-03}"
PRIOR = (
    "prior: {quality: 0.8, n: 2000, cost_usd: 0.002, latency_ms: 600, failure_rate: 0.01, "
    "source: a published comparison}"
)
LIMITS = """
  guardrails:
    - {metric: quality, margin: 0.1}
    - {metric: failure_rate, margin: 0.05}
  stages:
    - {share: 0.5, bake_time: 1h, min_requests: 100}
  exploration_share: 0.5
  label_maturity: 0s
  settle_after: 1h
  holdback_share: 0.2
"""
FOR_QUALITY = f"{LIMITS}  goal: {{metric: quality}}\n"
EXPERIMENT = "{name: which, arms: [large, small], share: 0.8, min_duration: 1h, start: auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Does:
    """What an arm does: chance of a good and of a failed answer, USD a request."""

    quality: float = 0.8
    failing: float = 0.01
    cost_usd: float = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One target, and what happens to it, for at most ``hours`` hours.

    because: in the rationale of what is proposed; told: in what people hear of it; arms, more: of
    the target, as they are configured; before: what happens first, with the hour it ends in.
    """

    strategy: str
    candidate: str
    because: str
    told: str = ""
    arms: tuple[str, ...] = (LARGE, SMALL)
    more: str = ""
    limits: str = LIMITS
    does: Mapping[str, Does] = field(default_factory=dict)
    before: Callable[[Installation], int] = lambda _given: 0
    calls: int = 1200
    hours: int = 12


def serve(
    given: Installation, first: int, does: Mapping[str, Does], *, hours: int = 1, calls: int = 1200
) -> None:
    """The calls of some hours, each by the arm that was published, appended to the log."""
    rng = np.random.default_rng(first)
    reader = Allocations(
        given.directory / "allocations",
        baselines={TARGET: {"arm": "large", "model": "large-1"}},
        clock=(START + first * HOUR).timestamp,
    )
    with (given.directory / "calls.jsonl").open("a") as file:
        for n in range(hours * calls):
            name = f"{first}-{n}"
            logged = reader.choose(TARGET, f"session-{name}").log_fields()
            arm = does.get(str(logged["arm"]), Does())
            call = {
                **logged,
                "request_id": f"r-{name}",
                "ts": (START + (first + n / calls) * HOUR).isoformat(),
                "session_id": f"session-{name}",
                "latency_ms": round(float(rng.lognormal(6.3, 0.3)), 3),
                "cost_usd": round(arm.cost_usd * float(rng.lognormal(0, 0.2)), 9),
                "status": "ok" if rng.random() > arm.failing else "error",
                "quality": 1.0 if rng.random() < arm.quality else 0.0,
            }
            file.write(json.dumps(call) + "\n")


def run(given: Installation, hour: int) -> None:
    """The run after so many hours."""
    given.optimize(START + hour * HOUR + DELAY)


def opened(place: Path, story: Story) -> Installation:
    given = installed(
        place,
        limits=story.limits,
        targets=f'[{{name: "{TARGET}", baseline: large, arms: [{", ".join(story.arms)}]'
        f"{story.more}}}]",
        sources="[{kind: file, name: calls, paths: [calls.jsonl]}]",
    )
    given.optimize(START)
    return given


def lived(place: Path, story: Story, until: Callable[[Installation], bool]) -> Installation:
    """The target after its story."""
    given = opened(place, story)
    first = story.before(given)
    for hour in range(first, first + story.hours):
        if until(given):
            break
        serve(given, hour, story.does, calls=story.calls)
        run(given, hour + 1)
    return given


def a_promotion_that_went_bad_later(given: Installation) -> int:
    """The small arm is promoted, serves four days well, and then answers badly."""
    decision = propose(given.equipment, START).id
    given.optimize(START)
    hour = 0
    while given.decision(decision).state is not State.COMPLETED:
        serve(given, hour, GOOD)
        hour += 1
        run(given, hour)
    serve(given, hour, GOOD, hours=100, calls=150)
    serve(given, hour + 100, BAD, hours=8, calls=300)
    run(given, hour + 108)
    return hour + 108


GOOD = {"large": Does(cost_usd=0.004), "small": Does()}
BAD = {"large": Does(cost_usd=0.004), "small": Does(quality=0.5)}
BETTER = {"large": Does(quality=0.6), "small": Does(quality=0.95)}
DEARER = {"large": Does(quality=0.6), "small": Does(quality=0.95, cost_usd=0.02)}

CARRIED_OUT = {
    story.strategy: story
    for story in (
        Story(
            strategy="cost_performance",
            candidate="small",
            because="cheapest feasible arm",
            arms=(LARGE, SMALL.replace("}", f", {PRIOR}}}")),
            does=GOOD,
        ),
        Story(
            strategy="ab_test",
            candidate="small",
            because="experiment",
            more=f", experiments: [{EXPERIMENT}}}]",
            limits=FOR_QUALITY,
            does=BETTER,
        ),
        Story(
            strategy="bandit",
            candidate="small",
            because="experiment",
            more=f", experiments: [{EXPERIMENT}, rule: top_two}}]",
            limits=FOR_QUALITY,
            does=BETTER,
        ),
        Story(
            strategy="threshold",
            candidate="large",
            because="back to it",
            told="large is proposed: roll_back",
            does=BAD,
            before=a_promotion_that_went_bad_later,
        ),
    )
}
"""A saving, the winner of a test, the favourite of a bandit, and the way back."""

REFUSED = {
    story.strategy: (story, fate, why)
    for story, fate, why in (
        (
            Story(
                strategy="cost_performance",
                candidate="small",
                because="cheapest feasible arm",
                arms=(LARGE, SMALL.replace("}", f", {PRIOR}}}")),
                more=", needs: {tools: true}",
                does=GOOD,
            ),
            Fate.INCAPABLE,
            "tools",
        ),
        (
            Story(
                strategy="ab_test",
                candidate="small",
                because="experiment",
                more=f", experiments: [{EXPERIMENT}}}]",
                limits=f"{FOR_QUALITY}  budget: {{per_request_usd: 0.01}}\n",
                does=DEARER,
            ),
            Fate.BUDGET,
            "cost_usd of small",
        ),
        (
            Story(
                strategy="bandit",
                candidate="small",
                because="experiment",
                arms=(LARGE, SMALL.replace("}", ", offers: {deprecated_on: 2026-03-02}}")),
                more=f", experiments: [{EXPERIMENT}, rule: top_two}}]",
                limits=FOR_QUALITY,
                does=BETTER,
            ),
            Fate.INCAPABLE,
            "2026-03-02",
        ),
        (
            Story(
                strategy="threshold",
                candidate="large",
                because="back to it",
                told="large is proposed: roll_back",
                arms=(LARGE.replace("}", f", {RETIRED}}}"), SMALL),
                does=BAD,
                before=a_promotion_that_went_bad_later,
            ),
            Fate.INCAPABLE,
            "2026-03-03",
        ),
    )
}
"""What cannot do the work, what costs too much, and models that are gone."""

ELSEWHERE = {"tuning": "test_tuning.py"}
"""Strategies whose pair needs a scene of its own."""


def test_every_strategy_has_its_pair() -> None:
    here = Path(__file__).parent

    assert STRATEGIES.keys() - ELSEWHERE.keys() == CARRIED_OUT.keys()
    assert CARRIED_OUT.keys() == REFUSED.keys()
    assert all((here / name).is_file() for name in ELSEWHERE.values())


def of(given: Installation, strategy: str) -> list[Decision]:
    return [d for d in given.equipment.ledger.decisions.find() if d.strategy == strategy]


@flowing
@pytest.mark.slow
@pytest.mark.parametrize("strategy", list(CARRIED_OUT))
def test_a_decision_is_carried_out(tmp_path: Path, strategy: str) -> None:
    story = CARRIED_OUT[strategy]

    given = lived(tmp_path, story, lambda given: any(d.state.is_final for d in of(given, strategy)))

    (decision,) = [d for d in of(given, strategy) if d.candidate == story.candidate]
    assert story.because in decision.rationale
    assert decision.state is State.COMPLETED, decision
    assert given.shares() == {story.candidate: 1.0}
    assert given.equipment.baseline_arms() == {TARGET: story.candidate}
    assert given.transitions(decision.id)[-1] == "completed"
    assert [each for each in given.messages() if story.told in each["body"]]


def proposals(given: Installation, strategy: str) -> list[tuple[Proposal, str, str]]:
    stored = given.equipment.ledger.decisions.proposals(since=START)
    return [each for each in stored if each[0].strategy == strategy]


@flowing
@pytest.mark.slow
@pytest.mark.parametrize("strategy", list(REFUSED))
def test_a_proposal_is_rightly_refused(tmp_path: Path, strategy: str) -> None:
    story, fate, why = REFUSED[strategy]

    given = lived(tmp_path, story, lambda given: bool(proposals(given, strategy)))

    (proposal, outcome, reason), *_ = proposals(given, strategy)
    assert proposal.candidate == story.candidate
    assert story.because in proposal.rationale
    assert outcome == fate.value, reason
    assert why in reason
    assert of(given, strategy) == []
