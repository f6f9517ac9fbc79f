"""The rules a row must keep, as SQL; the first one it breaks is the reason it is set aside.

A value that is merely absent breaks no rule unless the column is required: empty, NULL and NaN are
unknown, and so is a latency of 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from optimizer.engine.columns import Plan
from optimizer.engine.duck import literal, quoted
from optimizer.engine.moments import lacks_zone
from optimizer.observations import LIKES, Kind, QuarantineReason, ScoreScale

Q = QuarantineReason

SLICES: Final = ("baseline", "control", "canary", "experiment")
OK: Final = ("ok", "success", "200")
TIMED_OUT: Final = ("timeout", "504", "408")
MAX_ID_CHARS: Final = 512
_SHOWN_CHARS: Final = 100

_SCALES: Final = {
    ScoreScale.UNIT: (0.0, 1.0, "{x}"),
    ScoreScale.STARS: (1.0, 5.0, "({x} - 1.0) / 4.0"),
    ScoreScale.PERCENT: (0.0, 100.0, "{x} / 100.0"),
    ScoreScale.LIKES: (0.0, 1.0, "{x}"),
    ScoreScale.SIGNALS: (0.0, 1.0, "{x}"),
}
"""Lowest and highest score as written, and its value in [0, 1]."""

_AMOUNTS: Final = {
    "latency_ms": 1e9,
    "input_tokens": 1e9,
    "output_tokens": 1e9,
    "cached_tokens": 1e9,
    "cost_usd": 1e4,
}
"""Largest plausible value; it also keeps sums inside 64 bits."""

_TOKENS: Final = ("input_tokens", "output_tokens", "cached_tokens")
_NUMERIC: Final = {"DOUBLE", "BIGINT"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A row for which ``broken`` holds is set aside with the reason and the detail, both SQL."""

    broken: str
    reason: QuarantineReason
    detail: str


def numbers(plan: Plan) -> list[str]:
    """The numeric columns of the kind."""
    return [column.name for column in plan.columns if column.sql_type in _NUMERIC]


def number(plan: Plan, name: str) -> str:
    """SQL of a numeric column after parsing; NULL and NaN are both unknown."""
    words = _words(plan, name)
    if words is not None:
        cases = (f"WHEN {literal(word)} THEN {score!r}::DOUBLE" for word, score in words.items())
        return f"CASE {_word(name)} {' '.join(cases)} END"
    value = f"TRY_CAST({quoted(name)} AS DOUBLE)"
    return f"CASE WHEN NOT isnan({value}) THEN {value} END"


def _words(plan: Plan, name: str) -> Mapping[str, float] | None:
    """The words that stand for a score in that column; None where it holds numbers."""
    if name not in {"quality", "score"}:
        return None
    if plan.mapped.scale is ScoreScale.LIKES:
        return LIKES
    return plan.mapped.signals if plan.mapped.scale is ScoreScale.SIGNALS else None


def _word(name: str) -> str:
    return f"lower(trim({quoted(name)}))"


def unit_score(scale: ScoreScale, value: str) -> str:
    """SQL of a score in [0, 1]."""
    return _SCALES[scale][2].format(x=value)


def rules_for(plan: Plan) -> list[Rule]:
    """Every rule of the kind, in the order they are tried.

    They read the columns of ``raw``, the parsed ``moment`` and ``x_<number>``, ``is_target`` and
    ``is_arm``, and the bounds ``not_before`` and ``not_after``.
    """
    rules = [
        Rule(broken="bad_reason IS NOT NULL", reason=Q.BAD_LINE, detail="bad_detail"),
        *(
            _rule(Q.MISSING_FIELD, f"{quoted(column.name)} IS NULL", column.name, "is required")
            for column in plan.columns
            if column.required
        ),
        *_moments(),
    ]
    if plan.kind is Kind.CALLS:
        rules += _names()
    rules += [rule for name in numbers(plan) for rule in _number_rules(plan, name)]
    for name in ("request_id", "session_id" if plan.kind is Kind.CALLS else "scorer"):
        rules.append(
            _rule(
                Q.BAD_VALUE,
                f"length({name}) > {MAX_ID_CHARS}",
                name,
                f"is longer than {MAX_ID_CHARS} characters",
            )
        )
    return rules


