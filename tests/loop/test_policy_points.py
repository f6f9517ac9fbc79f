"""Policies on the way to a decision: who denies, who is silent, and that nothing is lost by it."""

import dataclasses
import socket
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from opa_server import opa
from optimizer.cycle import Ruling
from optimizer.evidence import Impact, Proposal, ProposalId, proposal_id
from optimizer.integrations.policy_cel.point import Action, CelPolicies, CelPolicy
from optimizer.integrations.policy_opa import OpaPoint, Silence
from optimizer.loop.decide import gather, settle_proposals
from optimizer.loop.equipment import Equipment
from optimizer.policy import Facts
from optimizer.ports import PolicyPoint
from rollout_scene import START, TARGET, acting, equipment

HOUR = timedelta(hours=1)


@pytest.fixture
def port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def given(tmp_path: Path) -> Equipment:
    return equipment(tmp_path)


def with_points(given: Equipment, *points: PolicyPoint) -> Equipment:
    return dataclasses.replace(given, policy_points=points)


def governance(port: int, silence: Silence = Silence.HOLD) -> OpaPoint:
    return OpaPoint(
        name="gov", url=f"http://127.0.0.1:{port}", path="optimizer/allow", silence=silence
    )


def hour(given: Equipment, at: datetime) -> list[tuple[str, str]]:
    """Propose anew at that hour, as a strategy does; what became of all proposals since START."""
    proposal = Proposal(
        id=proposal_id("cost_performance", TARGET, "small", at),
        strategy="cost_performance",
        target=TARGET,
        candidate="small",
        rationale="half the cost at equal quality",
        expected=Impact(cost_reduction_pct=50.0, daily_saving_usd=10.0, confidence=0.9),
    )
    settle_proposals(given, gather(given, as_of=at), [proposal], acting=acting(at))
    kept = given.ledger.decisions.proposals(since=START)
    return [(outcome, reason) for _, outcome, reason in kept]


def test_while_the_policy_point_is_down_the_decision_is_held_and_starts_when_it_answers(
    given: Equipment, port: int
) -> None:
    equipped = with_points(given, governance(port))

    ((outcome, reason),) = hour(equipped, START)
    assert outcome == "policy_unavailable"
    assert "policy point gov did not answer" in reason
    assert given.ledger.decisions.find() == []

    with opa(port) as server:
        server.rules["optimizer/allow"] = lambda _: True
        outcomes = [outcome for outcome, _ in hour(equipped, START + HOUR)]

    assert outcomes == ["policy_unavailable", "accepted"]
    (decision,) = given.ledger.decisions.find()
    assert (decision.candidate, decision.created_at) == ("small", START + HOUR)


def test_an_hour_that_is_repeated_takes_the_answer_that_came_since(
    given: Equipment, port: int
) -> None:
    equipped = with_points(given, governance(port))
    hour(equipped, START)

    with opa(port) as server:
        server.rules["optimizer/allow"] = lambda _: True
        outcomes = [outcome for outcome, _ in hour(equipped, START)]

    assert outcomes == ["accepted"]
    assert len(given.ledger.decisions.find()) == 1


class Point:
    """A policy point that allows everything, after it has done something."""

    def __init__(self, name: str, doing: Callable[[], object]) -> None:
        self.name = name
        self._doing = doing

    def rule(self, asked: Mapping[ProposalId, Facts]) -> Mapping[ProposalId, Ruling]:
        self._doing()
        return dict.fromkeys(asked, Ruling())


def test_while_a_policy_point_thinks_nothing_keeps_a_roll_back_waiting(given: Equipment) -> None:
    """Nothing is held meanwhile: neither the target's lease nor the ledger's pen."""
    leases = []

    def guard() -> None:
        leases.append(given.ledger.effects.acquire(TARGET, "guard", now=START, ttl_s=60))
        given.ledger.effects.pause(TARGET, at=START, actor="guard", reason="harm")

    assert hour(with_points(given, Point("slow", guard)), START) == [("accepted", "")]

    (lease,) = leases
    assert lease is not None


def test_points_are_asked_at_once_so_that_the_slowest_alone_is_waited_for(
    given: Equipment,
) -> None:
    all_here = threading.Barrier(3)
    points = [Point(name, lambda: all_here.wait(timeout=20)) for name in "abc"]

    assert hour(with_points(given, *points), START) == [("accepted", "")]


def test_a_rule_that_is_undefined_denies(given: Equipment, port: int) -> None:
    with opa(port):
        ((outcome, reason),) = hour(with_points(given, governance(port)), START)

    assert outcome == "policy"
    assert "undefined" in reason


@pytest.mark.parametrize(("silence", "expected"), [(Silence.DENY, "policy")])
def test_silence_may_be_told_to_deny(
    given: Equipment, port: int, silence: Silence, expected: str
) -> None:
    ((outcome, _),) = hour(with_points(given, governance(port, silence)), START)

    assert outcome == expected


def test_silence_may_be_told_to_warn_and_the_decision_keeps_the_warning(
    given: Equipment, port: int
) -> None:
    ((outcome, reason),) = hour(with_points(given, governance(port, Silence.WARN)), START)

    (decision,) = given.ledger.decisions.find()
    assert outcome == "accepted"
    assert "gov did not answer" in reason
    assert decision.reason == reason


def test_policies_of_the_file_deny_and_warn_by_the_facts_of_the_hour(given: Equipment) -> None:
    cap = CelPolicy(name="cap", condition="expected.daily_saving_usd < 50")
    told = CelPolicy(name="told", condition="candidate.model == 'small-1'", action=Action.WARN)

    denied = hour(with_points(given, CelPolicies([told, cap])), START)
    warned = hour(with_points(given, CelPolicies([told])), START + HOUR)

    assert denied == [
        (
            "policy",
            "policy cap denies: expected.daily_saving_usd < 50 with expected.daily_saving_usd = 10",
        )
    ]
    assert warned[1][0] == "accepted"
    assert "candidate.model = small-1" in warned[1][1]


def test_a_denial_needs_no_answer_of_the_others(given: Equipment, port: int) -> None:
    never = CelPolicies([CelPolicy(name="never", condition="true")])

    ((outcome, _),) = hour(with_points(given, governance(port), never), START)

    assert outcome == "policy"


def test_a_policy_for_another_target_changes_nothing(given: Equipment) -> None:
    other = CelPolicies([CelPolicy(name="never", condition="true", targets=("mail/*",))])

    assert hour(with_points(given, other), START) == [("accepted", "")]
