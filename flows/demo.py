"""The whole loop on a simulated world: real flows, real ledger, real gateway files.

Only the applications and the clock are simulated. What the optimizer sees of them are log files.
"""

import asyncio
import atexit
import os
import shutil
import sys
import time
import webbrowser
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from flows import demo_screen, prefect_settings
from flows.equipped import close_all
from flows.equipped import equipment as open_equipment
from optimizer import report, wiring
from optimizer.decision import State
from optimizer.errors import ConfigError
from optimizer.loop.evaluate import IN_FLIGHT, data_until
from optimizer.metrics import GRAIN_S

START = datetime(2026, 3, 2, tzinfo=UTC)
HALF_HOUR = timedelta(minutes=30)
HOUR = timedelta(hours=1)
MARK = ".llmopt-demo"
CONFIG = "optimizer.yaml"
REPORT = "report.html"
IN_MEMORY = "sqlite+aiosqlite:///file::memory:?cache=shared&uri=true&check_same_thread=false"
"""Prefect's own history of the demonstration. In a file, hundreds of runs in a row make its writers
lock each other out for up to a minute; the record is our ledger either way."""
HOURS = 48
"""Simulated hours that show every outcome."""
TRUTH_TOLERANCE = 0.05
"""How far the measured cost without changes may lie from the published means; chance gives 1 %."""

Run = Callable[..., Awaitable[dict[str, Any]]]


@dataclass(slots=True)
class Timing:
    """Seconds of real time by what they were spent on."""

    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, what: str, since: float) -> float:
        """Charge the time since ``since`` and return the present."""
        now = time.perf_counter()
        self.seconds[what] = self.seconds.get(what, 0.0) + now - since
        return now


def demo(
    *,
    hours: int,
    directory: Path,
    seed: int,
    open_report: bool = False,
    console: Console | None = None,
) -> int:
    """Run the demonstration and return the exit code: 0 if it showed all it is meant to show.

    That is: a saving was promoted and settled, an arm was rolled back because of its quality, no
    arm that is truly worse was promoted, and ledger and traffic log agree.

    Raises:
        ConfigError: the directory holds something else.
    """
    shown = Console() if console is None else console
    # Registered before Prefect's own, so that it runs after them.
    atexit.register(_leave_quietly)
    home = prepared(directory)
    prefect_settings.prepare(home=home / "prefect", quiet=True)
    _trust_little(home / "prefect" / "certificate.pem")
    os.environ.setdefault("PREFECT_SERVER_DATABASE_CONNECTION_URL", IN_MEMORY)
    world = wiring.simulated_world(seed=seed, directory=home, start=START)
    (home / CONFIG).write_text(world.configuration(), encoding="utf-8")
    shown.print(demo_screen.opening(world, hours, seed, home))
    timing = Timing()
    began = time.perf_counter()
    try:
        asyncio.run(_live(world, hours, home / CONFIG, shown, timing))
        missing = _closing(world, home, shown, hours, timing)
    finally:
        close_all()
    timing.seconds["all"] = time.perf_counter() - began
    shown.print(demo_screen.spent(timing.seconds))
    if open_report:
        webbrowser.open((home / REPORT).as_uri())
    return 1 if missing else 0


def prepared(directory: Path) -> Path:
    """An empty directory for the run; an earlier demonstration in it is removed.

    Raises:
        ConfigError: there is something in it that no demonstration left.
    """
    home = directory.resolve()
    if home.exists():
        if any(home.iterdir()) and not (home / MARK).exists():
            msg = f"{home} holds something else than an earlier demonstration; name another one"
            raise ConfigError(msg)
        shutil.rmtree(home)
    home.mkdir(parents=True)
    (home / MARK).write_text("Removed by the next demonstration.\n", encoding="utf-8")
    return home


def _leave_quietly() -> None:
    """Keep DuckDB's binding from listing, at exit, what Prefect's threads still hold."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _trust_little(file: Path) -> None:
    """Give Prefect's client one certificate to load instead of all that are known.

    It loads them for every task, which takes 25 ms, and then talks to this machine without TLS.
    """
    import certifi

    end = "-----END CERTIFICATE-----\n"
    first, mark, _ = Path(certifi.where()).read_text(encoding="utf-8").partition(end)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(first + mark, encoding="utf-8")
    os.environ.setdefault("PREFECT_API_SSL_CERT_FILE", str(file))


def _no_heartbeat() -> AbstractContextManager[object]:
    """Spare each simulated run the thread that tells a server it is alive; nobody reaps here."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    return temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})


