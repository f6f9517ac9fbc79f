"""What a run works with: the adapters and the operator's limits, chosen once by the wiring."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from optimizer.decision import Decision
from optimizer.engine import Engine
from optimizer.errors import ConfigError, DataError
from optimizer.evidence import Analyzer, Strategy
from optimizer.experiment.design import Design
from optimizer.experiment.grid import Tuning
from optimizer.experiment.tuning import Suggest
from optimizer.policy import Policy
from optimizer.ports import Gateway, Ledger, Notifier, PolicyPoint, PriceBook, Source
from optimizer.targets import Price, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """Who acts, when, and in which run; ``holder`` owns leases."""

    actor: str
    run_id: str
    now: datetime

    @property
    def holder(self) -> str:
        """Name under which leases are held: the run, so that its own retry may go on at once."""
        return self.run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """Adapters, analyzers, strategies and limits of one installation.

    lateness: how long a window waits for its rows before it is closed; lease_ttl: how long a run
    that died keeps others away from its target; tunings: parameters that are searched, by target;
    suggest: where to look next, None = no trial is asked for; baseline_days: how many days of hours
    analyzers and strategies read; false_discovery_rate: expected share of false ones among the
    proposals of a week that rest on a test, None = not counted; clock: the present time, aware,
    None = a run acts in the moment it began.
    """

    ledger: Ledger
    engine: Engine
    sources: tuple[Source, ...]
    gateways: Mapping[str, Gateway]
    gateway_of: Mapping[str, str]
    targets: Mapping[str, Target]
    policies: Mapping[str, Policy]
    analyzers: Mapping[str, Analyzer]
    strategies: Mapping[str, Strategy]
    notifiers: tuple[Notifier, ...] = ()
    policy_points: tuple[PolicyPoint, ...] = ()
    experiments: tuple[Design, ...] = ()
    tunings: tuple[Tuning, ...] = ()
    suggest: Suggest | None = None
    prices: PriceBook
    lateness: timedelta = timedelta(minutes=5)
    lease_ttl: timedelta = timedelta(minutes=5)
    baseline_days: int = 7
    feedback_horizon: timedelta = timedelta(days=3)
    false_discovery_rate: float | None = 0.1
    config_hash: str = ""
    code_version: str = ""
    clock: Callable[[], datetime] | None = None

    def present(self, acting: Acting) -> datetime:
        """The time: a run may be long past its beginning when a split is seen in force."""
        return acting.now if self.clock is None else max(acting.now, self.clock())

    def departed(self, decision: Decision) -> str:
        """Why the decision can no longer be carried out as configured; empty while it can."""
        target = self.targets.get(decision.target)
        if target is None or decision.target not in self.policies:
            return f"target {decision.target} left the configuration"
        known = {arm.name: arm.enabled for arm in target.arms}
        if decision.candidate in known and not known[decision.candidate]:
            return f"arm {decision.candidate} of {decision.target} was disabled"
        for arm in (decision.candidate, decision.baseline):
            if arm not in known:
                return f"arm {arm} of {decision.target} left the configuration"
        return self._changed(decision)

    def _changed(self, decision: Decision) -> str:
        """Why the evidence is void: an arm is not what it was when the rollout began."""
        if not decision.state.holds_traffic:
            return ""
        snapshot = self.ledger.effects.snapshot(decision.id)
        if snapshot is None:
            return ""
        today = self.arms_of(decision.target)
        for arm in (decision.candidate, decision.baseline):
            if arm in snapshot.arms and _text(snapshot.arms[arm]) != _text(today[arm]):
                return (
                    f"the configuration of arm {arm} of {decision.target} changed in mid-rollout, "
                    "so what was measured says nothing of it"
                )
        return ""

    def gateway(self, target: str) -> Gateway:
        """The gateway that splits the target's traffic, also when it left the configuration.

        Raises:
            ConfigError: the target names a gateway that is not configured.
            DataError: the target left the configuration, and no gateway holds it.
        """
        if target not in self.gateway_of:
            return self._holder(target)
        name = self.gateway_of[target]
        if name not in self.gateways:
            msg = (
                f"target {target} names gateway {name!r}, which is none of {sorted(self.gateways)}"
            )
            raise ConfigError(msg)
        return self.gateways[name]

    def _holder(self, target: str) -> Gateway:
        """The gateway that still holds an allocation of a target nobody configures any more."""
        for gateway in self.gateways.values():
            try:
                held = gateway.read(target) is not None
            except DataError:  # damaged, but there
                held = True
            if held:
                return gateway
        msg = f"target {target} left the configuration, and no gateway holds it"
        raise DataError(msg)

    def arms_of(self, target: str) -> dict[str, dict[str, object]]:
        """Every configured arm as it is published to applications; none of an unknown target."""
        found = self.targets.get(target)
        return {} if found is None else {arm.name: arm.config.as_dict() for arm in found.arms}

    def price_of(self, target: str, arm: str, at: datetime) -> Price | None:
        """The arm's own price, else the price book's; None = unknown."""
        found = self.targets[target].arm(arm)
        if found.price is not None:
            return found.price
        return self.prices.price(found.config.model, found.config.provider, at)

    def book_prices(self, at: datetime) -> dict[tuple[str, str], Price]:
        """What the price book knows of arms that name no price themselves."""
        found = {
            (target.name, arm.name): self.price_of(target.name, arm.name, at)
            for target in self.targets.values()
            for arm in target.arms
            if arm.price is None
        }
        return {key: price for key, price in found.items() if price is not None}

    def baseline_arms(self) -> dict[str, str]:
        """The arm in force per configured target.

        The configuration's own, where the arm that was promoted left the configuration.
        """
        moved = self.ledger.effects.baselines()
        return {name: _in_force(target, moved) for name, target in self.targets.items()}

    def baseline_arm(self, target: str) -> str:
        """The same for one configured target."""
        return _in_force(self.targets[target], self.ledger.effects.baselines())


def _text(config: Mapping[str, object]) -> str:
    """A configuration in one canonical spelling, however it was stored."""
    return json.dumps(dict(config), sort_keys=True, default=str)


def _in_force(target: Target, moved: Mapping[str, str]) -> str:
    promoted = moved.get(target.name)
    known = any(arm.name == promoted for arm in target.arms)
    return promoted if promoted is not None and known else target.baseline
