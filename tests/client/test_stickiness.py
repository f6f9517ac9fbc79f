from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.client import Allocations, parse, point

TARGET = "support-bot/answer"
STAGES = (0.05, 0.10, 0.25, 0.50)
WITHIN_VALIDITY = 1_795_514_400.0  # 2026-11-24T10:00:00Z, within the validity of a draft


def readers_of(place: Path) -> Allocations:
    return Allocations(place.parent, check_every_s=0, clock=lambda: WITHIN_VALIDITY)


@given(unit=st.text())
def test_a_unit_keeps_its_arm(sealed: Callable[..., bytes], unit: str) -> None:
    document = parse(sealed(share=0.5))

    parts = {document.slice_at(point(document.salt, unit)) for _ in range(3)}

    assert len(parts) == 1


@given(salt=st.text(st.characters(exclude_characters="\x1f"), min_size=1), unit=st.text())
def test_no_unit_leaves_canary_or_control_while_both_grow(
    sealed: Callable[..., bytes], salt: str, unit: str
) -> None:
    documents = [parse(sealed(share=share, salt=salt)) for share in STAGES]

    names = [document.slice_at(point(salt, unit)).name for document in documents]

    joined = [name for name in names if name != "baseline"]
    assert names == ["baseline"] * (len(names) - len(joined)) + joined
    assert len(set(joined)) == 1, "at half to half, every unit is in one of the two, and stays"


def test_readers_of_one_file_agree_and_stages_only_add_units(
    publish: Callable[[bytes], Path], sealed: Callable[..., bytes]
) -> None:
    units = [f"session-{i}" for i in range(2_000)]
    canary: set[str] = set()
    control: set[str] = set()

    for generation, share in enumerate(STAGES, start=1):
        place = publish(sealed(share=share, generation=generation))
        first, second = readers_of(place), readers_of(place)
        slices = {unit: first.choose(TARGET, unit).slice for unit in units}
        assert slices == {unit: second.choose(TARGET, unit).slice for unit in units}
        in_canary = {unit for unit, name in slices.items() if name == "canary"}
        in_control = {unit for unit, name in slices.items() if name == "control"}
        assert canary < in_canary
        assert control < in_control
        canary, control = in_canary, in_control

    assert canary | control == set(units)


@pytest.mark.parametrize("share", STAGES)
def test_the_propensity_is_the_rate_at_which_an_arm_is_chosen(
    publish: Callable[[bytes], Path], sealed: Callable[..., bytes], share: float
) -> None:
    n = 10_000
    allocations = readers_of(publish(sealed(share=share)))

    choices = [allocations.choose(TARGET, f"session-{i}") for i in range(n)]

    stated = {choice.arm: choice.propensity for choice in choices}
    chosen = Counter(choice.arm for choice in choices)
    assert sum(stated.values()) == pytest.approx(1)
    # Four standard deviations of a share of n draws.
    assert chosen["mini"] / n == pytest.approx(share, abs=4 * (share * (1 - share) / n) ** 0.5)
    assert stated["mini"] == pytest.approx(share)


def test_a_new_salt_deals_units_anew(
    publish: Callable[[bytes], Path], sealed: Callable[..., bytes]
) -> None:
    allocations = readers_of(publish(sealed(share=0.5)))
    units = [f"session-{i}" for i in range(1_000)]
    before = [allocations.choose(TARGET, unit).arm for unit in units]

    publish(sealed(share=0.5, generation=8, salt="d-next"))

    after = [allocations.choose(TARGET, unit).arm for unit in units]
    kept = sum(one == other for one, other in zip(before, after, strict=True))
    assert 400 < kept < 600