async def _live(
    world: wiring.World, hours: int, config: Path, shown: Console, timing: Timing
) -> None:
    """Let the hours pass: the guard at every half hour while something is in flight."""
    since = time.perf_counter()
    from flows.guard import guard
    from flows.optimize import optimize
    from flows.parameters import GuardParameters, OptimizeParameters

    equipment = open_equipment(config)
    since = timing.add("start", since)
    with _no_heartbeat(), demo_screen.Screen(shown, hours) as screen:
        for _ in range(hours):
            half, full = world.now + HALF_HOUR, world.now + HOUR
            screen.requests += world.advance(half)
            since = timing.add("world", since)
            if equipment.ledger.decisions.find(states=IN_FLIGHT):
                await guard(GuardParameters(config_file=config, as_of=half, clock=half))
                since = timing.add("guard", since)
            screen.requests += world.advance(full)
            since = timing.add("world", since)
            await optimize(OptimizeParameters(config_file=config, as_of=full, clock=full))
            since = timing.add("optimize", since)
            screen.update(equipment, full)
            since = timing.add("screen", since)


def _closing(
    world: wiring.World, home: Path, shown: Console, hours: int, timing: Timing
) -> list[str]:
    """Figures, report, and what the demonstration failed to show."""
    since = time.perf_counter()
    equipment = open_equipment(home / CONFIG)
    log = world.traffic_log()
    first = {target.name: target.baseline.name for target in world.targets}
    story = report.read_story(equipment.ledger, equipment.policies, since=world.start)
    figures = report.account(log, story, first=first, last=equipment.baseline_arms())
    until_s = int(data_until(equipment, world.now).timestamp())
    start_s = int(world.start.timestamp())
    grains = equipment.ledger.aggregates.load(GRAIN_S, start_s=start_s, end_s=until_s)
    differences = report.disagreements(log, grains, start_s=start_s, end_s=until_s)
    since = timing.add("figures", since)
    shown.print(demo_screen.table(figures))
    shown.print(demo_screen.caught(figures))
    shown.print(demo_screen.bottom_line(figures, differences, world.base_usd))
    page = report.render(
        figures,
        story,
        log,
        title="LLM Auto-Optimizer: what happened in the simulated world",
        first=first,
        notes=notes(world, hours),
        disagreements=differences,
    )
    (home / REPORT).write_text(page, encoding="utf-8")
    timing.add("report", since)
    missing = shortcomings(world, story, figures, differences)
    shown.print(demo_screen.ending(missing, home / REPORT))
    return missing


def notes(world: wiring.World, hours: int) -> dict[str, str]:
    """What the reader of the report should know."""
    dirt = world.dirt
    settings = world.settings
    return {
        "World": f"simulated, {hours} hours from {world.start:%d %b %Y} UTC, "
        f"{settings.requests_per_hour:,.0f} requests an hour and target on average; "
        f"{settings.label_rate:.0%} of answers are scored, a quarter of an hour to an hour later",
        "Arms": "quality, cost, latency and refusals are published measurements; their sources "
        "stand in the configuration and in the world's table",
        "Dirt": f"{dirt.halved} lines cut in half, {dirt.doubled} written twice, "
        f"{dirt.late} written half an hour late",
    }


def shortcomings(
    world: wiring.World,
    story: report.Story,
    figures: report.Figures,
    differences: tuple[report.Disagreement, ...],
) -> list[str]:
    """What a good demonstration would have shown and this one did not; empty = nothing."""
    missing = []
    states = [chapter.decision.state for chapter in story.chapters]
    if State.COMPLETED not in states or figures.total("net_usd") <= 0:
        missing.append("no saving was promoted and settled")
    by_quality = [
        chapter
        for chapter in story.chapters
        if chapter.decision.state is State.ROLLED_BACK
        and (check := chapter.deciding) is not None
        and check.metric == "quality"
    ]
    if not by_quality:
        missing.append("no arm was rolled back because of its quality")
    missing += [
        f"{chapter.decision.candidate} was promoted on {chapter.decision.target} although it is "
        f"truly worse than the margin allows: {', '.join(harms)}"
        for chapter in story.chapters
        if chapter.is_promoted
        and (harms := world.true_harms(chapter.decision.target, chapter.decision.candidate))
    ]
    base = figures.total("base_usd")
    if abs(base - world.base_usd) > TRUTH_TOLERANCE * world.base_usd:
        missing.append(
            f"no change would have cost {base:.2f} USD by the log, {world.base_usd:.2f} in truth"
        )
    if differences:
        missing.append(
            f"ledger and traffic log differ on {len(differences)} sums: {differences[0]}"
        )
    broken = [chapter.decision.id for chapter in story.chapters if not chapter.chained]
    if broken:
        missing.append(f"the hash chain of {', '.join(broken)} is broken")
    return missing
