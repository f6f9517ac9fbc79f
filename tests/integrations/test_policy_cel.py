"""Policies in CEL: refused at load with their place, bounded, and unknown is never satisfied."""

import string
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as few
from hypothesis import strategies as st

from optimizer.cycle import Ruling
from optimizer.errors import ConfigError
from optimizer.evidence import ProposalId
from optimizer.integrations.policy_cel.bounds import LONGEST
from optimizer.integrations.policy_cel.expression import Condition, FaultyConditionError
from optimizer.integrations.policy_cel.point import Action, CelPolicies, CelPolicy
from optimizer.integrations.policy_cel.tokens import tokens
from optimizer.policy import FACTS, Facts, Kind

ONE = ProposalId("p-1")
KNOWN: dict[str, Any] = {
    "now": datetime(2026, 3, 6, 17, tzinfo=UTC),
    "target.name": "support/answer",
    "target.labels": {"residency": "eu"},
    "candidate.model": "gpt-4o-mini",
    "candidate.provider": "openai",
    "candidate.regions": ("eu-west-1", "us-east-1"),
    "predicted.quality": 0.65,
    "daily_cost_usd": 1234.5,
    "requests_per_day": 10_000.0,
    "urgent": False,
}


def facts(**changed: Any) -> Facts:  # noqa: ANN401 - any fact
    return dict.fromkeys(FACTS) | KNOWN | {k.replace("__", "."): v for k, v in changed.items()}


def ruling(condition: str, given_: Facts | None = None, **parts: Any) -> Ruling:  # noqa: ANN401 - of a policy
    policy = CelPolicy(name="rule", condition=condition, **parts)
    return CelPolicies([policy]).rule({ONE: given_ or facts()})[ONE]


def place(condition: str) -> tuple[int, int, str]:
    with pytest.raises(FaultyConditionError) as caught:
        Condition(condition)
    fault = caught.value.fault
    return fault.line, fault.column, fault.text


