"""Plots as SVG text: guardrails over looks, stages over time, money and quality over time."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import numpy as np
import pandas as pd

from optimizer.decision import State
from optimizer.evidence import Check
from optimizer.metrics import HOUR_S
from optimizer.report.story import Chapter, Story
from optimizer.report.svg import BLUE, GREEN, GREY, RED, Panel, drawing

WIDTH = 1_080
COLUMNS = 3
PANEL_HEIGHT = 165
PAIR_S = 2 * HOUR_S
LATE_LOOKS = 3
"""Looks whose limits a range holds whole."""
APART = 0.002
"""Half the distance of two arms at one look, as a part of the width."""
Z_95 = 1.96
QUALITY_REACH = 0.12
LABELS = {
    "quality": "quality lost",
    "failure_rate": "more failed requests",
    "latency_exceedance": "more slow requests",
    "cost_usd": "cost added",
    "fallback_rate": "more fallbacks",
    "latency_ms": "latency added",
}

Draw = Callable[[Panel, str, pd.DataFrame], None]
"""Draws one target into its panel and sets the panel's range."""


def guardrails(chapter: Chapter) -> str:
    """Harm of each check at every look, with the limits that rolling back and promoting read."""
    checks = [check for look in chapter.looks for check in look.verdict.checks]
    metrics = list(dict.fromkeys(check.metric for check in checks if check.role != "health"))
    if not metrics:
        return ""
    width = WIDTH / len(metrics)
    panels = [
        _guardrail(chapter, metric, x=number * width, width=width)
        for number, metric in enumerate(metrics)
    ]
    label = f"guardrails of {chapter.decision.candidate} on {chapter.decision.target}"
    return drawing(panels, width=WIDTH, height=PANEL_HEIGHT, label=label)


def _guardrail(chapter: Chapter, metric: str, *, x: float, width: float) -> Panel:
    points = [
        (look.at.timestamp(), check)
        for look in chapter.looks
        for check in look.verdict.checks
        if check.metric == metric and check.harm is not None
    ]
    relative = any(check.relative or check.role == "goal" for _, check in points)
    start, end = _span([look.at for look in chapter.looks])
    panel = Panel(
        title=f"{LABELS.get(metric, metric)}, {'%' if relative else 'points of 100'}",
        x=x,
        y=0,
        width=width,
        height=PANEL_HEIGHT,
        start_s=start,
        end_s=end,
        low=-1,
        high=1,
    )
    if not points:
        panel.text(x + width / 2, PANEL_HEIGHT / 2, "not measured", GREY, anchor="middle")
        return panel
    last = points[-1][1]
    panel.low, panel.high = _reach([check for _, check in points])
    panel.level(0.0, GREY, dashed=False)
    if chapter.decision.deployed_at is not None:
        panel.mark(chapter.decision.deployed_at.timestamp(), GREEN)
    for at, check in points:
        low, high = (100 * _number(limit) for limit in (check.harm_lower, check.harm_upper))
        panel.interval(at, 100 * _number(check.harm), low, high, BLUE)
    if last.role != "goal":
        panel.level(100 * _number(last.margin), RED, "margin")
    return panel


def tails(chapter: Chapter) -> str:
    """The 95th percentile of latency of canary and control at every look of the canary."""
    if not chapter.tails:
        return ""
    start, end = _span([each.at for each in chapter.tails])
    panel = Panel(
        title="95th percentile of latency of answered requests, ms",
        x=0,
        y=0,
        width=WIDTH,
        height=PANEL_HEIGHT,
        start_s=start,
        end_s=end,
        low=0,
        high=1,
    )
    threshold = _number(chapter.decision.latency_threshold_ms)
    values = [
        value
        for each in chapter.tails[-LATE_LOOKS:]
        for tail in (each.canary, each.control)
        for value in (tail.value_ms, tail.lower_ms, tail.upper_ms)
    ]
    panel.low, panel.high = _room([value for value in [*values, threshold] if math.isfinite(value)])
    panel.level(threshold, RED, "slow")
    aside = (end - start) * APART
    for each in chapter.tails:
        for tail, colour, shift in ((each.control, GREY, -aside), (each.canary, BLUE, aside)):
            low, high = (
                value if math.isfinite(value) else math.nan
                for value in (tail.lower_ms, tail.upper_ms)
            )
            panel.interval(each.at.timestamp() + shift, tail.value_ms, low, high, colour)
    decision = chapter.decision
    label = f"95th percentile of latency of {decision.candidate} on {decision.target}"
    return drawing([panel], width=WIDTH, height=PANEL_HEIGHT, label=label)


def _reach(checks: Sequence[Check]) -> tuple[float, float]:
    """A range that shows the last looks, zero and the margin well; early, wide limits are cut."""
    recent = checks[-LATE_LOOKS:]
    values = [
        100 * _number(value)
        for check in recent
        for value in (check.harm, check.harm_lower, check.harm_upper)
    ]
    margin = 0.0 if checks[-1].role == "goal" else 100 * _number(checks[-1].margin)
    return _room([value for value in [*values, margin, 0.0] if math.isfinite(value)])


def _room(known: Sequence[float]) -> tuple[float, float]:
    """A range that holds the values, with room above and below."""
    room = 0.25 * (max(known) - min(known) or 1.0)
    return min(known) - room, max(known) + room


