"""Gates before a decision: abilities, rate limits, blast radius, policies; each names its bound."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as few
from hypothesis import strategies as st

from optimizer.cycle import Plan, Ruling, decide, facts_of, together
from optimizer.evidence import Estimate, Impact, Proposal, ProposalId, Scene, proposal_id
from optimizer.policy import FACTS, Approval, BlastRadius, Kind, Policy
from optimizer.targets import Needs, Offers, Target
from scenes import LARGE, NOW, SMALL, Traffic, hours

NAMES = ("mail", "search", "support")
PRICED = (Estimate(metric="cost_usd", unit="USD", canary=0.002, control=0.004),)
NEEDY = Needs(context_window_tokens=32_000, tools=True, vision=True)
ABLE = Offers(context_window_tokens=128_000, tools=True, vision=True)
# 1000 requests an hour, and 1100 tokens in each that told them; twice that in the newest hour.
BUSY = [Traffic()] * 23 + [Traffic(n=2000, failed=20)]


def scene(
    offers: Offers | None = None,
    *,
    needs: Needs = NEEDY,
    policy: Policy | None = None,
    traffic: Sequence[Traffic] = BUSY,
    labels: Mapping[str, str] | None = None,
    **extra: Any,  # noqa: ANN401 - fields of a scene
) -> Scene:
    """Three targets alike; ``offers`` are the candidate's."""
    arms = (LARGE, dataclasses.replace(SMALL, offers=offers))
    targets = {
        name: Target(name=name, arms=arms, baseline="large", needs=needs, labels=labels or {})
        for name in NAMES
    }
    values: dict[str, Any] = {
        "now": NOW,
        "targets": targets,
        "policies": dict.fromkeys(NAMES, policy or Policy()),
        "baselines": dict.fromkeys(NAMES, "large"),
        "hours": hours({(name, "large"): traffic for name in NAMES}),
        "in_flight": {},
    }
    return Scene(**(values | extra))


def proposal(target: str = "support", **parts: Any) -> Proposal:  # noqa: ANN401 - its fields
    return Proposal(
        id=proposal_id("pareto", target, "small", NOW),
        strategy="pareto",
        target=target,
        candidate="small",
        rationale="cheaper",
        expected=Impact(daily_saving_usd=10.0),
        **({"estimates": PRICED} | parts),
    )


def run(
    one: Scene, *proposals: Proposal, rulings: Mapping[ProposalId, Ruling] | None = None
) -> Plan:
    return decide(one, proposals, config_hash="c0ffee", actor="optimize", rulings=rulings)


def fate(one: Scene, given_: Proposal, **rest: Any) -> tuple[str, str]:  # noqa: ANN401 - of run
    ((_, outcome, reason),) = run(one, given_, **rest).outcomes
    return outcome, reason


def test_an_arm_that_offers_all_that_is_needed_is_taken() -> None:
    assert fate(scene(ABLE), proposal()) == ("accepted", "")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tools": False}, ("tools", "none")),
        ({"vision": None}, ("vision", "unknown")),
        ({"context_window_tokens": 31_999}, ("context_window_tokens", "32000", "31999")),
        ({"context_window_tokens": None}, ("context_window_tokens", "32000", "unknown")),
    ],
)
def test_a_need_that_is_not_known_to_be_met_refuses_and_is_named(
    change: dict[str, Any], told: tuple[str, ...]
) -> None:
    outcome, reason = fate(scene(dataclasses.replace(ABLE, **change)), proposal(urgent=True))

    assert outcome == "incapable"
    assert all(word in reason for word in (*told, "support", "small"))


def test_of_a_model_nobody_knows_no_ability_is_taken_for_granted() -> None:
    assert fate(scene(None), proposal())[0] == "incapable"


def test_what_is_not_needed_is_not_asked() -> None:
    assert fate(scene(None, needs=Needs()), proposal())[0] == "accepted"
    assert fate(scene(Offers(tools=False), needs=Needs()), proposal())[0] == "accepted"


@pytest.mark.parametrize(
    ("days", "expected", "warned"),
    [
        (-1, "incapable", True),
        (0, "incapable", True),
        (1, "accepted", True),
        (30, "accepted", True),
        (31, "accepted", False),
    ],
)
def test_a_deprecated_arm_is_refused_and_one_that_soon_will_be_is_warned_of(
    days: int, expected: str, *, warned: bool
) -> None:
    ends = (NOW + timedelta(days=days)).date()

    outcome, reason = fate(scene(dataclasses.replace(ABLE, deprecated_on=ends)), proposal())

    assert outcome == expected
    assert (ends.isoformat() in reason) is warned


