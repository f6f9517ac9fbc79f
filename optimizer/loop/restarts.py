"""Restarts: evidence that an arm gathered before its model changed says nothing about it now.

A provider may change what a model name stands for without a word. Then the rollout goes on, and its
evidence begins anew: what was seen and spent before the change no longer counts.
"""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

from optimizer.decision import Decision, State, amend
from optimizer.errors import ConflictError
from optimizer.evidence import DecisionId
from optimizer.loop.act import event, take_lease
from optimizer.loop.equipment import Acting, Equipment

_LOG = logging.getLogger(__name__)

TRANSITION = timedelta(hours=1)
"""The hour in which a model changes holds answers of both versions."""


def restart_evidence(
    equipment: Equipment, changed: Mapping[tuple[str, str], datetime], *, acting: Acting
) -> tuple[DecisionId, ...]:
    """Begin the evidence of every canary anew whose arm, or whose control's, changed since.

    ``changed`` gives the hour of the change by (target, arm). The same change again does nothing.
    """
    flying = equipment.ledger.decisions.find(states=[State.DEPLOYING])
    restarted = []
    for decision in flying:
        moments = [
            changed[decision.target, arm]
            for arm in (decision.candidate, decision.baseline)
            if (decision.target, arm) in changed
        ]
        since = max(moments, default=None)
        started = decision.evidence_from
        if since is None or started is None or since + TRANSITION <= started:
            continue
        try:
            _restart(equipment, decision, since + TRANSITION, acting)
        except ConflictError as error:
            _LOG.warning("the evidence of %s stays for now: %s", decision.id, error)
            continue
        restarted.append(decision.id)
    return tuple(restarted)


def _restart(equipment: Equipment, decision: Decision, start: datetime, acting: Acting) -> None:
    lease = take_lease(equipment, decision.target, acting)
    try:
        current = equipment.ledger.decisions.get(decision.id)
        if current.state is not State.DEPLOYING or current.evidence_from != decision.evidence_from:
            return
        after = amend(current, evidence_from=start)
        reason = (
            f"the model behind {decision.candidate} or {decision.baseline} changed: "
            f"evidence before {start.isoformat()} no longer counts"
        )
        entry = event(current, after, "note", acting, reason=reason)
        equipment.ledger.decisions.update(after, [entry], lease=lease)
    finally:
        equipment.ledger.effects.release(lease)
