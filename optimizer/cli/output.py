"""Answers: tables for people, JSON for programs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import click

Json = Any
_MANY_DIGITS = 1000
_WIDE = 200
"""Columns of a table that no terminal bounds: a pipe, a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where answers go and how they are written."""

    as_json: bool

    def record(self, value: Json, text: str) -> None:
        """One answer: ``value`` for programs, ``text`` for people."""
        click.echo(_dumped(value) if self.as_json else clean(text))

    def table(self, title: str, rows: Sequence[Mapping[str, Json]], empty: str = "none") -> None:
        """Many answers of one shape; columns are the first row's keys."""
        if self.as_json:
            click.echo(_dumped(rows))
            return
        if not rows:
            click.echo(f"{title}: {empty}")
            return
        self._draw(title, rows)

    def _draw(self, title: str, rows: Sequence[Mapping[str, Json]]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=title, title_justify="left", title_style="bold", box=None, pad_edge=False
        )
        for name in rows[0]:
            table.add_column(name.replace("_", " "), overflow="fold")
        for row in rows:
            table.add_row(*(Text(clean(cell(value))) for value in row.values()))
        console = Console(highlight=False, markup=False)
        if not console.is_terminal:
            console.width = _WIDE
        console.print(table)


def _dumped(value: Json) -> str:
    return json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)


def plain(value: Json) -> Json:
    """The value as JSON can hold it; what is not a number is null.

    Examples:
        >>> plain({"at": timedelta(minutes=5), "x": float("nan"), "p": (Path("a"),)})
        {'at': 300.0, 'x': None, 'p': ['a']}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return _plain_scalar(value)


def _plain_scalar(value: Json) -> Json:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def cell(value: Json) -> str:
    """The value as a table shows it; a dash for what is not known.

    Examples:
        >>> [cell(value) for value in (None, 0.123456, True, ["a", "b"])]
        ['–', '0.1235', 'yes', 'a, b']
    """
    if value is None or value == "" or isinstance(value, bool):
        return {True: "yes", False: "no"}.get(value, "–")
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < _MANY_DIGITS else f"{value:.0f}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list | tuple):
        return ", ".join(cell(item) for item in value)
    if isinstance(value, Mapping):
        return json.dumps(plain(value), ensure_ascii=False)
    return str(plain(value))


def clean(text: str) -> str:
    r"""The text without characters that could steer a terminal; line ends and tabs stay.

    Examples:
        >>> clean("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    return "".join(
        char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text
    )
