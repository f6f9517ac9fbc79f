"""What keeps a policy short: how long it may be, and what it may loop over.

The only loops of CEL are the macros over a list. Here each runs over a declared list of facts or a
list of literals, and none stands inside another, so that a condition costs at most its own length
times the longest list.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from optimizer.integrations.policy_cel.tokens import Token

LONGEST: Final = 2_000
"""Characters of a condition."""

LOOPS: Final = frozenset({"all", "exists", "exists_one"})
BUILDERS: Final = frozenset({"map", "filter"})
_OPENING: Final = frozenset({"(", "[", "{"})
_CLOSING: Final = frozenset({")", "]", "}"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with a condition, and where; line and column count from 1."""

    line: int
    column: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.text}"


def unbounded(expression: str, words: Sequence[Token], lists: frozenset[str]) -> Fault | None:
    """The first thing that could make the condition long; ``lists`` are the declared ones."""
    if len(expression) > LONGEST:
        text = f"the condition has {len(expression)} characters, at most {LONGEST} are allowed"
        return Fault(line=1, column=1, text=text)
    around: list[bool] = []
    for index, word in enumerate(words):
        if word.text in _OPENING and word.sort == "sign":
            around.append(_is_macro(words, index - 1))
        elif word.text in _CLOSING and word.sort == "sign" and around:
            around.pop()
        elif _is_macro(words, index):
            wrong = _wrong(words, index, lists, nested=any(around))
            if wrong is not None:
                return Fault(line=word.line, column=word.column, text=wrong)
    return None


def _is_macro(words: Sequence[Token], index: int) -> bool:
    """Whether the word is called as a macro: ``.all(``."""
    return (
        0 < index < len(words) - 1
        and words[index].text in LOOPS | BUILDERS
        and words[index - 1].text == "."
        and words[index + 1].text == "("
    )


def _wrong(
    words: Sequence[Token], index: int, lists: frozenset[str], *, nested: bool
) -> str | None:
    name = words[index].text
    if name in BUILDERS:
        return f"the macro {name!r} builds lists and is not allowed; use all, exists or exists_one"
    if nested:
        return f"the macro {name!r} stands inside another one; loops do not nest"
    before = words[: index - 1]
    path = path_before(before)
    if path in lists or _is_literal_list(before):
        return None
    over = f"{path!r} is" if path else "this is"
    known = ", ".join(sorted(lists))
    return (
        f"the macro {name!r} runs over a declared list ({known}) or a list of literals; "
        f"{over} neither"
    )


def path_before(words: Sequence[Token]) -> str:
    """The dotted name that the words end with; empty where they end with anything else."""
    steps: list[str] = []
    at = len(words) - 1
    while at >= 0 and words[at].sort == "name":
        steps.append(words[at].text)
        if at == 0 or words[at - 1].text != ".":
            return ".".join(reversed(steps))
        at -= 2
    return ""


def _is_literal_list(words: Sequence[Token]) -> bool:
    if not words or words[-1].text != "]":
        return False
    at = len(words) - 2
    while at >= 0 and (words[at].sort in {"text", "number"} or words[at].text in {",", "-"}):
        at -= 1
    if at < 0 or words[at].text != "[":
        return False
    # After a value, `[` takes an element of it.
    return at == 0 or (words[at - 1].sort == "sign" and words[at - 1].text not in _CLOSING)


def names_in(words: Sequence[Token], known: Mapping[str, object]) -> tuple[str, ...]:
    """The known names that the expression speaks of, sorted."""
    return tuple(sorted(set(_names_in(words, known))))


def _names_in(words: Sequence[Token], known: Mapping[str, object]) -> Iterator[str]:
    for index, word in enumerate(words):
        if word.sort != "name" or (index and words[index - 1].text == "."):
            continue
        path = word.text
        at = index
        while path not in known and at + 2 < len(words) and words[at + 1].text == ".":
            at += 2
            path = f"{path}.{words[at].text}"
        if path in known:
            yield path
