"""Two runs at once on one decision: every transition happens once, whoever is quicker."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from optimizer.decision import State
from optimizer.evidence import DecisionId
from optimizer.loop.keep import broken_chains
from optimizer.loop.steps import end_now
from racing import Racer
from rides import GOOD, Ride, split_traffic
from rollout_scene import HOUR, START, acting, propose, put

ROUNDS = (0.0, 1.5, 3.0, 4.5)
"""Hours after a decision's start at which a step is due: start, advance, promote, watch."""


@pytest.fixture
def ride(tmp_path: Path, database_url: str) -> Iterator[Ride]:
    ride = Ride(tmp_path, url=database_url)
    ride.align()
    yield ride
    ride.given.ledger.close()  # type: ignore[attr-defined]


@pytest.fixture
def racers(ride: Ride, database_url: str) -> Iterator[Sequence[Racer]]:
    both = [Racer(ride.directory, database_url, name) for name in ("left", "right")]
    assert [racer.heard() for racer in both] == ["ready", "ready"]
    yield both
    for racer in both:
        racer.end()


def test_of_two_runs_at_once_one_moves(ride: Ride, racers: Sequence[Racer]) -> None:
    told: Counter[str] = Counter()
    decisions: list[DecisionId] = []
    for number in range(5):
        begin = START + number * timedelta(hours=12)
        decision = propose(ride.given, begin).id
        put(ride.given, split_traffic(GOOD, promoted_at=3, begin=begin, hours=5))
        for hours in ROUNDS:
            moment = begin + hours * HOUR
            for racer in racers:
                racer.say(f"{decision} {moment.isoformat()} {number}")
            answers = [racer.heard().partition(":")[0] for racer in racers]
            assert answers.count("moved") == 1, answers
            told.update(answers)
        end = acting(begin + 5 * HOUR, f"end-{number}")
        end_now(ride.given, decision, "make room", acting=end)
        decisions.append(decision)

    assert told["moved"] == 20
    assert told["held"] + told["conflict"] == 20
    for decision in decisions:
        log = ride.given.ledger.decisions.events(decision)
        assert [(e.kind, e.to_state) for e in log] == [
            ("transition", State.VALIDATING),
            ("transition", State.DEPLOYING),
            ("stage", State.DEPLOYING),
            ("stage", State.DEPLOYING),
            ("transition", State.DEPLOYED),
            ("transition", State.MONITORING),
            ("transition", State.ROLLING_BACK),
            ("transition", State.ROLLED_BACK),
        ]
    # One publication, and for each decision start, advance, promote and roll back.
    assert ride.held().generation == 1 + 5 * 4
    assert ride.given.ledger.effects.open_intents() == []
    assert broken_chains(ride.given) == []
