"""Many objects of a frozen class at once, from columns.

A frozen dataclass sets every field through ``object.__setattr__``: a check of fourteen fields takes
3 us, six times as long as one that is not frozen. A run makes hundreds of thousands of objects, so
they are filled while they are still open and frozen by taking on their class. The law kept here:
what comes back equals what the class itself would have made.
"""

from collections.abc import Iterable, Sized
from dataclasses import MISSING, fields, make_dataclass
from functools import cache
from itertools import repeat
from typing import TypeVar

T = TypeVar("T")


def build(cls: type[T], **columns: Iterable[object]) -> list[T]:
    """Objects of a frozen, slotted dataclass, one a row of the columns.

    Args:
        cls: a class that checks nothing when it is made.
        columns: values of the fields they are named after; a field that is not named keeps its
            default. ``repeat`` gives every object the same value, but not in all columns.

    Raises:
        TypeError: the class checks its fields, or a column is lacking or unknown.
        ValueError: columns are not equally long.

    Examples:
        >>> from optimizer.evidence import Looks
        >>> build(Looks, spent=[0.01, 0.02], crossings=repeat(1))[1]
        Looks(fractions=(), until=None, spent=0.02, crossings=1, closed=False)
    """
    if len({len(column) for column in columns.values() if isinstance(column, Sized)}) > 1:
        raise ValueError(f"columns of {cls.__name__} are not equally long")
    open_ = _unfrozen(cls)  # type: ignore[arg-type] # classes are hashable, whatever they make
    known = fields(cls)  # type: ignore[arg-type] # any dataclass; there is no bound for these
    if strange := columns.keys() - {field.name for field in known}:
        raise TypeError(f"{cls.__name__} has no {sorted(strange)}")
    given: dict[str, Iterable[object]] = {
        field.name: repeat(field.default) for field in known if field.default is not MISSING
    }
    given |= columns
    if lacking := {field.name for field in known} - given.keys():
        raise TypeError(f"{cls.__name__} lacks {sorted(lacking)}")
    made: list[T] = list(map(open_, *(given[field.name] for field in known)))
    for each in made:
        each.__class__ = cls
    return made


@cache
def _unfrozen(cls: type) -> type:
    """A class with the slots of another that takes its fields in order and does not freeze."""
    if hasattr(cls, "__post_init__"):
        raise TypeError(f"{cls.__name__} checks its fields: make it one by one")
    return make_dataclass(cls.__name__, [(f.name, f.type) for f in fields(cls)], slots=True)