def test_a_warning_is_kept_with_the_decision() -> None:
    soon = dataclasses.replace(ABLE, deprecated_on=date(2026, 3, 20))

    for policy in (Policy(), Policy(approval=Approval(required=True))):
        (decision,) = run(scene(soon, policy=policy), proposal()).decisions
        assert "2026-03-20" in decision.reason


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        # The busiest hour has 2000 requests: 2000 / 60 x 1.2 = 40 a minute, 1100 tokens each.
        ({"requests_per_minute": 40.0}, "accepted"),
        ({"requests_per_minute": 39.9}, "incapable"),
        ({"tokens_per_minute": 44_000.0}, "accepted"),
        ({"tokens_per_minute": 43_999.0}, "incapable"),
    ],
)
def test_rate_limits_must_hold_the_busiest_hour_and_a_fifth_more(
    limit: dict[str, Any], expected: str
) -> None:
    outcome, reason = fate(scene(dataclasses.replace(ABLE, **limit)), proposal())

    assert outcome == expected
    assert reason == "" or all(word in reason for word in (*limit, f"{min(limit.values()):g}"))


def test_a_smaller_peak_factor_asks_for_less() -> None:
    tight = dataclasses.replace(ABLE, requests_per_minute=34.0)

    assert fate(scene(tight), proposal())[0] == "incapable"
    assert fate(scene(tight, policy=Policy(peak_factor=1.0)), proposal())[0] == "accepted"


def test_limited_traffic_that_nobody_counted_is_refused_but_for_the_way_out() -> None:
    quiet = scene(dataclasses.replace(ABLE, requests_per_minute=1e9), traffic=())

    assert fate(quiet, proposal())[0] == "incapable"
    assert "unknown" in fate(quiet, proposal())[1]
    assert fate(quiet, proposal(urgent=True))[0] == "accepted"


# At the largest share of one half: 12,500 of the last day's 25,000 requests, at 0.002 USD each.
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("max_daily_requests_at_risk", 12_000, 13_000),
        ("max_daily_usd_at_risk", 24.0, 26.0),
    ],
)
def test_what_is_at_risk_beyond_a_limit_needs_a_person_or_is_refused(
    name: str, low: float, high: float
) -> None:
    def of(limit: float, *, refuse: bool = False) -> tuple[str, str]:
        parts: dict[str, Any] = {name: limit, "refuse": refuse}
        radius = BlastRadius(**parts)
        return fate(scene(ABLE, policy=Policy(blast_radius=radius)), proposal())

    assert of(high) == ("accepted", "")
    asked, refused = of(low), of(low, refuse=True)
    assert (asked[0], refused[0]) == ("awaiting_approval", "operational")
    assert asked[1] == refused[1]
    assert f"limit {low:g}" in asked[1]


@pytest.mark.parametrize("name", [each.name for each in dataclasses.fields(BlastRadius)][:-1])
def test_an_unknown_risk_is_above_every_limit_but_for_the_way_out(name: str) -> None:
    parts: dict[str, Any] = {name: 1e9}
    one = scene(ABLE, policy=Policy(blast_radius=BlastRadius(**parts)), traffic=())

    assert fate(one, proposal(estimates=()))[0] == "awaiting_approval"
    assert fate(one, proposal(estimates=(), urgent=True))[0] == "accepted"


@given(order=st.permutations(NAMES))
@few(max_examples=6)
def test_what_is_in_flight_and_what_started_before_count_together(order: Sequence[str]) -> None:
    radius = BlastRadius(max_daily_requests_at_risk_together=26_000)
    policy = Policy(blast_radius=radius)

    alone = run(scene(ABLE, policy=policy), *(proposal(name) for name in order))
    beside = run(
        scene(ABLE, policy=policy, in_flight={"mail": "d-1"}), *(proposal(name) for name in order)
    )

    assert sorted(outcome for _, outcome, _ in alone.outcomes) == [
        "accepted",
        "accepted",
        "awaiting_approval",
    ]
    assert sorted(outcome for _, outcome, _ in beside.outcomes) == [
        "accepted",
        "awaiting_approval",
        "target_in_flight",
    ]


