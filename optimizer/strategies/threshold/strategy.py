"""From triggers that fire to a way out for each target, and to what people are told.

The fixed rules that guard safety come before every search for improvement. A rollout in flight is
left to its guard, which rolls it back; here are the targets nobody is changing, whose arm in force
went bad by itself.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from optimizer.evidence import Considered, Insight, Proposal, Scene
from optimizer.metrics import DAY_S
from optimizer.statistics import arms
from optimizer.statistics.arms import Row
from optimizer.strategies.threshold import broken as absolute
from optimizer.strategies.threshold import telling
from optimizer.strategies.threshold.case import Case, ordered
from optimizer.strategies.threshold.changed import NOW, Fired, changed, unknown_pasts
from optimizer.strategies.threshold.proposing import proposal, rejections
from optimizer.strategies.threshold.record import cools, paced, record_of
from optimizer.strategies.threshold.settings import BY_NAME, NAME, Response, Settings
from optimizer.strategies.threshold.ways import Way, options, way


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Proposes a way out where the arm in force provably breaks a limit, or with its own past."""

    settings: Settings = field(default_factory=Settings)

    def __call__(self, scene: Scene, insights: Sequence[Insight]) -> tuple[Proposal, ...]:
        """The proposals, by target."""
        considered = self.consider(scene, insights)
        return tuple(each.proposal for each in considered if each.proposal is not None)

    def tell(self, scene: Scene, insights: Sequence[Insight]) -> tuple[Considered, ...]:
        """As :meth:`consider`: it has something to tell of all that it considers."""
        return self.consider(scene, insights)

    def consider(self, scene: Scene, insights: Sequence[Insight]) -> tuple[Considered, ...]:
        """Every idle target on which something fires or of which nothing is known, by target.

        With a sick target come the arm proposed, if any, and why the others were left.
        """
        now_s, names = int(scene.now.timestamp()), _idle(scene)
        recent = arms.within(scene.hours, start_s=now_s - self.settings.days * DAY_S, end_s=now_s)
        recent = recent[recent["target"].isin(names)]
        limits = absolute.limits_of(scene, names)
        seen = absolute.measured(scene, recent, limits)
        cases = self._cases(scene, insights, seen, names)
        found = list(self._concluded(scene, insights, cases, limits, recent))
        for name, why in unknown_pasts(names, seen, recent, self.settings).items():
            said = tuple(telling.unknown(scene, name, why, self.settings))
            if said and name not in cases:
                found.append(Considered(strategy=NAME, target=name, insights=said))
        return tuple(sorted(found, key=lambda each: each.target))

    def _cases(
        self, scene: Scene, insights: Sequence[Insight], seen: pd.DataFrame, names: Sequence[str]
    ) -> dict[str, Case]:
        """The sick targets; while a way out cools down only broken limits count."""
        by_target: dict[str, list[Fired]] = {}
        for fired in (
            *_broken(scene, absolute.broken(seen, self.settings)),
            *changed(scene, insights, names, self.settings),
        ):
            by_target.setdefault(fired.target, []).append(fired)
        cases: dict[str, Case] = {}
        for name, fires in by_target.items():
            record = record_of(scene, name)
            quiet = cools(scene, record, self.settings)
            counted = [each for each in fires if not (quiet and BY_NAME[each.trigger].relative)]
            if counted:
                cases[name] = Case(fired=tuple(sorted(counted, key=ordered)), record=record)
        return cases

    def _concluded(
        self,
        scene: Scene,
        insights: Sequence[Insight],
        cases: Mapping[str, Case],
        limits: pd.DataFrame,
        recent: pd.DataFrame,
    ) -> Iterator[Considered]:
        if not cases:
            return
        sick = _sick(limits, cases)
        recent = recent[recent["target"].isin(sick["target"])]
        records = {name: case.record for name, case in cases.items()}
        book = options(scene, recent, sick, records, self.settings)
        rates = arms.requests_per_hour(recent, now_s=int(scene.now.timestamp()))
        for name, rows in arms.rows_by_target(book):
            notes = tuple(each.kind for each in insights if each.target == name)
            yield self._conclude(scene, cases[name], rows, rates.get(name, math.nan), notes)

    def _conclude(
        self, scene: Scene, case: Case, rows: Sequence[Row], rate: float, notes: tuple[str, ...]
    ) -> Considered:
        base, name = next(row for row in rows if row.is_base), case.first.target
        waiting = paced(scene, name)
        chosen = Way(response=Response.LOG) if waiting else self._way(scene, case, rows)
        rejected = rejections(rows, waiting, chosen.row)
        made = None
        if chosen.row is not None:
            made = proposal(
                scene,
                case,
                chosen.row,
                base,
                response=chosen.response,
                rate=rate,
                settings=self.settings,
                rejected=rejected,
                notes=notes,
            )
        told = () if waiting else telling.sick(scene, case, base.arm, chosen, self.settings)
        return Considered(
            strategy=NAME, target=name, proposal=made, rejected=rejected, insights=tuple(told)
        )

    def _way(self, scene: Scene, case: Case, rows: Sequence[Row]) -> Way:
        record, first = case.record, case.first
        if record.attempts >= self.settings.max_attempts:
            return Way(response=Response.LOG)
        back, why = record.way_back(first.since)
        return way(
            rows,
            self.settings.chain(first.severity),
            back=back,
            no_way_back=why,
            fallback=scene.targets[first.target].fallback,
        )


def _idle(scene: Scene) -> Sequence[str]:
    return [
        name
        for name in sorted(scene.targets)
        if name in scene.policies and name not in scene.in_flight and name not in scene.paused
    ]


def _broken(scene: Scene, broken: pd.DataFrame) -> Iterator[Fired]:
    for row in arms.rows(broken):
        yield Fired(
            target=str(row.target),
            trigger=row.trigger,
            severity=BY_NAME[row.trigger].severity,
            sentence=absolute.SENTENCES[row.trigger].format(r=row),
            since=scene.now,
            now={},
        )


def _sick(limits: pd.DataFrame, cases: Mapping[str, Case]) -> pd.DataFrame:
    """The limits of the sick targets, with what fired and what a way out must be better than."""
    rows = limits[limits["target"].isin(list(cases))]
    of_rows = [cases[name] for name in rows["target"]]
    return rows.assign(
        is_money=[case.trigger.money for case in of_rows],
        **{
            column: [float(case.first.now.get(column, math.nan)) for case in of_rows]
            for column in NOW
        },
    )
