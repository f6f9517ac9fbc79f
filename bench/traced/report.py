"""The tables of the replayed traces."""

from collections.abc import Sequence
from math import isfinite
from typing import Final

from bench.rollouts.coverage import Coverage
from bench.rollouts.running import OURS
from bench.traced.promises import Results, checked
from bench.traced.running import HARMLESS, HARMS, KAYENTA, RIVALS, Tally

RULES: Final = (OURS, *RIVALS, KAYENTA)

SETTING: Final = (
    "Arrivals are real, or follow real clients; answers are measured rows of other sets, since no "
    "public trace has both. A day has 24 looks of 12 windows; the ramp is 5, 10, 25 and 50 % for "
    "six looks each, control as large as the canary. Forecast and slow-request threshold (p95) are "
    "those of the day before. Each split gives every session a random place that decides its arm "
    "for the whole ramp; 25 splits share a day and its outcomes."
)
ARRIVALS: Final = (
    "*Arrivals.* ServeGen: every client is a renewal process with its measured rate by ten "
    "minutes, family and coefficient of variation (median of the day), all rates scaled to the "
    "volume stated; ten consecutive requests of a client are a session, or the client is the unit "
    "where stated. Thirteen days, each after the one before. Azure 2023: the two traces as they "
    "are, every request at its own time, with a look every two and a half minutes; Azure 2024: "
    "the first 24 hours of a thinned sample, whose hourly shape is real and whose noise is not. "
    "Azure's traces name no session: every 50th request (every 5th in 2024) belongs to the same "
    "one until it has ten; they have no day before, so that the forecast is their own volume and "
    "the threshold comes from a second draw of the answers."
)
FAILURES: Final = (
    "*Failures.* LLMPerf: an endpoint fails at its measured share (error 429, or none). Three "
    "saturated endpoints fail 87 % of their requests, the others .1 %; the saturated ones get as "
    "many requests as make 2 % in all. Each request meets any endpoint or, where endpoints are "
    "kept, all of a session meet one."
)
LATENCIES: Final = (
    "*Latencies.* LLMPerf, rows of the same endpoint; on m-large 2,000/h CodeRouterBench, each "
    "request its own kind of task; on Azure 2023 chat TheFastest.ai, time to first token, each "
    "request its own model and region. Zeros are missing. Failures count as slow."
)
COSTS: Final = (
    "*Cost.* Azure's own tokens; on ServeGen the client's mean tokens, spread around it as in "
    "Azure 2023 chat; .02 and .04 USD a million tokens (input, output), some 1e-5 USD a request."
)
INJECTED: Final = (
    "*Harm.* Injected into the canary alone: some of its answers fail at random, or all its "
    "latencies or costs are multiplied."
)
FALSE_TEXT: Final = (
    "False roll-backs, %, without harm, with 95 % Wilson limits. This project: failures, slow "
    "requests, cost and the guard that looks at every window, with the default split of the error "
    "(quality's part goes unused); the others see failures alone, with requests as units:"
)
FEW_CLIENTS: Final = (
    "The split by client is shown, not promised: a few clients are most of the traffic, so that "
    "two arms of many clients still compare a handful, and no variance can be told from so few."
)
DAYS_DIFFER: Final = (
    "What is caught depends on the day, for a quiet one has fewer requests; limits of these "
    "shares, where given, are those of the days replayed."
)
COVERAGE_TEXT: Final = (
    "Limits of the p95 latency at the 24 looks of a canary, rows drawn independently: the "
    "project's, promised at all looks together, and for contrast limits for one look (binomial "
    "ranks):"
)
ATTRIBUTION: Final = (
    "Data: Azure Public Dataset, Microsoft, "
    "[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/), compressed and otherwise "
    "unchanged (2023: Patel et al., Splitwise, ISCA 2024; 2024: Stojkovic et al., DynamoLLM, HPCA "
    "2025, thinned); here its requests are split at random and given answers from other sets. "
    "ServeGen, Alibaba, Apache-2.0. LLMPerf leaderboard, Ray project, Apache-2.0. CodeRouterBench, "
    "arXiv 2606.22902, MIT. TheFastest.ai, Fixie, MIT."
)


def markdown(results: Results) -> str:
    """The section of the documentation."""
    quick = " --quick" if results.quick else ""
    return "\n\n".join(
        [
            "## Replayed traffic",
            f"Made by `python -m bench traces --data DIR{quick}`. {SETTING}",
            ARRIVALS,
            FAILURES,
            LATENCIES,
            COSTS,
            INJECTED,
            FALSE_TEXT,
            _false(results),
            FEW_CLIENTS,
            "Injected harm: caught, %, and median canary requests at the roll-back:",
            _harms(results),
            DAYS_DIFFER,
            "The rivals on the same failures, those that break their promise above included:",
            _rivals(results),
            COVERAGE_TEXT,
            _coverage(results),
            "What must hold:",
            "\n".join(f"- {gate}" for gate in checked(results)),
            ATTRIBUTION,
        ]
    )


def _worlds(results: Results) -> list[str]:
    return list(dict.fromkeys(t.world for t in results.tallies))


def _find(results: Results, world: str, rule: str, harm: str) -> Tally | None:
    return next(iter(results.of(rule, harm, (world,))), None)


def _false(results: Results) -> str:
    lines = _head(["world", "splits", "canary requests of a ramp", *RULES])
    for world in _worlds(results):
        found = [_find(results, world, rule, HARMLESS) for rule in RULES]
        ours = found[0]
        if ours is not None:
            lines.append(
                _row([world, f"{ours.splits:,}", f"{ours.planned:,.0f}", *map(_share, found)])
            )
    return "\n".join(lines)


def _share(tally: Tally | None) -> str:
    if tally is None:
        return ""
    low, high = tally.limits
    of = f" of {tally.splits}" if tally.rule == KAYENTA else ""
    return f"{100 * tally.share:.1f}{of} [{100 * low:.1f}, {100 * high:.1f}]"


def _harms(results: Results) -> str:
    harms = [harm for harm in HARMS if harm != HARMLESS]
    lines = _head(["world", *harms])
    for world in _worlds(results):
        cells = [_caught(_find(results, world, OURS, harm)) for harm in harms]
        lines.append(_row([world, *cells]))
    return "\n".join(lines)


def _rivals(results: Results) -> str:
    harms = [harm for harm in HARMS if harm.startswith("failures")]
    lines = _head(["world", "rule", *harms])
    for world in _worlds(results):
        for rule in (*RIVALS, KAYENTA):
            found = [_find(results, world, rule, harm) for harm in harms]
            if any(found):
                lines.append(_row([world, rule, *map(_caught, found)]))
    return "\n".join(lines)


def _caught(tally: Tally | None) -> str:
    if tally is None:
        return ""
    after = f", {tally.requests:,.0f}" if isfinite(tally.requests) else ""
    return f"{100 * tally.share:.1f}{after}"


def _coverage(results: Results) -> str:
    lines = _head(["limits of", "canaries", "all looks together, %", "limits for one look, %"])
    once = {each.name: each for each in results.covered.contrast}
    for each in results.covered.promised:
        other = once.get(each.name)
        lines.append(
            _row([each.name, f"{each.rollouts:,}", _held(each), _held(other) if other else ""])
        )
    return "\n".join(lines)


def _held(each: Coverage) -> str:
    low, high = each.limits
    return f"{100 * each.share:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _head(names: Sequence[str]) -> list[str]:
    return [_row(names), "|---" * len(names) + "|"]


def _row(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"
