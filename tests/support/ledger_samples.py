"""What the ledger's tests put in: hand-made records, and any record by Hypothesis."""

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

import pandas as pd
from hypothesis import strategies as st

from optimizer.aggregates import CLUSTERS, HISTOGRAM, KEYS, SUMS
from optimizer.allocation import Allocation, canary, whole
from optimizer.decision import FINAL, Decision, Event, State, amend
from optimizer.evidence import DecisionId, Impact, Proposal, ProposalId, RampPlan
from optimizer.ports import Intake, Intent, SpoolFile
from optimizer.storage import SqlLedger

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
T = TypeVar("T")

# PostgreSQL's text holds neither NUL nor half a surrogate pair.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
NUMBERS = st.integers(0, 2**53)
INSTANTS = st.datetimes(
    datetime(1990, 1, 1),  # noqa: DTZ001 - Hypothesis adds the zone
    datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: NUMBERS,
    bool: st.booleans(),
    float: st.floats(allow_nan=False),
    datetime: INSTANTS,
    object: PLAIN,
    Any: PLAIN,
}


def decision(name: str = "d1", target: str = "chat", **changes: Any) -> Decision:  # noqa: ANN401
    first = Decision(
        id=DecisionId(name),
        proposal_id=ProposalId(f"p-{name}"),
        target=target,
        strategy="pareto",
        baseline="large",
        candidate="small",
        rationale="cheaper at equal quality",
        expected=Impact(cost_reduction_pct=30.0),
        created_at=NOW,
        created_by="optimize",
        config_hash="c0ffee",
    )
    return replace(first, **changes)


def event(of: Decision, *, to: State | None = None, **changes: Any) -> Event:  # noqa: ANN401
    first = Event(
        decision_id=of.id,
        seq=0,
        at=NOW,
        kind="transition",
        from_state=of.state,
        to_state=to or of.state,
        actor="optimize",
        reason="because",
    )
    return replace(first, **changes)


def intent(of: Decision, generation: int = 1, **changes: Any) -> Intent:  # noqa: ANN401
    first = Intent(
        key=f"{of.id}:{generation}",
        decision_id=of.id,
        target=of.target,
        move="advance",
        allocation=canary(
            of.target,
            baseline=of.baseline,
            candidate=of.candidate,
            share=0.05,
            control_share=0.05,
            generation=generation,
            salt="s",
            decision_id=of.id,
        ),
        then_state=State.DEPLOYED,
        then_stage=0,
        reason="every check passes",
        created_at=NOW,
    )
    return replace(first, **changes)


def stored(ledger: SqlLedger, name: str = "d1", **changes: Any) -> Decision:  # noqa: ANN401
    """A decision that is in the ledger."""
    made = decision(name, **changes)
    assert ledger.decisions.create(made, [event(made)])
    return made


def completed(ledger: SqlLedger, name: str, **changes: Any) -> Decision:  # noqa: ANN401
    made = stored(ledger, name, **changes)
    done = amend(made, state=State.COMPLETED, ended_at=NOW)
    ledger.decisions.update(done, [event(done)], lease=None)
    return done


def intake(version: int = 0, **changes: Any) -> Intake:  # noqa: ANN401
    first = Intake(
        source="logs",
        expected_version=version,
        cursor={"offset": 10},
        files=(),
        dirty_windows=frozenset(),
        n_rows=5,
        n_duplicates=1,
        n_quarantined=2,
        n_late=3,
        newest_s=1_000,
        at=NOW,
    )
    return replace(first, **changes)


def spool_file(name: str, min_s: int, max_s: int, dataset: str = "calls") -> SpoolFile:
    return SpoolFile(name=name, dataset=dataset, source="logs", n_rows=1, min_s=min_s, max_s=max_s)


def grains(*keys: tuple[str, str, str, int], n: int = 1) -> pd.DataFrame:
    """A frame of aggregates with one row per key, each sum different."""
    frame = pd.DataFrame(list(keys), columns=list(KEYS))
    frame = frame.astype({"target": "str", "arm": "str", "slice": "str", "window_start_s": "int64"})
    for place, name in enumerate(SUMS):
        frame[name] = pd.Series(range(len(keys)), dtype="int64") + n * 2**40 + place
    for place, name in enumerate((HISTOGRAM, CLUSTERS)):
        frame[name] = pd.Series([bytes([0, place, 255])] * len(keys), dtype="object")
    return frame


def of(kind: Any, **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:  # noqa: ANN401
    """Any value of that type; ``fixed`` names a dataclass's fields that are drawn otherwise."""
    if kind is Allocation:
        return allocations()
    if kind is RampPlan:
        return ramp_plans()
    if kind is Proposal:
        fixed = {"p_value": st.none() | st.floats(0.0, 1.0), **fixed}
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        drawn = {f.name: fixed.get(f.name, of(hints[f.name])) for f in fields(kind)}
        return st.builds(kind, **drawn)
    if isinstance(kind, NewType):
        return of(kind.__supertype__)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    return SCALARS[kind] if kind in SCALARS else _generic(kind)


def _generic(kind: Any) -> st.SearchStrategy[Any]:  # noqa: ANN401
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return st.none() | of(next(part for part in inner if part is not types.NoneType))
    if origin is tuple:
        return st.lists(of(inner[0]), max_size=2).map(tuple)
    assert issubclass(origin, Mapping)
    return st.dictionaries(TEXT, of(inner[1]), max_size=2)


def decisions() -> st.SearchStrategy[Decision]:
    """Any decision; its names are drawn, and its target with them."""
    drawn: st.SearchStrategy[Decision] = of(
        Decision,
        baseline=st.just("large"),
        candidate=TEXT.filter(lambda name: name != "large"),
        stage=st.integers(-1, 9),
        abort_to=st.none() | st.sampled_from(sorted(FINAL, key=lambda state: state.value)),
    )
    return drawn


def ramp_plans() -> st.SearchStrategy[RampPlan]:
    sizes = st.floats(0.0, exclude_min=True, allow_nan=False, allow_infinity=False)

    def made(hours: float, requests: list[float], measured: dict[str, float]) -> RampPlan:
        fewest, most = sorted(requests)
        return RampPlan(hours=hours, requests=fewest, extended=most, measured=measured)

    shares = st.dictionaries(TEXT, st.floats(0.0, 1.0), max_size=3)
    return st.builds(made, sizes, st.lists(sizes, min_size=2, max_size=2), shares)


def allocations(target: str = "chat", generation: int = 1) -> st.SearchStrategy[Allocation]:
    shares = st.floats(0.001, 0.4)
    split = st.builds(
        canary,
        target=st.just(target),
        baseline=TEXT,
        candidate=TEXT,
        share=shares,
        control_share=shares,
        generation=st.just(generation),
        salt=TEXT,
        decision_id=TEXT,
    )
    return split | st.builds(
        whole, target=st.just(target), arm=TEXT, generation=st.just(generation)
    )
