"""What a run works with: the adapters and the operator's limits, chosen once by the wiring."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from optimizer.engine import Engine
from optimizer.errors import ConfigError
from optimizer.evidence import Analyzer, Strategy
from optimizer.policy import Policy
from optimizer.ports import Gateway, Ledger, Notifier, PriceBook, Source
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
    that died keeps others away from its target; baseline_days: how many days of hours analyzers and
    strategies read.
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
    prices: PriceBook
    lateness: timedelta = timedelta(minutes=5)
    lease_ttl: timedelta = timedelta(minutes=5)
    baseline_days: int = 7
    feedback_horizon: timedelta = timedelta(days=3)
    config_hash: str = ""
    code_version: str = ""

    def gateway(self, target: str) -> Gateway:
        """The gateway that splits the target's traffic.

        Raises:
            ConfigError: the target names a gateway that is not configured.
        """
        name = self.gateway_of.get(target, "")
        if name not in self.gateways:
            msg = (
                f"target {target} names gateway {name!r}, which is none of {sorted(self.gateways)}"
            )
            raise ConfigError(msg)
        return self.gateways[name]

    def arms_of(self, target: str) -> dict[str, dict[str, object]]:
        """Every arm's configuration as it is published to applications."""
        return {arm.name: arm.config.as_dict() for arm in self.targets[target].arms}

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
        """The arm in force per configured target."""
        moved = self.ledger.effects.baselines()
        return {name: moved.get(name, target.baseline) for name, target in self.targets.items()}
