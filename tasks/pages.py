"""The text of artifacts: pure functions from what a run saw to tables and markdown."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from optimizer.decision import Decision, Event
from optimizer.evidence import Check, Impact, Proposal
from optimizer.loop.evaluate import Assessment
from optimizer.ports import Look
from optimizer.report.tails import Tails, sentence


def summary(flow: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    """The run in numbers, as it is stored with the run."""
    observed, decided = parts["observed"], parts.get("decided")
    assessed: Sequence[Assessment] = parts["assessed"]
    return {
        "flow": flow,
        "rows": sum(pull.n_rows for pull in observed.pulls),
        "duplicates": sum(pull.n_duplicates for pull in observed.pulls),
        "quarantined": sum(pull.n_quarantined for pull in observed.pulls),
        "windows": observed.aggregated.n_windows,
        "absent_sources": dict(observed.absent),
        "reconciled": dict(Counter(finding.kind for finding in parts["findings"])),
        "insights": len(parts.get("insights", ())),
        "proposals": 0 if decided is None else len(decided.plan.outcomes),
        "decisions": 0 if decided is None else len(decided.created),
        "in_flight": len(assessed),
        "experiments": dict(Counter(item.what for item in parts.get("tried", ()))),
        "moves": dict(Counter(item.step.move.value for item in assessed)),
        "started": {item.decision_id: item.how for item in parts["moved"]},
    }


def headline(numbers: Mapping[str, Any]) -> str:
    """The run in one line."""
    return (
        f"{numbers['rows']} rows, {numbers['quarantined']} set aside, "
        f"{numbers['insights']} insights, {numbers['decisions']} new decisions, "
        f"{numbers['in_flight']} in flight"
    )


def in_flight_rows(assessed: Sequence[Assessment]) -> list[dict[str, Any]]:
    """One row per decision in flight."""
    return [
        {
            "target": item.decision.target,
            "change": f"{item.decision.baseline} -> {item.decision.candidate}",
            "state": item.decision.state.value,
            "stage": item.decision.stage,
            "verdict": "" if item.verdict is None else item.verdict.outcome.value,
            "next": item.step.move.value,
            "why": item.step.reason,
            "decision": item.decision.id,
        }
        for item in assessed
    ]


def cycle_page(parts: Mapping[str, Any], numbers: Mapping[str, Any]) -> str:
    """The markdown page of one hourly cycle."""
    lines = [f"# Cycle: {headline(numbers)}", ""]
    absent = numbers["absent_sources"]
    if absent:
        lines += ["## Sources that stayed away (their targets are held)", ""]
        lines += [f"- **{name}**: {why}" for name, why in absent.items()] + [""]
    outcomes: Sequence[tuple[Proposal, str, str]] = parts["decided"].plan.outcomes
    if outcomes:
        lines += ["## Proposals", "", "| target | candidate | strategy | outcome | why |"]
        lines += ["|---|---|---|---|---|"]
        lines += [
            f"| {p.target} | {p.candidate} | {p.strategy} | {outcome} | {reason or p.rationale} |"
            for p, outcome, reason in outcomes
        ]
        lines.append("")
    if parts.get("tried"):
        lines += ["## Experiments", ""]
        lines += [
            f"- {item.experiment.target}: {item.experiment.name} is "
            f"{item.experiment.state.value} ({item.what}) {item.reason}"
            for item in parts["tried"]
        ]
        lines.append("")
    insights = parts["insights"]
    loud = [item for item in insights if item.severity.value != "info"]
    if loud:
        lines += ["## Insights", ""]
        lines += [f"- **{i.severity.value}** {i.target}: {i.title}. {i.description}" for i in loud]
        lines.append("")
    findings = parts["findings"]
    if findings:
        lines += ["## Gateways", ""]
        lines += [f"- {f.target}: {f.kind} ({f.detail})" for f in findings]
    return "\n".join(lines)


def decision_page(
    decision: Decision, events: Sequence[Event], looks: Sequence[Look], tails: Sequence[Tails]
) -> str:
    """The markdown evidence page of one decision."""
    lines = [
        f"# {decision.target}: {decision.baseline} → {decision.candidate}",
        "",
        f"**{decision.state.value}** · {decision.reason or decision.rationale}",
        "",
        f"Expected: {impact_text(decision.expected)}  ",
        f"Realised: {impact_text(decision.actual)}",
        "",
    ]
    if looks:
        last = looks[-1]
        lines += [f"## Last look, {last.at:%Y-%m-%d %H:%M} UTC", "", last.verdict.sentence, ""]
        lines += ["| metric | outcome | harm | limits | margin | canary | control |"]
        lines += ["|---|---|---|---|---|---|---|"]
        lines += [_check_row(check) for check in last.verdict.checks] + [""]
    if tails:
        last_tails = sentence(tails[-1])
        lines += [f"For reading, it does not decide: 95 % of the answers came within {last_tails}."]
        lines += [""]
    lines += ["## Log", "", "| # | when | event | by | why | hash |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {e.seq} | {e.at:%m-%d %H:%M} | {e.kind}: {e.from_state.value} → {e.to_state.value} "
        f"| {e.actor} | {e.reason} | `{e.hash[:12]}` |"
        for e in events
    ]
    lines += ["", f"Undo: `llmopt rollback {decision.id} --reason …`"]
    return "\n".join(lines)


def _check_row(check: Check) -> str:
    estimate = check.estimate
    canary = "" if estimate is None else number(estimate.canary)
    control = "" if estimate is None else number(estimate.control)
    return (
        f"| {check.metric} ({check.role}) | {check.outcome.value} | {number(check.harm)} "
        f"| [{number(check.harm_lower)}, {number(check.harm_upper)}] | {number(check.margin)} "
        f"| {canary} | {control} |"
    )


def number(value: float | None) -> str:
    """Four significant digits; a dash for what is not known."""
    return "–" if value is None else f"{value:.4g}"


def impact_text(impact: Impact | None) -> str:
    """An impact in words."""
    if impact is None or impact.cost_reduction_pct is None:
        return "not known yet"
    text = f"{impact.cost_reduction_pct:+.1f} % saved"
    if impact.cost_reduction_lower_pct is not None and impact.cost_reduction_upper_pct is not None:
        low, high = impact.cost_reduction_lower_pct, impact.cost_reduction_upper_pct
        text += f" [{low:+.1f}, {high:+.1f}]"
    if impact.quality_delta is not None:
        text += f", quality {impact.quality_delta:+.3f}"
        if impact.quality_delta_lower is not None and impact.quality_delta_upper is not None:
            text += f" [{impact.quality_delta_lower:+.3f}, {impact.quality_delta_upper:+.3f}]"
    return f"{text} ({impact.method})" if impact.method else text
