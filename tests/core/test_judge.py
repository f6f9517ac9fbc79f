"""What a verdict says, on worlds of known truth."""

from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pytest

from judging import GOOD, LOOSE, WINDOWS, by_metric, look, made
from optimizer.aggregates import CLUSTERS
from optimizer.decision import State
from optimizer.errors import DataError
from optimizer.evidence import Anchor, Check, Outcome, Reason
from optimizer.judge import Case, judge
from optimizer.judge.checks import combine
from optimizer.judge.shares import CLUSTERED, EXACT
from optimizer.judge.wording import explain
from optimizer.metrics import METRICS
from optimizer.policy import Goal, Guardrail, SafetyLimits
from rollouts import T0, World, case, decision


def test_a_cheaper_arm_without_harm_passes_every_check() -> None:
    verdict = look(made(GOOD), case(policy=LOOSE))

    assert (verdict.outcome, verdict.stage_outcome) == (Outcome.PASS, Outcome.PASS)
    assert {check.outcome for check in verdict.checks} == {Outcome.PASS}
    assert verdict.checks[4].harm == pytest.approx(-0.5, abs=0.03)


@pytest.mark.parametrize(
    ("world", "metric"),
    [
        (replace(GOOD, failure=(0.02, 0.06)), "failure_rate"),
        (replace(GOOD, quality=(0.8, 0.65)), "quality"),
        (replace(GOOD, latency_ms=(800.0, 1_400.0)), "latency_exceedance"),
        (replace(GOOD, failure=(0.02, 0.08), session=10.0, icc=0.1, span=6), "failure_rate"),
    ],
    ids=["failures", "quality", "latency", "failures of long sessions"],
)
def test_harm_fails_and_the_sentence_names_what_decided(world: World, metric: str) -> None:
    verdict = look(made(world), case(policy=LOOSE))

    check = by_metric(verdict)[metric]
    assert (verdict.outcome, verdict.stage_outcome) == (Outcome.FAIL, Outcome.FAIL)
    assert (check.outcome, check.reason) == (Outcome.FAIL, Reason.HARM)
    assert check.harm_lower is not None
    assert check.tolerance is not None
    assert check.harm_lower > check.tolerance


def test_a_sentence_tells_target_arms_value_limit_and_sizes() -> None:
    verdict = look(made(replace(GOOD, quality=(0.8, 0.65))), case(policy=LOOSE))

    check = by_metric(verdict)["quality"]
    assert check.estimate is not None
    assert verdict.sentence.startswith("checkout, arm mini against large: quality fell by 0.1")
    assert "more than the 0.06 allowed" in verdict.sentence
    assert f"{check.estimate.n_canary:,} canary and" in verdict.sentence


def test_an_open_question_tells_how_much_more_data_it_needs() -> None:
    verdict = look(made(GOOD), case())

    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.WIDE_INTERVAL)
    assert verdict.stage_outcome is Outcome.PASS
    assert "not yet: harm to quality may be up to 0.0" in verdict.sentence
    assert "more labelled requests per arm are needed, some" in verdict.sentence


def test_no_rows_are_no_data() -> None:
    for frame in (made(GOOD).iloc[:0], made(GOOD).query("slice == 'canary'")):
        verdict = look(frame, case(policy=LOOSE))

        assert (verdict.outcome, verdict.stage_outcome) == (Outcome.NO_DATA, Outcome.NO_DATA)
        assert verdict.reason is Reason.NO_ROWS


def test_old_data_hold_but_still_roll_back() -> None:
    late = LOOSE.data_lag_max + timedelta(minutes=5)

    good = look(made(GOOD), case(policy=LOOSE), late=late)
    bad = look(made(replace(GOOD, failure=(0.02, 0.2))), case(policy=LOOSE), late=late)

    assert (good.outcome, good.reason) == (Outcome.INCONCLUSIVE, Reason.STALE)
    assert good.stage_outcome is Outcome.INCONCLUSIVE
    assert bad.outcome is Outcome.FAIL


def test_a_broken_split_holds_but_still_rolls_back() -> None:
    lost = replace(GOOD, requests=(200.0, 150.0))

    good = look(made(lost), case(policy=LOOSE))
    bad = look(made(replace(lost, failure=(0.02, 0.2))), case(policy=LOOSE))

    assert (good.outcome, good.reason) == (Outcome.INCONCLUSIVE, Reason.SRM)
    assert good.stage_outcome is Outcome.INCONCLUSIVE
    assert (bad.outcome, bad.reason) == (Outcome.FAIL, Reason.HARM)


