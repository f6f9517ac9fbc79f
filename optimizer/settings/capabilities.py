"""Sections about what a target asks of a model, and what a model is known to do."""

from datetime import date
from typing import Annotated

from pydantic import Field

from optimizer.settings.values import Section

Region = Annotated[str, Field(min_length=1, max_length=100)]


class NeedsSettings(Section):
    """What any arm of the target must be able to do; what is not asked is not checked."""

    context_window_tokens: int | None = Field(
        default=None, ge=1, description="Longest input and output together, tokens."
    )
    tools: bool = Field(default=False, description="Calls tools.")
    json_mode: bool = Field(default=False, description="Answers in JSON when told to.")
    vision: bool = Field(default=False, description="Reads images.")
    streaming: bool = Field(default=False, description="Streams its answer.")


class OffersSettings(Section):
    """What the arm's model is known to do; what is absent is unknown, and never taken for yes."""

    context_window_tokens: int | None = Field(
        default=None, ge=1, description="Longest input and output together, tokens."
    )
    tools: bool | None = Field(default=None, description="Calls tools.")
    json_mode: bool | None = Field(default=None, description="Answers in JSON when told to.")
    vision: bool | None = Field(default=None, description="Reads images.")
    streaming: bool | None = Field(default=None, description="Streams its answer.")
    deprecated_on: date | None = Field(
        default=None, description="First day without a promise of the provider, UTC."
    )
    regions: list[Region] | None = Field(
        default=None, min_length=1, max_length=100, description="Where it may be served."
    )
    requests_per_minute: float | None = Field(
        default=None, gt=0, description="What the provider lets this target send."
    )
    tokens_per_minute: float | None = Field(
        default=None, gt=0, description="The same in tokens, input and output together."
    )
