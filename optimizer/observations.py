"""Observations: the columns of one LLM call and of one feedback event, and why a row is set aside.

A row that cannot be used is *quarantined* with its reason and can be replayed; good rows next to it
go through. A value that is merely absent (a latency of 0 is a sentinel for "not measured") is kept
as unknown and counted as missing: unknown is not bad.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class Kind(Enum):
    """What a source delivers."""

    CALLS = "calls"
    FEEDBACK = "feedback"


class QuarantineReason(Enum):
    """Why a row, or a whole file, was set aside."""

    BAD_LINE = "bad_line"
    LINE_TOO_LONG = "line_too_long"
    UNREADABLE_FILE = "unreadable_file"
    TRUNCATED_FILE = "truncated_file"
    BAD_HEADER = "bad_header"
    MISSING_FIELD = "missing_field"
    NOT_A_NUMBER = "not_a_number"
    OUT_OF_RANGE = "out_of_range"
    BAD_TIMESTAMP = "bad_timestamp"
    NO_TIME_ZONE = "no_time_zone"
    FUTURE_TIMESTAMP = "future_timestamp"
    ANCIENT_TIMESTAMP = "ancient_timestamp"
    UNKNOWN_TARGET = "unknown_target"
    UNKNOWN_ARM = "unknown_arm"
    BAD_VALUE = "bad_value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One canonical column: its SQL type, whether a row needs it, and its meaning."""

    name: str
    sql_type: str
    required: bool = False
    meaning: str


CALL_COLUMNS = (
    Column(
        name="request_id",
        sql_type="VARCHAR",
        meaning="unique id of the call; a hash of the row where the source has none",
    ),
    Column(
        name="ts",
        sql_type="TIMESTAMPTZ",
        required=True,
        meaning="when the request began, with a time zone (ISO 8601, or Unix seconds or ms)",
    ),
    Column(name="target", sql_type="VARCHAR", required=True, meaning="the call site"),
    Column(name="arm", sql_type="VARCHAR", required=True, meaning="the arm it was assigned"),
    Column(
        name="slice",
        sql_type="VARCHAR",
        meaning="baseline, control or canary, as the allocation assigned it; absent = baseline",
    ),
    Column(
        name="session_id",
        sql_type="VARCHAR",
        meaning="unit of randomisation; absent = the request itself",
    ),
    Column(
        name="status",
        sql_type="VARCHAR",
        meaning="ok (also success, 200), timeout, or anything else = failed; absent = ok",
    ),
    Column(
        name="latency_ms", sql_type="DOUBLE", meaning="milliseconds; absent, NaN or 0 = unknown"
    ),
    Column(name="input_tokens", sql_type="BIGINT", meaning="tokens in, cached ones included"),
    Column(name="output_tokens", sql_type="BIGINT", meaning="tokens out"),
    Column(name="cached_tokens", sql_type="BIGINT", meaning="tokens in that a cache served"),
    Column(
        name="cost_usd",
        sql_type="DOUBLE",
        meaning="USD; absent = unknown unless the arm has a price and the tokens are known",
    ),
    Column(name="quality", sql_type="DOUBLE", meaning="score in [0, 1] where known with the call"),
    Column(
        name="served_model",
        sql_type="VARCHAR",
        meaning="the model that answered; differs from the arm's model = fallback",
    ),
    Column(name="propensity", sql_type="DOUBLE", meaning="probability of this arm, in (0, 1]"),
)
"""Canonical columns of a call. Sources map their own names to these."""

FEEDBACK_COLUMNS = (
    Column(name="request_id", sql_type="VARCHAR", required=True, meaning="the judged call"),
    Column(name="ts", sql_type="TIMESTAMPTZ", required=True, meaning="when the score was given"),
    Column(
        name="score",
        sql_type="DOUBLE",
        required=True,
        meaning="quality on the source's scale, turned into [0, 1] at intake",
    ),
    Column(name="scorer", sql_type="VARCHAR", meaning="who judged; absent = the source's name"),
)
"""Canonical columns of a feedback event; the newest score of a request counts."""


EXPLORED = (
    "hour_start_s",
    "arm",
    "propensity",
    "cluster",
    "n",
    "quality_e6",
    "quality_sq_e9",
)
"""Columns of what was logged of one target: scored calls of one hour (its start, Unix seconds),
arm, chance of that arm (nan = unknown) and hash bucket of sessions; how many, and sums of their
scores in millionths and of the squares in billionths."""


class ScoreScale(Enum):
    """How a source writes quality; turned into [0, 1] at the border."""

    UNIT = "unit"
    """already in [0, 1]"""
    STARS = "stars"
    """1 to 5 stars: (r - 1) / 4"""
    PERCENT = "percent"
    """0 to 100: r / 100"""
    LIKES = "likes"
    """a word or bit for liked or not: 1 or 0 (:data:`LIKES`)"""
    SIGNALS = "signals"
    """what the user did with the answer, by a table of scores (:data:`SIGNALS` unless set)"""


LIKES: Mapping[str, float] = MappingProxyType(
    dict.fromkeys(("like", "liked", "up", "thumbs_up", "positive", "true", "yes", "1", "1.0"), 1.0)
    | dict.fromkeys(
        ("dislike", "disliked", "down", "thumbs_down", "negative", "false", "no", "0", "0.0"), 0.0
    )
)
"""Words for liked and not liked, lower case."""

SIGNALS: Mapping[str, float] = MappingProxyType(
    {"regenerated": 0.0, "edited": 0.5, "saved": 1.0, "shared": 1.0, "task_completed": 1.0}
)
"""Scores of what users do, lower case: an answer asked for again was of no use, an edited one half.

A convention, not a measurement: arms are compared by it alike, so that its zero and one matter less
than that it stays the same. Of several signals of one request the newest counts.
"""


def columns_of(kind: Kind) -> tuple[Column, ...]:
    """The canonical columns of what a source delivers."""
    return CALL_COLUMNS if kind is Kind.CALLS else FEEDBACK_COLUMNS
