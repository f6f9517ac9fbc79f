"""When a declared leader's detectors alarm; how they grow is told beside the race."""

import numpy as np
import pytest

from optimizer.statistics.evalues import GRID_SIZE
from optimizer.statistics.watching import LeaderWatch, changed

NEARLY = 1e-6


def held(others: list[float], itself: float) -> LeaderWatch:
    """Detectors of a first arm that leads, whose log e-values are these."""
    return LeaderWatch(
        leader=np.asarray(0),
        reference=np.asarray(0.1),
        others=np.repeat(np.array([0.0, *others])[:, None], GRID_SIZE, axis=1),
        itself=np.full(GRID_SIZE, itself),
    )


@pytest.mark.parametrize("arms", [2, 3, 8])
@pytest.mark.parametrize("between", [1.0, 100.0, 2_000.0])
def test_half_of_the_false_alarms_are_shared_among_the_other_arms(
    arms: int, between: float
) -> None:
    limit = np.log(2.0 * between * (arms - 1))
    quiet = [0.0] * (arms - 2)

    assert changed(held([*quiet, limit + NEARLY], 0.0), between_alarms=between)
    assert not changed(held([*quiet, limit - NEARLY], 0.0), between_alarms=between)


@pytest.mark.parametrize("arms", [2, 3, 8])
@pytest.mark.parametrize("between", [1.0, 100.0, 2_000.0])
def test_the_other_half_is_the_leaders_own_however_many_arms_there_are(
    arms: int, between: float
) -> None:
    limit = np.log(2.0 * between)
    quiet = [0.0] * (arms - 1)

    assert changed(held(quiet, limit + NEARLY), between_alarms=between)
    assert not changed(held(quiet, limit - NEARLY), between_alarms=between)