def test_returning_sessions_do_not_look_like_a_broken_split() -> None:
    returning = World(session=30.0, span=20, icc=0.1, requests=(300.0, 300.0))

    for seed in range(8):
        verdict = look(made(returning, windows=40, seed=seed), case(policy=LOOSE), windows=40)

        assert verdict.reason is not Reason.SRM


def test_a_stage_is_not_left_before_its_own_requests_are_enough() -> None:
    entered = T0 + 23 * timedelta(minutes=5)

    needs = replace(LOOSE.stages[1], min_requests=2_000)
    strict = replace(LOOSE, stages=(LOOSE.stages[0], needs, *LOOSE.stages[2:]))
    held = look(made(GOOD), case(policy=strict, stage=1, stage_entered_at=entered))

    assert (held.outcome, held.reason) == (Outcome.INCONCLUSIVE, Reason.MIN_SAMPLE)
    assert "of 2,000 requests per arm in this stage" in held.sentence


def test_a_handful_of_sessions_proves_nothing() -> None:
    few = World(session=400.0, requests=(400.0, 400.0), failure=(0.1, 0.1))

    verdict = look(made(few, windows=20), case(policy=LOOSE), windows=20)

    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.MIN_CLUSTERS)


def test_immature_labels_do_not_count_in_either_arm() -> None:
    verdict = look(made(GOOD), case(policy=LOOSE), late=timedelta(0))
    half_mature = by_metric(verdict)["quality"]
    fresh = look(made(GOOD, windows=6), case(policy=LOOSE), windows=6, late=timedelta(0))

    assert half_mature.estimate is not None
    assert half_mature.estimate.n_canary < 0.6 * verdict.n_canary
    assert by_metric(fresh)["quality"].reason is Reason.LABELS_IMMATURE
    assert fresh.outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("session", [1.0, 8.0])
def test_arms_labelled_in_different_shares_prove_no_quality(session: float) -> None:
    unlike = replace(GOOD, labelled=(0.7, 0.4), quality=(0.8, 0.6), session=session)

    check = by_metric(look(made(unlike), case(policy=LOOSE)))["quality"]

    assert (check.outcome, check.reason) == (Outcome.INCONCLUSIVE, Reason.LABELS_IMBALANCED)


@pytest.mark.parametrize("session", [1.0, 8.0])
def test_an_arm_that_fails_less_is_not_taken_for_one_labelled_more(session: float) -> None:
    healing = replace(GOOD, failure=(0.3, 0.01), session=session)
    policy = replace(LOOSE, safety=SafetyLimits(failure_rate_max=0.5))

    check = by_metric(look(made(healing), case(policy=policy)))["quality"]

    assert check.outcome is Outcome.PASS


def test_a_spent_margin_never_promotes_and_still_rolls_back() -> None:
    spent = Anchor(target="checkout", metric="quality", reference_arm="old", harm=0.07)
    anchors = {("checkout", "quality"): spent, ("search", "quality"): spent}
    given = replace(case(policy=LOOSE), anchors=anchors)

    better = look(made(replace(GOOD, quality=(0.6, 0.8))), given)
    worse = look(made(replace(GOOD, quality=(0.8, 0.74))), given)

    assert (better.outcome, better.reason) == (Outcome.INCONCLUSIVE, Reason.WIDE_INTERVAL)
    assert "spent the whole margin of quality" in better.sentence
    assert (worse.outcome, worse.reason) == (Outcome.FAIL, Reason.HARM)


def test_earlier_losses_shrink_the_margin_by_their_upper_limit() -> None:
    lost = Anchor(
        target="checkout", metric="quality", reference_arm="old", harm=0.01, variance=0.01**2
    )
    given = replace(case(policy=LOOSE), anchors={("checkout", "quality"): lost})

    margin = by_metric(look(made(GOOD), given))["quality"].margin

    assert margin == pytest.approx(0.06 - 0.01 - 1.645 * 0.01)


