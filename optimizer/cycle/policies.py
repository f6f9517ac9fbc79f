"""What policies that stand outside the core say of a proposal, and what follows from it.

Nobody's silence is a yes: a proposal without a ruling, or with one that a policy point still owes,
is held, and its strategy proposes it anew in the next hour.
"""

from collections.abc import Iterable, Mapping

from optimizer.cycle.case import Case, Ruling
from optimizer.evidence import ProposalId

NOBODY = Ruling(unavailable=("no policy point ruled on it",))


def denied(case: Case) -> str | None:
    """The policies that deny the proposal."""
    return "; ".join(case.ruling.denials) or None


def owed(case: Case) -> str | None:
    """The policy points that did not answer."""
    return "; ".join(case.ruling.unavailable) or None


def together(
    asked: Iterable[ProposalId], answers: Iterable[Mapping[ProposalId, Ruling]]
) -> Mapping[ProposalId, Ruling]:
    """One ruling a proposal, of all policy points; a point that left one out still owes it.

    What each says is sorted, so that the order of points and of policies changes nothing.

    Examples:
        >>> yes, no = {ProposalId("p"): Ruling()}, {ProposalId("p"): Ruling(denials=("no",))}
        >>> together(["p"], [yes, no])["p"].denials
        ('no',)
    """
    points = list(answers)
    return {one: _merged([point.get(one, NOBODY) for point in points]) for one in asked}


def _merged(rulings: Iterable[Ruling]) -> Ruling:
    said = list(rulings)
    return Ruling(
        denials=_sorted(text for each in said for text in each.denials),
        warnings=_sorted(text for each in said for text in each.warnings),
        unavailable=_sorted(text for each in said for text in each.unavailable),
    )


def _sorted(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(texts)))
