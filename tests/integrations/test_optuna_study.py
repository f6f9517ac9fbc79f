"""What Optuna suggests: inside the bounds, the same for the same trials, and in silence."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.experiment.grid import Axis
from optimizer.experiment.tuning import HARM, Told
from optimizer.integrations.optuna_study import STARTUP, suggest

AXES = (
    Axis(name="max_tokens", low=100, high=900, step=100),
    Axis(name="temperature", low=0.1, high=1.3, step=0.1),
)
points = st.fixed_dictionaries({axis.name: st.sampled_from(axis.values()) for axis in AXES})
trials = st.lists(
    st.builds(
        Told,
        point=points,
        value=st.none() | st.floats(-1, 1),
        overruns=st.sampled_from([{}, {"quality": -0.01}, {"quality": 0.02}, {HARM: 1.0}]),
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(trials, st.integers(0, 2**32 - 1))
def test_a_suggestion_lies_inside_the_bounds_and_is_repeated_by_the_same_trials(
    told: list[Told], seed: int
) -> None:
    point = suggest(AXES, told, seed)

    assert point == suggest(AXES, told, seed)
    assert point.keys() == {axis.name for axis in AXES}
    assert all(axis.low <= point[axis.name] <= axis.high for axis in AXES)


def suggested(told: list[Told]) -> list[float]:
    return [suggest(AXES[1:], told, seed)["temperature"] for seed in range(40)]


def at(temperature: float, value: float | None, **overruns: float) -> Told:
    return Told(point={"temperature": temperature}, value=value, overruns=overruns)


def test_where_trials_were_better_it_looks_more_often() -> None:
    told = [at(n / 10, -abs(n / 10 - 0.3)) for n in range(1, 14)]

    near = sum(abs(each - 0.3) < 0.3 for each in suggested(told))

    assert len(told) > STARTUP
    assert near > 20


@pytest.mark.parametrize("broken", [{HARM: 1.0}, {"quality": 0.05}])
def test_what_broke_a_limit_is_no_place_to_look_at_however_good_it_was(
    broken: dict[str, float],
) -> None:
    told = [at(n / 10, 0.1 * n, **(broken if n > 6 else {})) for n in range(1, 14)]
    free = [at(n / 10, 0.1 * n) for n in range(1, 14)]

    assert sum(suggested(told)) / 40 < sum(suggested(free)) / 40 - 0.2


def test_it_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    suggest(AXES, [], 1)

    assert capfd.readouterr() == ("", "")


def test_who_tunes_nothing_does_not_import_it() -> None:
    code = "import sys, flows.equipped, optimizer.wiring, optimizer.cli.main; print(*sys.modules)"

    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert "optimizer.loop.tuning" in found
    assert "optuna" not in found
