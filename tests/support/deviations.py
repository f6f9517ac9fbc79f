"""Where this project decides otherwise than other canary tools, on purpose, row by row.

A row is named ``tool/table/row``. Every row of every published table either agrees, or stands here
with its reason; one that stands here and agrees is as wrong as one that differs and does not.
A name that ends in ``*`` stands for all rows that begin with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

LESS_IS_NO_HARM: Final = "an amount has one harmful side, so less of it is never called worse"
ALIKE: Final = "an arm whose requests are all alike has no variance, and none is not certainty"
NO_EVIDENCE: Final = "nothing measured never passes"
NO_SCORE: Final = "there is no score to set a threshold on: every guardrail must hold"
MISSING_FIRST: Final = "both hold; of two reasons to hold, missing data are named first"
SPLIT_HOLDS: Final = "a broken split always holds, and the hold expires into a roll-back"

DEVIATIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "kayenta/classifier/3": LESS_IS_NO_HARM,
        "kayenta/classifier/15": LESS_IS_NO_HARM,
        "kayenta/classifier/17": LESS_IS_NO_HARM,
        "kayenta/classifier/26": NO_EVIDENCE,
        "kayenta/classifier/29": ALIKE,
        "kayenta/classifier/30": ALIKE,
        "kayenta/classifier/31": ALIKE,
        "kayenta/classifier/32": LESS_IS_NO_HARM,
        "kayenta/classifier/33": ALIKE,
        "kayenta/classifier/36": LESS_IS_NO_HARM,
        "kayenta/scorer/Two Groups, one Pass, one Nodata": NO_EVIDENCE,
        "kayenta/scorer/Two Groups, Three Metrics": NO_SCORE,
        "users/Mann-Whitney with sparse data": (
            "four errors against none happen by chance in one of sixteen equal pairs"
        ),
        "users/7 of 10 points x100, still Pass": ALIKE,
        "users/8 of 10 points x100": ALIKE,
        "users/Case 1: increase in metric variability": (
            "guardrails are on means, and this mean falls by three quarters"
        ),
        "pipecd/deviation as unexpected": ALIKE,
        "pipecd/the data points is empty": NO_EVIDENCE,
        "growthbook/SRM failure, srmAction=rollback": SPLIT_HOLDS,
        "growthbook/SRM failure, srmAction=warn": SPLIT_HOLDS,
        "growthbook/traffic>0 and SRM rollback": SPLIT_HOLDS,
        "growthbook/no traffic, 25h elapsed, action=hold": (
            "a hold without evidence always expires into a roll-back"
        ),
        "growthbook/no traffic, 25h elapsed, action=warn": NO_EVIDENCE,
        "growthbook/minSampleSize met (100 of 50)": (
            "fifty sessions an arm fill fewer hash buckets than a variance is read from"
        ),
        "flagger/canary happy path (stepWeight 100, stepWeightPromotion 50)": (
            "a canary takes at most half, since its control takes as much, and is promoted by name"
        ),
        "argo/metric state/1": NO_EVIDENCE,
        "argo/order/Pending+Inconclusive": MISSING_FIRST,
        "argo/order/Pending+Error": MISSING_FIRST,
        "argo/not a number/0": "an unusable number never passes, whatever the operator would allow",
        "argo/not a number/2": "an unusable number is not known to be harm",
        "argo/not a number/4": NO_EVIDENCE,
        "argo/not a number/5": "nothing measured is not known to be harm",
    }
)
"""Rows that are decided otherwise."""

NOT_COMPARABLE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "kayenta/run/*": NO_SCORE,
        "kayenta/end to end/muted-metric-analysis-case": (
            "what is not required is not in the policy, and is not muted there"
        ),
        "growthbook/multiple exposures, action=rollback": (
            "a session keeps its arm by its hash, so no share of sessions with two arms is measured"
        ),
        "flagger/new revision during analysis resets": (
            "a decision's arms are fixed; another candidate is another decision"
        ),
        "flagger/primary not ready while Promoting: keep canary": (
            "promotion copies nothing over the baseline, which stays ready"
        ),
        "flagger/primary fails after traffic moved (Finalising): move back to canary": (
            "promotion copies nothing over the baseline, so traffic never moves to a copy"
        ),
        "argo/metric state/*": (
            "a verdict is drawn anew from all evidence; no measurements are counted against limits"
        ),
        "argo/condition/3": "a guardrail has both limits, never one condition alone",
        "argo/condition/4": "a guardrail has both limits, never one condition alone",
        "argo/condition/5": "a guardrail has both limits, never none",
        "argo/condition/6": "there are no expressions; a policy that names no metric is not built",
        "argo/condition/7": "there are no expressions; a policy that names no metric is not built",
        "argo/not a number/3": "aggregates are whole numbers, so infinity cannot be stored",
    }
)
"""Rows that have no counterpart here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many rows of a table agree, deviate as declared, and cannot be compared."""

    agree: int
    deviate: int
    not_comparable: int


def tally(table: str, agrees: Mapping[str, bool | None]) -> Tally:
    """The count of a table's rows, once all differences are declared and all declared ones differ.

    Args:
        table: how the names of its rows begin, up to a slash.
        agrees: for each row, named within the table, whether both decide alike; None where the row
            has no counterpart.

    Raises:
        AssertionError: naming the rows that are declared wrongly or not at all.
    """
    rows = {f"{table}/{name}": agreed for name, agreed in agrees.items()}
    differing = {name for name, agreed in rows.items() if agreed is False}
    beyond = {name for name, agreed in rows.items() if agreed is None}
    declared = {name for name in DEVIATIONS if name.startswith(f"{table}/")}
    excused = {name for name in rows if any(_covers(each, name) for each in NOT_COMPARABLE)}
    unused = {
        name
        for name in NOT_COMPARABLE
        if name.startswith(f"{table}/") and not any(_covers(name, row) for row in beyond)
    }
    wrong = {
        "differ and are not declared": differing - declared,
        "are declared and do not differ": declared - differing,
        "have no counterpart and no reason": beyond - excused,
        "are excused and compared": (rows.keys() & NOT_COMPARABLE.keys()) - beyond | unused,
    }
    problems = {what: sorted(names) for what, names in wrong.items() if names}
    if problems:
        raise AssertionError(f"rows of {table}: {problems}")
    found = Tally(
        agree=sum(agreed is True for agreed in rows.values()),
        deviate=len(differing),
        not_comparable=len(beyond),
    )
    print(f"{table}: {found}")  # noqa: T201 - the counts are the report
    return found


def _covers(name: str, row: str) -> bool:
    return row.startswith(name[:-1]) if name.endswith("*") else row == name
