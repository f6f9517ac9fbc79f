"""Moments on the command line: ISO 8601 without a zone, taken as UTC."""

from datetime import UTC, datetime
from typing import Final

import click

MOMENT: Final = click.DateTime(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d"])
"""An option's type; what it gives is naive until :func:`in_utc`."""


def in_utc(moment: datetime | None) -> datetime | None:
    """The moment that was typed, aware; None stays None."""
    return None if moment is None else moment.replace(tzinfo=UTC)
