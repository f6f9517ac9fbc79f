"""Plots as SVG text: guardrails over looks, stages over time, money and quality over time."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from optimizer.decision import State
from optimizer.metrics import HOUR_S
from optimizer.report.story import Chapter, Story

BLUE, GREEN, RED, GREY, AMBER = "#2457a6", "#1c7c4a", "#b3261e", "#8a8f98", "#b26a00"
Moments = npt.NDArray[np.datetime64]
Draw = Callable[[Axes, str, pd.DataFrame], None]
"""Draws the panel of one target."""

STYLE: Mapping[str, object] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "svg.fonttype": "none",
    "svg.hashsalt": "llmopt",
    "date.converter": "concise",
}
LABELS = {
    "quality": "quality lost",
    "failure_rate": "more failed requests",
    "latency_exceedance": "more slow requests",
    "cost_usd": "cost change",
    "fallback_rate": "more fallbacks",
    "latency_ms": "latency added",
}


def as_svg(figure: Figure) -> str:
    """The figure as SVG text without prolog, for inlining."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def guardrails(chapter: Chapter) -> str:
    """Harm of each check at every look, with the limits that rolling back and promoting read."""
    checks = [check for look in chapter.looks for check in look.verdict.checks]
    metrics = list(dict.fromkeys(check.metric for check in checks if check.role != "health"))
    if not metrics:
        return ""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(2.7 * len(metrics), 2.2))
        axes = figure.subplots(1, len(metrics), squeeze=False)[0]
        figure.subplots_adjust(left=0.045, right=0.99, top=0.86, bottom=0.16, wspace=0.22)
        for axis, metric in zip(axes, metrics, strict=True):
            _guardrail(axis, chapter, metric)
        return as_svg(figure)


def _guardrail(axis: Axes, chapter: Chapter, metric: str) -> None:
    points = [
        (look.at, check)
        for look in chapter.looks
        for check in look.verdict.checks
        if check.metric == metric and check.harm is not None
    ]
    relative = any(check.relative for _, check in points)
    goal = any(check.role == "goal" for _, check in points)
    scale = 100.0
    axis.set_title(LABELS.get(metric, metric) + (", %" if relative else ", points of 100"))
    axis.axhline(0, color=GREY, linewidth=0.8)
    if not points:
        axis.text(0.5, 0.5, "never measured", transform=axis.transAxes, ha="center", color=GREY)
        return
    at = _at(moment for moment, _ in points)
    harm = np.array([check.harm for _, check in points], dtype=np.float64) * scale
    low = np.array([_number(check.harm_lower) for _, check in points]) * scale
    high = np.array([_number(check.harm_upper) for _, check in points]) * scale
    axis.vlines(at, low, high, color=BLUE, alpha=0.45, linewidth=2.5)
    axis.plot(at, harm, "o", color=BLUE, markersize=3.2)
    margin = _number(points[-1][1].margin) * scale
    tolerance = _number(points[-1][1].tolerance) * scale
    if not np.isnan(margin) and not goal:
        axis.axhline(margin, color=RED, linewidth=1.1, linestyle="--")
        axis.annotate(
            "margin",
            (1, margin),
            xycoords=("axes fraction", "data"),
            color=RED,
            ha="right",
            va="bottom",
            fontsize=8,
        )
    last = (harm[-1], low[-1], high[-1], 0.0, margin, tolerance)
    known = [value for value in last if np.isfinite(value)]
    reach = max(map(abs, known), default=1.0) * 1.6
    axis.set_ylim(max(np.nanmin([*low, 0.0]), -reach) - 0.05 * reach, reach)
    _dates(axis)


def timeline(chapter: Chapter) -> str:
    """The candidate's share of traffic over time."""
    steps = _shares(chapter)
    if not steps:
        return ""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(10.8, 1.5))
        axis = figure.subplots()
        figure.subplots_adjust(left=0.045, right=0.97, top=0.8, bottom=0.24)
        end = max([steps[-1][0], *[look.at for look in chapter.looks]])
        at = _at([*(moment for moment, _ in steps), end])
        share = [100 * value for _, value in [*steps, steps[-1]]]
        colour = RED if chapter.decision.state is State.ROLLED_BACK else GREEN
        axis.step(at, share, where="post", color=colour)
        axis.fill_between(at, share, step="post", color=colour, alpha=0.12)
        for moment, value in zip(at[:-1], share[:-1], strict=True):
            axis.annotate(
                f"{value:.3g} %",
                (moment, value),
                xytext=(3, 3),
                textcoords="offset points",
                fontsize=8,
                color=colour,
            )
        axis.set_ylim(0, 118)
        axis.set_title("share of traffic on the candidate, %")
        _dates(axis)
        return as_svg(figure)


