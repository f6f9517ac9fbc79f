"""The benchmark's tables, picture and stored results."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Final

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bench.rollouts.cells import Group
from bench.rollouts.gates import GATES, GateMaker, Results, checked
from bench.rollouts.running import OURS
from bench.rollouts.tally import Tally

PICTURE: Final = "canary.svg"
HARMLESS: Final = {
    "independent": "Ramp A, independent, 2,000/h, x1",
    "shared drift": "Ramp A, shared drift, 2,000/h, x1",
    "sessions within a minute": "Ramp A, sessions within a minute, 2,000/h, x1",
    "sessions over hours": "Ramp A, sessions over hours, 2,000/h, x1",
    "independent, 200/h": "Ramp A, independent, 200/h, x1",
}
OFFSETS: Final = ((0, 9), (9, 0), (0, -9), (-9, 0))
"""Where a point's number stands, in points, so that neighbours do not hide each other."""
TWICE: Final = "Ramp A, independent, 2,000/h, x2"


def markdown(results: Results, makers: Sequence[GateMaker] = GATES) -> str:
    """The section of the documentation."""
    parts = ["## Simulated rollouts", _setting(results)]
    if not results.worlds:
        parts.append(_rules_table(results))
        parts.append(f"![false rollbacks against canary requests, by rule]({PICTURE})")
    for group in Group:
        tallies = results.of(group)
        if tallies:
            parts += [f"{group.value}:", _cells_table(tallies)]
    if results.coverage:
        parts += ["Limits that hold the truth:", _coverage_table(results)]
    gates = "\n".join(f"- {gate}" for gate in checked(results, makers))
    return "\n\n".join([*parts, "What must hold:", gates])


def _setting(results: Results) -> str:
    return (
        "Made by `python -m bench canary"
        + (f" --worlds {','.join(results.worlds)}" if results.worlds else "")
        + (" --quick" if results.quick else "")
        + "`. Base failure rate 2 %; Ramp A: 5, 10, 25 and 50 % for six hours each, control as "
        "large as the canary; Ramp B: 5, 6, 8 and 10 %, control nine times as large. Arrivals are "
        "Poisson, but for bursts: as many clients, of whom ten carry as much, as in ServeGen's "
        "m-large (162, 63 %) or m-small (43, 93 %), arrivals by client with a coefficient of "
        "variation of 1.2 in the median and 4.3 at the 90 % quantile, and hourly rates that vary "
        "six-fold within a day. Scores that come late have a geometric delay of one hour in the "
        "mean, count once their window is an hour old, and 30 % never come. "
        "Brackets are 95 % Wilson limits. Requests and hours are medians over the "
        "rollouts that were rolled back. The rules to beat look every hour at cumulative counts "
        "and take requests as units; Kayenta's judge (Mann-Whitney, tolerance .25, confidence .98, "
        "direction increase, critical) sees failure rates by minute."
    )


def _rules_table(results: Results) -> str:
    rules = list(dict.fromkeys(t.rule for t in results.tallies))
    heads = [
        "rule",
        *(f"false, {name}, %" for name in HARMLESS),
        "x1.25 caught, %",
        "x2 caught, %",
        "x2 within 1,500, %",
        "x2 within 3,000, %",
        "x2 canary requests",
        "x2 at 200/h caught, %",
    ]
    lines = _head(heads)
    for rule in rules:
        false = [_back(results, name, rule) for name in HARMLESS.values()]
        twice = _find(results, TWICE, rule)
        within = ["", "", ""]
        if twice is not None:
            within = [
                f"{100 * twice.share(twice.caught_1500):.1f}",
                f"{100 * twice.share(twice.caught_3000):.1f}",
                _number(twice.requests),
            ]
        row = [
            rule,
            *false,
            _back(results, "Ramp A, independent, 2,000/h, x1.25", rule),
            _back(results, TWICE, rule),
            *within,
            _back(results, "Ramp A, independent, 200/h, x2", rule),
        ]
        lines.append(_row(row))
    return "\n".join(lines)


def _find(results: Results, name: str, rule: str) -> Tally | None:
    return next((t for t in results.of(Group.ONE, rule) if t.cell == name), None)


def _back(results: Results, name: str, rule: str) -> str:
    tally = _find(results, name, rule)
    return "" if tally is None else f"{100 * tally.share(tally.rolled_back):.1f}"


