"""The occasion of a run: from which moment it looks, when it acts, and as whom."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prefect.runtime import deployment, flow_run

from flows.parameters import RunParameters
from optimizer.decision import Decision
from optimizer.errors import ConfigError
from optimizer.loop.equipment import Acting

TARGET_TAG = "target:"
DECISION_TAG = "decision:"
CLOCK_SLACK = timedelta(minutes=1)
"""How far clocks of a server and its workers may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """When a run looks and acts.

    ``as_of`` is the scheduled start, never the clock, so that a retried or late run sees the same
    hour; ``now`` is when effects are recorded.
    """

    as_of: datetime
    now: datetime
    run_id: str
    deployed: bool

    def acting(self, actor: str) -> Acting:
        """Who acts in this run."""
        return Acting(actor=actor, run_id=self.run_id, now=self.now)


def occasion(parameters: RunParameters) -> Occasion:
    """The occasion of the running flow.

    Raises:
        ConfigError: ``as_of`` lies in the future, where every bake time would be over.
    """
    now = parameters.clock or datetime.now(UTC)
    scheduled = flow_run.scheduled_start_time
    as_of = parameters.as_of or (_plain(scheduled) if scheduled else now)
    if parameters.as_of is not None and as_of > now + CLOCK_SLACK:
        msg = f"as_of = {as_of.isoformat()} lies in the future; it is {now.isoformat()}"
        raise ConfigError(msg)
    return Occasion(
        as_of=as_of,
        now=max(now, as_of) if parameters.clock is None else now,
        run_id=str(flow_run.id or ""),
        deployed=deployment.id is not None,
    )


def _plain(moment: datetime) -> datetime:
    """The same moment as a standard datetime; Prefect's own type loses its zone in arithmetic."""
    return datetime.fromtimestamp(moment.timestamp(), UTC)


def about(decision: Decision) -> list[str]:
    """Tags of a run that is about one decision."""
    return [f"{TARGET_TAG}{decision.target}", f"{DECISION_TAG}{decision.id}"]


def run_name() -> str:
    """What the run is called in the UI: flow, moment, and what it is about."""
    given = flow_run.parameters.get("parameters")
    named = [
        tag.removeprefix(kind)
        for kind in (TARGET_TAG, DECISION_TAG)
        for tag in flow_run.tags or []
        if tag.startswith(kind)
    ]
    asked = [
        str(value) for name in ("target", "decision_id") if (value := getattr(given, name, None))
    ]
    moment = getattr(given, "as_of", None) or flow_run.scheduled_start_time
    stamp = f"{moment:%Y-%m-%dT%H:%MZ}" if moment else ""
    return " ".join([str(flow_run.flow_name), stamp, *dict.fromkeys([*named, *asked])]).strip()
