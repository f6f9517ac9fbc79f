"""What the demonstration shows in a terminal: the plan, the hours, and what came of them."""

from collections import Counter
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from optimizer import wiring
from optimizer.decision import Decision, Event, State
from optimizer.evidence import DecisionId
from optimizer.loop.equipment import Equipment
from optimizer.loop.evaluate import IN_FLIGHT
from optimizer.report import Disagreement, Figures
from optimizer.report.page import percent, short, signed, usd, written
from optimizer.report.story import WORDS

COLOURS = {
    State.DEPLOYING: "cyan",
    State.DEPLOYED: "green",
    State.MONITORING: "green",
    State.COMPLETED: "bold green",
    State.ROLLING_BACK: "bold red",
    State.ROLLED_BACK: "bold red",
    State.CANCELLED: "yellow",
}


def opening(world: wiring.World, hours: int, seed: int, home: Path) -> RenderableType:
    """What is about to happen, and whether its questions can be answered."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("target", no_wrap=True)
    table.add_column("arm in force, and alternatives")
    for title in ("quality may\nlose", "scores\nan arm", "hours of\ncanary"):
        table.add_column(title, justify="right", no_wrap=True)
    for target in world.targets:
        plan = next(
            row for row in world.plan if (row.target, row.metric) == (target.name, "quality")
        )
        longest = max(row.hours for row in world.plan if row.target == target.name)
        table.add_row(
            target.name,
            Text.assemble(
                (target.baseline.name, "bold"),
                ", " + ", ".join(arm.name for arm in target.arms[1:]),
            ),
            f"{plan.margin:g}",
            f"{plan.requests:,}",
            f"{longest:.1f}",
        )
    settings = world.settings
    return Group(
        Text(f"Simulated world, {hours} hours, seed {seed}, in {home}", style="bold"),
        Text(
            "Quality, cost, latency and refusals of every arm are published measurements.\n"
            f"{settings.requests_per_hour:,.0f} requests an hour and target, "
            f"{settings.label_rate:.0%} of answers scored. Plan check: what a rollout needs to "
            "prove an arm harmless",
            style="dim",
        ),
        table,
        Text(""),
    )


class Screen:
    """Live view of the run; where nobody watches, one line an event."""

    def __init__(self, console: Console, hours: int) -> None:
        self.requests = 0
        self._console = console
        self._hours = hours
        self._passed = 0
        self._seen: dict[DecisionId, tuple[int, int]] = {}
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop showing; what happened stays on the screen."""
        if self._console.is_terminal:
            self._live.stop()

    def update(self, equipment: Equipment, now: datetime) -> None:
        """Show the hour that has just passed."""
        self._passed += 1
        fresh: list[tuple[datetime, Text]] = []
        for decision in equipment.ledger.decisions.find():
            if self._seen.get(decision.id, (-1, 0))[0] != decision.version:
                fresh += self._news(decision, equipment)
        # Above the live view, so that the whole story can be read afterwards.
        for _, line in sorted(fresh, key=lambda item: item[0]):
            self._console.print(line, soft_wrap=not self._console.is_terminal)
        if self._console.is_terminal:
            self._live.update(self._view(equipment, now))

    def _news(self, decision: Decision, equipment: Equipment) -> list[tuple[datetime, Text]]:
        """What the decision's log has gained."""
        events = equipment.ledger.decisions.events(decision.id)
        known = self._seen.get(decision.id, (-1, 0))[1]
        self._seen[decision.id] = (decision.version, len(events))
        lines = [(event.at, _line(decision, event)) for event in events[known:]]
        return [(at, line) for at, line in lines if line is not None]

    def _view(self, equipment: Equipment, now: datetime) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
        for title in ("in flight", "candidate", "state", "stage"):
            table.add_column(title, no_wrap=True, min_width=len(title))
        table.add_column("last look", no_wrap=True, overflow="ellipsis", ratio=1)
        for decision in equipment.ledger.decisions.find(states=IN_FLIGHT):
            looks = equipment.ledger.decisions.looks(decision.id)
            table.add_row(
                decision.target,
                decision.candidate,
                Text(decision.state.value, style=COLOURS.get(decision.state, "")),
                _stage(decision, equipment),
                short(decision, looks[-1].detail) if looks else "",
            )
        head = Text.assemble(
            (f"{now:%a %d %b %H:%M}", "bold"),
            f"  hour {self._passed} of {self._hours}, {self.requests:,} requests",
        )
        bar = ProgressBar(total=self._hours, completed=self._passed)
        return Panel(Group(head, bar, Text(""), table), border_style="dim")


