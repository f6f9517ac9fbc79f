"""The way back to the reference baseline: what promotions took from the margin is not held up."""

import pytest

from optimizer.evidence import Anchor
from optimizer.judge.case import Case
from optimizer.policy import Guardrail, Policy
from rollouts import decision

RAIL = Guardrail(metric="quality", margin=0.02, anchored=True)


@pytest.mark.parametrize(("reference", "left"), [("other", -0.01), ("mini", 0.02)])
def test_only_a_return_to_the_reference_has_the_whole_margin(reference: str, left: float) -> None:
    made = decision()
    spent = Anchor(target=made.target, metric="quality", reference_arm=reference, harm=0.03)
    case = Case(
        decision=made,
        policy=Policy(guardrails=(RAIL,)),
        anchors={(made.target, "quality"): spent},
    )

    assert made.candidate == "mini"
    assert case.remaining(RAIL) == pytest.approx(left)
