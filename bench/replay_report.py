"""The replay's tables, gates and picture."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bench.replay_harm import REQUESTS_PER_HOUR, Cell, pooled
from bench.replay_savings import Hindsight, Result, Volume, interval
from bench.world.coderouter import BASELINE, Benchmark

PICTURE: Final = "replay.svg"
WRONG_LIMIT: Final = 0.065
"""Largest upper Wilson limit of the share of harmful rollouts that are promoted."""
ROLLOUTS: Final = 2_000
"""Fewest rollouts the share is judged on, exactly at the margin and beyond it."""
REACHED: Final = 0.5
"""Smallest part of the saving that was there to be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """All seeds at one margin with their yardsticks.

    limit: best arm per target in hindsight; swap: best single model within the margin on every
    target; loose_swap: the same where only the mean over targets must be within it.
    """

    margin: float
    volume: Volume
    results: tuple[Result, ...]
    limit: Hindsight
    swap: Hindsight
    loose_swap: Hindsight

    @property
    def reached(self) -> tuple[float, float, float]:
        """Net saving as a part of the limit's: mean and 95 % limits over seeds."""
        return interval([result.saving / self.limit.saving for result in self.results])

    @property
    def settled(self) -> tuple[float, float, float]:
        """The same of the arms in force at the end, without the cost of the way there."""
        return interval([result.settled_saving / self.limit.saving for result in self.results])

    def kept(self, bench: Benchmark) -> tuple[int, int]:
        """How many of all targets end on an arm that keeps the margin, and how many there are."""
        ends = [
            bench.lost(target, arm) < self.margin
            for result in self.results
            for target, arm in result.in_force.items()
        ]
        return sum(ends), len(ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a replay found."""

    bench: Benchmark
    hours: int
    quick: bool
    savings: tuple[Saving, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A promise, and whether it holds."""

    text: str
    holds: bool


def gates(report: Report) -> list[Gate]:
    """What must hold. A quick replay is too short for net savings and too small for the counts."""
    found = []
    for saving in report.savings:
        mean = saving.settled[0] if report.quick else saving.reached[0]
        kept, ends = saving.kept(report.bench)
        found.append(
            Gate(
                text=f"margin {saving.margin:g}: at least {REACHED:.0%} of the feasible saving is "
                f"reached ({mean:.1%})",
                holds=mean >= REACHED,
            )
        )
        found.append(
            Gate(
                text=f"margin {saving.margin:g}: at least 95% of targets end within the margin "
                f"({kept} of {ends})",
                holds=kept >= 0.95 * ends,
            )
        )
    for exact in (True, False):
        cell = pooled(report.cells, exact=exact)
        share = cell.promoted / cell.rollouts if report.quick else cell.wilson_upper
        enough = report.quick or cell.rollouts >= ROLLOUTS
        found.append(
            Gate(
                text=f"{cell.kind}: {cell.promoted} of {cell.rollouts} promoted, "
                + ("share" if report.quick else f"of at least {ROLLOUTS} rollouts, upper limit")
                + f" {share:.2%}, at most {WRONG_LIMIT:.1%}",
                holds=enough and share <= WRONG_LIMIT,
            )
        )
    return found


def markdown(report: Report) -> str:
    """The section of the documentation: what was run, against what, and what came out."""
    decided = (
        "Decisions per replay of four targets, by how they ended (mean over seeds), and the "
        "traffic the plan check chose when it is told each arm's true harm (an operator is not, "
        "and plans for none):"
    )
    forced = (
        "Forced rollouts of arms that are truly worse than the margin, proposed whatever their "
        f"prior says, at {REQUESTS_PER_HOUR:,.0f} requests an hour. Mixtures answer a share of "
        f"their requests as a worse arm and the rest as {BASELINE}, so that their harm is exact."
    )
    return "\n\n".join(
        [
            "## Replay of measured outcomes",
            _setting(report),
            _savings_table(report),
            f"![net saving by margin against the upper limit]({PICTURE})",
            "Yardsticks with the truth in hand, same traffic on every target:",
            _yardsticks(report),
            decided,
            _decisions(report),
            forced,
            _cells_table(report.cells),
            "What must hold:",
            "\n".join(
                f"- {'holds' if gate.holds else 'FAILS'}: {gate.text}" for gate in gates(report)
            ),
        ]
    )


def _setting(report: Report) -> str:
    bench = report.bench
    rows = len(bench.targets) * len(bench.models)
    return (
        "Made by `python -m bench.replay --data DIR"
        + (" --quick" if report.quick else "")
        + "` on CodeRouterBench (arXiv 2606.22902, MIT): "
        f"{len(bench.targets)} targets, {len(bench.models)} arms, {rows} cells of measured rows. "
        f"Every target starts on {BASELINE}; the other arms have a list price and a prior, the "
        "model's mean on the *other* targets, never on its own, worth "
        f"{_worth(bench)} answers each because models differ by target. "
        f"{len(report.savings[0].results)} seeds, {report.hours} hours each, the cost of trying "
        f"included. {bench.no_cost} rows without a token record have no known cost and "
        f"{bench.no_latency} of latency 0 no known latency; they keep their score. Guardrails: "
        "quality (margin as stated, anchored) and failures; latency is left free, because the "
        "benchmark ran offline and cut its slowest requests off. Intervals are 95 % over seeds."
    )


def _worth(bench: Benchmark) -> str:
    worth = {arm.prior.n for arms in bench.arms.values() for arm in arms if arm.prior is not None}
    return f"{min(worth)} to {max(worth)}"


def _savings_table(report: Report) -> str:
    heads = (
        "margin",
        f"saving against staying on {BASELINE}, %",
        "quality change, points",
        "reached of the feasible saving, %",
        "reached at the end, %",
        "targets that end within the margin",
    )
    lines = _head(heads)
    for saving in report.savings:
        kept, ends = saving.kept(report.bench)
        lines.append(
            f"| {saving.margin:g} "
            f"| {_spread([r.saving for r in saving.results])} "
            f"| {_spread([-r.lost for r in saving.results], digits=2)} "
            f"| {_limits(saving.reached)} | {_limits(saving.settled)} | {kept} of {ends} |"
        )
    return "\n".join(lines)


def _yardsticks(report: Report) -> str:
    lines = _head(("margin", "yardstick", "arms", "saving, %", "quality change, points"))
    for saving in report.savings:
        for name, found in (
            ("stay with the baseline", None),
            ("best single swap, within the margin on every target", saving.swap),
            ("best single swap, within the margin on average", saving.loose_swap),
            ("best arm per target (upper limit)", saving.limit),
        ):
            arms = BASELINE if found is None else _arms(found)
            gain, change = (0.0, 0.0) if found is None else (found.saving, -found.lost)
            lines.append(
                f"| {saving.margin:g} | {name} | {arms} | {100 * gain:.1f} "
                f"| {100 * change + 0.0:.2f} |"
            )
    return "\n".join(lines)


def _arms(found: Hindsight) -> str:
    models = set(found.choice.values())
    if len(models) == 1:
        return models.pop()
    return ", ".join(f"{arm} ({target})" for target, arm in sorted(found.choice.items()))


def _decisions(report: Report) -> str:
    kinds = sorted({kind for s in report.savings for r in s.results for kind in r.outcomes})
    before = ("margin", "requests an hour and target", "plan check")
    after = ("canary requests", "hours to the last promotion that stands")
    lines = _head((*before, *kinds, *after))
    for saving in report.savings:
        n = len(saving.results)
        total: Counter[str] = Counter()
        for result in saving.results:
            total.update(result.outcomes)
        hours = [r.hours_to_reach for r in saving.results if r.hours_to_reach is not None]
        reach = f"{sorted(hours)[len(hours) // 2]:.0f} (median)" if hours else "none"
        canaries = sum(result.canary_requests for result in saving.results) / n
        lines.append(
            f"| {saving.margin:g} | {saving.volume.requests_per_hour:,} "
            f"| {saving.volume.planned_hours:.0f} h for {saving.volume.decided} | "
            + " | ".join(f"{total[kind] / n:.1f}" for kind in kinds)
            + f" | {canaries:,.0f} | {reach} |"
        )
    return "\n".join(lines)


def _cells_table(cells: Sequence[Cell]) -> str:
    heads = (
        "margin",
        "true harm",
        "rollouts",
        "rolled back",
        "held until expiry, reverted",
        "promoted",
        "upper Wilson limit, %",
    )
    lines = _head(heads)
    for cell in (*cells, pooled(cells, exact=True), pooled(cells, exact=False)):
        margin = f"{cell.margin:g}" if cell in cells else "all"
        lines.append(
            f"| {margin} | {cell.kind} | {cell.rollouts:,} | {cell.rolled_back:,} "
            f"| {cell.reverted:,} | {cell.promoted:,} | {100 * cell.wilson_upper:.2f} |"
        )
    return "\n".join(lines)


def _head(names: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


def _spread(values: Sequence[float], *, digits: int = 1) -> str:
    return _limits(interval(values), digits=digits)


def _limits(spread: tuple[float, float, float], *, digits: int = 1) -> str:
    mean, low, high = (100 * value + 0.0 for value in spread)
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def plot(report: Report, path: Path) -> None:
    """Savings by margin against the yardsticks, as SVG; the same report gives the same bytes."""
    with rc_context({"svg.hashsalt": "replay", "svg.fonttype": "none"}):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for position, saving in enumerate(report.savings):
            mean, low, high = interval([100 * r.saving for r in saving.results])
            first = position == 0
            axes.bar(
                position - 0.2,
                mean,
                0.35,
                yerr=[[mean - low], [high - mean]],
                color="#2b6cb0",
                capsize=4,
                label="optimizer, net" if first else None,
            )
            axes.bar(
                position + 0.2,
                100 * saving.limit.saving,
                0.35,
                color="#cbd5e0",
                label="best per target in hindsight" if first else None,
            )
        axes.set_xticks(range(len(report.savings)), [f"{s.margin:g}" for s in report.savings])
        axes.set_xlabel("quality margin")
        axes.set_ylabel(f"saving against {BASELINE}, %")
        axes.legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})