def test_a_goal_that_is_proven_worse_fails_and_one_not_reached_holds() -> None:
    dearer = look(made(replace(GOOD, cost_usd=(0.005, 0.01))), case(policy=LOOSE))
    eager = replace(LOOSE, goal=Goal(min_gain=0.6))
    short = look(made(GOOD), case(policy=eager))

    assert (dearer.outcome, dearer.reason) == (Outcome.FAIL, Reason.GOAL_MISSED)
    assert "the goal is missed: cost per request rose by" in dearer.sentence
    assert (short.outcome, short.reason) == (Outcome.INCONCLUSIVE, Reason.WIDE_INTERVAL)
    assert "a gain in cost per request above 60.0 % is not proven" in short.sentence


def test_a_dead_canary_opens_the_circuit_after_twenty_requests() -> None:
    healthy = made(replace(GOOD, requests=(30.0, 30.0)), windows=5)
    dead = made(World(requests=(30.0, 30.0), failure=(0.02, 1.0)), windows=6)
    dead = dead[dead["window_start_s"] == dead["window_start_s"].max()]

    verdict = look(pd.concat([healthy, dead]), case(policy=LOOSE), windows=6)

    assert (verdict.outcome, verdict.reason) == (Outcome.FAIL, Reason.CIRCUIT)


def test_an_outage_of_both_arms_opens_no_circuit() -> None:
    outage = World(requests=(30.0, 30.0), failure=(1.0, 1.0))

    verdict = look(made(outage, windows=6), case(policy=LOOSE), windows=6)

    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.CONTROL_SICK)


def test_a_sick_control_pages_and_takes_no_traffic_back() -> None:
    sick = replace(GOOD, failure=(0.2, 0.2), quality=(0.9, 0.7))

    verdict = look(made(sick), case(policy=LOOSE))

    assert by_metric(verdict)["quality"].outcome is Outcome.FAIL
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.CONTROL_SICK)
    assert verdict.page
    assert "control itself fails" in verdict.sentence


def test_a_canary_that_fails_more_than_a_sick_control_is_rolled_back_and_pages() -> None:
    verdict = look(made(replace(GOOD, failure=(0.2, 0.4))), case(policy=LOOSE))

    assert (verdict.outcome, verdict.page) == (Outcome.FAIL, True)


def test_a_control_that_turned_sick_in_the_last_hour_is_seen() -> None:
    day = made(replace(GOOD, failure=(0.001, 0.001)), windows=240)
    hour = made(replace(GOOD, failure=(0.2, 0.2)), windows=252)
    hour = hour[hour["window_start_s"] > day["window_start_s"].max()]

    verdict = look(pd.concat([day, hour]), case(policy=LOOSE), windows=252)

    assert verdict.reason is Reason.CONTROL_SICK


def test_without_a_latency_threshold_nothing_is_known_of_it() -> None:
    given = case(policy=LOOSE, latency_threshold_ms=None)

    check = by_metric(look(made(GOOD), given))["latency_exceedance"]

    assert (check.outcome, check.reason) == (Outcome.NO_DATA, Reason.NO_ROWS)


def test_rare_failures_pass_by_their_exact_limit() -> None:
    none = look(made(replace(GOOD, failure=(0.0, 0.0))), case())
    few = look(made(replace(GOOD, failure=(0.0, 0.0)), windows=4), case(), windows=4)

    assert by_metric(none)["failure_rate"].outcome is Outcome.PASS
    assert by_metric(few)["failure_rate"].reason is Reason.MIN_EVENTS


def test_equal_values_in_every_request_are_no_certainty() -> None:
    verdict = look(made(replace(GOOD, sigma=0.0)), case(policy=LOOSE))

    assert by_metric(verdict)["cost_usd"].reason is Reason.MIN_EVENTS
    assert verdict.outcome is Outcome.INCONCLUSIVE


def test_a_relative_statement_needs_a_control_away_from_zero() -> None:
    rail = Guardrail(metric="failure_rate", margin=0.5, relative=True)
    policy = replace(LOOSE, guardrails=(rail,))

    rare = look(made(replace(GOOD, failure=(0.002, 0.002))), case(policy=policy))
    common = look(made(replace(GOOD, failure=(0.04, 0.04))), case(policy=policy))

    assert by_metric(rare)["failure_rate"].reason is Reason.BASELINE_NEAR_ZERO
    assert by_metric(common)["failure_rate"].outcome is Outcome.PASS


