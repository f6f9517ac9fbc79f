"""Small line charts over time as SVG text: a few kilobytes each, drawn in a millisecond."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from itertools import pairwise

from optimizer.metrics import DAY_S, HOUR_S

BLUE, GREEN, RED, GREY = "#2457a6", "#1c7c4a", "#b3261e", "#8a8f98"
STEPS_S = (900, 1_800, HOUR_S, 2 * HOUR_S, 3 * HOUR_S, 6 * HOUR_S, 12 * HOUR_S, DAY_S)
MOST_TICKS = 6
LEFT, RIGHT, TOP, BOTTOM = 38, 18, 22, 20
"""Room around a panel, pixels."""


@dataclass(slots=True, kw_only=True)
class Panel:
    """A chart in a rectangle of the drawing; x in Unix seconds, values clipped to [low, high]."""

    title: str
    x: float
    y: float
    width: float
    height: float
    start_s: float
    end_s: float
    low: float
    high: float
    parts: list[str] = field(default_factory=list)

    def line(
        self, points: Iterable[tuple[float, float]], colour: str, *, dashed: bool = False
    ) -> None:
        """Values joined by a line; nan breaks it."""
        for run in _runs(points):
            self._path(run, f'fill="none" stroke="{colour}" stroke-width="1.6"{_dash(dashed)}')

    def steps(self, points: Sequence[tuple[float, float]], colour: str) -> None:
        """Values that hold until the next one, with the area below."""
        corners = [points[0]]
        for (_, before), (at, value) in pairwise(points):
            corners += [(at, before), (at, value)]
        self._path(corners, f'fill="none" stroke="{colour}" stroke-width="1.6"')
        closed = [(corners[0][0], self.low), *corners, (corners[-1][0], self.low)]
        self._path(closed, f'fill="{colour}" fill-opacity=".12" stroke="none"')

    def band(self, rows: Iterable[tuple[float, float, float]], colour: str) -> None:
        """The area between (x, low, high)."""
        known = [row for row in rows if not math.isnan(row[1]) and not math.isnan(row[2])]
        edge = [(at, high) for at, _, high in known] + [(at, low) for at, low, _ in reversed(known)]
        if edge:
            self._path(edge, f'fill="{colour}" fill-opacity=".15" stroke="none"')

    def interval(self, at_s: float, value: float, low: float, high: float, colour: str) -> None:
        """A value with its limits; of two, an unknown one reaches the edge."""
        x = self._x(at_s)
        if not (math.isnan(low) and math.isnan(high)):
            bottom = self._y(self.low if math.isnan(low) else low)
            top = self._y(self.high if math.isnan(high) else high)
            self.parts.append(
                f'<line x1="{x:.1f}" y1="{bottom:.1f}" x2="{x:.1f}" y2="{top:.1f}" '
                f'stroke="{colour}" stroke-width="2.5" stroke-opacity=".4"/>'
            )
        self.parts.append(f'<circle cx="{x:.1f}" cy="{self._y(value):.1f}" r="2" fill="{colour}"/>')

    def level(
        self,
        value: float,
        colour: str,
        label: str = "",
        *,
        dashed: bool = True,
        below: bool = False,
    ) -> None:
        """A horizontal line, named at its right end, above it or below."""
        if math.isnan(value) or not self.low <= value <= self.high:
            return
        y = self._y(value)
        self.parts.append(
            f'<line x1="{self._left:.1f}" y1="{y:.1f}" x2="{self._right:.1f}" y2="{y:.1f}" '
            f'stroke="{colour}"{_dash(dashed)}/>'
        )
        self.text(self._right, y + 11 if below else y - 3, label, colour, anchor="end")

    def mark(self, at_s: float, colour: str) -> None:
        """A vertical line."""
        x = self._x(at_s)
        self.parts.append(
            f'<line x1="{x:.1f}" y1="{self._top:.1f}" x2="{x:.1f}" y2="{self._bottom:.1f}" '
            f'stroke="{colour}" stroke-opacity=".8"/>'
        )

    def note(self, at_s: float, value: float, words: str, colour: str) -> None:
        """Words beside a point."""
        self.text(self._x(at_s) + 3, self._y(value) - 3, words, colour)

    def text(self, x: float, y: float, words: str, colour: str, *, anchor: str = "start") -> None:
        """Words at a place of the drawing."""
        if words:
            self.parts.append(
                f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">'
                f"{escape(words)}</text>"
            )

    def svg(self) -> str:
        """Frame, ticks and everything drawn."""
        frame = (
            f'<path d="M{self._left:.1f} {self._top:.1f}V{self._bottom:.1f}H{self._right:.1f}" '
            f'fill="none" stroke="{GREY}"/>'
            f'<text x="{self._left:.1f}" y="{self.y + 12:.1f}" font-weight="600">'
            f"{escape(self.title)}</text>"
        )
        for value in value_ticks(self.low, self.high):
            self.text(self._left - 4, self._y(value) + 3, f"{value:g}", GREY, anchor="end")
        for at in time_ticks(self.start_s, self.end_s):
            moment = datetime.fromtimestamp(at, UTC)
            words = f"{moment:%d %b}" if at % DAY_S == 0 else f"{moment:%H:%M}"
            self.text(self._x(at), self._bottom + 13, words, GREY, anchor="middle")
        return frame + "".join(self.parts)

    @property
    def _left(self) -> float:
        return self.x + LEFT

    @property
    def _right(self) -> float:
        return self.x + self.width - RIGHT

    @property
    def _top(self) -> float:
        return self.y + TOP

    @property
    def _bottom(self) -> float:
        return self.y + self.height - BOTTOM

    def _x(self, at_s: float) -> float:
        share = (at_s - self.start_s) / ((self.end_s - self.start_s) or 1.0)
        return self._left + min(max(share, 0.0), 1.0) * (self._right - self._left)

    def _y(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return self._bottom - min(max(share, 0.0), 1.0) * (self._bottom - self._top)

    def _path(self, points: Sequence[tuple[float, float]], style: str) -> None:
        places = " ".join(f"{self._x(at):.1f},{self._y(value):.1f}" for at, value in points)
        self.parts.append(f'<polyline points="{places}" {style}/>')


def drawing(panels: Sequence[Panel], *, width: int, height: int, label: str) -> str:
    """The panels as one SVG element."""
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}" '
        'font-size="10.5" font-family="inherit" fill="currentColor">'
        + "".join(panel.svg() for panel in panels)
        + "</svg>"
    )


def value_ticks(low: float, high: float) -> list[float]:
    """Three to six round values inside [low, high].

    Examples:
        >>> value_ticks(0, 31)
        [0.0, 10.0, 20.0, 30.0]
        >>> value_ticks(-0.2, 0.3)
        [-0.2, 0.0, 0.2]
    """
    span = high - low
    if not span > 0:
        return [low]
    raw = span / 4
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 10) + 0.0 for number in range(first, last + 1)]


def time_ticks(start_s: float, end_s: float) -> list[int]:
    """At most six round moments inside [start_s, end_s].

    Examples:
        >>> time_ticks(0, 2 * DAY_S) == [0, 43_200, 86_400, 129_600, 172_800]
        True
    """
    span = end_s - start_s
    step = next(
        (step for step in STEPS_S if span / step < MOST_TICKS),
        DAY_S * math.ceil(span / DAY_S / MOST_TICKS),
    )
    first = math.ceil(start_s / step)
    return [number * step for number in range(first, math.floor(end_s / step) + 1)]


def _runs(points: Iterable[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for at, value in points:
        if math.isnan(value):
            runs.append([])
        else:
            runs[-1].append((at, value))
    return [run for run in runs if run]


def _dash(dashed: bool) -> str:  # noqa: FBT001 - a style, private
    return ' stroke-dasharray="4 3"' if dashed else ""
