"""The races' tables and picture."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bench.races.cells import CAPPED, EVEN, GREEDY, OURS, PLUGGED, SWAPPED, TESTED, Raced, Row
from bench.races.changing import BATCH, BEFORE, MOST, Change
from bench.races.promises import WITHIN, of_races, of_tables
from bench.races.replays import HOURS, Replayed, Tabled
from bench.races.running import Played
from bench.races.worlds import DRIFT, EXCHANGED, LATE, MARGIN, MISSING
from bench.replay_report import Gate
from bench.replay_savings import best_per_target

PICTURE: Final = "decide.svg"
DECLARING: Final = (OURS, PLUGGED, EVEN, TESTED)
ALL: Final = (*DECLARING, GREEDY, CAPPED, SWAPPED)
COLOURS: Final = {OURS: "#2b6cb0", PLUGGED: "#c53030", EVEN: "#718096", TESTED: "#d69e2e"}

WRONG: Final = (
    "Wrong first declarations, % (upper 95 % Wilson limit; runs in which nothing was declared "
    "where there are any); of a rule that declares nothing, its favourite at the end:"
)
REGRET: Final = (
    "Regret, units of success (or parts of the best arm's mean reward) lost in 10,000 units "
    "against always the best arm, the oracle's being 0. A rule that goes on watching pays for "
    "it with the share that the other arms keep:"
)
AFTER: Final = (
    f"After a change, batches of {BATCH}, {BEFORE:,} units before it; the right arm is back "
    f"once it has {MOST:.0%} of the traffic:"
)
REAL: Final = (
    "Real outcome tables. The hourly loop, as in the replay above, by volume; the strategy's "
    "record is left out of account, because copies of one target miss a promise all alike:"
)
NEARLY: Final = 0.9
"""Part of the margin from which an arm in hindsight's choice is hard to tell from a harmful one."""

Says = Callable[[Played], str]


def gates(found: Raced, on_tables: Tabled | None) -> list[Gate]:
    """All that must hold of what was run."""
    held = of_races(found)
    return held if on_tables is None else held + of_tables(on_tables, quick=found.quick)


def markdown(found: Raced, on_tables: Tabled | None) -> str:
    """The section of the documentation."""
    parts = [
        "## Choosing among arms",
        _setting(found, on_tables),
        WRONG,
        _cells(found.rows, ALL, _wrong),
        f"![wrong first declarations against units, by rule]({PICTURE})",
        "Exactly equal arms: runs that declare one of them, %:",
        _cells(found.ties, DECLARING, _tied),
        "Median units to the first declaration (the limit where half of the runs have none):",
        _cells(found.rows, DECLARING, lambda played: f"{played.median:,.0f}"),
        REGRET,
        _cells(found.rows, ALL, lambda played: f"{_mean_regret(played, found):,.0f}"),
        f"Traffic on arms that are worse than the best by more than {MARGIN:g}, %:",
        _cells(found.rows, ALL, lambda played: f"{100 * float(played.worse.mean()):.1f}"),
        AFTER,
        _changes(found),
    ]
    if on_tables is not None:
        parts += _tables(on_tables)
    held = "\n".join(
        f"- {'holds' if gate.holds else 'broken'}: {gate.text}" for gate in gates(found, on_tables)
    )
    return "\n\n".join([*parts, "What must hold:", held])


def _setting(found: Raced, on_tables: Tabled | None) -> str:
    runs = found.rows[0].played[OURS].runs
    limit = found.rows[0].cell.limit
    return (
        "Made by `python -m bench decide"
        + ("" if on_tables is None else " --data DIR")
        + (" --quick" if found.quick else "")
        + f"`: {runs:,} runs a rule and cell, up to {limit:,} units each. Cells are success rates, "
        "or mean rewards that are lognormal. Drift: a shift of all arms' log odds (or log rewards) "
        f"with sd {DRIFT:g}; late labels come {LATE} batches late and {MISSING:.0%} never. In one "
        f"run of {EXCHANGED} the two best arms have exchanged places, so that a single swap is "
        "wrong there. Ours is the rule of experiments: exact e-processes of pairs for successes, "
        "cluster-robust limits that hold at every look for rewards, top-two Thompson sampling. "
        "Plug-in track-and-stop is that of an archived LLM gateway, with its defaults; the capped "
        "Beta counts (200, then frozen) those of an LLM proxy's adaptive router, .7 quality and .3 "
        "price, arms costing alike here; epsilon-greedy sends .7 to the best, .1 to each other; "
        "the test of fixed size is one z test at 1,000 units an arm, without it the first arm "
        "stays."
    )


