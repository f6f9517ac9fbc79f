import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.client import point

# Made with other tools: `printf 'd-1\x1fsession-42' | b2sum` (GNU coreutils, BLAKE2b-512) gives the
# digest, whose first 7 bytes, less 3 bits, were divided by 2^53 with `bc`.
REFERENCE = [
    ("d-1", "session-42", "e579fec47af5b3", 0.8963927488029728163),
    ("d-3f2a", "user-1", "9d096708e9543a", 0.6134247204548309850),
    ("d-1", "", "8358dc2e3134f1", 0.5130746472143135061),
    ("d-1", "ü€", "4ae80f90fa3301", 0.2926034668873391808),
]

# Upper 0.1 % points of chi-square, NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.4.
CHI_SQUARE_19 = 43.820
CHI_SQUARE_81 = 126.083


@pytest.mark.parametrize(("salt", "unit", "digest", "value"), REFERENCE)
def test_a_point_is_the_first_53_bits_of_blake2b(
    salt: str, unit: str, digest: str, value: float
) -> None:
    assert point(salt, unit) == value
    assert point(salt, unit) == math.ldexp(int(digest, 16) >> 3, -53)


@given(salt=st.text(), unit=st.text(st.characters()))
def test_every_text_has_a_point_in_the_unit_interval(salt: str, unit: str) -> None:
    assert 0 <= point(salt, unit) < 1


def test_a_lone_surrogate_has_a_point() -> None:
    assert 0 <= point("d-1", "\ud800") < 1


@pytest.mark.parametrize("salt", ["d-1", "d-2", "d-3f2a", "baseline"])
def test_points_of_units_are_uniform(salt: str) -> None:
    n, bins = 20_000, 20

    counts = Counter(int(point(salt, f"session-{i}") * bins) for i in range(n))

    expected = n / bins
    assert sum((counts[b] - expected) ** 2 / expected for b in range(bins)) < CHI_SQUARE_19


@pytest.mark.parametrize(("one", "other"), [("d-1", "d-2"), ("d-1", "d-10"), ("d-2", "d-10")])
def test_points_under_two_salts_are_independent(one: str, other: str) -> None:
    n, bins = 20_000, 10
    units = [f"session-{i}" for i in range(n)]

    pairs = Counter((int(point(one, u) * bins), int(point(other, u) * bins)) for u in units)

    rows, columns = Counter[int](), Counter[int]()
    for (row, column), count in pairs.items():
        rows[row] += count
        columns[column] += count
    cells = itertools.product(range(bins), repeat=2)
    expected = {(r, c): rows[r] * columns[c] / n for r, c in cells}
    assert sum((pairs[at] - e) ** 2 / e for at, e in expected.items()) < CHI_SQUARE_81
