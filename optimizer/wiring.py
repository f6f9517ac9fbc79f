"""The one composition root: from checked settings to adapters, analyzers and strategies.

Adding a source, gateway, notifier, analyzer or strategy is one line in a registry here. Third
parties add analyzers and strategies from outside through the entry point groups
``llm_auto_optimizer.analyzers`` and ``llm_auto_optimizer.strategies``: each entry is a callable
that takes the strategies section and returns an Analyzer or a Strategy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from optimizer.analyzers.anomaly import Anomaly
from optimizer.analyzers.cost import Cost
from optimizer.analyzers.drift import Drift
from optimizer.analyzers.pattern import Pattern
from optimizer.analyzers.performance import Performance
from optimizer.analyzers.quality import Quality
from optimizer.engine import Engine, EngineLimits, Spool
from optimizer.evidence import Analyzer, Severity, Strategy
from optimizer.experiment.grid import Axis, Point
from optimizer.experiment.tuning import Told
from optimizer.integrations.file_gateway import FileGateway
from optimizer.integrations.file_notifier import FileNotifier
from optimizer.integrations.files import FileSource, forget
from optimizer.integrations.genai_price_book import GenaiPriceBook
from optimizer.integrations.no_prices import NoPrices
from optimizer.integrations.policy_opa import OpaPoint, Silence
from optimizer.integrations.prefect_dispatch import PrefectDispatcher
from optimizer.integrations.price_list import PriceEntry, PriceList
from optimizer.integrations.simulated import SimulatedWorld
from optimizer.integrations.sql import SqlSource
from optimizer.integrations.webhook_notifier import WebhookNotifier
from optimizer.loop.equipment import Equipment
from optimizer.ports import (
    Dispatcher,
    Gateway,
    Json,
    Mapped,
    Notifier,
    PolicyPoint,
    PriceBook,
    Source,
)
from optimizer.settings import Loaded, Settings, designs_of, policy_of, target_of, tunings_of
from optimizer.settings.model import (
    FileGatewaySettings,
    FileNotifierSettings,
    FileSourceSettings,
    OpaPointSettings,
    Prices,
    SqlSourceSettings,
    Strategies,
    ThresholdSettings,
    WebhookNotifierSettings,
)
from optimizer.storage import SqlLedger
from optimizer.strategies import pareto, threshold
from optimizer.strategies.pareto import Pareto
from optimizer.strategies.threshold import Threshold
from optimizer.strategies.winners import Winners
from optimizer.targets import Price

Clock = Callable[[], datetime]
World = SimulatedWorld

ANALYZERS: Mapping[str, Callable[[Strategies], Analyzer]] = {
    "performance": lambda section: Performance(
        min_requests=section.thresholds.min_requests,
        rise_min=section.thresholds.latency_increase_pct / 100,
    ),
    "cost": lambda section: Cost(
        min_requests=section.thresholds.min_requests,
        spike_min=section.thresholds.cost_increase_pct / 100,
    ),
    "quality": lambda section: Quality(
        min_requests=section.thresholds.min_requests,
        alert=section.thresholds.quality_score_min,
        drop_min=section.thresholds.quality_drop_pct / 100,
    ),
    "pattern": lambda section: Pattern(min_requests=section.thresholds.min_requests),
    "drift": lambda section: Drift(min_requests=section.thresholds.min_requests),
    "anomaly": lambda section: Anomaly(min_requests=section.thresholds.min_requests),
}
STRATEGIES: Mapping[str, Callable[[Strategies], Strategy]] = {
    "threshold": lambda section: Threshold(settings=_triggers(section.thresholds)),
    "ab_test": lambda section: Winners(
        name="ab_test", rule="uniform", min_requests=section.thresholds.min_requests
    ),
    "bandit": lambda section: Winners(
        name="bandit", rule="top_two", min_requests=section.thresholds.min_requests
    ),
    "tuning": lambda section: Winners(
        name="tuning", rule="tuning", min_requests=section.thresholds.min_requests
    ),
    "cost_performance": lambda section: Pareto(
        settings=pareto.Settings(
            min_gain=section.cost_performance.min_saving, delta=section.cost_performance.delta
        )
    ),
}


def _triggers(section: ThresholdSettings) -> threshold.Settings:
    responses = section.responses
    return threshold.Settings(
        min_requests=section.min_requests,
        latency_increase=section.latency_increase_pct / 100,
        cost_increase=section.cost_increase_pct / 100,
        quality_drop=section.quality_drop_pct / 100,
        failure_increase=section.failure_increase_points / 100,
        responses={
            Severity.CRITICAL: threshold.Response(responses.critical),
            Severity.ERROR: threshold.Response(responses.error),
            Severity.WARNING: threshold.Response(responses.warning),
        },
        cooldown=section.cooldown,
        max_attempts=section.max_attempts,
    )


EXPERIMENTAL: Final = ("ab_test", "bandit")
"""Strategies that propose winners of experiments: nothing to say where none is configured."""
TUNING: Final = "tuning"
"""Proposes winners of trials of its own, which are asked for while it is enabled."""


def utc_now() -> datetime:
    """The real time, aware UTC."""
    return datetime.now(UTC)


def equip(loaded: Loaded, *, clock: Clock = utc_now) -> Equipment:
    """Open everything a run works with.

    ``clock`` gives the present to adapters that stamp or compare times; a simulated world brings
    its own.

    Raises:
        ConfigError: something configured cannot be built.
        UnavailableError: the database does not answer.
    """
    settings = loaded.settings
    spool = settings.database.spool_directory
    targets = {item.name: target_of(item) for item in settings.targets}
    gateways = {item.name: _gateway(item, clock) for item in settings.integrations.gateways}
    return Equipment(
        ledger=open_ledger(settings),
        engine=Engine(Spool(spool), engine_limits(settings)),
        sources=tuple(
            _source(item, spool / "spill", clock) for item in settings.integrations.sources
        ),
        gateways=gateways,
        gateway_of={item.name: item.gateway or next(iter(gateways)) for item in settings.targets},
        targets=targets,
        policies={item.name: policy_of(item, settings.defaults) for item in settings.targets},
        analyzers=_family("analyzers", ANALYZERS, None, settings.strategies),
        strategies=_family("strategies", STRATEGIES, _enabled(settings), settings.strategies),
        notifiers=tuple(_notifier(item, clock) for item in settings.integrations.notifiers),
        policy_points=_policy_points(settings),
        experiments=tuple(design for item in settings.targets for design in designs_of(item)),
        tunings=tunings_of(settings),
        suggest=_suggest if TUNING in settings.strategies.enabled else None,
        prices=_price_book(settings.integrations.prices),
        lateness=settings.integrations.intake.lateness,
        feedback_horizon=settings.integrations.intake.feedback_horizon,
        false_discovery_rate=settings.strategies.false_discovery_rate,
        config_hash=loaded.fingerprint,
        code_version=version("llm-auto-optimizer"),
        clock=clock,
    )


def rehearse(loaded: Loaded, directory: Path, *, clock: Clock = utc_now) -> Equipment:
    """The configured sources and limits, with a ledger and a gateway of their own in a directory.

    Whatever is done with it, no ledger, gateway, notifier or spool of the installation is touched,
    and no policy point outside is asked.

    Raises:
        ConfigError, UnavailableError: as :func:`equip`.
    """
    settings = loaded.settings
    database = settings.database.model_copy(
        update={
            "connection_string": SecretStr(f"sqlite:///{directory / 'ledger.db'}"),
            "auto_migrate": True,
            "spool_directory": directory / "spool",
        }
    )
    nowhere = FileGatewaySettings(kind="file", name="nowhere", directory=directory / "allocations")
    integrations = settings.integrations.model_copy(
        update={"gateways": [nowhere], "notifiers": [], "policy_points": []}
    )
    apart = settings.model_copy(
        update={
            "database": database,
            "integrations": integrations,
            "targets": [item.model_copy(update={"gateway": None}) for item in settings.targets],
        }
    )
    return equip(replace(loaded, settings=apart), clock=clock)


def close(equipment: Equipment) -> None:
    """Give the database connections back."""
    ledger = equipment.ledger
    if isinstance(ledger, SqlLedger):
        ledger.close()


def open_ledger(settings: Settings) -> SqlLedger:
    """The ledger alone, for commands that need nothing else.

    Raises:
        ConfigError, UnavailableError: as :func:`equip`.
    """
    database = settings.database
    return SqlLedger.open(
        database.connection_string.get_secret_value(),
        migrate=database.auto_migrate,
        pool_size=database.max_connections,
        timeout_s=database.timeout_secs,
    )


def open_dispatcher(api_url: str, auth_string: str | None) -> Dispatcher:
    """Who starts runs at that Prefect server.

    Raises:
        ConfigError: the URL or the auth string cannot be used.
    """
    return PrefectDispatcher(api_url=api_url, auth_string=auth_string)


def mappings(settings: Settings) -> dict[str, Mapped]:
    """How each source's own columns become ours, by the source's name."""
    return {item.name: _mapped(item) for item in settings.integrations.sources}


def forget_file(cursor: Mapping[str, Json], origin: str) -> dict[str, Json]:
    """A file source's cursor without one of its files, which is then read again from its start."""
    return forget(cursor, origin)


