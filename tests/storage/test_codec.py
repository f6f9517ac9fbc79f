"""What is written to JSON is read back equal."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_samples import decisions, of
from optimizer.allocation import Allocation
from optimizer.decision import Decision, Event
from optimizer.evidence import Anchor, Insight, Past, Proposal, RampPlan, Spent, Verdict
from optimizer.ports import CursorState, Look, Snapshot, SpoolFile
from optimizer.storage.codec import decode, encode, from_row, plain, to_row, utc

KINDS = (
    Allocation,
    Anchor,
    CursorState,
    Event,
    Insight,
    Look,
    Past,
    Proposal,
    RampPlan,
    Snapshot,
    Spent,
    SpoolFile,
)


def written(value: object) -> Any:  # noqa: ANN401 - JSON
    return json.loads(json.dumps(encode(value), allow_nan=False))


@pytest.mark.parametrize("kind", [*KINDS, Verdict], ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_record_returns_equal(kind: Any, data: st.DataObject) -> None:  # noqa: ANN401
    value = data.draw(of(kind))

    assert decode(kind, written(value)) == value


@given(made=decisions())
def test_rows_return_equal(made: Decision) -> None:
    assert from_row(Decision, {**to_row(made), "another_column": 1}) == made


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1])
def test_every_float_returns_where_the_field_is_a_float(number: float) -> None:
    found = decode(float, written(number))

    assert repr(found) == repr(number)


def test_a_tuple_of_fixed_length_keeps_its_types() -> None:
    assert decode(tuple[str, float], written(("a", 1.0))) == ("a", 1.0)


def test_values_without_a_type_become_plain() -> None:
    class Colour(Enum):
        RED = "red"

    value = {
        "colour": Colour.RED,
        "at": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        "pair": (1, np.int64(2)),
        "number": np.float64(0.5),
        "set": {"b", "a"},
        3: math.nan,
    }

    assert plain(value) == {
        "colour": "red",
        "at": "2025-12-31T23:00:00+00:00",
        "pair": [1, 2],
        "number": 0.5,
        "set": ["a", "b"],
        "3": "nan",
    }


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        encode({"x": object()})
    with pytest.raises(TypeError, match="dict"):
        to_row({})


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        utc(datetime(2026, 1, 1))  # noqa: DTZ001 - the point
    assert utc(datetime(2026, 1, 1, tzinfo=UTC)).tzinfo is UTC
