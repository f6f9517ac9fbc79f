"""Sections about the outside: sources, gateways, notifiers, and what counts as late."""

import difflib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, AwareDatetime, Field, SecretStr, model_validator

from optimizer.observations import SIGNALS, Kind, ScoreScale, columns_of
from optimizer.settings.call_sites import PriceSettings
from optimizer.settings.policies import OpaPointSettings
from optimizer.settings.values import Duration, Section, Share


def _zone(name: str | None) -> str | None:
    try:
        if name is not None:
            ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        msg = f"there is no time zone {name!r}; write an IANA name such as Europe/Berlin"
        raise ValueError(msg) from None
    return name


class MappedSource(Section):
    """How a source's own columns become ours."""

    name: str = Field(min_length=1, max_length=100, description="Unique name of the source.")
    delivers: Kind = Field(
        default=Kind.CALLS, description="`calls` (one row per LLM call) or `feedback` (scores)."
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="Our column -> the source's column (JSON: dotted path)."
    )
    constants: dict[str, str] = Field(
        default_factory=dict, description="Our column -> a fixed value, where the source has none."
    )
    timezone: Annotated[str | None, AfterValidator(_zone)] = Field(
        default=None, description="IANA zone of timestamps written without one; none: refused."
    )
    scale: ScoreScale = Field(
        default=ScoreScale.UNIT,
        description="How quality is written: `unit` (0 to 1), `stars` (1 to 5), `percent`, `likes` "
        "(like or dislike, true or false, 1 or 0) or `signals` (what users did, see there).",
    )
    signals: dict[str, Share] = Field(
        default_factory=lambda: dict(SIGNALS),
        min_length=1,
        description="Word -> score, 0 to 1, for the scale `signals`; replaces the whole table.",
    )

    @model_validator(mode="after")
    def _known_columns(self) -> "MappedSource":
        known = [column.name for column in columns_of(self.delivers)]
        for name in (*self.columns, *self.constants):
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"ours are {', '.join(known)}"
                msg = f"{name!r} is no column of {self.delivers.value}; {hint}"
                raise ValueError(msg)
        both = sorted(set(self.columns) & set(self.constants))
        if both:
            msg = f"{', '.join(both)} stands in columns and in constants"
            raise ValueError(msg)
        return self


class FileSourceSettings(MappedSource):
    """Files that applications or gateways write."""

    kind: Literal["file"] = Field(description="A source of files.")
    paths: list[str] = Field(min_length=1, description="Globs, relative to `root`.")
    root: Path = Field(default=Path(), description="No file outside this directory is ever read.")
    format: Literal["auto", "csv", "jsonl", "parquet"] = Field(
        default="auto", description="`auto`: by suffix; .gz is understood."
    )
    max_line_bytes: int = Field(
        default=1_048_576, ge=1024, description="Longer lines are set aside, bytes."
    )


class SqlSourceSettings(MappedSource):
    """A table or query of any database SQLAlchemy knows."""

    kind: Literal["sql"] = Field(description="A source of rows.")
    url: SecretStr = Field(description="SQLAlchemy URL.")
    table: str | None = Field(
        default=None, description="Table or view, schema.table allowed; this or `query`."
    )
    query: str | None = Field(default=None, description="A SELECT instead of a table.")
    cursor_column: str = Field(
        min_length=1, description="Column that grows with time; pages follow it."
    )
    id_column: str = Field(
        min_length=1, description="Unique column; breaks ties of the cursor column."
    )
    overlap: Duration = Field(
        default=timedelta(minutes=10), description="How far each pull looks back for late rows."
    )
    page_rows: int = Field(default=50_000, ge=1, description="Rows a page.")

    @model_validator(mode="after")
    def _one_of(self) -> "SqlSourceSettings":
        if (self.table is None) == (self.query is None):
            msg = "exactly one of table and query is needed"
            raise ValueError(msg)
        return self


class FileGatewaySettings(Section):
    """Published allocation files that `optimizer.client` reads."""

    kind: Literal["file"] = Field(description="A gateway of files.")
    name: str = Field(min_length=1, max_length=100, description="Unique name of the gateway.")
    directory: Path = Field(description="Where one JSON file per target is published.")
    expires_after: Duration = Field(
        default=timedelta(hours=6),
        gt=timedelta(0),
        description="Age after which clients fall back to the baseline, if nobody renews the file.",
    )


class FileNotifierSettings(Section):
    """Messages appended to a file as JSON lines."""

    kind: Literal["file"] = Field(description="A file of messages.")
    name: str = Field(min_length=1, max_length=100, description="Unique name of the notifier.")
    path: Path = Field(description="File that grows by a line per message.")


class WebhookNotifierSettings(Section):
    """Messages posted to a URL."""

    kind: Literal["webhook"] = Field(description="A URL that is posted to.")
    name: str = Field(min_length=1, max_length=100, description="Unique name of the notifier.")
    url: SecretStr = Field(description="Where to POST; often holds a token, so it is never shown.")
    secret: SecretStr | None = Field(default=None, description="Key of the HMAC-SHA256 signature.")
    timeout_secs: float = Field(
        default=10, gt=0, le=120, description="Longest wait for an answer, seconds."
    )


class ListedPriceSettings(PriceSettings):
    """What a model costs from a moment on."""

    model: str = Field(min_length=1, description="Model, as the arms name it.")
    provider: str | None = Field(default=None, description="Provider; none: whoever serves it.")
    since: AwareDatetime | None = Field(
        default=None, description="First moment of this price, with time zone; none: ever since."
    )


class Prices(Section):
    """What models cost where an arm names no price itself; what is not known here is unknown."""

    published: bool = Field(
        default=True,
        description="Look prices up among those that providers publish (the data of the "
        "installed genai-prices, dated, without the network).",
    )
    table: list[ListedPriceSettings] = Field(
        default_factory=list, description="Your own prices by model and date; they come first."
    )


class Intake(Section):
    """What counts as late, ancient or repeated."""

    lateness: Duration = Field(
        default=timedelta(minutes=5), description="How long a window waits before it is closed."
    )
    max_age: Duration = Field(
        default=timedelta(days=400), description="Rows older than this are set aside as ancient."
    )
    dedupe_horizon: Duration = Field(
        default=timedelta(days=2), description="Span in which a repeated request id is recognised."
    )
    feedback_horizon: Duration = Field(
        default=timedelta(days=3), description="How long a request waits for its quality score."
    )


SourceSettings = Annotated[FileSourceSettings | SqlSourceSettings, Field(discriminator="kind")]
NotifierSettings = Annotated[
    FileNotifierSettings | WebhookNotifierSettings, Field(discriminator="kind")
]


class Integrations(Section):
    """What we read from, act on and tell."""

    sources: list[SourceSettings] = Field(default_factory=list, description="Where data come from.")
    gateways: list[FileGatewaySettings] = Field(
        default_factory=list, description="What splits traffic."
    )
    notifiers: list[NotifierSettings] = Field(default_factory=list, description="Who is told.")
    prices: Prices = Field(default=Prices(), description="What models cost.")
    policy_points: list[OpaPointSettings] = Field(
        default_factory=list, description="Who is asked whether a proposal may become a decision."
    )
    intake: Intake = Field(default=Intake(), description="Lateness and horizons.")

    @model_validator(mode="after")
    def _unique(self) -> "Integrations":
        for family in ("sources", "gateways", "notifiers", "policy_points"):
            names = [item.name for item in getattr(self, family)]
            double = sorted({name for name in names if names.count(name) > 1})
            if double:
                msg = f"{family} need unique names; {', '.join(double)} appears more than once"
                raise ValueError(msg)
        return self
