"""What was logged of the arms that are proposed: read only for targets that may start something.

Only hours in which a candidate was scored are read, so that an hour without such a proposal reads
nothing; and only as far back as the spool is sure to be whole.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from optimizer.engine.spool import CALLS, FEEDBACK
from optimizer.evidence import Proposal, Scene
from optimizer.loop.equipment import Equipment
from optimizer.metrics import HOUR_S, floor_s


def with_explored(equipment: Equipment, scene: Scene, proposals: Sequence[Proposal]) -> Scene:
    """The scene with the logged chances and scores of the hours that explored a candidate.

    Raises:
        UnavailableError: the spool or the ledger does not answer.
    """
    hours = _explored_hours(equipment, scene, proposals)
    if not hours:
        return scene
    first_s = min(min(starts) for starts in hours.values())
    end_s = max(max(starts) for starts in hours.values()) + HOUR_S
    limits, intake = equipment.engine.limits, equipment.ledger.intake
    found = equipment.engine.explored(
        hours,
        calls=intake.files(CALLS, start_s=first_s, end_s=end_s),
        feedback=intake.files(
            FEEDBACK,
            start_s=first_s - int(limits.clock_slack.total_seconds()) - 1,
            end_s=end_s + int(limits.feedback_horizon.total_seconds()) + 1,
        ),
    )
    return replace(scene, explored=found)


def _explored_hours(
    equipment: Equipment, scene: Scene, proposals: Sequence[Proposal]
) -> Mapping[str, Sequence[int]]:
    """Starts of the hours, by target, in which a proposed arm was scored and labels are mature."""
    oldest_s = floor_s(scene.now - equipment.feedback_horizon, HOUR_S)
    scored = scene.hours[
        (scene.hours["n_quality"] > 0) & (scene.hours["window_start_s"] >= oldest_s)
    ]
    starts: dict[str, set[int]] = defaultdict(set)
    for proposal in proposals:
        name, policy = proposal.target, scene.policies.get(proposal.target)
        if policy is None or name in scene.in_flight or name in scene.paused:
            continue
        mature_s = int((scene.now - policy.label_maturity).timestamp())
        rows = scored[(scored["target"] == name) & (scored["arm"] == proposal.candidate)]
        starts[name].update(
            int(start) for start in rows["window_start_s"] if start + HOUR_S <= mature_s
        )
    return {name: sorted(found) for name, found in sorted(starts.items()) if found}
