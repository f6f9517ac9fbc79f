"""A backtest in words: rows of tables for a terminal, and one Markdown page."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from optimizer.report.backtest.records import Backtest, Refused
from optimizer.report.backtest.scenarios import Outlook
from optimizer.report.backtest.value import Amount

UNKNOWN: Final = "unknown"
_CENTS: Final = 10.0

Row = dict[str, Any]


def money(value: float) -> str:
    """USD: cents from ten dollars on, three digits below.

    Examples:
        >>> money(1234.5), money(-0.0123), money(0.0), money(float("nan"))
        ('$1,234.50', '−$0.0123', '$0', 'unknown')
    """
    if math.isnan(value):
        return UNKNOWN
    size = abs(value)
    sign = "−" if value < 0 else ""
    return f"{sign}${size:,.2f}" if size >= _CENTS else f"{sign}${size:.3g}"


def percent(value: float) -> str:
    """A fraction as percent.

    Examples:
        >>> percent(0.1234), percent(-0.05)
        ('12.3 %', '−5.0 %')
    """
    return UNKNOWN if math.isnan(value) else f"{'−' if value < 0 else ''}{abs(100 * value):.1f} %"


def points(value: float) -> str:
    """A difference of scores.

    Examples:
        >>> points(0.01234), points(-0.2)
        ('+0.0123', '−0.2000')
    """
    return UNKNOWN if math.isnan(value) else f"{'−' if value < 0 else '+'}{abs(value):.4f}"


def within(amount: Amount, form: Callable[[float], str]) -> str:
    """The value with its 95 % limits.

    Examples:
        >>> within(Amount(value=0.1, lower=0.05, upper=0.15), percent)
        '10.0 % [5.0 %, 15.0 %]'
        >>> within(Amount(value=0.1, lower=math.nan, upper=math.nan), percent)
        '10.0 % (no interval: too few sessions, or all alike)'
        >>> within(Amount(value=0.0, lower=0.0, upper=0.0), percent)
        '0.0 %'
    """
    if math.isnan(amount.value) or amount.lower == amount.upper:
        return form(amount.value)
    if math.isnan(amount.lower):
        return f"{form(amount.value)} (no interval: too few sessions, or all alike)"
    return f"{form(amount.value)} [{form(amount.lower)}, {form(amount.upper)}]"


def headline(found: Backtest) -> str:
    """The backtest in one sentence."""
    total, decided = found.total, found.total.decided
    promoted = sum(1 for each in found.decisions if each.outcome == "promoted")
    unknown = f"; not known: {_not_known(decided)}" if decided.unknown_requests else ""
    return (
        f"{found.start:%Y-%m-%d %H:%M} to {found.end:%Y-%m-%d %H:%M} UTC: "
        f"{total.spent.requests:,} requests for {money(total.spent.usd)}; "
        f"{len(found.decisions)} decisions, {promoted} promoted, would have saved "
        f"{within(decided.saving, money)}, {within(decided.saving_share, percent)}{unknown}"
    )


def yardsticks(found: Backtest) -> list[Row]:
    """What was spent, and what decisions and the yardsticks would have made of it."""
    total = found.total
    spent = total.spent.usd
    rows: list[Row] = [
        {
            "what": "as it was",
            "cost": money(spent),
            "saving": money(0.0),
            "saving_share": percent(0.0),
            "quality": points(0.0),
            "not_known": "",
        }
    ]
    named = {
        "with decisions": total.decided,
        f"best single swap: {total.swap.name}": total.swap,
        "best arm of each target, in hindsight": total.best,
    }
    for what, each in named.items():
        rows.append(
            {
                "what": what,
                "cost": money(spent - each.saving.value),
                "saving": within(each.saving, money),
                "saving_share": within(each.saving_share, percent),
                "quality": _quality(each),
                "not_known": _not_known(each),
            }
        )
    return rows


def by_target(found: Backtest) -> list[Row]:
    """One row a target."""
    return [
        {
            "target": each.target,
            "in_force": each.in_force,
            "requests": f"{each.spent.requests:,}",
            "spent": money(each.spent.usd),
            "saved": within(each.decided.saving, money),
            "saved_share": within(each.decided.saving_share, percent),
            "quality": _quality(each.decided),
            "not_known": _not_known(each.decided),
            "in_hindsight": f"{each.best.name}: {within(each.best.saving, money)}",
            "comparison": each.basis,
        }
        for each in found.targets
    ]


def decisions(found: Backtest) -> list[Row]:
    """One row a decision, oldest first."""
    return [
        {
            "at": f"{each.at:%Y-%m-%d %H:%M}",
            "target": each.target,
            "change": f"{each.baseline} -> {each.candidate}",
            "outcome": each.outcome,
            "promoted": "" if each.promoted_at is None else f"{each.promoted_at:%Y-%m-%d %H:%M}",
            "canary_requests": f"{each.canary_requests:,}",
            "saved": within(each.worth.saving, money),
            "why": each.why,
        }
        for each in found.decisions
    ]


def refusals(rows: Sequence[Refused]) -> list[Row]:
    """One row for each target, arm and reason."""
    return [
        {
            "target": each.target,
            "arm": each.arm,
            "reason": each.reason,
            "hours": each.hours,
            "last_said": each.detail,
        }
        for each in rows
    ]


def left(found: Backtest) -> list[Row]:
    """Why each arm was left in most of the hours in which it was."""
    longest: dict[tuple[str, str], Refused] = {}
    for each in found.left:
        key = (each.target, each.arm)
        if key not in longest or each.hours > longest[key].hours:
            longest[key] = each
    return refusals([longest[key] for key in sorted(longest)])


def read_rows(found: Backtest) -> str:
    """What became of the rows that were read."""
    aside = ", ".join(f"{n:,} {reason}" for reason, n in found.set_aside.items()) or "none"
    return f"{found.rows:,} rows read, {found.duplicates:,} of them repeated; set aside: {aside}"


def markdown(found: Backtest) -> str:
    """The page that a run leaves in the UI."""
    sections = {
        "What would have been saved": yardsticks(found),
        "By target": by_target(found),
        "Decisions": decisions(found),
        "Refused proposals": refusals(found.refused),
        "Arms that were left, and why for most hours": left(found),
    }
    lines = [f"# Backtest: {headline(found)}", ""]
    for title, rows in sections.items():
        lines += [f"## {title}", "", *(_table(rows) or ["None."]), ""]
    lines += ["## Before you believe it", ""]
    lines += [f"- {note}" for note in found.notes]
    lines += [f"- {target} could not be decided on: {why}" for target, why in found.failed.items()]
    return "\n".join([*lines, f"- {read_rows(found)}.", ""])


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    names = list(rows[0])
    head = [" | ".join(name.replace("_", " ") for name in names), "|".join(["---"] * len(names))]
    body = [" | ".join(str(value).replace("|", "\\|") for value in row.values()) for row in rows]
    return [f"| {line} |" for line in (*head, *body)]


def _quality(each: Outlook) -> str:
    text = within(each.quality, points)
    partly = not math.isnan(each.quality_known) and 0.0 < each.quality_known < 1.0
    return f"{text}, known of {percent(each.quality_known)}" if partly else text


def _not_known(each: Outlook) -> str:
    """The part that the log cannot tell."""
    if not each.unknown_requests:
        return "nothing"
    return f"{each.unknown_requests:,.0f} requests that cost {money(each.unknown_usd)}"
