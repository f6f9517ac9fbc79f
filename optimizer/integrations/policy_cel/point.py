"""Rules on proposals by the policies of the configuration, each a condition in CEL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from types import MappingProxyType

from optimizer.cycle import Ruling
from optimizer.errors import ConfigError
from optimizer.evidence import ProposalId
from optimizer.integrations.policy_cel.expression import Condition, FaultyConditionError
from optimizer.policy import Facts


class Action(Enum):
    """What a violated policy does."""

    DENY = "deny"
    WARN = "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class CelPolicy:
    """One policy: its condition is true where it is violated.

    targets: globs of target names it is about; labels: what those targets must be labelled with.
    """

    name: str
    condition: str
    action: Action = Action.DENY
    message: str = ""
    targets: tuple[str, ...] = ("*",)
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


class CelPolicies:
    """A policy point of this process's own: it always answers.

    A policy whose condition needs a fact that is unknown is not satisfied: it denies, or warns, and
    names the fact.

    Raises:
        ConfigError: a condition that cannot be used, with policy, line and column.
    """

    name = "policies"

    def __init__(self, policies: Sequence[CelPolicy]) -> None:
        self._policies = tuple((policy, _checked(policy)) for policy in policies)

    def rule(self, asked: Mapping[ProposalId, Facts]) -> Mapping[ProposalId, Ruling]:
        """What the policies say of each proposal, whatever is asked beside it."""
        return {proposal: self._ruling(facts) for proposal, facts in asked.items()}

    def _ruling(self, facts: Facts) -> Ruling:
        said: dict[Action, list[str]] = {Action.DENY: [], Action.WARN: []}
        for policy, condition in self._policies:
            if _concerns(policy, facts):
                violated = condition.violated(facts)
                if violated is not False:
                    said[policy.action].append(
                        _sentence(policy, condition, facts, violated=violated)
                    )
        return Ruling(denials=tuple(said[Action.DENY]), warnings=tuple(said[Action.WARN]))


def _checked(policy: CelPolicy) -> Condition:
    try:
        return Condition(policy.condition)
    except FaultyConditionError as error:
        raise ConfigError(f"policy {policy.name}: {error}") from None


def _concerns(policy: CelPolicy, facts: Facts) -> bool:
    labels = facts["target.labels"]
    known = labels if isinstance(labels, Mapping) else {}
    return any(fnmatchcase(str(facts["target.name"]), glob) for glob in policy.targets) and all(
        known.get(name) == value for name, value in policy.labels.items()
    )


def _sentence(
    policy: CelPolicy, condition: Condition, facts: Facts, *, violated: bool | str
) -> str:
    """Policy, condition and the values it was decided on."""
    told = f"policy {policy.name} {'denies' if policy.action is Action.DENY else 'warns'}"
    if policy.message:
        told += f": {policy.message}"
    rule = " ".join(condition.text.split())
    if isinstance(violated, str):
        return f"{told}: whether {rule} cannot be decided, {violated}"
    values = ", ".join(f"{name} = {_shown(facts[name])}" for name in condition.names)
    return f"{told}: {rule}" + (f" with {values}" if values else "")


def _shown(fact: object) -> str:
    if fact is None:
        return "unknown"
    if isinstance(fact, float):
        return f"{fact:.6g}"
    if isinstance(fact, Mapping):
        return str(dict(fact))
    return str(list(fact) if isinstance(fact, tuple) else fact)
