"""Columns of a frame, ready for the engine: what is no number and no time becomes text."""

import json
from datetime import datetime
from typing import Any

import pandas as pd


def ready(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The named columns, numbers and times as they are, anything else as text or None."""
    columns = {f"c{position}": _column(frame[name]) for position, name in enumerate(names)}
    return pd.DataFrame({"ordinal": range(len(frame)), **columns}, index=range(len(frame)))


def _column(series: "pd.Series[Any]") -> "pd.Series[Any]":
    column = series.reset_index(drop=True)
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return pd.Series(column.dt.tz_convert("UTC"))
    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_numeric_dtype(column):
        return column
    return pd.Series([_text(value) for value in column], dtype="object")


def _text(value: Any) -> str | None:  # noqa: ANN401 - a cell holds anything
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, sort_keys=True, default=str)
    if value is None or pd.isna(value):
        return None
    return value.isoformat() if isinstance(value, datetime) else str(value)
