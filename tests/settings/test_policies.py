"""Policies in the file: a wrong one is refused with file, line, column and value."""

import re
from pathlib import Path

import pytest

from documents import blocks
from house import ROOT
from optimizer import wiring
from optimizer.cycle import Fate, facts_of
from optimizer.cycle.validate import LEVELS
from optimizer.errors import ConfigError
from optimizer.evidence import Impact, Proposal, ProposalId, Scene
from optimizer.integrations.policy_cel.point import CelPolicies
from optimizer.integrations.policy_opa import OpaPoint
from optimizer.policy import FACTS
from optimizer.settings import load_text, policy_of, target_of
from optimizer.settings.explain import effective
from scenes import NOW, hours

PATH = Path("/etc/llmopt/optimizer.yaml")
FILE = """
integrations:
  gateways: [{kind: file, name: files, directory: out}]
  policy_points:
    - {kind: opa, name: governance, path: optimizer/decision, token: s3cr3t-bearer}
policies:
  - name: eu-only
    description: Personal data stays in the EU.
    condition: "!candidate.regions.all(r, r.startsWith('eu-'))"
    scope: {targets: ["support/*"], labels: {residency: eu}}
  - name: doubtful
    action: warn
    condition: |
      predicted.quality < 0.7 ||
      expected.confidence < 0.9
    message: doubtful
targets:
  - name: support/answer
    baseline: large
    labels: {residency: eu}
    needs: {tools: true, context_window_tokens: 32000}
    arms:
      - {name: large, model: gpt-4o}
      - name: small
        model: gpt-4o-mini
        offers: {tools: true, regions: [eu-1, us-1], deprecated_on: 2026-12-01}
"""


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as found:
        load_text(text, PATH, {})
    return str(found.value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "r.startsWith('eu-')",
            "r > 1",
            "policies[0].condition = '!candidate.regions.all(r, r > 1)': line 1, column 29: found",
        ),
        (
            "expected.confidence",
            "expected.confidense",
            "line 2, column 9: undeclared reference to 'expected.confidense'; did you mean",
        ),
        (
            "r.startsWith('eu-')",
            "candidate.regions.all(s, s == r)",
            "line 1, column 45: the macro 'all' stands inside another one; loops do not nest",
        ),
        ("action: warn", "action: shout", "policies[1].action = 'shout'"),
        ("name: doubtful", "name: eu-only", "two policies of the name 'eu-only'"),
        ("message: doubtful", "massage: doubtful", "unknown key; did you mean 'message'?"),
        ("path: optimizer/decision", "path: ''", "policy_points[0].path"),
    ],
)
def test_a_wrong_policy_is_refused_at_load(old: str, new: str, told: str) -> None:
    text = FILE.replace(old, new)
    at = next(
        number
        for number, (line, was) in enumerate(
            zip(text.splitlines(), FILE.splitlines(), strict=True), start=1
        )
        if line != was
    )

    first = refusal(text).splitlines()[0]

    assert told in first
    # A condition of several lines is told by the line of its key.
    assert first.startswith((f"{PATH}:{at}:", f"{PATH}:{at - 2}:"))


def test_what_is_written_reaches_the_policy_points(tmp_path: Path) -> None:
    loaded = load_text(FILE, tmp_path / "optimizer.yaml", {})
    target = target_of(loaded.settings.targets[0])
    scene = Scene(
        now=NOW,
        targets={target.name: target},
        policies={target.name: policy_of(loaded.settings.targets[0], loaded.settings.defaults)},
        baselines={},
        hours=hours({}),
        in_flight={},
    )
    proposal = Proposal(
        id=ProposalId("p-1"),
        strategy="pareto",
        target=target.name,
        candidate="small",
        rationale="",
        expected=Impact(confidence=0.8),
    )

    equipment = wiring.equip(loaded)
    own, asked = equipment.policy_points
    ruling = own.rule(facts_of(scene, [proposal]))[proposal.id]
    wiring.close(equipment)

    assert isinstance(own, CelPolicies)
    assert isinstance(asked, OpaPoint)
    (denial,) = ruling.denials
    assert "eu-only denies: Personal data stays in the EU." in denial
    assert "['eu-1', 'us-1']" in denial
    assert "doubtful" in ruling.warnings[0]
    assert (target.needs.tools, target.needs.context_window_tokens) == (True, 32_000)


def test_without_policies_nobody_is_asked(tmp_path: Path) -> None:
    equipment = wiring.equip(load_text("", tmp_path / "optimizer.yaml", {}))
    wiring.close(equipment)

    assert equipment.policy_points == ()


def test_the_token_is_masked_wherever_settings_are_shown() -> None:
    loaded = load_text(FILE, PATH, {})

    assert "s3cr3t-bearer" not in repr(effective(loaded)) + repr(loaded)


def test_every_configuration_in_the_document_can_be_used(tmp_path: Path) -> None:
    found = blocks(ROOT / "docs" / "policies.md", "yaml")

    for text in found:
        load_text(text, tmp_path / "optimizer.yaml", {})
    assert len(found) == 5


def test_the_gates_are_documented_in_the_order_in_which_they_decide() -> None:
    text = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
    first_column = re.findall(r"^\| (`.+?) \|", text.partition("## ")[0], re.MULTILINE)

    told = re.findall(r"`(\w+)`", " ".join(first_column))

    before = ["outranked", "invalid", "target_in_flight", "paused"]
    levels = [fate.value for fate, _ in LEVELS]
    assert told == [*before, *levels, "awaiting_approval"]
    assert {*told, "accepted"} == {fate.value for fate in Fate}


def test_every_fact_is_in_the_document() -> None:
    text = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")

    # A family of facts is written once: `candidate.` and its parts.
    told = set(re.findall(r"`(?:\w+\.)?(\w+)`", text))
    assert {name.rpartition(".")[2] for name in FACTS} - told == set()


def test_a_date_is_shown_as_it_is_written() -> None:
    found = {each.path: each.value for each in effective(load_text(FILE, PATH, {}))}

    assert found["targets[0].arms[1].offers.deprecated_on"] == "2026-12-01"