def engine_limits(settings: Settings) -> EngineLimits:
    """The engine's bounds."""
    intake = settings.integrations.intake
    return EngineLimits(
        memory_limit_mb=settings.database.engine_memory_mb,
        threads=settings.database.engine_threads,
        max_age=intake.max_age,
        dedupe_horizon=intake.dedupe_horizon,
        feedback_horizon=intake.feedback_horizon,
    )


def _enabled(settings: Settings) -> list[str]:
    trying = any(item.experiments for item in settings.targets)
    tuning = any(item.tuning is not None for item in settings.targets)
    needed = {**dict.fromkeys(EXPERIMENTAL, trying), TUNING: tuning}
    return [name for name in settings.strategies.enabled if needed.get(name, True)]


def _suggest(axes: Sequence[Axis], told: Sequence[Told], seed: int) -> Point:
    """As Optuna suggests; who tunes nothing does not import it, which takes a third of a second."""
    from optimizer.integrations.optuna_study import suggest

    return suggest(axes, told, seed)


def _family(
    group: str,
    own: Mapping[str, Callable[[Strategies], Any]],
    enabled: list[str] | None,
    section: Strategies,
) -> dict[str, Any]:
    """Our own members of a family and those that other distributions bring."""
    found = {
        name: build(section) for name, build in own.items() if enabled is None or name in enabled
    }
    for entry in entry_points(group=f"llm_auto_optimizer.{group}"):
        found[entry.name] = entry.load()(section)
    return found


