"""Profiles: from careful to bold in every respect, under all that is written, and shown as such."""

from pathlib import Path

import pytest

from optimizer.policy import DEFAULT_STAGES, Policy
from optimizer.settings import load_text, policy_of
from optimizer.settings.explain import difference, effective
from optimizer.settings.limits import PolicySettings
from optimizer.settings.profiles import PROFILES

PATH = Path("/etc/llmopt/optimizer.yaml")
ORDER = ("conservative", "balanced", "aggressive")
FILE = """
integrations: {{gateways: [{{kind: file, name: files, directory: out}}]}}
defaults: {{{defaults}}}
targets:
  - {{name: t, baseline: a, arms: [{{name: a, model: m}}], {own}}}
"""


def policy(name: str) -> Policy:
    return policy_of(PolicySettings.model_validate({"profile": name}), PolicySettings())


def of_file(defaults: str, own: str = "labels: {}") -> Policy:
    settings = load_text(FILE.format(defaults=defaults, own=own), PATH, {}).settings
    return policy_of(settings.targets[0], settings.defaults)


def test_the_profiles_are_those_that_can_be_named() -> None:
    assert tuple(PROFILES) == ORDER


@pytest.mark.parametrize(("careful", "bold"), [ORDER[:2], ORDER[1:]])
def test_a_bolder_profile_is_looser_in_every_respect(careful: str, bold: str) -> None:
    one, other = policy(careful), policy(bold)

    assert one.goal.min_gain > other.goal.min_gain
    assert one.alpha_promote < other.alpha_promote
    assert one.exploration_share < other.exploration_share
    assert one.stages[0].share < other.stages[0].share
    assert len(one.stages) > len(other.stages)
    pairs = zip(one.guardrails, other.guardrails, strict=True)
    assert all(a.metric == b.metric and a.margin < b.margin for a, b in pairs)
    for saving in (None, 1.0, 1000.0):
        if other.approval_reason(saving) is not None:
            assert one.approval_reason(saving) is not None


def test_the_conservative_profile_is_nowhere_looser_than_none_at_all() -> None:
    found, built_in = policy("conservative"), Policy()

    assert found.goal.min_gain >= built_in.goal.min_gain
    assert found.alpha_promote <= built_in.alpha_promote
    assert found.exploration_share <= built_in.exploration_share
    assert found.stages[0].share <= DEFAULT_STAGES[0].share
    pairs = zip(found.guardrails, built_in.guardrails, strict=True)
    assert all(a.metric == b.metric and a.margin <= b.margin for a, b in pairs)
    assert found.approval.required


def test_what_is_written_counts_before_a_profile() -> None:
    for defaults, own in (
        ("profile: aggressive, alpha_promote: 0.01, goal: {min_gain: 0.2}", "labels: {}"),
        ("alpha_promote: 0.01, goal: {min_gain: 0.2}", "profile: aggressive"),
        (
            "profile: conservative",
            "profile: aggressive, alpha_promote: 0.01, goal: {min_gain: 0.2}",
        ),
    ):
        found = of_file(defaults, own)

        assert (found.alpha_promote, found.goal.min_gain) == (0.01, 0.2)
        assert found.exploration_share == 0.15


def test_a_target_s_own_profile_takes_the_place_of_that_in_defaults() -> None:
    assert of_file("profile: conservative", "profile: aggressive") == policy("aggressive")
    assert of_file("profile: conservative") == policy("conservative")
    assert of_file("cooldown: 30m") == Policy()


def test_an_approval_that_is_written_is_not_taken_back_by_a_bolder_profile() -> None:
    assert of_file("approval: {required: true}", "profile: aggressive").approval.required


def test_each_value_in_force_says_that_a_profile_set_it() -> None:
    text = FILE.format(
        defaults="profile: conservative, goal: {metric: quality}, exploration_share: 0.02",
        own="profile: aggressive, stages: [{share: 0.2}]",
    )

    found = {each.path: each for each in effective(load_text(text, PATH, {}))}

    def told(path: str) -> tuple[object, str]:
        return found[path].value, found[path].origin

    assert told("defaults.goal.metric") == ("quality", f"{PATH}:3")
    assert told("defaults.goal.min_gain") == (0.15, "profile conservative")
    assert told("defaults.exploration_share") == (0.02, f"{PATH}:3")
    assert told("defaults.approval.required") == (True, "profile conservative")
    assert told("defaults.approval.expires_after") == ("1d", "default")
    assert told("defaults.stages[0].share") == (0.01, "profile conservative")
    assert told("defaults.cooldown") == ("30m", "default")
    assert told("targets[0].alpha_promote") == (0.1, "profile aggressive")
    assert told("targets[0].stages[0].share") == (0.2, f"{PATH}:5")
    assert told("targets[0].stages[0].bake_time") == ("1h", "default")
    # The target's profile says it too, but it is written in defaults.
    assert "targets[0].exploration_share" not in found


def test_a_profile_is_a_difference_in_all_that_it_sets() -> None:
    before = load_text("", PATH, {})
    after = load_text("defaults: {profile: conservative}", PATH, {})

    labels = {label for label, _, _ in difference(before, after)}

    assert {"defaults.profile", "defaults.goal.min_gain", "defaults.alpha_promote"} <= labels
    assert "defaults.cooldown" not in labels
