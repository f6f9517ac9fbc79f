"""What logs already tell of a candidate that has served: a reason to refuse it, or to say so.

A candidate whose logged scores are worse than the baseline's by the quality guardrail's margin is
not tried again while those logs are new. Logs that do not tell refuse nobody: a canary is how a
candidate comes by logs that do. And logs that speak for it open a canary, which is judged as any
other; nothing is promoted on them.
"""

import numpy as np
import pandas as pd

from optimizer.cycle.case import Case
from optimizer.evidence import Proposal, Scene
from optimizer.statistics.offpolicy_gate import Answer, Gated, gate
from optimizer.statistics.offpolicy_log import FloatArray, IntArray, Log, always, log_of

QUALITY = "quality"
_IN_FORCE, _CANDIDATE, _OTHER = range(3)
_SAID = {
    Answer.BETTER: "in logs the quality of {candidate} holds against {baseline}",
    Answer.NOT_BETTER: "in logs the quality of {candidate} is worse than that of {baseline}",
    Answer.NOT_ENOUGH_SUPPORT: "logs do not tell the quality of {candidate} from {baseline}",
}


def logged(scene: Scene, proposal: Proposal) -> tuple[Answer, str] | None:
    """What the off-policy gate answers, in a sentence; None where there is nothing to ask.

    There is not where the candidate was not scored in the last days, and where the policy does not
    guard quality.
    """
    name, cells = proposal.target, scene.explored.get(proposal.target)
    guardrails = [g for g in scene.policies[name].guardrails if g.metric == QUALITY]
    if cells is None or not guardrails:
        return None
    baseline = scene.baselines.get(name, scene.targets[name].baseline)
    own = cells.loc[cells["arm"] == proposal.candidate, "hour_start_s"].unique()
    cells = cells[cells["hour_start_s"].isin(own)]
    if cells.empty:
        return None
    log = _log(cells, baseline, proposal.candidate)
    found: Gated = gate(
        log,
        always(log, _CANDIDATE),
        always(log, _IN_FORCE),
        margin=guardrails[0].margin,
        relative=guardrails[0].relative,
    )
    said = _SAID[found.answer].format(candidate=proposal.candidate, baseline=baseline)
    return found.answer, f"{said}: {found.sentence}"


def worse_in_logs(case: Case) -> str | None:
    """Logs in which the candidate's quality is worse by the margin or more."""
    return case.logged[1] if case.logged and case.logged[0] is Answer.NOT_BETTER else None


def told_by_logs(case: Case) -> str | None:
    """What logs tell of a candidate that they do not refuse."""
    return None if case.logged is None else case.logged[1]


def _log(cells: pd.DataFrame, baseline: str, candidate: str) -> Log:
    """The cells as a log of three arms: the one in force, the candidate, and all others."""
    names = cells["arm"].to_numpy(dtype=object)
    arm = np.select([names == baseline, names == candidate], [_IN_FORCE, _CANDIDATE], _OTHER)
    hour = np.unique(cells["hour_start_s"], return_inverse=True)[1]
    n = cells["n"].to_numpy(dtype=np.float64)
    propensity = cells["propensity"].to_numpy(dtype=np.float64)
    return log_of(
        arm,
        propensity,
        cells["quality_e6"].to_numpy(dtype=np.float64) * 1e-6,
        n=n,
        squares=cells["quality_sq_e9"].to_numpy(dtype=np.float64) * 1e-9,
        cluster=cells["cluster"],
        segment=hour,
        chances=_chances(arm, hour, n, propensity),
    )


def _chances(arm: IntArray, hour: IntArray, n: FloatArray, propensity: FloatArray) -> FloatArray:
    """Chance of every arm for each cell, shape (R, 3).

    A call names only the chance of its own arm. That of another is what that arm's calls of the
    hour name, and no more than the call's own arm leaves.
    """
    size = int(hour.max()) + 1
    known = np.isfinite(propensity)
    place = (hour * 3 + arm)[known]
    weight = np.bincount(place, n[known], minlength=3 * size)
    total = np.bincount(place, (n * propensity)[known], minlength=3 * size)
    mean = np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), 0.0).reshape(size, 3)
    chances = np.fmin(mean[hour], 1.0 - propensity[:, None])
    chances[np.arange(arm.size), arm] = propensity
    return chances
