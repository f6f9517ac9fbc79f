"""Many rollouts at once are judged as each alone, by objects like those made one by one."""

import copy
import gc
import json
import pickle
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, asdict, fields, replace
from datetime import timedelta
from itertools import repeat

import numpy as np
import pandas as pd
import pytest

from optimizer.aggregates import CLUSTERS, HISTOGRAM
from optimizer.evidence import (
    Check,
    DecisionId,
    Estimate,
    Looks,
    Outcome,
    RampPlan,
    Reason,
    Verdict,
)
from optimizer.judge import Case, buckets, histograms, judge, verdicts
from optimizer.judge.bulk import build
from rollouts import T0, World, case, grains

WINDOWS = 6
TARGETS = tuple(f"t{number}" for number in range(7))
END = T0 + WINDOWS * timedelta(minutes=5)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Sessions and single requests, sick arms and healthy ones, of unlike sizes."""
    rng = np.random.default_rng(3)
    parts = []
    for number, target in enumerate(TARGETS):
        world = World(
            requests=(40.0 + 200.0 * number, 40.0 + 150.0 * number),
            failure=(0.01, 0.01 * (1 + number % 3)),
            session=6.0 if number % 2 else 1.0,
        )
        parts.append(grains(rng, world, windows=WINDOWS).assign(target=target))
    return pd.concat(parts, ignore_index=True)


def rollouts() -> list[Case]:
    plain = case()
    return [
        replace(
            plain, decision=replace(plain.decision, id=DecisionId(f"d-{target}"), target=target)
        )
        for target in TARGETS
    ]


def judged(cases: list[Case], frame: pd.DataFrame) -> dict[str, Verdict]:
    return {str(key): each for key, each in judge(cases, frame, now=END, data_until=END).items()}


@pytest.mark.parametrize("cases_at_once", [1, 2, 100])
@pytest.mark.parametrize("rows_at_once", [1, 5, 1_000])
def test_a_verdict_does_not_depend_on_what_is_read_together(
    frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, cases_at_once: int, rows_at_once: int
) -> None:
    whole = judged(rollouts(), frame)

    monkeypatch.setattr(buckets, "CASES_AT_ONCE", cases_at_once)
    monkeypatch.setattr(verdicts, "CASES_AT_ONCE", 3 * cases_at_once)
    monkeypatch.setattr(buckets, "ROWS_AT_ONCE", rows_at_once)
    monkeypatch.setattr(histograms, "ROWS_AT_ONCE", rows_at_once)

    assert judged(rollouts(), frame) == whole
    assert len({verdict.sentence.partition(": ")[2] for verdict in whole.values()}) > 1


def test_a_verdict_does_not_depend_on_the_others(frame: pd.DataFrame) -> None:
    together = judged(rollouts(), frame)

    alone = [judged([each], frame) for each in rollouts()]

    assert {key: verdict for each in alone for key, verdict in each.items()} == together


def test_the_unreadable_rollout_alone_is_not_understood(frame: pd.DataFrame) -> None:
    broken, whole = frame.copy(), judged(rollouts(), frame)
    row = int(np.flatnonzero(frame["target"] == TARGETS[2])[0])
    broken[CLUSTERS] = [
        b"\x01junk" if at == row else code for at, code in enumerate(frame[CLUSTERS])
    ]
    short = int(np.flatnonzero(frame["target"] == TARGETS[4])[0])
    broken[HISTOGRAM] = [
        code[:-3] if at == short else code for at, code in enumerate(frame[HISTOGRAM])
    ]

    found = judged(rollouts(), broken)

    changed = {key for key, verdict in found.items() if verdict != whole[key]}
    assert changed == {f"d-{TARGETS[2]}", f"d-{TARGETS[4]}"}
    assert found[f"d-{TARGETS[4]}"].reason is Reason.NON_FINITE


def test_what_is_made_in_bulk_is_what_is_made_singly(frame: pd.DataFrame) -> None:
    for verdict in judged(rollouts(), frame).values():
        again = replace(verdict, checks=tuple(map(_again, verdict.checks)))

        assert again == verdict
        assert hash(again) == hash(verdict)
        assert pickle.loads(pickle.dumps(verdict)) == copy.deepcopy(verdict) == verdict  # noqa: S301
        assert {type(check.detail) for check in verdict.checks} == {str}
        assert json.loads(json.dumps(asdict(verdict), default=str))["checks"]
        with pytest.raises(FrozenInstanceError):
            verdict.checks[0].detail = "else"  # type: ignore[misc]


def _again(check: Check) -> Check:
    """The same check, made by its class."""
    made = Check(**{each.name: getattr(check, each.name) for each in fields(check)})
    one = check.estimate
    if one is None:
        return made
    values = {each.name: getattr(one, each.name) for each in fields(one)}
    return replace(made, estimate=Estimate(**values))


def test_a_class_that_checks_its_fields_is_not_made_in_bulk() -> None:
    with pytest.raises(TypeError, match="RampPlan checks its fields"):
        build(RampPlan, hours=[0.0], requests=[1.0], extended=[1.0])


def test_columns_are_named_as_fields_and_equally_long() -> None:
    with pytest.raises(TypeError, match=r"Looks has no \['when'\]"):
        build(Looks, when=[1])
    with pytest.raises(TypeError, match=r"Check lacks \['outcome', 'role'\]"):
        build(Check, metric=["cost_usd"])
    with pytest.raises(ValueError, match="equally long"):
        build(Looks, spent=[0.1, 0.2], crossings=[1])


def test_what_is_not_named_has_its_default() -> None:
    made = build(Looks, spent=[0.1, 0.2], crossings=repeat(1))

    assert made == [Looks(spent=0.1, crossings=1), Looks(spent=0.2, crossings=1)]


@pytest.fixture
def collecting() -> Iterator[None]:
    """The collector as it was, whatever a test does to it."""
    worked = gc.isenabled()
    yield
    (gc.enable if worked else gc.disable)()


@pytest.mark.usefixtures("collecting")
@pytest.mark.parametrize("works", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_the_collector_of_cycles_goes_on_as_before(
    frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, *, works: bool, fails: bool
) -> None:
    meanwhile = []

    def collect(*_: object, **__: object) -> None:
        meanwhile.append(gc.isenabled())
        raise MemoryError

    if fails:
        monkeypatch.setattr(verdicts, "collect", collect)
    (gc.enable if works else gc.disable)()

    try:
        found = judged(rollouts(), frame)
    except MemoryError:
        assert meanwhile == [False]
    else:
        assert not fails
        assert {each.outcome for each in found.values()} <= set(Outcome)

    assert gc.isenabled() is works