def timeline(chapter: Chapter) -> str:
    """The candidate's share of traffic over time."""
    shares = _shares(chapter)
    if not shares:
        return ""
    start, end = _span([shares[0][0], shares[-1][0], *(look.at for look in chapter.looks)])
    panel = Panel(
        title="share of traffic on the candidate, %",
        x=0,
        y=0,
        width=WIDTH,
        height=120,
        start_s=start,
        end_s=end,
        low=0,
        high=1.35 * max(100 * share for _, share in shares),
    )
    colour = RED if chapter.decision.state is State.ROLLED_BACK else GREEN
    points = [(at.timestamp(), 100 * share) for at, share in shares]
    panel.steps([*points, (end, points[-1][1])], colour)
    for at, value in points:
        panel.note(at, value, f"{value:.3g} %", colour)
    label = f"stages of {chapter.decision.candidate} on {chapter.decision.target}"
    return drawing([panel], width=WIDTH, height=120, label=label)


def _shares(chapter: Chapter) -> list[tuple[datetime, float]]:
    """When the candidate's share changed, and to what, as the log proves."""
    shares = []
    for event in chapter.events:
        wanted = event.evidence.get("wanted")
        if not isinstance(wanted, Mapping):
            continue
        share = sum(
            float(str(part["high"])) - float(str(part["low"]))
            for part in wanted["slices"]
            if part["arm"] == chapter.decision.candidate
        )
        shares.append((event.at, share))
    return shares


def spend(log: pd.DataFrame, first: Mapping[str, str], story: Story) -> str:
    """Money an hour of every target, and what the arm of the start would have cost."""

    def draw(panel: Panel, name: str, rows: pd.DataFrame) -> None:
        hour = (rows["ts_s"] // HOUR_S).astype(np.int64) * HOUR_S
        money = rows["cost_usd"].groupby(hour).sum()
        base = rows["cost_usd"][rows["arm"] == first[name]].mean() * rows.groupby(hour).size()
        panel.low, panel.high = 0.0, 1.1 * float(max(money.max(), base.max()))
        panel.line(_middle(base, HOUR_S), GREY, dashed=True)
        panel.line(_middle(money, HOUR_S), BLUE)

    return _small_multiples(log, first, story, draw, "USD an hour")


def quality(log: pd.DataFrame, first: Mapping[str, str], story: Story) -> str:
    """Mean score of every target over time with its 95 % interval, two hours a point."""

    def draw(panel: Panel, name: str, rows: pd.DataFrame) -> None:
        scored = rows[rows["score"].notna()]
        pair = (scored["ts_s"] // PAIR_S).astype(np.int64) * PAIR_S
        table = scored["score"].groupby(pair).agg(["mean", "sem"])
        base = float(scored["score"][scored["arm"] == first[name]].mean())
        panel.low, panel.high = base - QUALITY_REACH, base + QUALITY_REACH
        half = Z_95 * table["sem"]
        limits = zip(table.index, table["mean"] - half, table["mean"] + half, strict=True)
        panel.band([(at + PAIR_S / 2, low, high) for at, low, high in limits], BLUE)
        panel.level(base, GREY, "at start")
        rails = [rail for rail in story.policies[name].guardrails if rail.metric == "quality"]
        for rail in rails:
            panel.level(base - rail.margin, RED, "margin", below=True)
        panel.line(_middle(table["mean"], PAIR_S), BLUE)

    return _small_multiples(log, first, story, draw, "mean score")


def _small_multiples(
    log: pd.DataFrame, first: Mapping[str, str], story: Story, draw: Draw, what: str
) -> str:
    start, end = float(log["ts_s"].min()), float(log["ts_s"].max())
    width, rows = WIDTH / COLUMNS, -(-len(first) // COLUMNS)
    panels = []
    for number, name in enumerate(first):
        panel = Panel(
            title=f"{name}: {what}",
            x=number % COLUMNS * width,
            y=number // COLUMNS * PANEL_HEIGHT,
            width=width,
            height=PANEL_HEIGHT,
            start_s=start,
            end_s=end,
            low=0,
            high=1,
        )
        draw(panel, name, log[log["target"] == name])
        _marks(panel, story.of(name))
        panels.append(panel)
    return drawing(panels, width=WIDTH, height=rows * PANEL_HEIGHT, label=what)


def _marks(panel: Panel, chapters: Sequence[Chapter]) -> None:
    """A line where a candidate was promoted (green) or rolled back (red)."""
    for chapter in chapters:
        decision = chapter.decision
        if decision.state is State.ROLLED_BACK and decision.ended_at is not None:
            panel.mark(decision.ended_at.timestamp(), RED)
        elif decision.deployed_at is not None:
            panel.mark(decision.deployed_at.timestamp(), GREEN)


def _middle(values: "pd.Series[float]", width_s: int) -> list[tuple[float, float]]:
    """Values at the middle of their windows."""
    return [
        (float(at) + width_s / 2, float(value))
        for at, value in zip(values.index, values, strict=True)
    ]


def _span(moments: Sequence[datetime]) -> tuple[float, float]:
    """From half an hour before the first to half an hour after the last."""
    seconds = [moment.timestamp() for moment in moments]
    return min(seconds) - HOUR_S / 2, max(seconds) + HOUR_S / 2


def _number(value: float | None) -> float:
    return math.nan if value is None else value
