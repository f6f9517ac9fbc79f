"""Tasks that think: one per analyzer, one per strategy, one for the decisions."""

from collections.abc import Sequence

from prefect import task

from optimizer.evidence import Analyzer, Considered, Insight, Proposal, Scene, Strategy
from optimizer.loop import decide as loop
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.explored import with_explored
from tasks.options import EFFECT, PURE


@task(name="run_analyzer", task_run_name="run_analyzer-{name}", timeout_seconds=600, **PURE)
def run_analyzer(
    name: str,  # noqa: ARG001 - it names the task run
    analyzer: Analyzer,
    scene: Scene,
) -> Sequence[Insight]:
    """One analyzer over all targets."""
    return analyzer(scene)


@task(name="run_strategy", task_run_name="run_strategy-{name}", timeout_seconds=600, **PURE)
def run_strategy(
    name: str,  # noqa: ARG001 - it names the task run
    strategy: Strategy,
    scene: Scene,
    insights: Sequence[Insight],
) -> Sequence[Considered]:
    """One strategy over all targets."""
    return loop.propose(strategy, scene, insights)


@task(name="decide", timeout_seconds=600, **EFFECT)
def decide(
    equipment: Equipment,
    scene: Scene,
    proposals: Sequence[Proposal],
    acting: Acting,
    *,
    dry_run: bool,
) -> loop.Decided:
    """Arbitrate, validate, and write the decisions down."""
    seen = with_explored(equipment, scene, proposals)
    return loop.settle_proposals(equipment, seen, proposals, acting=acting, dry_run=dry_run)