def test_all_reasons_to_ask_a_person_are_told() -> None:
    radius = BlastRadius(max_daily_requests_at_risk=1)
    policy = Policy(blast_radius=radius, approval=Approval(required=True))

    outcome, reason = fate(scene(ABLE, policy=policy), proposal())

    assert outcome == "awaiting_approval"
    assert "every change" in reason
    assert "at risk" in reason


def test_a_denial_refuses_and_an_answer_that_is_owed_holds() -> None:
    def of(**parts: Any) -> tuple[str, str]:  # noqa: ANN401 - fields of a ruling
        one = proposal()
        return fate(scene(ABLE), one, rulings={one.id: Ruling(**parts)})

    assert of() == ("accepted", "")
    assert of(denials=("too dear",)) == ("policy", "too dear")
    assert of(unavailable=("opa is down",)) == ("policy_unavailable", "opa is down")
    assert of(denials=("too dear",), unavailable=("opa is down",)) == ("policy", "too dear")
    assert of(warnings=("mind the gap",)) == ("accepted", "mind the gap")


def test_a_proposal_that_no_point_ruled_on_is_held() -> None:
    plan = run(scene(ABLE), proposal(), rulings={})

    assert plan.outcomes[0][1] == "policy_unavailable"
    assert plan.decisions == ()


def test_limits_are_told_before_policies() -> None:
    one = proposal()

    outcome, _ = fate(scene(None), one, rulings={one.id: Ruling(denials=("too dear",))})

    assert outcome == "incapable"


SAID = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3).map(tuple)
RULINGS = st.builds(Ruling, denials=SAID, warnings=SAID, unavailable=SAID)


@given(points=st.lists(RULINGS, min_size=1, max_size=4), seed=st.randoms(use_true_random=False))
@few(max_examples=30)
def test_the_order_of_points_changes_no_ruling(points: list[Ruling], seed: Any) -> None:  # noqa: ANN401 - hypothesis' own
    shuffled = list(points)
    seed.shuffle(shuffled)
    one, other = ProposalId("p-1"), ProposalId("p-2")

    found = together([one, other], [{one: point} for point in points])

    assert found == together([other, one], [{one: point} for point in shuffled])
    assert set(found[one].denials) == {text for point in points for text in point.denials}
    assert found[other].unavailable != ()


KINDS = {
    Kind.TEXT: str,
    Kind.NUMBER: float,
    Kind.FLAG: bool,
    Kind.TEXTS: tuple,
    Kind.LABELS: Mapping,
}


@pytest.mark.parametrize("traffic", [BUSY, ()], ids=["busy", "quiet"])
def test_the_facts_are_those_that_are_declared(traffic: Sequence[Traffic]) -> None:
    one = proposal()
    given_ = scene(dataclasses.replace(ABLE, regions=("eu-1",)), traffic=traffic)

    facts = facts_of(given_, [one])[one.id]

    assert set(facts) == set(FACTS)
    for name, value in facts.items():
        assert value is None or isinstance(value, KINDS.get(FACTS[name], object)), name


def test_facts_that_are_not_numbers_are_unknown() -> None:
    nan = (Estimate(metric="cost_usd", unit="USD", canary=float("nan"), control=float("inf")),)
    one = proposal(estimates=nan)

    facts = facts_of(scene(Offers(regions=()), traffic=BUSY), [one])[one.id]

    known = [facts[name] for name in ("predicted.cost_usd", "daily_cost_usd", "candidate.regions")]
    assert known == [None, None, None]
    assert facts["requests_per_day"] is not None


def test_a_policy_reads_the_risk_that_the_blast_radius_is_held_against() -> None:
    one = proposal()

    facts = facts_of(scene(ABLE), [one])[one.id]

    # Of the day's 25,000 requests half at most, at 0.002 USD; all of them at full share.
    assert facts["requests_per_day"] == pytest.approx(25_000)
    assert facts["daily_requests_at_risk"] == pytest.approx(12_500)
    assert facts["daily_usd_at_risk"] == pytest.approx(25.0)
    assert facts["largest_share"] == pytest.approx(0.5)
    assert facts["daily_cost_usd"] == pytest.approx(50.0)


def test_nobody_is_asked_about_what_cannot_start() -> None:
    one = scene(ABLE, in_flight={"mail": "d-1"}, paused=frozenset({"search"}))

    assert list(facts_of(one, [proposal(name) for name in NAMES])) == [proposal().id]