def test_a_tolerance_is_not_harm() -> None:
    rail = Guardrail(metric="failure_rate", margin=0.1, tolerance=0.08)
    policy = replace(LOOSE, guardrails=(rail,))
    worse = made(replace(GOOD, failure=(0.02, 0.06)))

    assert look(worse, case(policy=policy)).outcome is Outcome.PASS
    assert look(worse, case(policy=LOOSE)).outcome is Outcome.FAIL


def test_the_count_test_decides_only_where_requests_are_independent() -> None:
    def method(world: World) -> str:
        return by_metric(look(made(world), case(policy=LOOSE)))["failure_rate"].method

    assert method(GOOD).startswith(EXACT)
    assert method(replace(GOOD, session=10.0)).startswith(CLUSTERED)
    # Requests of a session that never share a window are clustered all the same.
    apart = replace(GOOD, requests=(150.0, 150.0), session=2.0, span=24)
    frame = made(apart)
    assert frame["n"].sum() <= 1.05 * frame["n_units"].sum()
    assert method(apart).startswith(CLUSTERED)


def test_a_promoted_arm_is_judged_against_its_holdback_from_its_promotion_on() -> None:
    promoted = T0 + 12 * timedelta(minutes=5)
    before = made(replace(GOOD, failure=(0.02, 0.5)), windows=12)
    after = made(World(requests=(20.0, 380.0)), windows=WINDOWS)
    after = after[after["window_start_s"] >= promoted.timestamp()]
    given = case(policy=LOOSE, state=State.DEPLOYED, stage=3, deployed_at=promoted)

    verdict = look(pd.concat([before, after]), given)

    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason in {Reason.MIN_EVENTS, Reason.WIDE_INTERVAL}
    assert verdict.n_canary > 10 * verdict.n_control


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.123, 0.27, "quality fell by 0.15 [0.123, 0.27] against"),
        (0.123, None, "quality fell by 0.15 (at least 0.123) against"),
        (None, 0.27, "quality fell by 0.15 (at most 0.27) against"),
    ],
)
def test_a_limit_that_stands_alone_is_written_in_words(
    low: float | None, high: float | None, words: str
) -> None:
    failed = Check(
        metric="quality",
        role="guardrail",
        outcome=Outcome.FAIL,
        harm=0.15,
        harm_lower=low,
        harm_upper=high,
        margin=0.02,
        tolerance=0.02,
    )

    assert explain(failed, needed=None, hours=None).startswith(words)


@pytest.mark.parametrize(
    "world",
    [
        replace(GOOD, failure=(0.02, 0.2), requests=(60.0, 60.0)),
        replace(GOOD, latency_ms=(800.0, 1_400.0)),
        replace(GOOD, cost_usd=(0.01, 0.01)),
        GOOD,
    ],
)
def test_sentences_speak_in_words(world: World) -> None:
    for windows in (1, 4, WINDOWS):
        verdict = look(made(world, windows=windows), case(), windows=windows)

        said = " ".join([verdict.sentence, *(check.detail for check in verdict.checks)])
        assert "?" not in said
        assert "-0.0 %" not in said
        assert not [name for name in METRICS if "_" in name and name in said]


def test_two_cases_of_one_target_are_refused() -> None:
    twice = [case(), Case(decision=decision(id="d-2"), policy=LOOSE)]

    with pytest.raises(ValueError, match="two cases of target checkout"):
        judge(twice, made(GOOD), now=T0, data_until=T0)


def test_a_missing_column_is_refused() -> None:
    with pytest.raises(DataError, match="lack the columns"):
        judge([case()], made(GOOD).drop(columns=CLUSTERS), now=T0, data_until=T0)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ("", Outcome.NO_DATA),
        ("PP", Outcome.PASS),
        ("PI", Outcome.INCONCLUSIVE),
        ("IN", Outcome.NO_DATA),
        ("PN", Outcome.NO_DATA),
        ("INFP", Outcome.FAIL),
    ],
)
def test_outcomes_combine_as_worst_of_all(outcomes: str, expected: Outcome) -> None:
    letters = {each.name[0]: each for each in Outcome}
    checks = [
        Check(metric="quality", role="guardrail", outcome=letters[letter]) for letter in outcomes
    ]

    assert combine(checks)[0] is expected