def _shares(chapter: Chapter) -> list[tuple[datetime, float]]:
    """When the candidate's share changed, and to what, as the log proves."""
    shares = []
    for event in chapter.events:
        wanted = event.evidence.get("wanted")
        if not isinstance(wanted, Mapping):
            continue
        parts: Sequence[Mapping[str, object]] = wanted["slices"]
        share = sum(
            float(str(part["high"])) - float(str(part["low"]))
            for part in parts
            if part["arm"] == chapter.decision.candidate
        )
        shares.append((event.at, share))
    return shares


def spend(log: pd.DataFrame, first: Mapping[str, str], story: Story) -> str:
    """Money an hour of every target, and what the arm of the start would have cost."""

    def draw(axis: Axes, name: str, rows: pd.DataFrame) -> None:
        hour = _hours(rows)
        base = rows["cost_usd"][rows["arm"] == first[name]].mean()
        money = rows["cost_usd"].groupby(hour).sum()
        axis.plot(_when(money.index), base * rows.groupby(hour).size(), color=GREY, linestyle="--")
        axis.plot(_when(money.index), money, color=BLUE)
        axis.set_title(f"{name}: USD an hour")
        axis.set_ylim(bottom=0)
        _marks(axis, story.of(name))

    return _small_multiples(log, list(first), draw)


def quality(log: pd.DataFrame, first: Mapping[str, str], story: Story) -> str:
    """Mean score of every target over time with its 95 % interval, two hours a point."""

    def draw(axis: Axes, name: str, rows: pd.DataFrame) -> None:
        scored = rows[rows["score"].notna()]
        pair = (scored["ts_s"] // (2 * HOUR_S)).astype(np.int64) * 2 * HOUR_S
        table = scored["score"].groupby(pair).agg(["mean", "sem"])
        low, high = table["mean"] - 1.96 * table["sem"], table["mean"] + 1.96 * table["sem"]
        axis.fill_between(_when(table.index), low, high, color=BLUE, alpha=0.15, linewidth=0)
        axis.plot(_when(table.index), table["mean"], color=BLUE)
        base = scored["score"][scored["arm"] == first[name]].mean()
        axis.axhline(base, color=GREY, linestyle="--", linewidth=1)
        rail = next(
            (rail for rail in story.policies[name].guardrails if rail.metric == "quality"), None
        )
        if rail is not None:
            axis.axhline(base - rail.margin, color=RED, linestyle="--", linewidth=1)
        axis.set_title(f"{name}: mean score")
        axis.set_ylim(base - 0.12, base + 0.12)
        _marks(axis, story.of(name))

    return _small_multiples(log, list(first), draw)


def _small_multiples(log: pd.DataFrame, names: Sequence[str], draw: Draw) -> str:
    rows = -(-len(names) // 3)
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(10.8, 2.1 * rows))
        axes = figure.subplots(rows, 3, squeeze=False).ravel()
        figure.subplots_adjust(
            left=0.045, right=0.99, top=0.93, bottom=0.09, wspace=0.18, hspace=0.42
        )
        for axis, name in zip(axes, names, strict=False):
            draw(axis, name, log[log["target"] == name])
            _dates(axis)
        for axis in axes[len(names) :]:
            axis.set_visible(False)
        return as_svg(figure)


def _marks(axis: Axes, chapters: Sequence[Chapter]) -> None:
    """A line where a candidate was promoted (green) or rolled back (red)."""
    for chapter in chapters:
        decision = chapter.decision
        if decision.state is State.ROLLED_BACK and decision.ended_at is not None:
            axis.axvline(_at([decision.ended_at])[0], color=RED, linewidth=0.9, alpha=0.7)
        elif decision.deployed_at is not None:
            axis.axvline(_at([decision.deployed_at])[0], color=GREEN, linewidth=0.9, alpha=0.8)


def _hours(rows: pd.DataFrame) -> pd.Series:
    return (rows["ts_s"] // HOUR_S).astype(np.int64) * HOUR_S


def _when(seconds: pd.Index) -> Moments:
    return np.asarray(seconds, dtype="datetime64[s]")


def _at(moments: Iterable[datetime]) -> Moments:
    """For the axis, which takes moments without a zone as UTC."""
    return np.array([moment.replace(tzinfo=None) for moment in moments], dtype="datetime64[s]")


def _dates(axis: Axes) -> None:
    locator = AutoDateLocator(minticks=2, maxticks=6)  # type: ignore[no-untyped-call]
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axis.yaxis.set_major_locator(MaxNLocator(4))
    axis.tick_params(labelsize=8)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
