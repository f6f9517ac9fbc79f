"""What the others save on real outcome tables, and what they lose: each target a race of its arms.

A request's feedback is a success with the chance of its row's score, so that rules for successes
are served as well; prices are the arms' mean costs on the target.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from bench.races.capped import COST, QUALITY, CappedThompson, cheapness
from bench.races.peers import FIXED_UNITS, PLUG_IN, FixedTest, Greedy, Sums, Tested, added
from bench.races.rules import AnyRule, all_to
from bench.races.running import play
from bench.races.worlds import Batch, Cell
from bench.replay_savings import Hindsight, best_per_target, best_swap
from bench.world.coderouter import Benchmark
from optimizer.statistics.declaring import DELTA, NONE

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BATCH, DRAWS = 200, 200
GREEDY, CAPPED, PLUGGED, TESTED = (
    "epsilon-greedy, .7 quality + .3 cheapness",
    "capped Beta Thompson, .7 quality + .3 cheapness",
    "plug-in track-and-stop on quality",
    "1,000 units an arm, then the cheapest that passes within the margin",
)
STATUS_QUO, SWAPPED, BEST = "stay", "best single swap", "best arm per target, in hindsight"
ROUNDING: Final = 1e-9


class CheapestTest(FixedTest):
    """1,000 units of each arm evenly, then the cheapest arm that passes a test of non-inferiority.

    One-sided z at delta for each arm against the first; nobody corrects for the number of arms.
    """

    def __init__(self, prices: FloatArray, margin: float) -> None:
        """Remember what the arms cost and how much quality may be lost."""
        self.prices, self.margin = prices, margin

    def observe(self, state: Tested, batch: Batch) -> Tested:
        """After one more batch; the test is done once."""
        sums = added(state.sums, batch)
        due = (state.said == NONE) & np.all(sums.units >= FIXED_UNITS, axis=-1)
        return Tested(sums=sums, said=np.where(due, self._cheapest(sums), state.said))

    def _cheapest(self, sums: Sums) -> IntArray:
        mean, variance = sums.measured()
        spread = variance / np.maximum(sums.units, 1)
        z = (mean - mean[:, :1] + self.margin) / np.sqrt(spread + spread[:, :1])
        passes = z > -special.ndtri(DELTA)
        passes[:, 0] = True
        return np.asarray(np.where(passes, self.prices, np.inf).argmin(axis=-1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One rule on one table: what it saves against staying, the quality it changes, and where.

    saving: a part; lost: mean score; beyond, ends: target-runs that end below the baseline's
    quality less the margin, of how many.
    """

    rule: str
    saving: float
    lost: float
    beyond: int
    ends: int


def peers(bench: Benchmark, margin: float, runs: int) -> list[Outcome]:
    """The rules of others, and the yardsticks, on every target of a table."""
    found = [
        _known(bench, STATUS_QUO, dict.fromkeys(bench.targets, bench.baseline), margin),
        _swap(bench, margin),
    ]
    names = (PLUGGED, GREEDY, CAPPED, TESTED)
    splits: dict[str, list[FloatArray]] = {name: [] for name in names}
    for seed, target in enumerate(bench.targets):
        quality, cost = measured(bench, target)
        bonus = tuple(COST * cheapness(tuple(cost), len(cost)))
        rules: Mapping[str, AnyRule] = {
            PLUGGED: PLUG_IN,
            GREEDY: Greedy(bonus=bonus, weight=QUALITY),
            CAPPED: CappedThompson(prices=tuple(cost), draws=DRAWS),
            TESTED: CheapestTest(cost, margin),
        }
        cell = Cell(means=tuple(quality), batch=BATCH, alike=True)
        for name in names:
            splits[name].append(play(rules[name], cell, runs, seed).split)
    found += [_outcome(bench, name, splits[name], margin) for name in names]
    return [*found, _best(bench, margin)]


def arms(bench: Benchmark) -> tuple[str, ...]:
    """The arms, the baseline first."""
    return (bench.baseline, *(arm for arm in bench.models if arm != bench.baseline))


def measured(bench: Benchmark, target: str) -> tuple[FloatArray, FloatArray]:
    """Mean quality and cost of the target's arms, the baseline first, shape (K,) each."""
    own = [bench.outcomes[target, arm] for arm in arms(bench)]
    return np.array([each.quality for each in own]), np.array([each.cost_usd for each in own])


def _outcome(bench: Benchmark, rule: str, splits: list[FloatArray], margin: float) -> Outcome:
    spent = base = lost = 0.0
    beyond = ends = 0
    for target, split in zip(bench.targets, splits, strict=True):
        quality, cost = measured(bench, target)
        change = split @ quality - quality[0]
        spent, base = spent + float((split @ cost).mean()), base + float(cost[0])
        lost -= float(change.mean())
        beyond, ends = beyond + int((change < -margin - ROUNDING).sum()), ends + len(split)
    return Outcome(
        rule=rule,
        saving=1.0 - spent / base,
        lost=lost / len(bench.targets),
        beyond=beyond,
        ends=ends,
    )


def _known(bench: Benchmark, rule: str, choice: Mapping[str, str], margin: float) -> Outcome:
    names = arms(bench)
    splits = [
        all_to(np.array([names.index(choice[target])]), len(names)) for target in bench.targets
    ]
    return _outcome(bench, rule, splits, margin)


def _swap(bench: Benchmark, margin: float) -> Outcome:
    found: Hindsight = best_swap(bench, margin, everywhere=False)
    return _known(bench, SWAPPED, found.choice, margin)


def _best(bench: Benchmark, margin: float) -> Outcome:
    return _known(bench, BEST, best_per_target(bench, margin).choice, margin)
