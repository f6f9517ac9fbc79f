"""Laws of online false-discovery control; the vectors of R's onlineFDR are under tests/vectors."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.statistics.multiplicity import (
    Method,
    Procedure,
    Ruling,
    batch_limits,
    e_benjamini_hochberg,
    given_selected,
    restore,
    start,
)
from optimizer.statistics.planning import wilson_interval

ALPHA = 0.1
P_METHODS = [Method.BATCH_BH, Method.BATCH_PRDS, Method.LORD_PLUS_PLUS]
hours = st.lists(
    st.lists(st.floats(0.0, 1.0) | st.floats(0.0, 1e-3), max_size=6), min_size=1, max_size=6
)


def rule(procedure: Procedure, p: list[float]) -> Ruling:
    """Rule on p-values; an e-value procedure gets their calibrated form, 1 / (2 sqrt(p))."""
    if procedure.method is Method.E_LOND:
        return procedure.test_log_e_values(-np.log(2.0) - 0.5 * np.log(np.maximum(p, 1e-300)))
    return procedure.test_p_values(p)


@pytest.mark.parametrize("method", list(Method))
@given(hours=hours)
def test_a_procedure_restored_from_its_snapshot_goes_on_as_if_it_had_never_stopped(
    method: Method, hours: list[list[float]]
) -> None:
    unbroken = kept = start(method, alpha=ALPHA)

    for p in hours:
        kept = restore(json.loads(json.dumps(kept.snapshot())))
        one, other = rule(unbroken, p), rule(kept, p)
        assert one.rejected.tolist() == other.rejected.tolist()
        assert one.level.tolist() == other.level.tolist()
        unbroken, kept = one.after, other.after

    assert unbroken == kept


@pytest.mark.parametrize("method", list(Method))
@given(hours=hours)
def test_a_repeated_hour_repeats_its_rulings(method: Method, hours: list[list[float]]) -> None:
    procedure = start(method, alpha=ALPHA)
    for p in hours[:-1]:
        procedure = rule(procedure, p).after

    first, again = rule(procedure, hours[-1]), rule(procedure, hours[-1])

    assert first.rejected.tolist() == again.rejected.tolist()
    assert first.after == again.after


@pytest.mark.parametrize("method", list(Method))
def test_an_hour_without_values_changes_nothing(method: Method) -> None:
    procedure = rule(start(method, alpha=ALPHA), [0.001, 0.4]).after

    ruling = rule(procedure, [])

    assert ruling.after == procedure
    assert ruling.rejected.shape == ruling.level.shape == (0,)


@pytest.mark.parametrize("method", list(Method))
@given(hours=hours, smaller=st.floats(0.0, 1.0))
def test_stronger_evidence_never_loses_a_discovery(
    method: Method, hours: list[list[float]], smaller: float
) -> None:
    procedure = start(method, alpha=ALPHA)
    for p in hours[:-1]:
        procedure = rule(procedure, p).after

    before = rule(procedure, hours[-1]).rejected
    after = rule(procedure, [p * smaller for p in hours[-1]]).rejected

    assert np.all(after >= before)


@pytest.mark.parametrize("method", [Method.LORD_PLUS_PLUS, Method.E_LOND])
@given(p=st.lists(st.floats(0.0, 1.0) | st.floats(0.0, 1e-3), min_size=1, max_size=12))
def test_a_stream_is_ruled_alike_in_one_hour_or_in_many(method: Method, p: list[float]) -> None:
    whole = rule(start(method, alpha=ALPHA), p)
    procedure, rejected = start(method, alpha=ALPHA), []
    for value in p:
        ruling = rule(procedure, [value])
        procedure = ruling.after
        rejected += ruling.rejected.tolist()

    assert whole.rejected.tolist() == rejected
    assert whole.after == procedure


def test_the_order_within_a_batch_changes_no_ruling() -> None:
    p = [0.2, 0.001, 0.04, 0.9, 0.0001]

    for method in (Method.BATCH_BH, Method.BATCH_PRDS):
        forward = start(method, alpha=ALPHA).test_p_values(p).rejected
        backward = start(method, alpha=ALPHA).test_p_values(p[::-1]).rejected
        assert forward.tolist() == backward.tolist()[::-1]


def test_the_first_batch_is_benjamini_and_hochbergs() -> None:
    # By hand: the first level is gamma_1 alpha = .4374901658 * .1; p_(2) = .02 <= level * 2 / 4.
    ruling = start(Method.BATCH_BH, alpha=ALPHA).test_p_values([0.001, 0.3, 0.02, 0.8])

    assert ruling.level == pytest.approx([0.04374901658] * 4)
    assert ruling.rejected.tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("e", "found"),
    [
        # m = 4, alpha = .1: thresholds 40, 20, 13.33, 10 for the first to the fourth.
        ([40.1, 1.0, 1.0, 1.0], [True, False, False, False]),
        ([39.9, 1.0, 1.0, 1.0], [False, False, False, False]),
        ([39.9, 1.0, 20.1, 1.0], [True, False, True, False]),
        ([15.0, 14.0, 13.4, 9.9], [True, True, True, False]),
        ([10.1, 10.1, 10.1, 10.1], [True, True, True, True]),
        ([float("inf"), 0.0, 0.0, 0.0], [True, False, False, False]),
    ],
)
def test_e_benjamini_hochberg_rejects_as_by_hand(e: list[float], found: list[bool]) -> None:
    with np.errstate(divide="ignore"):
        log_e = np.log(e)

    assert e_benjamini_hochberg(log_e, alpha=0.1).tolist() == found


@given(p=st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=10), c=st.integers(1, 10))
def test_e_benjamini_hochberg_finds_no_more_than_benjamini_and_hochberg(
    p: list[float], c: int
) -> None:
    # With e = 1 / p (not an e-value) both are the same rule; a smaller e finds less.
    log_e = -np.log(p)
    size, order = len(p), np.sort(p)
    steps = ALPHA * np.arange(1, size + 1) / size
    passed = np.flatnonzero(order <= steps * (1 - 1e-12))
    surely = int(passed[-1]) + 1 if passed.size else 0

    found = e_benjamini_hochberg(log_e, alpha=ALPHA)
    fewer = e_benjamini_hochberg(log_e - np.log(c), alpha=ALPHA)

    assert found.sum() >= surely
    assert np.all(fewer <= found)


def test_e_lond_spends_by_hand() -> None:
    # LOND's gamma_1 at alpha 1 (Javanmard and Montanari): .07720838 log 2; so 1 / .05 / gamma_1.
    first = 1.0 / (0.05 * 0.07720838 * np.log(2.0))
    procedure = start(Method.E_LOND, alpha=0.05)

    assert 1 / procedure.test_log_e_values([0.0]).level[0] == pytest.approx(first, rel=1e-6)
    assert procedure.test_log_e_values([np.log(first) + 1e-6]).rejected.tolist() == [True]
    assert procedure.test_log_e_values([np.log(first) - 1e-6]).rejected.tolist() == [False]


def test_a_discovery_doubles_what_e_lond_spends_next() -> None:
    procedure = start(Method.E_LOND, alpha=0.05)

    lucky = procedure.test_log_e_values([50.0, 0.0]).level[1]
    unlucky = procedure.test_log_e_values([0.0, 0.0]).level[1]

    assert lucky == pytest.approx(2 * unlucky)


@pytest.mark.parametrize("method", P_METHODS)
@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_value_is_refused(method: Method, bad: float) -> None:
    with pytest.raises(ValueError, match="p-values lie in"):
        start(method, alpha=ALPHA).test_p_values([0.5, bad])


def test_unknown_e_values_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown one is left out"):
        start(Method.E_LOND, alpha=ALPHA).test_log_e_values([float("nan")])
    with pytest.raises(ValueError, match="unknown one is left out"):
        e_benjamini_hochberg([float("nan")], alpha=ALPHA)


def test_p_values_and_e_values_are_not_mistaken_for_each_other() -> None:
    with pytest.raises(ValueError, match="takes e-values"):
        start(Method.E_LOND, alpha=ALPHA).test_p_values([0.5])
    with pytest.raises(ValueError, match="takes p-values"):
        start(Method.BATCH_BH, alpha=ALPHA).test_log_e_values([0.5])


def test_a_table_of_values_is_refused() -> None:
    with pytest.raises(ValueError, match="one dimension"):
        start(Method.BATCH_BH, alpha=ALPHA).test_p_values(np.full((2, 2), 0.5))


@pytest.mark.parametrize("alpha", [0.0, 1.0, float("nan")])
def test_an_alpha_outside_the_open_unit_interval_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha lies in"):
        start(Method.BATCH_BH, alpha=alpha)
    with pytest.raises(ValueError, match="alpha lies in"):
        e_benjamini_hochberg([1.0], alpha=alpha)


def test_a_stream_cannot_start_with_all_of_its_wealth() -> None:
    with pytest.raises(ValueError, match="start_wealth lies in"):
        start(Method.LORD_PLUS_PLUS, alpha=ALPHA, start_wealth=1.0)


def test_more_wealth_at_the_start_leaves_less_after_a_discovery() -> None:
    bold, thrifty = (
        start(Method.LORD_PLUS_PLUS, alpha=ALPHA, start_wealth=part).test_p_values([0.0, 1.0])
        for part in (0.5, 0.1)
    )

    assert bold.level[0] > thrifty.level[0]
    assert bold.level[1] < thrifty.level[1]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema": 2}, "schema 2"),
        ({"method": "bonferroni"}, "bonferroni"),
        ({"method": "batch_prds"}, "does not match"),
        ({"alpha": 0.2}, "says alpha 0.2"),
        ({"tested": 7}, "after 7 values"),
    ],
)
def test_a_snapshot_that_contradicts_itself_is_refused(
    change: dict[str, object], complaint: str
) -> None:
    taken = rule(start(Method.BATCH_BH, alpha=ALPHA), [0.5, 0.2]).after.snapshot()

    with pytest.raises(ValueError, match=complaint):
        restore(taken | change)


def test_a_snapshot_that_lacks_a_part_is_refused() -> None:
    taken = start(Method.BATCH_BH, alpha=ALPHA).snapshot()
    del taken["state"]

    with pytest.raises(ValueError, match="lacks state"):
        restore(taken)


def test_what_is_done_with_a_snapshot_does_not_reach_its_procedure() -> None:
    procedure = rule(start(Method.BATCH_BH, alpha=ALPHA), [0.001]).after
    before = json.dumps(procedure.snapshot())

    procedure.snapshot()["state"].clear()

    assert json.dumps(procedure.snapshot()) == before


def false_discovery_rate(
    method: Method, draw: Callable[[np.random.Generator], np.ndarray], runs: int
) -> float:
    """Mean share of false discoveries over 8 hours of 12 targets, of which 9 hide nothing."""
    rng, shares = np.random.default_rng(11), []
    for _ in range(runs):
        procedure, false, found = start(method, alpha=ALPHA), 0, 0
        for _ in range(8):
            ruling = rule(procedure, [float(p) for p in draw(rng)])
            procedure = ruling.after
            false += int(ruling.rejected[:9].sum())
            found += int(ruling.rejected.sum())
        shares.append(false / max(found, 1))
    return float(np.mean(shares))


def independent(rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([rng.random(9), rng.random(3) * 1e-3])


def shared(rng: np.random.Generator) -> np.ndarray:
    """Nine targets that say nothing, but all the same: the strongest positive dependence."""
    return np.concatenate([np.full(9, rng.random()), rng.random(3) * 1e-3])


@pytest.mark.parametrize(
    ("method", "draw"),
    [(method, independent) for method in Method]
    + [(Method.BATCH_PRDS, shared), (Method.E_LOND, shared)],
)
def test_false_discoveries_stay_a_small_share(
    method: Method, draw: Callable[[np.random.Generator], np.ndarray]
) -> None:
    assert false_discovery_rate(method, draw, 150) <= ALPHA


def test_the_simulation_can_see_a_procedure_that_corrects_nothing() -> None:
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(150):
        p = np.concatenate([independent(rng) for _ in range(8)]).reshape(8, 12)
        found = p <= ALPHA
        shares.append(found[:, :9].sum() / max(found.sum(), 1))

    assert float(np.mean(shares)) > 2 * ALPHA


@pytest.mark.slow
@pytest.mark.parametrize("method", P_METHODS)
def test_nothing_to_find_is_found_in_at_most_alpha_of_all_lives(method: Method) -> None:
    # Without anything to find the false discovery rate is the chance of any discovery at all.
    rng, lives, wrong = np.random.default_rng(5), 1000, 0
    for _ in range(lives):
        procedure, found = start(method, alpha=ALPHA), 0
        for _ in range(10):
            ruling = procedure.test_p_values(rng.random(10))
            procedure, found = ruling.after, found + int(ruling.rejected.sum())
        wrong += found > 0

    assert float(wilson_interval(wrong, lives)[0]) <= ALPHA


@given(
    p=st.lists(st.floats(0.0, 1.0) | st.floats(0.0, 1e-2), min_size=1, max_size=9),
    method=st.sampled_from([Method.BATCH_BH, Method.BATCH_PRDS]),
)
def test_a_value_is_a_discovery_exactly_up_to_its_limit(p: list[float], method: Method) -> None:
    procedure = start(method, alpha=ALPHA)
    ruling = procedure.test_p_values(p)

    limits = batch_limits(p, float(ruling.level[0]))

    assert ((np.asarray(p) <= limits) == ruling.rejected).all()
    for place, limit in enumerate(limits):
        for value, found in ((limit * (1 - 1e-9), True), (min(1.0, limit * (1 + 1e-9)), False)):
            changed = [*p[:place], value, *p[place + 1 :]]
            assert procedure.test_p_values(changed).rejected[place] == found


def test_an_empty_batch_has_no_limits() -> None:
    assert batch_limits([], 0.1).shape == (0,)


def test_among_what_passed_a_bar_p_values_are_uniform_again() -> None:
    p = np.random.default_rng(2).random(20_000)
    passed = [given_selected(float(value), 0.05) for value in p if value <= 0.05]

    for share in (0.1, 0.5, 0.9):
        assert np.mean(np.asarray(passed) <= share) == pytest.approx(share, abs=0.05)
