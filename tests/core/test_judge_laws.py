"""Laws every verdict keeps, whatever the data."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special

from optimizer.aggregates import CLUSTERS, pack_clusters, unpack_clusters
from optimizer.evidence import Outcome, Reason, Verdict
from optimizer.judge import Case, judge
from optimizer.judge.limits import Harm, anytime_deviate, deviate_beyond, limits
from optimizer.judge.shares import MIN_EVENTS
from optimizer.policy import Guardrail, Policy
from optimizer.statistics.anytime import TIGHTEST_PROMOTE
from optimizer.statistics.clusters import RatioEstimate, bucket_ratio
from optimizer.statistics.evalues import Side, exact_increments
from optimizer.statistics.planning import units_needed_anytime
from rollouts import BASELINE, CANDIDATE, HOUR, T0, World, case, grains

POLICY = Policy(
    guardrails=(
        Guardrail(metric="quality", margin=0.06, anchored=True),
        Guardrail(metric="failure_rate", margin=0.02),
        Guardrail(metric="latency_ms", margin=0.1, relative=True),
        Guardrail(metric="latency_exceedance", margin=0.04),
    )
)
WINDOWS = 12
BETTER = {Outcome.FAIL: 0, Outcome.INCONCLUSIVE: 1, Outcome.NO_DATA: 1, Outcome.PASS: 2}

worlds = st.builds(
    World,
    requests=st.sampled_from([(30.0, 30.0), (300.0, 300.0)]),
    failure=st.tuples(*[st.sampled_from([0.0, 0.01, 0.03, 0.2])] * 2),
    cost_usd=st.tuples(*[st.sampled_from([0.004, 0.005, 0.01])] * 2),
    quality=st.tuples(*[st.sampled_from([0.7, 0.8, 0.82])] * 2),
    session=st.sampled_from([1.0, 6.0]),
    span=st.sampled_from([1, 3]),
    icc=st.sampled_from([0.0, 0.1]),
)
seeds = st.integers(0, 2**31)
quick = settings(max_examples=25, deadline=None)


def made(world: World, seed: int, **other: object) -> pd.DataFrame:
    return grains(np.random.default_rng(seed), world, windows=WINDOWS, **other)  # type: ignore[arg-type]


def looks(frame: pd.DataFrame, *cases: Case) -> dict[str, Verdict]:
    end = T0 + WINDOWS * timedelta(minutes=5)
    verdicts = judge(cases, frame, now=end + HOUR, data_until=end)
    return {str(key): verdict for key, verdict in verdicts.items()}


def only(frame: pd.DataFrame, *, urgent: bool = False) -> Verdict:
    return looks(frame, case(policy=POLICY, urgent=urgent))["d-checkout"]


def swapped(frame: pd.DataFrame) -> pd.DataFrame:
    other = {"control": "canary", "canary": "control"}
    arms = {BASELINE: CANDIDATE, CANDIDATE: BASELINE}
    return frame.assign(slice=frame["slice"].map(other), arm=frame["arm"].map(arms))


@quick
@given(world=worlds, seed=seeds)
def test_swapping_the_arms_flips_the_sign_of_absolute_harm(world: World, seed: int) -> None:
    frame = made(world, seed)

    there, back = only(frame), only(swapped(frame))

    for one, other in zip(there.checks, back.checks, strict=True):
        if one.harm is not None and not one.relative:
            assert other.harm == pytest.approx(-one.harm, rel=1e-9, abs=1e-15)


@quick
@given(
    world=worlds,
    seed=seeds,
    lost=st.integers(1, 40),
    window=st.integers(0, WINDOWS - 1),
    urgent=st.booleans(),
)
def test_more_failures_of_the_canary_never_help_it(
    world: World, seed: int, lost: int, window: int, *, urgent: bool
) -> None:
    frame = made(world, seed)
    # How failures cluster is measured: an arm's first ones may say less than none did.
    assume(frame.loc[frame["slice"] == "canary", "n_failed"].sum() >= MIN_EVENTS)
    worse = frame.copy()
    row = worse.index[worse["slice"] == "canary"][window]
    cells = unpack_clusters(frame[CLUSTERS].to_numpy()[row])
    sound = cells[0] - cells[1]
    extra = np.minimum(sound, max(1, lost // 8))
    cells[1] += extra
    worse.loc[row, CLUSTERS] = pack_clusters(cells)
    worse["n_failed"] += np.where(worse.index == row, extra.sum(), 0)

    before, after = only(frame, urgent=urgent), only(worse, urgent=urgent)

    assert BETTER[after.outcome] <= BETTER[before.outcome]
    assert BETTER[after.stage_outcome] <= BETTER[before.stage_outcome]


@quick
@given(world=worlds, seed=seeds)
def test_the_order_of_rows_does_not_matter(world: World, seed: int) -> None:
    frame = made(world, seed)

    shuffled = frame.sample(frac=1, random_state=seed % 1000)

    assert only(shuffled) == only(frame)


@settings(max_examples=8, deadline=None)
@given(seed=seeds)
def test_a_case_is_judged_alike_alone_and_among_others(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = ["a", "b", "c"]
    frame = pd.concat(
        [
            grains(rng, world, targets=[name], windows=WINDOWS)
            for name, world in zip(
                names,
                [World(), World(failure=(0.01, 0.2)), World(session=5.0, icc=0.1)],
                strict=True,
            )
        ]
    )
    cases = [case(name, POLICY) for name in names]

    together = looks(frame, *cases)

    for each in cases:
        assert looks(frame, each)[each.decision.id] == together[each.decision.id]


@pytest.mark.parametrize("factor", [10, 10**3, 10**6])
def test_the_unit_of_money_changes_no_verdict(factor: int) -> None:
    policy = replace(POLICY, guardrails=(Guardrail(metric="cost_usd", margin=0.1, relative=True),))
    cheap = made(World(cost_usd=(2e-6, 1.9e-6)), 3)
    dear = cheap.copy()
    dear["cost_nusd"] *= factor
    cells = [unpack_clusters(code) for code in cheap[CLUSTERS]]
    for table in cells:
        table[6] *= factor
    dear[CLUSTERS] = pd.Series([pack_clusters(table) for table in cells], dtype=object)

    one, other = (
        looks(frame, case(policy=policy))["d-checkout"].checks[:2] for frame in (cheap, dear)
    )

    for a, b in zip(one, other, strict=True):
        assert (a.outcome, a.reason) == (b.outcome, b.reason)
        assert a.harm_upper == pytest.approx(b.harm_upper, rel=1e-9)


@quick
@given(
    c=st.sampled_from([1e-9, 1e-6, 1e-3, 1e6]),
    seed=seeds,
    sign=st.sampled_from([1, -1]),
)
def test_relative_limits_are_scale_free(c: float, seed: int, sign: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.poisson(20.0, (2, 1, 128)).astype(float)
    y = x * rng.lognormal(0.0, 0.5, (2, 1, 128))

    def found(scale: float) -> Harm:
        canary, control = (bucket_ratio(y[arm] * scale, x[arm]) for arm in (0, 1))
        return limits(
            canary,
            control,
            sign=sign,
            relative=np.array([True]),
            lower=np.array([3.0]),
            upper=np.array([2.0]),
        )

    one, other = found(1.0), found(c)

    for name in ("value", "lower", "upper", "variance"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-9)


def test_the_asymptotic_limit_agrees_with_the_published_record() -> None:
    # Two proportions, 1396 of 3000 and 2422 of 3461: se from the record, one-sided multiplier of
    # the mean record (2.78012 at N = 6461, tightest at 5000). Source: GrowthBook's test vectors.
    control, canary = (
        RatioEstimate(
            value=np.array([k / n]),
            variance=np.array([k / n * (1 - k / n) / (n - 1)]),
            clusters=np.array([n]),
        )
        for k, n in ((1396, 3000), (2422, 3461))
    )
    deviate = anytime_deviate(np.array([6461.0]), np.array([0.05]), TIGHTEST_PROMOTE)

    found = limits(
        canary,
        control,
        sign=1,
        relative=np.array([False]),
        lower=deviate,
        upper=deviate,
    )

    se = float(np.sqrt(found.variance[0]))

    assert (found.upper[0] - found.value[0]) / se == pytest.approx(2.78012, abs=3e-3)


@given(
    margin=st.floats(0.001, 0.05), alpha=st.sampled_from([0.005, 0.05]), ratio=st.floats(1.0, 9.0)
)
def test_the_judge_without_a_plan_is_as_wide_as_its_size_says(
    margin: float, alpha: float, ratio: float
) -> None:
    n = units_needed_anytime(0.05, margin, alpha=alpha, control_ratio=ratio).reshape(1)
    canary, control = (
        RatioEstimate(value=np.zeros(1), variance=0.05 / size, clusters=np.array([10**9]))
        for size in (n, ratio * n)
    )

    deviate = anytime_deviate((1.0 + ratio) * n, np.array([alpha]), TIGHTEST_PROMOTE)
    found = limits(
        canary,
        control,
        sign=1,
        relative=np.array([False]),
        lower=np.array([3.0]),
        upper=deviate,
    )

    power = special.ndtri(0.8) * np.sqrt(found.variance)
    assert float((found.upper + power)[0]) == pytest.approx(margin, rel=1e-6)


@quick
@given(
    seed=seeds,
    sign=st.sampled_from([1, -1]),
    relative=st.booleans(),
    limit=st.floats(-0.3, 0.3),
    c=st.sampled_from([1e-9, 1e-6, 1.0, 1e6]),
)
def test_a_deviate_is_where_the_limit_of_harm_would_end(
    seed: int, sign: int, limit: float, c: float, *, relative: bool
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.poisson(20.0, (2, 1, 128)).astype(float)
    y = c * x * rng.lognormal(0.0, 0.5, (2, 1, 128))
    canary, control = (bucket_ratio(y[arm], x[arm]) for arm in (0, 1))
    kind = {"sign": sign, "relative": np.array([relative])}
    bound = np.array([limit if relative else limit * c])

    z = deviate_beyond(canary, control, limit=bound, **kind)  # type: ignore[arg-type]

    # A limit lies on its own side of the value: below it where harm is beyond, above elsewhere.
    side = np.abs(z)
    found = limits(canary, control, lower=side, upper=side, **kind)  # type: ignore[arg-type]
    reached = float((found.lower if z[0] >= 0 else found.upper)[0])
    # Relative limits have the degrees of freedom of the plain difference, the deviate its own.
    slack = 0.01 * float(np.abs(found.value - bound)[0]) if relative else 1e-6 * abs(limit) * c
    assert reached == pytest.approx(float(bound[0]), abs=slack + 1e-9 * (1.0 if relative else c))


@pytest.mark.parametrize("deviate", [3.0, 20.0, np.inf])
def test_relative_limits_of_two_clusters_are_unknown_without_a_warning(deviate: float) -> None:
    # Warnings are errors: at one degree of freedom the fourth power of t exceeds every float.
    canary, control = (
        RatioEstimate(value=np.array([0.5]), variance=np.array([v]), clusters=np.array([2]))
        for v in (1e-4, 0.1)
    )
    side = np.array([deviate])

    found = limits(canary, control, sign=1, relative=np.array([True]), lower=side, upper=side)

    assert np.isnan([found.lower, found.upper]).all()
    assert found.value == [0.0]


@given(canary=st.integers(0, 10**6), control=st.integers(0, 10**6))
def test_a_window_without_events_is_no_evidence(canary: int, control: int) -> None:
    for side in Side:
        assert not exact_increments(0, canary, 0, control, side=side).any()


def test_rows_of_other_arms_and_times_are_ignored_and_told() -> None:
    frame = made(World(), 5)
    foreign = frame.assign(arm="another", n_failed=frame["n"])
    early = frame.assign(
        window_start_s=frame["window_start_s"] - 86_400, n_failed=frame["n"], n=2 * frame["n"]
    )
    late = early.assign(window_start_s=frame["window_start_s"] + 86_400)
    plain = frame.assign(slice="baseline", n_failed=frame["n"])

    verdict = only(pd.concat([frame, foreign, early, late, plain]))

    clean = only(frame)
    assert verdict.checks == clean.checks
    assert verdict.sentence == clean.sentence + "; 24 rows of other arms were ignored"


def test_one_targets_broken_numbers_leave_the_others_verdicts_unchanged() -> None:
    names = ["a", "b", "c", "d"]
    frame = made(World(), 5, targets=names)
    broken = frame.copy()
    broken.loc[broken["target"] == "b", "n_failed"] += broken["n"]
    cases = [case(name, POLICY) for name in names]

    before, after = looks(frame, *cases), looks(broken, *cases)

    assert all(after[f"d-{name}"] == before[f"d-{name}"] for name in "acd")
    assert (after["d-b"].outcome, after["d-b"].reason) == (
        Outcome.INCONCLUSIVE,
        Reason.NON_FINITE,
    )
    assert after["d-b"].page


def test_unreadable_hash_buckets_prove_nothing_good_and_hide_no_dead_canary() -> None:
    frame = made(World(), 5)
    frame.loc[3, CLUSTERS] = b"not what was written"
    dead = made(World(failure=(0.01, 1.0)), 5)
    dead.loc[3, CLUSTERS] = b"not what was written"

    assert only(frame).outcome is Outcome.INCONCLUSIVE
    assert only(dead).outcome is Outcome.FAIL


@quick
@given(world=worlds, seed=seeds, urgent=st.booleans())
def test_a_verdict_says_what_its_checks_say(world: World, seed: int, *, urgent: bool) -> None:
    verdict = only(made(world, seed), urgent=urgent)
    required = [check for check in verdict.checks if check.role != "health"]

    if verdict.outcome is Outcome.PASS:
        assert {check.outcome for check in verdict.checks} == {Outcome.PASS}
        assert verdict.stage_outcome is Outcome.PASS
    for check in required:
        if check.outcome is Outcome.FAIL:
            assert check.harm_lower is not None
            assert check.harm_lower > check.tolerance  # type: ignore[operator]
        if check.outcome is Outcome.PASS:
            assert check.harm_upper is not None
            assert check.harm_upper < check.margin  # type: ignore[operator]
