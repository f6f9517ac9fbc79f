"""The occasion of a run: from which moment it looks, when it acts, and as whom."""

from dataclasses import dataclass
from datetime import UTC, datetime

from prefect.runtime import deployment, flow_run

from flows.parameters import RunParameters
from optimizer.loop.equipment import Acting


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
    """The occasion of the running flow."""
    now = parameters.clock or datetime.now(UTC)
    scheduled = flow_run.scheduled_start_time
    as_of = parameters.as_of or (_plain(scheduled) if scheduled else now)
    return Occasion(
        as_of=as_of,
        now=max(now, as_of) if parameters.clock is None else now,
        run_id=str(flow_run.id or ""),
        deployed=deployment.id is not None,
    )


def _plain(moment: datetime) -> datetime:
    """The same moment as a standard datetime; Prefect's own type loses its zone in arithmetic."""
    return datetime.fromtimestamp(moment.timestamp(), UTC)


def run_name() -> str:
    """What the run is called in the UI: flow, moment, and what it is about."""
    given = flow_run.parameters.get("parameters")
    about = [
        str(value) for name in ("decision_id", "target") if (value := getattr(given, name, None))
    ]
    moment = getattr(given, "as_of", None) or flow_run.scheduled_start_time
    stamp = f"{moment:%Y-%m-%dT%H:%MZ}" if moment else ""
    return " ".join([str(flow_run.flow_name), stamp, *about]).strip()
