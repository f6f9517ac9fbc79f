"""One self-contained HTML page: no script, no font and no picture from elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
from markupsafe import Markup

from optimizer.decision import Decision, State
from optimizer.evidence import DecisionId
from optimizer.report import plots
from optimizer.report.agreement import Disagreement
from optimizer.report.figures import Caught, Figures, Mean, concurrent, mean_of
from optimizer.report.html import templates
from optimizer.report.story import Chapter, Story
from optimizer.report.tails import sentence as tails_sentence

MISSING = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One line of expected against realised."""

    what: str
    expected: str
    realised: str


def render(
    figures: Figures,
    story: Story,
    log: pd.DataFrame,
    *,
    title: str,
    first: Mapping[str, str],
    notes: Mapping[str, str],
    disagreements: tuple[Disagreement, ...],
) -> str:
    """The page as HTML text.

    Args:
        figures: of the run.
        story: its decisions.
        log: the traffic log that the figures come from.
        title: of the page.
        first: the arm in force at the start, by target.
        notes: what the reader should know of the run: label -> text.
        disagreements: sums on which ledger and log differ.
    """
    environment = templates()
    environment.filters.update(
        usd=usd,
        percent=percent,
        mean=written,
        moment=moment,
        number=_number,
        signed=signed,
        short=short,
    )
    caught = {item.chapter.decision.id: item for item in figures.caught}
    return environment.get_template("report.html.j2").render(
        title=title,
        figures=figures,
        notes=notes,
        disagreements=disagreements,
        spend=Markup(plots.spend(log, first, story)),  # noqa: S704 - our own SVG
        quality=Markup(plots.quality(log, first, story)),  # noqa: S704 - our own SVG
        chapters=[
            _chapter(chapter, log[log["target"] == chapter.decision.target], caught)
            for chapter in story.chapters
        ],
    )


def _chapter(
    chapter: Chapter, rows: pd.DataFrame, caught: Mapping[DecisionId, Caught]
) -> dict[str, object]:
    decision = chapter.decision
    return {
        "chapter": chapter,
        "decision": decision,
        "tone": "bad" if decision.state.value == "rolled_back" else "good",
        "sentence": _sentence(chapter),
        "diff": _diff(chapter),
        "timeline": Markup(plots.timeline(chapter)),  # noqa: S704 - our own SVG
        "guardrails": Markup(plots.guardrails(chapter)),  # noqa: S704 - our own SVG
        "tails": Markup(plots.tails(chapter)),  # noqa: S704 - our own SVG
        "tails_told": tails_sentence(chapter.tails[-1]) if chapter.tails else "",
        "tails_caption": _caption(chapter),
        "compared": _compared(chapter, rows),
        "caught": caught.get(decision.id),
    }


def _caption(chapter: Chapter) -> str:
    """What the 95th percentile is for, and what decides in its place."""
    checks = [check for look in chapter.looks for check in look.verdict.checks]
    threshold = chapter.decision.latency_threshold_ms
    if threshold is None or all(check.metric != "latency_exceedance" for check in checks):
        return "No guardrail of this decision reads latency."
    return (
        "What decides is the guardrail "
        f"“{plots.LABELS['latency_exceedance']}” above, the share of requests that failed "
        f"or took more than {threshold:,.0f} ms."
    )


def _sentence(chapter: Chapter) -> str:
    """What promoted the candidate, or ended it, or holds it."""
    decision = chapter.decision
    for event in chapter.events:
        if chapter.is_promoted and event.to_state is State.DEPLOYED:
            return short(decision, event.reason)
    detail = chapter.looks[-1].detail if chapter.looks else decision.rationale
    return short(decision, decision.reason or detail)


def _diff(chapter: Chapter) -> list[tuple[str, str, str]]:
    """Settings in which candidate and baseline differ: name, old, new."""
    decision = chapter.decision
    old = chapter.arms.get(decision.baseline, {})
    new = chapter.arms.get(decision.candidate, {})
    names = [name for name in new if old.get(name) != new[name]]
    return [
        ("arm", decision.baseline, decision.candidate),
        *((name, str(old.get(name)), str(new[name])) for name in names),
    ]


def _compared(chapter: Chapter, rows: pd.DataFrame) -> list[Compared]:
    """What was expected, and what canary and control really did side by side."""
    expected, actual = chapter.decision.expected, chapter.decision.actual
    canary, control = concurrent(chapter, rows)
    cost = [mean_of(part["cost_usd"]) for part in (canary, control)]
    quality = [mean_of(part["score"]) for part in (canary, control)]
    saved = 100 * (1 - cost[0].value / cost[1].value) if control.shape[0] else float("nan")
    lines = [
        Compared(
            what="cost of a request",
            expected=_pct(expected.cost_reduction_pct, less=True),
            realised=f"{_pct(saved, less=True)} in the traffic log, "
            f"{cost[0].n:,} canary against {cost[1].n:,} control requests",
        ),
        Compared(
            what="quality",
            expected=signed(expected.quality_delta),
            realised=f"{signed(quality[0].value - quality[1].value)} in the traffic log, "
            f"{quality[0].n:,} against {quality[1].n:,} scores",
        ),
    ]
    if actual is not None:
        lines.append(
            Compared(
                what="settled against the holdback",
                expected=MISSING,
                realised=f"cost {_pct(actual.cost_reduction_pct, less=True)}, "
                f"quality {signed(actual.quality_delta)} ({actual.method})",
            )
        )
    return lines


def _pct(value: float | None, *, less: bool = False) -> str:
    if value is None or value != value:  # noqa: PLR0124 - nan
        return MISSING
    if less:
        return f"{abs(value):.1f} % {'lower' if value >= 0 else 'higher'}"
    return f"{value:.1f} %"


def short(decision: Decision, sentence: str) -> str:
    """The judge's sentence without the names that stand beside it anyway."""
    names = f"{decision.target}, arm {decision.candidate} against {decision.baseline}: "
    return sentence.removeprefix(names)


def usd(value: float) -> str:
    """Dollars: ``$1,234.50``, ``−$0.31``.

    Examples:
        >>> usd(1234.5), usd(-0.31)
        ('$1,234.50', '−$0.31')
    """
    return f"{'−' if value < 0 else ''}${abs(value):,.2f}"


def percent(share: float) -> str:
    """A share as percent.

    Examples:
        >>> percent(0.1234)
        '12.3 %'
    """
    return f"{100 * share:.1f} %"


def signed(value: float | None) -> str:
    """A difference with its sign; a dash where it is unknown.

    Examples:
        >>> signed(0.0123), signed(-0.2), signed(None)
        ('+0.012', '−0.200', '–')
    """
    if value is None or value != value:  # noqa: PLR0124 - nan
        return MISSING
    return f"{'−' if value < 0 else '+'}{abs(value):.3f}"


def written(mean: Mean | None, *, sign: bool = False) -> str:
    """A mean with its 95 % interval.

    Examples:
        >>> written(Mean(value=0.5, se=0.01, n=9))
        '0.500 ± 0.020'
    """
    if mean is None or mean.value != mean.value:
        return MISSING
    return f"{signed(mean.value) if sign else f'{mean.value:.3f}'} ± {mean.half_width:.3f}"


def moment(at: datetime | None) -> str:
    """Day and time, UTC."""
    return MISSING if at is None else f"{at:%d %b %H:%M}"


def _number(value: float) -> str:
    return f"{value:,.0f}"
