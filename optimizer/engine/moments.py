"""A timestamp's text as a moment, in SQL: ISO 8601 with a zone, or Unix seconds or milliseconds."""

import zoneinfo
from typing import Final

from optimizer.engine.duck import literal
from optimizer.errors import ConfigError

_NUMBER: Final = "TRY_CAST(ts AS DOUBLE)"
_DATED: Final = r"regexp_matches(ts, '^\d{4}-\d{2}-\d{2}')"
ZONED: Final = (
    r"regexp_matches(upper(ts), '^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}.*"
    r"(Z|UTC|[+-]\d{2}(:?\d{2})?)$')"
)
"""Whether the text names its zone."""

MILLISECONDS_FROM: Final = 1e11
"""Unix times at least this large are milliseconds: as seconds they would lie beyond year 5000."""

_LARGEST: Final = 1e14


def moment(timezone: str | None) -> str:
    """SQL that turns the column ``ts`` into a TIMESTAMPTZ; NULL where it cannot be read.

    Args:
        timezone: IANA name for texts without a zone; None = they stay NULL.

    Raises:
        ConfigError: there is no such zone.
    """
    if timezone is None:
        local = "NULL"
    else:
        try:
            zoneinfo.ZoneInfo(timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError) as reason:
            raise ConfigError(f"timezone {timezone!r} is no IANA time zone") from reason
        local = f"timezone({literal(timezone)}, TRY_CAST(ts AS TIMESTAMP))"
    scale = f"CASE WHEN abs({_NUMBER}) < {MILLISECONDS_FROM:.0f} THEN 1e6 ELSE 1e3 END"
    return (
        f"CASE WHEN {_NUMBER} IS NOT NULL THEN CASE WHEN abs({_NUMBER}) < {_LARGEST:.0f} "
        f"THEN make_timestamptz(round({_NUMBER} * {scale})::BIGINT) END "
        f"WHEN {ZONED} THEN TRY_CAST(upper(ts) AS TIMESTAMPTZ) "
        f"WHEN {_DATED} THEN {local} END"
    )


def lacks_zone() -> str:
    """SQL that says whether ``ts`` is a good timestamp but for its zone."""
    return (
        f"{_NUMBER} IS NULL AND {_DATED} AND NOT {ZONED} AND TRY_CAST(ts AS TIMESTAMP) IS NOT NULL"
    )
