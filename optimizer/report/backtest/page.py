"""A backtest as one self-contained HTML page: no script, no font and no picture from elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from markupsafe import Markup

from optimizer.errors import ConfigError
from optimizer.metrics import HOUR_S
from optimizer.report.backtest import text
from optimizer.report.backtest.curves import Series
from optimizer.report.backtest.records import Backtest, Made
from optimizer.report.html import templates
from optimizer.report.svg import BLUE, GREEN, GREY, RED, Panel, drawing

WIDTH: Final = 1_080
TALL: Final = 260
SMALL: Final = 165
COLUMNS: Final = 3
MOST_PANELS: Final = 30
"""Targets that get a panel of their own: those that spent most."""

TONES: Final = {"promoted": "good", "in flight": "soft", "unknown": "soft", "not proven": "soft"}


def check_place(html: Path | None) -> None:
    """Refuse a place for the page before the hours that it takes to fill it; None is no page.

    Raises:
        ConfigError: it is no page's name, or there is no such directory.
    """
    if html is None:
        return
    if html.suffix != ".html":
        raise ConfigError(f"{html} does not end in .html: no page is written over another file")
    if not html.absolute().parent.is_dir():
        raise ConfigError(f"{html}: there is no directory {html.absolute().parent}")


def write(found: Backtest, html: Path) -> None:
    """Write the page, in place of an older one."""
    html.write_text(render(found, title="Backtest"), encoding="utf-8")


def render(found: Backtest, *, title: str) -> str:
    """The page as HTML text."""
    environment = templates()
    environment.filters.update(money=text.money, percent=text.percent)
    return environment.get_template("backtest.html.j2").render(
        title=title,
        found=found,
        text=text,
        tones=TONES,
        curve=Markup(_whole(found)),  # noqa: S704 - our own SVG
        curves=Markup(_by_target(found)),  # noqa: S704 - our own SVG
        rows_read=text.read_rows(found),
        headline=text.headline(found),
    )


def _whole(found: Backtest) -> str:
    panel = _panel("spent so far, USD", found.curves[""], 0.0, 0.0, WIDTH, TALL)
    _marks(panel, found.decisions)
    return drawing([panel], width=WIDTH, height=TALL, label="spent so far")


def _by_target(found: Backtest) -> str:
    """Small multiples; none where there is one target, whose curve is that of all."""
    largest = sorted(found.targets, key=lambda each: (-each.spent.usd, each.target))
    names = sorted(each.target for each in largest[:MOST_PANELS])
    if len(names) < 2:  # noqa: PLR2004 - the plot above shows it
        return ""
    width, rows = WIDTH / COLUMNS, -(-len(names) // COLUMNS)
    panels = []
    for number, name in enumerate(names):
        x, y = number % COLUMNS * width, number // COLUMNS * SMALL
        panel = _panel(f"{name}: USD", found.curves[name], x, y, width, SMALL)
        _marks(panel, [each for each in found.decisions if each.target == name])
        panels.append(panel)
    return drawing(panels, width=WIDTH, height=rows * SMALL, label="spent so far by target")


def _panel(  # noqa: PLR0917 - a rectangle
    title: str, series: Series, x: float, y: float, width: float, height: float
) -> Panel:
    ends = [float(start) + HOUR_S for start in series.hour_s]
    start = float(series.hour_s[0])
    highest = max(float(series.spent[-1]), float(series.decided[-1]), 1e-12)
    lowest = min(0.0, float(series.best.min()), float(series.decided.min()))
    panel = Panel(
        title=title,
        x=x,
        y=y,
        width=width,
        height=height,
        start_s=start,
        end_s=ends[-1],
        low=lowest,
        high=1.1 * highest,
    )
    panel.band(_band(series), BLUE)
    curves = ((series.spent, GREY, True), (series.best, GREEN, True), (series.decided, BLUE, False))
    for values, colour, dashed in curves:
        points = [(start, 0.0), *zip(ends, map(float, values), strict=True)]
        panel.line(points, colour, dashed=dashed)
    return panel


def _band(series: Series) -> list[tuple[float, float, float]]:
    """The interval at the end of each hour; none where nothing is estimated."""
    ends = series.hour_s + HOUR_S
    low, high = series.decided - series.half_width, series.decided + series.half_width
    rows = zip(ends.tolist(), low.tolist(), high.tolist(), strict=True)
    return list(rows) if series.half_width.any() else []


def _marks(panel: Panel, decisions: Sequence[Made]) -> None:
    """A line where a candidate was promoted (green), or taken back because of harm (red)."""
    for each in decisions:
        if each.promoted_at is not None:
            panel.mark(each.promoted_at.timestamp(), GREEN)
        if each.outcome.startswith("rolled back") and each.ended_at is not None:
            panel.mark(each.ended_at.timestamp(), RED)
