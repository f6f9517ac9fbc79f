"""Charts stay inside their panel, whatever they are given."""

import math
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.report.svg import BLUE, Panel, drawing, time_ticks, value_ticks

FINITE = st.floats(-1e6, 1e6)


def panel(*, low: float = 0.0, high: float = 1.0) -> Panel:
    return Panel(
        title="a < b", x=0, y=0, width=300, height=150, start_s=0, end_s=3600, low=low, high=high
    )


@given(st.lists(st.tuples(st.floats(0, 3600), st.floats(-1e9, 1e9) | st.just(math.nan))))
def test_every_point_lies_inside(points: list[tuple[float, float]]) -> None:
    made = panel()
    made.line(points, BLUE)

    svg = ET.fromstring(drawing([made], width=300, height=150, label="x"))  # noqa: S314 - our own

    for line in svg.iter("polyline"):
        for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", line.attrib["points"]):
            assert 0 <= float(x) <= 300
            assert 0 <= float(y) <= 150


@given(FINITE, st.floats(1e-6, 1e6))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    ticks = value_ticks(low, low + span)

    assert 1 <= len(ticks) <= 6
    assert all(low - 1e-6 * span <= tick <= low + 1.000001 * span + 1e-9 for tick in ticks)


@pytest.mark.parametrize("hours", [1, 3, 10, 48, 72, 24 * 30])
def test_moments_are_few(hours: int) -> None:
    assert 1 <= len(time_ticks(1_000, 1_000 + hours * 3600)) <= 7


def test_text_is_escaped_and_a_flat_range_is_drawn() -> None:
    made = panel(low=1.0, high=1.0)
    made.interval(10, 1.0, math.nan, 2.0, BLUE)
    made.steps([(0, 1.0), (10, 2.0)], BLUE)

    svg = drawing([made], width=300, height=150, label="x & y")

    assert "a &lt; b" in svg
    assert ET.fromstring(svg).attrib["aria-label"] == "x & y"  # noqa: S314 - our own