def _mapped(item: FileSourceSettings | SqlSourceSettings) -> Mapped:
    return Mapped(
        columns=item.columns,
        constants=item.constants,
        timezone=item.timezone,
        scale=item.scale,
        signals={word.strip().lower(): score for word, score in item.signals.items()},
    )


def _source(item: FileSourceSettings | SqlSourceSettings, spill: Path, clock: Clock) -> Source:
    if isinstance(item, FileSourceSettings):
        return FileSource(
            name=item.name,
            kind=item.delivers,
            roots=(item.root,),
            paths=item.paths,
            spill_directory=spill,
            clock=clock,
            format=item.format,
            mapped=_mapped(item),
            max_line_bytes=item.max_line_bytes,
        )
    return SqlSource(
        name=item.name,
        kind=item.delivers,
        url=item.url.get_secret_value(),
        cursor_column=item.cursor_column,
        id_column=item.id_column,
        table=item.table,
        query=item.query,
        mapped=_mapped(item),
        overlap=item.overlap,
        page_rows=item.page_rows,
    )


def _policy_points(settings: Settings) -> tuple[PolicyPoint, ...]:
    """The policies of the file, where there are any, and the points that are asked."""
    asked = tuple(_policy_point(item) for item in settings.integrations.policy_points)
    if not settings.policies:
        return asked
    from optimizer.integrations.policy_cel.point import Action, CelPolicies, CelPolicy

    own = [
        CelPolicy(
            name=item.name,
            condition=item.condition,
            action=Action(item.action),
            message=item.message or item.description,
            targets=tuple(item.scope.targets),
            labels=item.scope.labels,
        )
        for item in settings.policies
    ]
    return (CelPolicies(own), *asked)


def _policy_point(item: OpaPointSettings) -> PolicyPoint:
    return OpaPoint(
        name=item.name,
        url=item.url,
        path=item.path,
        token=None if item.token is None else item.token.get_secret_value(),
        timeout_s=item.timeout_secs,
        deadline_s=item.deadline_secs,
        silence=Silence(item.when_silent),
    )


def _price_book(section: Prices) -> PriceBook:
    """The operator's table, then what is published; what neither knows is unknown."""
    entries = [
        PriceEntry(
            model=item.model,
            provider=item.provider,
            since=item.since,
            price=Price(
                input_usd_per_mtok=item.input_usd_per_mtok,
                output_usd_per_mtok=item.output_usd_per_mtok,
                cached_input_usd_per_mtok=item.cached_input_usd_per_mtok,
            ),
        )
        for item in section.table
    ]
    return PriceList(
        entries=entries, otherwise=GenaiPriceBook() if section.published else NoPrices()
    )


def _gateway(item: FileGatewaySettings, clock: Clock) -> Gateway:
    return FileGateway(
        name=item.name, directory=item.directory, expires_after=item.expires_after, clock=clock
    )


def _notifier(item: FileNotifierSettings | WebhookNotifierSettings, clock: Clock) -> Notifier:
    if isinstance(item, FileNotifierSettings):
        return FileNotifier(path=item.path, clock=clock)
    return WebhookNotifier(
        url=item.url.get_secret_value(),
        timeout_s=item.timeout_secs,
        secret=None if item.secret is None else item.secret.get_secret_value(),
    )


def simulated_world(*, seed: int, directory: Path, start: datetime) -> World:
    """A world of published measurements, for the demonstration; it writes below ``directory``."""
    return SimulatedWorld(seed=seed, directory=directory, start=start)