def problem(rules: list[Rule]) -> str:
    """SQL of ``reason:detail`` for the first broken rule, NULL for a good row."""
    cases = (
        f"WHEN {rule.broken} THEN "
        f"{'bad_reason' if rule.detail == 'bad_detail' else literal(rule.reason.value)}"
        f" || ':' || {rule.detail}"
        for rule in rules
    )
    return f"CASE {' '.join(cases)} END"


def _rule(reason: QuarantineReason, broken: str, name: str, why: str) -> Rule:
    column = quoted(name)
    shown = (
        f"coalesce({literal(f'{name} = ')} || {_shown(column)} || ' ', "
        f"{literal(f'{name} is absent and ')})"
    )
    return Rule(broken=broken, reason=reason, detail=f"{shown} || {literal(why)}")


def _shown(column: str) -> str:
    return f"chr(39) || left({column}, {_SHOWN_CHARS}) || chr(39)"


def _moments() -> list[Rule]:
    rules = [
        _rule(
            Q.NO_TIME_ZONE,
            f"moment IS NULL AND {lacks_zone()}",
            "ts",
            "names no time zone and the source has none configured",
        ),
        _rule(
            Q.BAD_TIMESTAMP,
            "moment IS NULL",
            "ts",
            "is neither ISO 8601 nor Unix seconds or milliseconds",
        ),
    ]
    for reason, broken, why, bound in (
        (Q.FUTURE_TIMESTAMP, "moment > not_after", "is after", "not_after"),
        (Q.ANCIENT_TIMESTAMP, "moment < not_before", "is before", "not_before"),
    ):
        rule = _rule(reason, broken, "ts", f"{why} ")
        rules.append(
            Rule(broken=broken, reason=reason, detail=f"{rule.detail} || {bound}::VARCHAR")
        )
    return rules


def _names() -> list[Rule]:
    slices = ", ".join(map(literal, SLICES))
    of_target = Rule(
        broken="NOT is_arm",
        reason=Q.UNKNOWN_ARM,
        detail=f"'arm = ' || {_shown('arm')} || ' is none of the arms of target ' || target",
    )
    return [
        _rule(Q.UNKNOWN_TARGET, "NOT is_target", "target", "is not configured"),
        of_target,
        _rule(
            Q.BAD_VALUE,
            f"lower(slice) NOT IN ({slices})",
            "slice",
            f"is none of {', '.join(SLICES)}",
        ),
    ]


def _number_rules(plan: Plan, name: str) -> list[Rule]:
    parsed = f"x_{name}"
    low, high = _bounds(plan, name)
    words = _words(plan, name)
    rules = [
        _rule(
            Q.NOT_A_NUMBER,
            f"{quoted(name)} IS NOT NULL AND TRY_CAST({quoted(name)} AS DOUBLE) IS NULL",
            name,
            "is not a number",
        )
        if words is None
        else _rule(
            Q.BAD_VALUE,
            f"{quoted(name)} IS NOT NULL AND {parsed} IS NULL",
            name,
            f"is none of {', '.join(words)}",
        ),
        _rule(
            Q.OUT_OF_RANGE,
            f"NOT ({parsed} BETWEEN {low!r}::DOUBLE AND {high!r}::DOUBLE)",
            name,
            f"lies outside [{low:.10g}, {high:.10g}]",
        ),
    ]
    if name in _TOKENS:
        rules.append(
            _rule(Q.BAD_VALUE, f"{parsed} <> round({parsed})", name, "is not a whole number")
        )
    if name == "propensity":
        rules.append(_rule(Q.OUT_OF_RANGE, f"{parsed} = 0", name, "is not above 0"))
    if name == "score":
        rules.append(_rule(Q.MISSING_FIELD, f"{parsed} IS NULL", name, "is required"))
    return rules


def _bounds(plan: Plan, name: str) -> tuple[float, float]:
    if name in {"quality", "score"}:
        low, high, _ = _SCALES[plan.mapped.scale]
        return low, high
    return 0.0, _AMOUNTS.get(name, 1.0)