def _stage(decision: Decision, equipment: Equipment) -> str:
    if decision.state is not State.DEPLOYING:
        policy = equipment.policies[decision.target]
        return f"{1 - policy.holdback_share:.0%}" if decision.deployed_at else ""
    stages = equipment.policies[decision.target].stages
    if decision.stage < 0:
        return ""
    return f"{decision.stage + 1}/{len(stages)}, {stages[decision.stage].share:.0%}"


def _line(decision: Decision, event: Event) -> Text | None:
    """One line of the story; None for what people need not see."""
    quiet = {State.VALIDATING, State.ROLLING_BACK, State.MONITORING}
    if event.kind not in {"transition", "stage"} or (
        event.kind == "transition" and event.to_state in quiet
    ):
        return None
    if event.kind == "transition" and event.to_state is State.DEPLOYING:
        return None
    what = "stage" if event.kind == "stage" else event.to_state.value.replace("_", " ")
    style = "cyan" if event.kind == "stage" else COLOURS.get(event.to_state, "")
    return Text.assemble(
        (f"{event.at:%d %b %H:%M}  ", "dim"),
        f"{decision.target:<17}",
        (f"{what:<12}", style),
        f"{decision.baseline} → {decision.candidate}: {short(decision, event.reason)}",
    )


def table(figures: Figures) -> RenderableType:
    """Targets and their sum, and how the decisions ended."""
    shown = _titled("What came of it")
    shown.add_column("target and arm in force", no_wrap=True)
    for title in ("requests", "spent", "without\nchanges", "net\nsaving", "quality\nchange"):
        shown.add_column(title, justify="right", no_wrap=True)
    for t in figures.targets:
        shown.add_row(
            Text.assemble(t.target, ("\n→ " if t.last_arm != t.first_arm else "\n  ") + t.last_arm),
            f"{t.requests:,}",
            usd(t.spend_usd),
            usd(t.base_usd),
            Text(usd(t.net_usd), style="green" if t.net_usd > 0 else ""),
            written(t.quality_gap, sign=True),
        )
    shown.add_section()
    shown.add_row(
        "all",
        f"{figures.total('requests'):,.0f}",
        usd(figures.total("spend_usd")),
        usd(figures.total("base_usd")),
        Text(usd(figures.total("net_usd")), style="bold green"),
    )
    outcomes: Counter[str] = Counter()
    for t in figures.targets:
        outcomes.update(t.outcomes)
    ended = ", ".join(f"{n} {name}" for name, n in outcomes.most_common()) or "none"
    return Group(Text(""), shown, Text(f"Decisions: {ended}."))


def caught(figures: Figures) -> RenderableType:
    """Canaries that were taken back."""
    if not figures.caught:
        return Text("No canary was taken back.")
    shown = _titled("Harm caught")
    for title in ("target", "candidate", "because of"):
        shown.add_column(title)
    for title in ("measured harm", "canary requests", "hours"):
        shown.add_column(title, justify="right")
    for item in figures.caught:
        check, decision = item.chapter.deciding, item.chapter.decision
        shown.add_row(
            decision.target,
            decision.candidate,
            WORDS.get(check.metric, check.metric) if check else "expired without evidence",
            signed(check.harm) if check else "",
            f"{item.requests:,}",
            f"{item.hours:.1f}",
        )
    return Group(Text(""), shown)


def _titled(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=None,
        pad_edge=False,
    )


def bottom_line(
    figures: Figures, differences: tuple[Disagreement, ...], true_base_usd: float
) -> RenderableType:
    """The sentence to remember."""
    net, base = figures.total("net_usd"), figures.total("base_usd")
    agreed = (
        Text("Ledger and traffic log agree on every sum.", style="green")
        if not differences
        else Text(f"Ledger and traffic log DISAGREE on {len(differences)} sums.", style="bold red")
    )
    return Group(
        Text(""),
        Text(
            f"Saved {usd(net)} of {usd(base)} ({percent(net / base)}), exploration "
            f"({usd(figures.total('exploration_usd'))}) included.",
            style="bold",
        ),
        Text(f"By the published means, no change would have cost {usd(true_base_usd)}."),
        agreed,
    )


def ending(missing: list[str], page: Path) -> RenderableType:
    """Whether the demonstration showed what it should, and where to read on."""
    lines = [Text(f"MISSING: {reason}", style="bold red") for reason in missing]
    return Group(*lines, Text(f"Report: {page}"))


def spent(seconds: dict[str, float]) -> RenderableType:
    """Where the time went."""
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if name != "all")
    return Text(f"{seconds['all']:.0f} seconds: {parts}", style="dim")
