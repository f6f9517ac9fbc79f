"""What every policy point keeps: one ruling a proposal, from its facts alone."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from opa_server import opa
from optimizer.cycle import Ruling
from optimizer.evidence import ProposalId
from optimizer.integrations.policy_cel.point import CelPolicies, CelPolicy
from optimizer.integrations.policy_opa import OpaPoint
from optimizer.policy import FACTS, Facts
from optimizer.ports import PolicyPoint

LIMIT = 1000


def facts(cost: float | None) -> Facts:
    known: dict[str, Any] = {"target.name": "support", "target.labels": {}, "daily_cost_usd": cost}
    return dict.fromkeys(FACTS) | known


def in_process() -> Iterator[PolicyPoint]:
    yield CelPolicies([CelPolicy(name="cap", condition=f"daily_cost_usd > {LIMIT}")])


def behind_http() -> Iterator[PolicyPoint]:
    with opa() as server:

        def decision(given: Any) -> object:  # noqa: ANN401 - JSON
            cost = given.get("daily_cost_usd")
            return {"deny": [] if cost is not None and cost <= LIMIT else [f"cost {cost}"]}

        server.rules["optimizer/decision"] = decision
        yield OpaPoint(name="gov", url=server.url, path="optimizer/decision")


@pytest.fixture(params=[in_process, behind_http], ids=["cel", "opa"])
def point(request: pytest.FixtureRequest) -> Iterator[PolicyPoint]:
    make: Callable[[], Iterator[PolicyPoint]] = request.param
    yield from make()


def asked(*costs: float | None) -> dict[ProposalId, Facts]:
    return {ProposalId(f"p-{i}"): facts(cost) for i, cost in enumerate(costs)}


def test_every_proposal_gets_a_ruling_and_nothing_else_does(point: PolicyPoint) -> None:
    given = asked(1.0, 2000.0, None)

    assert list(point.rule(given)) == list(given)
    assert point.rule({}) == {}


def test_what_is_within_the_policy_is_allowed(point: PolicyPoint) -> None:
    assert point.rule(asked(999.0)) == {ProposalId("p-0"): Ruling()}


def test_what_violates_it_is_denied_and_says_whose_rule_it_was(point: PolicyPoint) -> None:
    (found,) = point.rule(asked(1234.5)).values()

    (text,) = found.denials
    assert "1234.5" in text
    assert point.name in {"policies", "gov"}
    assert text.startswith(("policy cap denies", "policy point gov denies"))


def test_what_is_unknown_is_not_allowed(point: PolicyPoint) -> None:
    (found,) = point.rule(asked(None)).values()

    assert found.denials != ()


def test_a_ruling_depends_on_the_facts_of_its_proposal_alone(point: PolicyPoint) -> None:
    together = point.rule(asked(1.0, 2000.0, None))

    for proposal, given in asked(1.0, 2000.0, None).items():
        assert point.rule({proposal: given}) == {proposal: together[proposal]}


def test_the_same_question_has_the_same_answer(point: PolicyPoint) -> None:
    given = asked(2000.0, 1.0)

    assert point.rule(given) == point.rule(given)
