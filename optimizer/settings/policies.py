"""Sections of policies: conditions that are written here, and policy points that are asked."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from optimizer.settings.values import Section


def _condition(text: str) -> str:
    # Loaded only where a policy is written: the library is large.
    try:
        from optimizer.integrations.policy_cel.expression import fault_in  # noqa: PLC0415
    except ImportError:
        msg = "needs the package cel-expr-python, which has no build for this Python and platform"
        raise ValueError(msg) from None
    fault = fault_in(text)
    if fault is not None:
        raise ValueError(str(fault))
    return text


class PolicyScopeSettings(Section):
    """Which targets a policy is about; all of it must fit."""

    targets: list[str] = Field(
        default=["*"], min_length=1, description="Globs of target names; one of them must fit."
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description="Labels that the target must have, with these values."
    )


class CelPolicySettings(Section):
    """A rule on every proposal: what must not be, as a condition in CEL.

    It is checked when the file is read: names, types, and that it cannot take long. A condition
    that needs a fact nobody knows counts as violated.
    """

    name: str = Field(min_length=1, max_length=100, description="Unique name of the policy.")
    description: str = Field(default="", description="What it is for.")
    action: Literal["deny", "warn"] = Field(
        default="deny", description="Refuse the proposal, or say so with the decision."
    )
    condition: Annotated[str, AfterValidator(_condition)] = Field(
        min_length=1, description="CEL that is true where the policy is violated."
    )
    message: str = Field(
        default="", description="Told where it is violated; none: the description."
    )
    scope: PolicyScopeSettings = Field(
        default=PolicyScopeSettings(), description="Targets it is about."
    )


class OpaPointSettings(Section):
    """Open Policy Agent, or another server that speaks its data API."""

    kind: Literal["opa"] = Field(description="A policy point behind HTTP.")
    name: str = Field(min_length=1, max_length=100, description="Unique name of the policy point.")
    url: str = Field(
        default="http://127.0.0.1:8181",
        min_length=1,
        description="Where it listens; loopback unless changed.",
    )
    path: str = Field(
        min_length=1, description="Rule that is asked, `optimizer/allow` or `optimizer.allow`."
    )
    token: SecretStr | None = Field(default=None, description="Bearer token.")
    timeout_secs: float = Field(
        default=2, gt=0, le=60, description="Longest wait for one answer, seconds."
    )
    deadline_secs: float = Field(
        default=20, gt=0, le=300, description="Longest wait for all answers of an hour, seconds."
    )
    when_silent: Literal["hold", "deny", "warn"] = Field(
        default="hold",
        description="What no answer means: the proposal waits for the next hour, is refused, or "
        "goes on with a warning.",
    )
