"""Whether the provider lets the candidate carry all of the target's traffic, on its busiest hour.

The mean rate of the busiest hour says nothing of the bursts within it; the policy's factor is for
those, and for growth.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from optimizer.cycle.case import Case, Peak
from optimizer.metrics import HOUR_S

MINUTES = HOUR_S // 60


@dataclass(frozen=True, slots=True)
class _Limit:
    name: str
    limit: float | None
    peak: float | None


def peaks(hours: pd.DataFrame) -> Mapping[str, Peak]:
    """The busiest hour of each target; no traffic, no entry.

    Tokens of requests that did not tell theirs are taken to be as many as those of the others.
    """
    columns = ["n", "n_tokens", "input_tokens", "output_tokens"]
    sums = hours.groupby(["target", "window_start_s"], observed=True)[columns].sum()
    sums = sums[sums["n"] > 0]
    told = sums["n_tokens"].where(sums["n_tokens"] > 0)
    tokens = (sums["input_tokens"] + sums["output_tokens"]) * (sums["n"] / told)
    found = pd.DataFrame({"n": sums["n"], "tokens": tokens}).groupby("target", observed=True).max()
    return {
        str(name): Peak(
            requests_per_hour=float(row["n"]),
            tokens_per_hour=None if pd.isna(row["tokens"]) else float(row["tokens"]),
        )
        for name, row in found.to_dict("index").items()
    }


def headroom(case: Case) -> str | None:
    """A rate limit that the busiest hour would break at full share, or nobody knows whether."""
    if case.offers is None:
        return None
    peak = case.peak
    for each in (
        _Limit(
            "requests_per_minute",
            case.offers.requests_per_minute,
            None if peak is None else peak.requests_per_hour,
        ),
        _Limit(
            "tokens_per_minute",
            case.offers.tokens_per_minute,
            None if peak is None else peak.tokens_per_hour,
        ),
    ):
        reason = _beyond(case, each)
        if reason is not None:
            return reason
    return None


def _beyond(case: Case, limit: _Limit) -> str | None:
    if limit.limit is None:
        return None
    told = f"{limit.name} of {case.proposal.candidate}"
    if limit.peak is None:
        # A way out of an unsafe arm is not closed by traffic nobody has counted.
        if case.proposal.urgent:
            return None
        return f"{told} limited to {limit.limit:g}, and the busiest hour is unknown"
    expected = limit.peak / MINUTES * case.policy.peak_factor
    if expected <= limit.limit:
        return None
    return (
        f"{told} expected {expected:.4g} in the busiest hour x {case.policy.peak_factor:g}, "
        f"limit {limit.limit:g}"
    )