def _head(names: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


def _cells(rows: Sequence[Row], rules: Sequence[str], says: Says) -> str:
    lines = _head(("arms", *rules))
    for row in rows:
        told = " | ".join(says(row.played[rule]) for rule in rules)
        lines.append(f"| {row.cell.name} | {told} |")
    return "\n".join(lines)


def _wrong(played: Played) -> str:
    says = f"{100 * played.wrong / played.runs:.1f} ({100 * played.wrong_upper:.1f})"
    open_ended = played.undecided
    return f"{says}, none {100 * open_ended / played.runs:.1f}" if open_ended else says


def _tied(played: Played) -> str:
    return f"{100 * played.wrong / played.runs:.1f} ({100 * played.wrong_upper:.1f})"


def _mean_regret(played: Played, found: Raced) -> float:
    return 10_000 * float(played.regret.mean()) / found.rows[0].cell.limit


def _changes(found: Raced) -> str:
    lines = _head(
        (
            "change",
            "rule",
            "runs with a leader",
            "noticed after (median)",
            "right arm back after (median)",
            f"within {WITHIN:,} units, %",
        )
    )
    for turn, by_rule in found.changes.items():
        for rule, each in by_rule.items():
            lines.append(_change(turn, rule, each))
    return "\n".join(lines)


def _change(turn: str, rule: str, each: Change) -> str:
    if not each.led:
        return f"| {turn} | {rule} | 0 | - | - | - |"
    share = 100 * each.within(WITHIN) / each.led
    return (
        f"| {turn} | {rule} | {each.led:,} | {_units(each.noticed)} | {_units(each.median)} "
        f"| {share:.1f} |"
    )


def _units(value: float) -> str:
    return "never" if value == float("inf") else f"{value:,.0f}"


def _tables(found: Tabled) -> list[str]:
    lines = _head(
        (
            "table",
            "margin",
            "requests an hour and target",
            "seeds",
            "reached at the end, % of hindsight",
            f"reached net of trying, {HOURS} h, %",
            "nine in ten done after, h",
            "target-runs beyond the margin",
        )
    )
    lines += [_volume(each) for each in found.replayed]
    parts = [
        REAL,
        "\n".join(lines),
        *_hard(found),
    ]
    for (table, margin), others in found.others.items():
        rows = _head(("rule", "saving, %", "quality change, points", "target-runs beyond, %"))
        loops = [
            each.outcome
            for each in found.replayed
            if (each.volume.table, each.volume.margin) == (table, margin)
        ]
        rows += [
            f"| {each.rule} | {100 * each.saving:.1f} | {-100 * each.lost + 0.0:.2f} "
            f"| {100 * each.beyond / each.ends:.1f} |"
            for each in (*loops, *others)
        ]
        parts += [f"{table}, margin {margin:g}, at the end of each rule's runs:", "\n".join(rows)]
    return parts


def _hard(found: Tabled) -> list[str]:
    """Which arms of hindsight's choice lose nearly the margin, if any."""
    hard = {
        f"{arm} on {target} ({each.bench.lost(target, arm):.4f} of {each.volume.margin:g})"
        for each in found.replayed
        for target, arm in best_per_target(each.bench, each.volume.margin).choice.items()
        if each.bench.lost(target, arm) > NEARLY * each.volume.margin
    }
    if not hard:
        return []
    says = "What hindsight takes and a test can hardly prove, because it loses nearly the margin"
    return [f"{says}: {', '.join(sorted(hard))}."]


def _volume(each: Replayed) -> str:
    beyond, ends = each.beyond
    settled, net = (
        "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * value for value in spread))
        for spread in (each.settled, each.net)
    )
    return (
        f"| {each.volume.table} | {each.volume.margin:g} | {each.volume.requests_per_hour:,} "
        f"| {each.volume.seeds} | {settled} | {net} | {each.hours:.0f} | {beyond} of {ends:,} |"
    )


def plot(found: Raced, path: Path) -> None:
    """Units against wrong declarations, a point each rule and cell; the same report, same bytes."""
    with rc_context({"svg.hashsalt": "decide", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7.6, 3.8), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for rule in DECLARING:
            points = [
                (
                    100 * row.played[rule].wrong / row.played[rule].runs,
                    row.played[rule].median / row.played[EVEN].median,
                )
                for row in found.rows
            ]
            x, y = zip(*points, strict=True)
            axes.scatter(x, y, s=18, alpha=0.8, color=COLOURS[rule], label=rule)
        axes.axvline(5, color="#c53030", linewidth=0.8, linestyle="--")
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(-0.1, 60)
        axes.set_xticks([0, 1, 5, 10, 20, 50], ["0", "1", "5", "10", "20", "50"])
        axes.set_yscale("log")
        axes.set_xlabel("wrong first declarations, %")
        axes.set_ylabel(f"median units to it,\nmultiple of {EVEN}")
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(path, format="svg", metadata={"Date": None})