def _cells_table(tallies: Sequence[Tally]) -> str:
    heads = [
        "cell",
        "rollouts",
        "rolled back, %",
        "by the guard, %",
        "within 1,500, %",
        "within 3,000, %",
        "canary requests",
        "hours",
        "failures beyond control's",
        "promoted, %",
        "at the extension, %",
        "reverted, %",
    ]
    asked = any(t.plan_check is not None for t in tallies)
    lines = _head([*heads, *(["plan check"] if asked else [])])
    for tally in tallies:
        low, high = tally.limits(tally.rolled_back)
        row = [
            tally.cell,
            f"{tally.rollouts:,}",
            f"{100 * tally.share(tally.rolled_back):.1f} [{100 * low:.1f}, {100 * high:.1f}]",
            *(
                f"{100 * tally.share(count):.1f}"
                for count in (tally.by_guard, tally.caught_1500, tally.caught_3000)
            ),
            _number(tally.requests),
            _number(tally.hours, digits=1),
            _number(tally.excess, digits=1),
            *(
                f"{100 * tally.share(count):.1f}"
                for count in (tally.promoted, tally.extended, tally.reverted)
            ),
        ]
        says = {None: "", True: "passes", False: "refuses"}[tally.plan_check]
        lines.append(_row([*row, *([says] if asked else [])]))
    return "\n".join(lines)


def _coverage_table(results: Results) -> str:
    lines = _head(["limits of", "looks", "rollouts", "hold the truth, %"])
    for each in results.coverage:
        low, high = each.limits
        lines.append(
            _row(
                [
                    each.name,
                    "all together" if each.always else "the planned end",
                    f"{each.rollouts:,}",
                    f"{100 * each.share:.1f} [{100 * low:.1f}, {100 * high:.1f}]",
                ]
            )
        )
    return "\n".join(lines)


def _head(names: Sequence[str]) -> list[str]:
    return [_row(names), "|---" * len(names) + "|"]


def _row(values: Iterable[str]) -> str:
    return f"| {' | '.join(values)} |"


def _number(value: float, *, digits: int = 0) -> str:
    return f"{value + 0.0:,.{digits}f}" if isfinite(value) else ""


def store(results: Results, path: Path) -> None:
    """Every figure as JSON; unknown ones are null."""
    found = {
        "quick": results.quick,
        "cells": [_known(asdict(tally)) for tally in results.tallies],
        "coverage": [asdict(each) for each in results.coverage],
        "gates": [asdict(gate) for gate in checked(results)],
    }
    path.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _known(fields: dict[str, object]) -> dict[str, object]:
    return {
        name: None if isinstance(value, float) and not isfinite(value) else value
        for name, value in fields.items()
    }


def plot(results: Results, path: Path) -> None:
    """What each rule promises against what it catches, as SVG; the same results, the same bytes."""
    with rc_context({"svg.hashsalt": "canary", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7.6, 3.8), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for number, (rule, false, requests) in enumerate(_placed(results)):
            ours = rule == OURS
            axes.scatter(
                false,
                requests,
                s=60 if ours else 26,
                color="#2b6cb0" if ours else "#718096",
                zorder=3,
                label=f"{number + 1}  {rule}",
            )
            axes.annotate(
                str(number + 1),
                (false, requests),
                xytext=OFFSETS[number % len(OFFSETS)],
                textcoords="offset points",
                fontsize=8,
                ha="center",
                va="center",
            )
        axes.axvline(5, color="#c53030", linewidth=0.8, linestyle="--")
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(-0.1, 150)
        axes.set_xticks([0, 1, 5, 10, 20, 50, 100], ["0", "1", "5", "10", "20", "50", "100"])
        axes.set_yscale("log")
        axes.set_xlabel("false rollbacks in the worst harmless world, %")
        axes.set_ylabel("canary requests until\ntwice the failures are caught")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(path, format="svg", metadata={"Date": None})


def _placed(results: Results) -> list[tuple[str, float, float]]:
    """Rules with their largest share of false rollbacks, %, and median canary requests at x2."""
    found = []
    for rule in dict.fromkeys(t.rule for t in results.tallies):
        twice = _find(results, TWICE, rule)
        false = [_find(results, name, rule) for name in HARMLESS.values()]
        shares = [100 * t.share(t.rolled_back) for t in false if t is not None]
        if twice is not None and shares and isfinite(twice.requests):
            found.append((rule, max(shares), twice.requests))
    return found
