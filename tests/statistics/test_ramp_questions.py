"""What each question of a ramp costs: requests, and the hours until the last answer."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from optimizer.statistics.ramp import Question, reach, units_for

LADDER: dict[str, Any] = {
    "requests_per_hour": 2_000.0,
    "shares": [0.05, 0.5],
    "bake_hours": [1.0, 1.0],
    "min_requests": [200, 200],
}


def question(**given: float) -> Question:
    return Question(metric="failure_rate", variance=0.0196, margin=0.01, **given)


def units(asked: Question, alpha: float = 0.05) -> float:
    return float(units_for([asked], alpha=np.array([alpha]), power=0.8)[0])


def test_a_question_costs_what_one_look_with_four_fifths_of_its_error_costs() -> None:
    reached = stats.norm.isf(0.8 * 0.05) + stats.norm.isf(0.2)

    assert units(question()) == pytest.approx(reached**2 * 2 * 0.0196 / 0.01**2)
    assert units(question(), alpha=0.025) > units(question())


@pytest.mark.parametrize("effect", [0.5, 3.0, 12.0])
def test_clustered_requests_cost_their_design_effect(effect: float) -> None:
    assert units(question(design_effect=effect)) == pytest.approx(effect * units(question()))


@pytest.mark.parametrize(("ratio", "factor"), [(0.5, 1.5), (4.0, 0.625), (19.0, 10 / 19)])
def test_a_larger_control_saves_canary_requests(ratio: float, factor: float) -> None:
    assert units(question(control_ratio=ratio)) == pytest.approx(factor * units(question()))


def test_late_answers_come_on_top_of_the_hours_of_traffic() -> None:
    prompt, late = (reach([question(lag_hours=hours)], [5_395.0], **LADDER) for hours in (0.0, 6.0))

    assert late.hours == pytest.approx(prompt.hours + 6.0)
    assert late.longest_stage_hours == pytest.approx(prompt.longest_stage_hours + 6.0)


def test_no_questions_need_no_requests() -> None:
    assert units_for([], alpha=np.zeros(0), power=0.8).size == 0
