"""The statistics are held by their tests: each change below turns the test above it red.

A change flips a sign, drops a term, or gives a test twice or half of its error. It stands below the
test that must notice it, the text that it takes away with `-` and what comes instead with `+`.
"""

from pathlib import Path
from typing import Final

import pytest

from house import ROOT
from mutants import Mutant, changed, copied, read, verdict

MUTANTS: Final = read(
    """
tests/statistics/test_sequential.py::test_pocock_bounds_agree_with_reference
  bound-of-other-sign: statistics/sequential.py
    - self.x - z * sqrt(time)
    + self.x + z * sqrt(time)
  pocock-spends-twice-alpha: statistics/sequential.py
    - np.asarray(alpha) * np.log1p((e - 1.0) * t)
    + 2.0 * np.asarray(alpha) * np.log1p((e - 1.0) * t)
  looks-spend-again-what-is-spent: statistics/sequential.py
    - spend[-1] - spent, time
    + spend[-1], time
tests/statistics/test_sequential.py::test_obrien_fleming_bounds_agree_with_reference
  obrien-fleming-spends-twice-alpha: statistics/sequential.py
    - -special.ndtri(0.5 * np.asarray(alpha
    + -special.ndtri(np.asarray(alpha
tests/statistics/test_sequential.py::test_mid_p_counts_half_of_the_observed_table
  mid-p-counts-the-whole-table: statistics/sequential.py
    - np.full_like(rate, 0.5)
    + np.full_like(rate, 1.0)
  mid-p-of-other-sign: statistics/sequential.py
    - np.where(above, deviate, -deviate)
    + np.where(above, -deviate, deviate)
tests/statistics/test_crossing.py::test_every_row_is_answered_as_its_exact_boundary_answers
  last-look-spends-twice-alpha: statistics/crossing.py
    - np.where(last, budget, spend[:, -1])
    + np.where(last, 2.0 * budget, spend[:, -1])
tests/statistics/test_crossing.py::test_the_reference_bounds_of_promotion_are_where_it_begins_to_cross
  extension-spends-twice-alpha: statistics/crossing.py
    - (1.0 - PLANNED_SHARE) * budget * beyond
    + 2.0 * (1.0 - PLANNED_SHARE) * budget * beyond
  planned-end-spends-half-alpha: statistics/crossing.py
    - PLANNED_SHARE: Final = 0.8
    + PLANNED_SHARE: Final = 0.4
tests/statistics/test_crossing.py::test_the_reference_bound_of_each_look_is_where_it_begins_to_cross
  crossing-of-other-sign: statistics/crossing.py
    - -special.ndtri(np.clip
    + special.ndtri(np.clip
  crossing-forgets-earlier-looks: statistics/crossing.py
    - _deviate(now - before), HIGHEST_BOUND
    + _deviate(now), HIGHEST_BOUND
tests/statistics/test_anytime.py::test_rho2_agrees_with_reference
  one-side-for-two: statistics/anytime.py
    - (1.0 if two_sided else 2.0)
    + (2.0 if two_sided else 1.0)
tests/statistics/test_anytime.py::test_one_sided_multipliers_agree_with_reference
  multiplier-at-twice-alpha: statistics/anytime.py
    - root / (2.0 * error)
    + root / (4.0 * error)
tests/statistics/test_anytime.py::test_bounded_sequence_agrees_with_reference
  bounded-mean-at-twice-alpha: statistics/anytime.py
    - np.log(2.0 / alpha)
    + np.log(1.0 / alpha)
  bet-costs-of-other-sign: statistics/anytime.py
    - (-np.log1p(-bet) - bet)
    + (-np.log1p(-bet) + bet)
tests/statistics/test_anytime.py::test_bernoulli_interval_agrees_with_reference
  bernoulli-at-twice-alpha: statistics/anytime.py
    - log_evalue < -np.log(alpha)
    + log_evalue < -np.log(2.0 * alpha)
tests/statistics/test_evalues.py::test_closed_form_agrees_with_reference
  closed-form-of-other-sign: statistics/evalues.py
    - - k_e * np.log(theta0)
    + + k_e * np.log(theta0)
tests/statistics/test_evalues.py::test_binomial_form_never_exceeds_the_exact_form
  binomial-price-without-control: statistics/evalues.py
    - (failures_e + failures_c)[..., None] * price
    + failures_e[..., None] * price
tests/statistics/test_evalues.py::test_exact_grid_agrees_with_reference
  polynomial-price-of-other-sign: statistics/evalues.py
    - factor = np.exp(grid - middle)
    + factor = np.exp(middle - grid)
tests/statistics/test_evalues.py::test_a_window_of_any_size_is_priced_by_the_sum_over_its_possible_failures
  long-price-of-other-sign: statistics/evalues.py
    - log_weight + j * step
    + log_weight - j * step
tests/statistics/test_evalues.py::test_sample_ratio_agrees_with_reference
  beta-binomial-of-other-sign: statistics/evalues.py
    - - failures * np.log1p(-chance)
    + + failures * np.log1p(-chance)
tests/statistics/test_evalues.py::test_sample_ratio_evalue_has_mean_one_when_the_split_is_right
  split-the-other-way-round: statistics/evalues.py
    - canary + control, 1.0 / (1.0 + ratio)
    + canary + control, ratio / (1.0 + ratio)
tests/statistics/test_evalues.py::test_closed_form_evalue_has_mean_one_without_harm
  either-side-at-twice-alpha: statistics/evalues.py
    - np.logaddexp(higher, lower) - np.log(2.0)
    + np.logaddexp(higher, lower)
tests/statistics/test_clusters.py::test_ratio_variance_equals_the_moment_form
  ratio-without-the-size-of-clusters: statistics/clusters.py
    - value[..., None] * denominator)
    + value[..., None] * (denominator.mean(axis=-1, keepdims=True) + 0.0 * denominator))
tests/statistics/test_clusters.py::test_buckets_of_one_row_each_are_independent_rows
  ratio-without-its-clusters-correction: statistics/clusters.py
    - g / (g - 1.0) * squares
    + g / g * squares
tests/statistics/test_clusters.py::test_welch_record_agrees_with_growthbook
  harm-without-controls-variance: statistics/clusters.py
    - variance = variance_e + variance_c
    + variance = variance_e + 0.0 * variance_c
  freedom-without-controls-clusters: statistics/clusters.py
    - spread_e + spread_c)
    + spread_e)
  t-interval-at-twice-alpha: statistics/clusters.py
    - 0.5 * np.asarray(alpha
    + np.asarray(alpha
  lift-without-controls-variance: statistics/clusters.py
    - base**2 + control.variance * canary.value**2 / base**4
    + base**2 + 0.0 * control.variance
tests/statistics/test_clusters.py::test_harm_at_its_relative_margin_is_zero_whichever_way_is_worse
  harm-without-the-margins-variance: statistics/clusters.py
    - canary.variance, np.asarray(h) ** 2 * control.variance
    + canary.variance, control.variance
tests/statistics/test_clusters.py::test_swapping_arms_flips_the_sign
  harm-without-its-sign: statistics/clusters.py
    - sign * (canary.value - h * control.value)
    + (canary.value - h * control.value)
tests/statistics/test_clusters.py::test_a_wider_margin_never_shows_more_harm
  margin-of-other-sign: statistics/clusters.py
    - h = 1.0 + sign * tolerated
    + h = 1.0 - sign * tolerated
tests/statistics/test_clusters.py::test_buckets_keep_their_level_on_sessions_and_requests_do_not
  design-effect-upside-down: statistics/clusters.py
    - clustered.variance / independent.variance
    + independent.variance / clustered.variance
tests/statistics/test_arms.py::test_a_mean_score_has_the_variance_of_its_rows_and_one_of_a_prior
  quality-variance-of-other-sign: statistics/arms.py
    - squares - 2.0 * centre * total
    + squares + 2.0 * centre * total
tests/statistics/test_arms.py::test_the_log_of_a_mean_cost_varies_as_one_of_log_normal_rows
  cost-variance-of-other-sign: statistics/arms.py
    - * 1e-6 - mean**2
    + * 1e-6 + mean**2
  cost-variance-of-one-row: statistics/arms.py
    - divide(np.expm1(smoothed), n)
    + divide(np.expm1(smoothed), np.ones_like(n))
tests/statistics/test_arms.py::test_a_success_costs_the_whole_spend_over_the_successes
  failures-count-as-successes: statistics/arms.py
    - divide(cost * col["n"], col["n"] - col["n_failed"])
    + divide(cost * col["n"], col["n"] + col["n_failed"])
tests/statistics/test_arms.py::test_the_limits_of_a_failure_rate_are_wilsons
  failure-limits-swapped: statistics/arms.py
    - low, high = wilson_interval(
    + high, low = wilson_interval(
tests/statistics/test_quantiles.py::test_ranks_agree_with_reference
  ranks-at-twice-alpha: statistics/quantiles.py
    - limit = -np.log(error)
    + limit = -np.log(2.0 * error)
tests/statistics/test_quantiles.py::test_a_quantile_is_within_one_percent
  middle-of-the-next-bucket: statistics/quantiles.py
    - / np.sqrt(RATIO)
    + * np.sqrt(RATIO)
tests/statistics/test_quantiles.py::test_limits_are_the_edges_around_the_accepted_ranks
  upper-rank-of-other-sign: statistics/quantiles.py
    - np.minimum(k_hi + 1,
    + np.minimum(k_hi - 1,
tests/statistics/test_planning.py::test_looks_before_the_planned_end_cost_hardly_any_power
  promotion-bound-at-twice-alpha: statistics/planning.py
    - -special.ndtri(PLANNED_SHARE *
    + -special.ndtri(2.0 * PLANNED_SHARE *
tests/statistics/test_planning.py::test_the_anytime_size_is_where_the_margin_is_reached
  size-without-design-effect: statistics/planning.py
    - np.where(spread > 0, spread, np.nan) * np.asarray(design_effect, dtype=np.float64)
    + np.where(spread > 0, spread, np.nan)
tests/statistics/test_planning.py::test_units_for_one_look_agree_with_reference
  power-of-other-sign: statistics/planning.py
    - dtype=np.float64) + special.ndtri(power)
    + dtype=np.float64) - special.ndtri(power)
tests/statistics/test_planning.py::test_wilson_limits_agree_with_reference
  wilson-of-other-sign: statistics/planning.py
    - / size + z**2 / (4.0 * size**2)
    + / size - z**2 / (4.0 * size**2)
tests/statistics/test_ramp_questions.py::test_clustered_requests_cost_their_design_effect
  ramp-without-design-effect: statistics/ramp.py
    - design_effect=[q.design_effect for q in questions],
    +
tests/statistics/test_ramp_questions.py::test_a_larger_control_saves_canary_requests
  ramp-without-control-ratio: statistics/ramp.py
    - control_ratio=[q.control_ratio for q in questions],
    +
tests/statistics/test_ramp_questions.py::test_late_answers_come_on_top_of_the_hours_of_traffic
  lag-of-other-sign: statistics/ramp.py
    - ) + np.array([q.lag_hours
    + ) - np.array([q.lag_hours
tests/statistics/test_ramp_questions.py::test_a_question_costs_what_one_look_with_four_fifths_of_its_error_costs
  ramp-at-twice-alpha: statistics/ramp.py
    - promotion_bound(alpha)
    + promotion_bound(2.0 * alpha)
tests/statistics/test_covariates.py::test_adjusting_by_sums_is_adjusting_each_unit
  adjustment-of-other-sign: statistics/covariates.py
    - arm.post - theta *
    + arm.post + theta *
  adjusted-variance-of-other-sign: statistics/covariates.py
    - arm.spread_post - 2.0 * theta * arm.cross
    + arm.spread_post + 2.0 * theta * arm.cross
tests/statistics/test_covariates.py::test_one_stratum_is_no_stratum
  gradient-of-other-sign: statistics/covariates.py
    - 1.0 / below, -value / below
    + 1.0 / below, value / below
tests/statistics/test_covariates.py::test_an_adjusted_lift_varies_as_the_units_of_its_arms
  adjusted-lift-of-other-sign: statistics/covariates.py
    - - 2.0 * m * theta * arm.cross
    + + 2.0 * m * theta * arm.cross
tests/statistics/test_covariates.py::test_units_without_history_stand_at_the_mean_of_both_arms
  filled-history-of-other-sign: statistics/covariates.py
    - new.n[..., None] * mean], axis=-1)
    + -new.n[..., None] * mean], axis=-1)
tests/statistics/test_multiplicity.py::test_the_first_batch_is_benjamini_and_hochbergs
  discoveries-at-twice-alpha: statistics/multiplicity.py
    - fresh = _LIBRARY[method](alpha)
    + fresh = _LIBRARY[method](2.0 * alpha)
tests/statistics/test_multiplicity.py::test_e_benjamini_hochberg_rejects_as_by_hand
  e-bh-at-twice-alpha: statistics/multiplicity.py
    - e_bh(_e_values(values), alpha)
    + e_bh(_e_values(values), 2.0 * alpha)
tests/statistics/test_declaring.py::test_the_threshold_counts_the_arms
  declared-at-twice-delta: statistics/declaring.py
    - log(rivals / delta)
    + log(rivals / (2.0 * delta))
tests/statistics/test_declaring.py::test_shared_drift_is_no_evidence
  best-of-one-other-is-enough: statistics/declaring.py
    - pair.min(axis=-1)
    + pair.max(axis=-1)
tests/statistics/test_watching.py::test_a_third_of_the_false_alarms_is_shared_among_the_other_arms
  alarms-twice-as-often: statistics/watching.py
    - np.log(KINDS * between_alarms)
    + np.log(between_alarms)
  alarms-not-shared-among-arms: statistics/watching.py
    -  + np.log(held.arms - 1.0)
    +
tests/statistics/test_declaring.py::test_a_leader_that_never_failed_is_not_taken_for_infallible
  slack-of-other-sign: statistics/watching.py
    - rate - SLACK_SE
    + rate + SLACK_SE
  price-of-units-of-other-sign: statistics/watching.py
    - - units[..., None] * price
    + + units[..., None] * price
tests/statistics/test_declaring.py::test_shares_agree_with_the_posterior_by_quadrature
  successes-count-as-failures: statistics/thompson.py
    - 1.0 + race.units - race.successes
    + 1.0 + race.units + race.successes
tests/statistics/test_seasonal.py::test_the_spread_joins_the_slot_with_the_series
  spread-without-that-of-all: statistics/seasonal.py
    - count * own**2 + SHARED * whole**2
    + count * own**2
tests/statistics/test_seasonal.py::test_an_hour_of_few_requests_is_less_unusual
  score-without-sampling-error: statistics/seasonal.py
    - np.fmax(np.fmax(moderated, noise), np.asarray(error, dtype=np.float64))
    + np.fmax(moderated, noise)
tests/statistics/test_runs.py::test_residuals_alarm_as_rarely_as_independent_scores_or_more_so
  residuals-without-correlation: statistics/runs.py
    - (z - rho * before)
    + (z - 0.0 * rho * before)
tests/statistics/test_runs.py::test_the_mean_time_to_a_false_alarm_is_the_stated_one
  allowance-of-other-sign: statistics/runs.py
    - np.minimum(x, clip) - allowance
    + np.minimum(x, clip) + allowance
tests/statistics/test_runs.py::test_the_formula_is_the_integral_equation
  false-alarm-time-of-other-sign: statistics/runs.py
    - - steps - 1.0) / (2.0
    + + steps - 1.0) / (2.0
tests/statistics/test_distributions.py::test_without_drift_the_index_has_the_stated_mean
  index-of-other-sign: statistics/distributions.py
    - (b - a) * np.log(b / a)
    + (a - b) * np.log(b / a)
tests/statistics/test_distributions.py::test_samples_without_drift_pass_the_limit_in_one_of_a_thousand_at_most
  index-at-twice-its-level: statistics/distributions.py
    - stats.chi2.isf(level, freedom)
    + stats.chi2.isf(2.0 * level, freedom)
tests/statistics/test_distributions.py::test_each_sample_is_as_large_as_its_own_sessions
  requests-for-sessions: statistics/distributions.py
    - size_a if n is None else np.minimum(size_a, n)
    + size_a
tests/core/test_judge_laws.py::test_a_deviate_is_where_the_limit_of_harm_would_end
  lower-limit-of-other-sign: judge/limits.py
    - value - down * se
    + value + down * se
  upper-limit-of-other-sign: judge/limits.py
    - value + up * wide_se
    + value - up * wide_se
  limits-without-freedom-of-clusters: judge/limits.py
    - -special.stdtrit(df, special.ndtr(-deviate))
    + deviate + 0.0 * df
  fieller-without-its-canarys-variance: judge/limits.py
    - c2 * canary.variance), 0.0)
    + 0.0 * c2), 0.0)
  tolerance-of-other-sign: judge/limits.py
    - h * control.value) - allowance
    + h * control.value) + allowance
  deviate-without-the-limits-variance: judge/limits.py
    - welch(canary, control, h)
    + welch(canary, control)
tests/core/test_judge_laws.py::test_the_asymptotic_limit_agrees_with_the_published_record
  anytime-limit-at-twice-alpha: judge/limits.py
    - alpha=np.minimum(alpha, LARGEST_ALPHA)
    + alpha=np.minimum(2.0 * alpha, LARGEST_ALPHA)
tests/core/test_judge_looks.py::test_a_look_after_missed_ones_spends_their_share
  looks-at-harm-at-twice-alpha: judge/conclusions.py
    - alpha=schedule.alpha,
    + alpha=2.0 * schedule.alpha,
tests/core/test_judge_looks.py::test_looks_never_go_back_and_never_spend_more_than_their_error
  looks-at-promotion-at-twice-alpha: judge/conclusions.py
    - alpha=schedule.alpha_promote,
    + alpha=2.0 * schedule.alpha_promote,
tests/core/test_judge_looks_decide.py::test_only_a_planned_look_of_the_last_stage_promotes
  promotion-of-other-sign: judge/conclusions.py
    - (z, -against[1])
    + (z, against[1])
tests/core/test_judge.py::test_a_cheaper_arm_without_harm_passes_every_check
  proven-harm-of-other-sign: judge/conclusions.py
    - z >= bounds[0]
    + z >= -bounds[0]
tests/core/test_judge_looks.py::test_a_larger_control_brings_the_planned_end_no_nearer
  information-of-other-sign: judge/looks.py
    - self.planned * self.ratio / (1.0 + self.ratio)
    + self.planned * self.ratio / (1.0 - self.ratio)
  information-of-the-canary-alone: judge/looks.py
    - rows.prod(axis=1) / np.where(total > 0, total, np.nan)
    + rows[:, 1] * np.where(total > 0, 1.0, np.nan)
tests/core/test_judge_looks_decide.py::test_with_blip_tolerance_a_crossing_is_held_and_the_second_in_a_row_rolls_back
  sure-of-other-sign: judge/looks.py
    - found.bound + SURE
    + found.bound - SURE
tests/core/test_judge_looks.py::test_the_tests_of_a_planned_rollout_share_its_error_to_the_last_part
  checks-look-at-twice-alpha: judge/case.py
    - return alpha * LOOK_SHARE,
    + return 2.0 * alpha * LOOK_SHARE,
  checks-monitor-at-twice-alpha: judge/case.py
    - LOOK_SHARE, alpha * MONITOR_SHARE
    + LOOK_SHARE, 2.0 * alpha * MONITOR_SHARE
tests/core/test_judge.py::test_earlier_losses_shrink_the_margin_by_their_upper_limit
  earlier-losses-of-other-sign: judge/case.py
    - anchor.harm + ANCHOR_Z
    + anchor.harm - ANCHOR_Z
tests/core/test_judge.py::test_a_promoted_arm_is_judged_against_its_holdback_from_its_promotion_on
  holdback-the-other-way-round: judge/case.py
    - held / (1.0 - held) if
    + (1.0 - held) / held if
"""
)


def test_each_change_is_of_a_text_that_stands_there_once() -> None:
    texts = {m.file: (ROOT / "optimizer" / m.file).read_text(encoding="utf-8") for m in MUTANTS}

    assert [m.name for m in MUTANTS if texts[m.file].count(m.old) != 1] == []
    for m in MUTANTS:
        compile(texts[m.file].replace(m.old, m.new), m.name, "exec")


def test_each_change_has_a_name_of_its_own_and_a_test_that_exists() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        file, _, test = mutant.caught_by.partition("::")
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), mutant.caught_by


@pytest.mark.slow
def test_without_a_change_every_test_is_green(tmp_path: Path) -> None:
    tests = sorted({mutant.caught_by for mutant in MUTANTS})

    result = verdict(copied(tmp_path), tests, modules={mutant.module for mutant in MUTANTS})

    assert result.returncode == pytest.ExitCode.OK, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_change_turns_its_test_red(mutant: Mutant, tmp_path: Path) -> None:
    changed(copied(tmp_path), mutant)

    result = verdict(tmp_path, [mutant.caught_by], modules={mutant.module})

    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout + result.stderr