@pytest.mark.parametrize(
    ("condition", "line", "column", "told"),
    [
        ("daily_cost_usd > 'a lot'", 1, 16, "(double, string)"),
        ("urgent ||\n  daily_cost_usd > 'x'", 2, 18, "(double, string)"),
        ("daily_cost_usd + 1 > 2.0", 1, 16, "such as 2.0"),
        ("daily_cost > 1000", 1, 1, "did you mean 'daily_cost_usd'?"),
        ("predicted.qualty < 0.7", 1, 10, "did you mean 'predicted.quality'?"),
        ("os.system('rm')", 1, 1, "'os'"),
        ("daily_cost_usd >", 1, 17, "Syntax error"),
        ("daily_cost_usd", 1, 1, "double, not true or false"),
        ("dyn(daily_cost_usd) > 'a'", 1, 4, "dyn"),
        ("double('nan') > 1.0", 1, 7, "double"),
        ("daily_cost_usd / 2.0 > 1.0", 1, 16, "_/_"),
        ("candidate.model.matches('(')", 1, 25, "missing )"),
        ("candidate.regions.map(r, r) == candidate.regions", 1, 19, "builds lists"),
        ("candidate.regions.filter(r, true).size() > 1", 1, 19, "builds lists"),
        ("target.labels.all(k, k == 'a')", 1, 15, "candidate.regions"),
        ("['a', candidate.model].all(m, m == 'a')", 1, 24, "declared list"),
        ("[['a']].all(m, true)", 1, 9, "declared list"),
        ("(candidate.regions).all(m, true)", 1, 21, "declared list"),
        (".candidate.regions.all(m, true)", 1, 20, "declared list"),
        (
            "candidate.regions.all(r,\n baseline.regions.exists(s, s == r))",
            2,
            19,
            "loops do not nest",
        ),
        ("candidate.regions.all(r, ['a'].all(s, s == r))", 1, 32, "loops do not nest"),
        ("urgent" + " || urgent" * 300, 1, 1, f"at most {LONGEST}"),
        ("(" * 60 + "urgent" + ")" * 60, 1, 1, "recursion limit"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(
    condition: str, line: int, column: int, told: str
) -> None:
    found = place(condition)

    assert found[:2] == (line, column)
    assert told in found[2]


def test_a_macro_in_a_string_or_a_comment_is_none() -> None:
    Condition("candidate.model == '.map(x, x)' // candidate.regions.map(x, x)")
    Condition("candidate.model == '''a'.all(b'''")


@given(text=st.text(alphabet=string.printable + "äß'\"\\`", max_size=60))
@few(max_examples=50)
def test_no_text_does_anything_but_be_refused_or_be_a_condition(text: str) -> None:
    try:
        found = Condition(text).violated(facts())
    except FaultyConditionError as error:
        found = str(error)

    assert isinstance(found, bool) or found


@given(words=st.lists(st.sampled_from(["a", ".", "'x y'", "12", "&", "(", '"\\""'])))
@few(max_examples=50)
def test_words_are_found_where_they_stand(words: list[str]) -> None:
    text = "\n ".join(words)

    found = tokens(text)

    assert [word.text for word in found] == words
    lines = text.split("\n")
    assert all(lines[w.line - 1][w.column - 1 :].startswith(w.text) for w in found)


@pytest.mark.parametrize(
    ("condition", "denied"),
    [
        ("daily_cost_usd > 1000", True),
        ("daily_cost_usd > 2000", False),
        ("target.labels.residency == 'eu' && !candidate.regions.all(r, r.startsWith('eu-'))", True),
        ("!(candidate.model in ['gpt-4o', 'gpt-4o-mini'])", False),
        ("!['gpt-', 'claude-'].exists(p, candidate.model.startsWith(p))", False),
        ("predicted.quality < 0.7", True),
        ("candidate.regions.exists_one(r, r.contains('east')) && !urgent", True),
        ("now.getDayOfWeek() == 5 && now.getHours('Europe/Berlin') >= 18", True),
        ("now < timestamp('2026-01-01T00:00:00Z')", False),
        ("daily_cost_usd * 2.0 - 400.0 >= requests_per_day", False),
        ("has(target.labels.tier) && target.labels.tier == 'gold'", False),
        ("size(candidate.regions) > 1 ? urgent : true", False),
    ],
)
def test_a_violated_policy_denies(condition: str, *, denied: bool) -> None:
    assert bool(ruling(condition).denials) is denied


def test_a_refusal_names_policy_message_rule_and_value() -> None:
    (text,) = ruling("daily_cost_usd > 1000", message="too dear").denials

    assert text == (
        "policy rule denies: too dear: daily_cost_usd > 1000 with daily_cost_usd = 1234.5"
    )


def test_a_warning_only_warns() -> None:
    found = ruling("predicted.quality < 0.7", action=Action.WARN)

    assert found.denials == ()
    assert "predicted.quality = 0.65" in found.warnings[0]


@pytest.mark.parametrize("name", sorted(FACTS))
def test_a_condition_that_needs_an_unknown_fact_is_not_satisfied_and_names_it(name: str) -> None:
    condition = {
        Kind.TEXT: f"{name} == 'x'",
        Kind.NUMBER: f"{name} > 1e300",
        Kind.FLAG: f"{name} && !{name}",
        Kind.MOMENT: f"{name} < timestamp('1970-01-01T00:00:00Z')",
        Kind.TEXTS: f"{name}.exists(r, r == 'x')",
        Kind.LABELS: f"'x' in {name}",
    }[FACTS[name]]
    given_ = {**facts(), name: None}

    (text,) = ruling(condition, given_).denials
    (warned,) = ruling(condition, given_, action=Action.WARN).warnings

    assert f"cannot be decided, {name} unknown" in text
    assert f"cannot be decided, {name} unknown" in warned


def test_what_is_unknown_decides_nothing_where_the_rest_decides() -> None:
    unknown = facts(daily_cost_usd=None)

    assert ruling("!urgent && daily_cost_usd > 1000", facts(daily_cost_usd=None, urgent=True)) == (
        Ruling()
    )
    assert "daily_cost_usd = unknown" in ruling("!urgent || daily_cost_usd > 1", unknown).denials[0]


def test_a_label_that_is_not_there_cannot_be_decided_on() -> None:
    (text,) = ruling("target.labels.tier == 'gold'").denials

    assert "cannot be decided" in text
    assert "tier" in text


def test_a_list_that_is_very_long_is_not_waited_for() -> None:
    endless = facts(candidate__regions=("eu",) * 100_000)

    (text,) = ruling("candidate.regions.exists(r, r == 'us')", endless).denials

    assert "budget exceeded" in text


@pytest.mark.parametrize(
    ("scope", "concerned"),
    [
        ({}, True),
        ({"targets": ("support/*",)}, True),
        ({"targets": ("mail", "support/answer")}, True),
        ({"targets": ("Support/*",)}, False),
        ({"labels": {"residency": "eu"}}, True),
        ({"labels": {"residency": "us"}}, False),
        ({"labels": {"residency": "eu", "tier": "gold"}}, False),
    ],
)
def test_a_policy_is_about_its_scope_alone(scope: dict[str, Any], *, concerned: bool) -> None:
    assert bool(ruling("true", **scope).denials) is concerned


CONDITIONS = st.sampled_from(
    ["daily_cost_usd > 1000", "predicted.quality < 0.5", "expected.confidence > 0.5", "urgent"]
)


@given(conditions=st.lists(CONDITIONS, min_size=1, max_size=4), data=st.data())
@few(max_examples=30)
def test_neither_the_order_of_policies_nor_one_more_changes_what_the_others_say(
    conditions: list[str], data: st.DataObject
) -> None:
    policies = [CelPolicy(name=f"p{i}", condition=text) for i, text in enumerate(conditions)]
    each = [CelPolicies([one]).rule({ONE: facts()})[ONE] for one in policies]

    found = CelPolicies(data.draw(st.permutations(policies))).rule({ONE: facts()})

    assert set(found[ONE].denials) == {text for one in each for text in one.denials}


def test_a_faulty_policy_is_a_wrong_configuration() -> None:
    with pytest.raises(ConfigError, match=r"policy cap: line 1, column 1: .*daily_cost_usd"):
        CelPolicies([CelPolicy(name="cap", condition="daily_cost > 1")])
