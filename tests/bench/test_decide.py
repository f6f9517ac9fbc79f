"""The races can tell good rules from bad ones, and the rules are those they are said to be."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.decide import main
from bench.races.capped import CAP, CappedThompson, cheapness
from bench.races.cells import EVEN, OURS, PLUGGED, Raced, Row
from bench.races.changing import DROP, RISE, Change, calm, change
from bench.races.peers import (
    PLUG_IN,
    UNIFORM,
    FixedTest,
    Greedy,
    Sums,
    as_if_known,
    significant,
)
from bench.races.promises import of_races
from bench.races.rules import ENDED, EProcess, all_to
from bench.races.running import Played, play
from bench.races.scores import AsymptoticMeans, lower, posterior
from bench.races.service import InService
from bench.races.worlds import EXCHANGED, Cell, Stream, counted
from bench.races.yardsticks import ORACLE, SWAP
from optimizer.statistics.declaring import DELTA, NONE, rival_pairs
from optimizer.statistics.declaring_means import declared_mean, leads
from optimizer.statistics.planning import wilson_interval

SMALL = Cell(means=(0.7, 0.75, 0.85), batch=60, limit=6_000)
REWARDS = Cell(means=(0.8, 1.0, 1.3), log_sd=0.8, batch=300, limit=6_000)


@pytest.mark.parametrize("cell", [SMALL, REWARDS, replace(SMALL, drifts=True, late=True)])
def test_the_oracle_loses_nothing(cell: Cell) -> None:
    played = play(ORACLE, cell, 30, 1)

    assert played.regret.tolist() == [0.0] * 30
    assert (played.wrong, played.worse.max()) == (0, 0.0)


def test_a_single_swap_is_wrong_where_the_best_arms_have_exchanged_places() -> None:
    played = play(SWAP, SMALL, 30, 1)

    assert played.wrong == 30 / EXCHANGED
    assert played.regret.max() == pytest.approx(SMALL.limit * 0.1)


def test_the_e_process_rarely_declares_a_wrong_arm_and_the_plug_in_rule_often_does() -> None:
    cell, runs = Cell(means=(0.9, 0.95), batch=20, limit=6_000), 200

    ours, plugged = play(EProcess(), cell, runs, 4), play(PLUG_IN, cell, runs, 4)

    assert ours.wrong_upper <= 0.065
    assert float(wilson_interval(plugged.wrong, runs)[0]) > 0.05


def test_the_e_process_needs_few_more_units_than_a_uniform_split() -> None:
    ours, even = play(EProcess(), SMALL, 200, 5), play(UNIFORM, SMALL, 200, 5)

    assert ours.median <= 1.3 * even.median


def test_a_tie_counts_every_declaration() -> None:
    played = play(PLUG_IN, Cell(means=(0.5, 0.5), batch=20, limit=400), 100, 6)

    assert played.wrong == 100 - played.undecided > 0


def test_labels_that_come_late_cost_units() -> None:
    late = replace(SMALL, late=True)

    assert play(EProcess(), late, 60, 2).median > 1.3 * play(EProcess(), SMALL, 60, 2).median


@pytest.mark.parametrize("cell", [SMALL, REWARDS])
def test_late_labels_come_in_the_order_of_their_batches_and_some_never(cell: Cell) -> None:
    late = replace(cell, late=True)
    truth = late.truth(50)
    stream = Stream(cell=late, truth=truth, rng=np.random.default_rng(1))
    shares = np.full(truth.shape, 1 / 3)

    sizes = [int(stream.serve(shares).units.sum()) for _ in range(6)]

    assert sizes[:3] == [0, 0, 0]
    assert sizes[3:] == pytest.approx([0.7 * 50 * cell.batch] * 3, rel=0.1)


def test_a_drift_moves_all_arms_and_keeps_their_order() -> None:
    stream = Stream(
        cell=replace(SMALL, drifts=True, batch=300_000),
        truth=SMALL.truth(1),
        rng=np.random.default_rng(3),
    )
    rates = []
    for _ in range(8):
        batch = stream.serve(np.full((1, 3), 1 / 3))
        rates.append((batch.good / batch.units)[0])

    assert np.ptp(rates, axis=0).min() > 0.1
    assert len({tuple(np.argsort(each)) for each in rates}) == 1


@settings(max_examples=30)
@given(seed=st.integers(0, 999), batches=st.integers(1, 12))
def test_capped_counts_never_exceed_the_cap_and_never_shrink(seed: int, batches: int) -> None:
    rng = np.random.default_rng(seed)
    rule = CappedThompson()
    state = rule.start(np.full((4, 3), 0.5))
    for _ in range(batches):
        units = rng.integers(0, 60, (4, 3))
        after = rule.observe(state, counted(units, rng.binomial(units, 0.7)))
        assert np.all(after.alpha + after.beta <= CAP)
        assert np.all(after.alpha >= state.alpha)
        assert np.all(after.beta >= state.beta)
        state = after


def test_full_counts_learn_nothing_more() -> None:
    rule, many = CappedThompson(), np.full((1, 2), 1_000)
    full = rule.observe(rule.start(np.full((1, 2), 0.5)), counted(many, many))

    after = rule.observe(full, counted(many, np.zeros_like(many)))

    assert after.alpha.tolist() == full.alpha.tolist() == [[195.0, 195.0]]
    assert after.beta.tolist() == full.beta.tolist()


def test_a_price_outweighs_any_quality_that_is_less_than_three_sevenths_better() -> None:
    rule, units = CappedThompson(prices=(1.0, 10.0)), np.full((1, 2), 150)
    state = rule.start(np.full((1, 2), 0.5))
    learned = rule.observe(state, counted(units, np.array([[75, 127]])))

    assert rule.winner(learned).tolist() == [0]
    assert CappedThompson().winner(learned).tolist() == [1]
    assert cheapness((2.0, 2.0), 2).tolist() == [0.5, 0.5]


def test_greedy_sends_most_to_the_favourite() -> None:
    units = np.array([[10, 10, 10]])
    state = Sums(units=units, total=units * 0.5 + [[0, 4, 0]], squares=units * 1.0)

    shares = Greedy().shares(state, np.random.default_rng(0))

    assert shares[0] == pytest.approx(np.array([0.1, 0.7, 0.1]) / 0.9)
    assert Greedy(bonus=(9.0, 0.0, 0.0)).winner(state).tolist() == [0]


def test_best_shares_for_two_arms_follow_their_spread() -> None:
    shares = as_if_known(np.array([[0.9, 0.5]]), np.array([[0.09, 0.25]]))

    assert shares[0] == pytest.approx(np.array([0.3, 0.5]) / 0.8)


def test_the_fixed_test_speaks_once() -> None:
    rule, units = FixedTest(), np.array([[1_000, 1_000]] * 2)
    state = rule.observe(
        rule.start(np.full((2, 2), 0.5)), counted(units, np.array([[500, 600], [500, 501]]))
    )

    later = rule.observe(state, counted(units, np.array([[1_000, 0], [1_000, 0]])))

    assert rule.winner(state).tolist() == rule.winner(later).tolist() == [1, ENDED]
    assert rule.settled(rule.winner(state), 2).tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_the_fixed_test_divides_its_error_among_the_other_arms() -> None:
    # z = 1.83 against each other arm: enough for one, not for two.
    units = np.full((1, 3), 1_000)
    rates = np.array([[0.5, 0.5, 0.541]])
    three = Sums(units=units, total=units * rates, squares=units * rates)
    two = Sums(units=units[:, 1:], total=three.total[:, 1:], squares=three.squares[:, 1:])

    assert significant(three).tolist() == [ENDED]
    assert significant(two).tolist() == [1]


def test_nothing_is_all_to_the_arm_in_force() -> None:
    assert all_to(np.array([NONE, ENDED, 1]), 2).tolist() == [[1, 0], [1, 0], [0, 1]]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99), arms=st.integers(2, 4), drifts=st.booleans())
def test_sums_of_scores_give_the_limits_of_an_experiment(
    seed: int, arms: int, *, drifts: bool
) -> None:
    cell = Cell(means=(0.8, 1.0, 1.2, 1.3)[-arms:], log_sd=0.8, batch=400, drifts=drifts)
    rng, rule = np.random.default_rng(seed), AsymptoticMeans()
    truth = cell.truth(2)
    stream = Stream(cell=cell, truth=truth, rng=rng)
    state, batches = rule.start(truth), []
    for _ in range(5):
        batches.append(stream.serve(rng.dirichlet(np.full(arms, 3.0), size=2)))
        state = rule.observe(state, batches[-1])

    for run in range(2):
        x, y, squares = (
            np.stack([getattr(batch, name)[run] for batch in batches])
            for name in ("x", "y", "squares")
        )
        alone = leads(y, x, squares, rivals=rival_pairs(arms, dropped=False), delta=DELTA)
        pairs = ~np.eye(arms, dtype=np.bool_)
        low = lower(state)[run][pairs]
        assert low == pytest.approx(alone.lower[pairs], nan_ok=True, rel=1e-9, abs=1e-12)
        mean, variance = posterior(state)
        assert mean[run] == pytest.approx(alone.mean)
        assert variance[run] == pytest.approx(alone.posterior_variance, nan_ok=True)
        assert rule.winner(state)[run] == declared_mean(alone)


def test_a_dropped_leader_is_replaced_in_time() -> None:
    found = change(InService(), DROP, 40, 9, limit=2_000)

    assert found.within(1_000) >= 0.9 * found.led > 0
    assert found.wrong == 0


def test_an_arm_that_rose_takes_the_lead() -> None:
    found = change(InService(), RISE, 40, 9, limit=6_000)

    assert found.median <= 3_000


def test_while_nothing_changes_a_leader_stays() -> None:
    resets, watched = calm(InService(), DROP, 40, 9, units=1_000)

    assert resets == 0
    assert watched == 40 * 1_000


def _played(winner: int, units: int, runs: int = 100) -> Played:
    return Played(
        winner=np.full(runs, winner),
        units=np.full(runs, units),
        right=np.full(runs, winner == 1),
        regret=np.zeros(runs),
        worse=np.zeros(runs),
        split=np.zeros((runs, 2)),
    )


def _change(after: float, resets: int = 0) -> Change:
    return Change(
        led=100,
        noticed=after,
        recovered=np.full(100, after),
        wrong=0,
        resets=resets,
        watched=10**6,
    )


def _found(ours: Played, plugged: Played, *, tie: Played, after: float, resets: int) -> Raced:
    cell = Cell(means=(0.9, 0.95), batch=20)
    even = _played(1, 1_000)
    row = Row(cell=cell, played={OURS: ours, PLUGGED: plugged, EVEN: even})
    tied = Row(cell=replace(cell, means=(0.9, 0.9)), played={OURS: tie})
    changes = {
        turn.name: {OURS: _change(after, resets), PLUGGED: _change(5_000.0)}
        for turn in (DROP, RISE)
    }
    return Raced(rows=(row,), ties=(tied,), changes=changes, quick=True)


def test_every_gate_of_the_races_can_fail() -> None:
    good, wrong, undecided = _played(1, 1_000), _played(0, 100), _played(NONE, 20_000)

    kept = _found(good, wrong, tie=undecided, after=500.0, resets=0)
    broken = _found(replace(wrong, units=good.units * 2), good, tie=wrong, after=6_000.0, resets=9)

    assert [gate.holds for gate in of_races(kept)] == [True] * 7
    assert [gate.holds for gate in of_races(broken)] == [False] * 7


@pytest.mark.slow
def test_the_quick_races_hold_and_are_the_same_twice(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    said, drawn = [], []
    for _ in range(2):
        folder = tmp_path_factory.mktemp("docs")
        assert main(["--quick", "--write", str(folder / "performance.md")]) == 0
        said.append(capsys.readouterr().out)
        drawn.append((folder / "decide.svg").read_bytes())

    assert said[0] == said[1]
    assert "broken:" not in said[0]
    assert drawn[0] == drawn[1]


def test_every_field_of_a_played_cell_has_one_row_a_run() -> None:
    played = play(EProcess(), SMALL, 7, 1)

    assert {len(getattr(played, field.name)) for field in fields(Played)} == {7}
