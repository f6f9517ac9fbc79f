"""How a database writes the time that a source is paged by, and back.

Databases keep times as timestamps with or without a zone, as ISO 8601 text (SQLite), or as numbers
since 1970 in seconds, ms, µs or ns. Comparing happens in the database, on its own values.
"""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import Enum

from optimizer.errors import ConfigError, DataError
from optimizer.ports.sources import Json

_TEXT = re.compile(
    r"\d{4}-\d\d-\d\d(?P<separator>[T ])\d\d:\d\d:\d\d(?P<fraction>\.\d+)?"
    r"(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?"
)
# What a number between 2001 and 2100 looks like in each unit.
_FIRST_S, _LAST_S = 978_307_200, 4_102_444_800
_PER_SECOND = (1, 1_000, 1_000_000, 1_000_000_000)


class Form(Enum):
    """The database's type."""

    AWARE = "aware"
    NAIVE = "naive"
    TEXT = "text"
    NUMBER = "number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """The form of a column's times: separator and zone of a text, units per second of a number."""

    form: Form
    timezone: tzinfo = UTC
    separator: str = "T"
    zone: str = ""
    per_second: int = 1

    def value(self, at: datetime) -> object:
        """The database's own value of an aware moment; texts are cut to whole seconds."""
        if self.form is Form.NUMBER:
            return int(at.timestamp() * self.per_second)
        if self.form is Form.AWARE:
            return at
        local = at.astimezone(self.timezone).replace(tzinfo=None)
        if self.form is Form.NAIVE:
            return local
        return local.isoformat(sep=self.separator, timespec="seconds") + self.zone

    def understands(self, value: object) -> bool:
        """Whether it is a time of this form; a text column may hold anything."""
        return self.form is not Form.TEXT or _parsed(str(value)) is not None

    def end(self, until: datetime) -> object:
        """The value that nothing up to ``until`` lies behind; of texts a little more."""
        return self.value(until + timedelta(seconds=1) if self.form is Form.TEXT else until)

    def before(self, value: object, overlap: timedelta) -> object:
        """The value that lies ``overlap`` earlier; of texts a little more."""
        if isinstance(value, datetime):
            return value - overlap
        if isinstance(value, int | float | Decimal):
            return int(value) - int(overlap.total_seconds() * self.per_second)
        # "05:00:00.5Z" sorts before "05:00:00Z": one second more lets no text slip through.
        at = _parsed(str(value))
        if at is None:
            raise DataError(f"{value!r} is no ISO 8601 text")
        at = at if at.tzinfo else at.replace(tzinfo=self.timezone)
        return self.value(at - overlap - timedelta(seconds=1))

    def as_json(self, value: object) -> Json:
        """The value as a cursor keeps it."""
        if isinstance(value, datetime):
            return value.isoformat()
        return float(value) if isinstance(value, Decimal) else value

    def from_json(self, kept: Json) -> object:
        """The value that a cursor kept.

        Raises:
            DataError: the cursor was kept of a column of another form.
        """
        if self.form is Form.TEXT and self.understands(kept):
            return kept
        if isinstance(kept, int | float) and self.form is Form.NUMBER:
            return kept
        if isinstance(kept, str) and self.form in {Form.AWARE, Form.NAIVE}:
            with contextlib.suppress(ValueError):
                at = datetime.fromisoformat(kept)
                if (at.tzinfo is None) is (self.form is Form.NAIVE):
                    return at
        raise DataError(f"the cursor's time {kept!r} is not of the column's form {self.form.value}")


def moments_of(samples: Sequence[object], timezone: tzinfo) -> Moments:
    """The form of a column, told from some of its values: the first that is a moment.

    Raises:
        ConfigError: none of them is.

    Examples:
        >>> from datetime import UTC, datetime, timedelta
        >>> form = moments_of(["n/a", "2026-01-02 03:04:05.678"], UTC)
        >>> form.value(datetime(2026, 5, 6, 7, 8, tzinfo=UTC))
        '2026-05-06 07:08:00'
        >>> moments_of([1767323045678], UTC).before(1767323045678, timedelta(seconds=5))
        1767323040678
    """
    for sample in samples:
        if found := _form(sample, timezone):
            return found
    raise ConfigError(
        f"the cursor column holds {samples[0]!r}, which is no timestamp, ISO 8601 text or Unix time"
    )


def _form(sample: object, timezone: tzinfo) -> Moments | None:
    if isinstance(sample, datetime):
        aware = sample.tzinfo is not None
        return Moments(form=Form.AWARE if aware else Form.NAIVE, timezone=timezone)
    if isinstance(sample, str) and (text := _TEXT.fullmatch(sample)):
        zone = text["zone"] or ""
        at = _parsed(sample)
        if at is not None:
            return Moments(
                form=Form.TEXT,
                timezone=at.tzinfo or timezone,
                separator=text["separator"],
                zone=zone,
            )
    if isinstance(sample, int | float | Decimal):
        for per_second in _PER_SECOND:
            if _FIRST_S <= sample / per_second < _LAST_S:
                return Moments(form=Form.NUMBER, per_second=per_second)
    return None


def _parsed(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
