"""The words of a CEL expression, with the place of each: for what a type checker does not check.

References:
    CEL language definition, "Syntax": https://github.com/cel-expr/cel-spec/blob/master/doc/langdef.md
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, cast

Sort = Literal["name", "text", "number", "sign"]

_RAW = "(?:[rR][bB]?|[bB][rR])"
_TOKEN: Final = re.compile(
    rf"""
    (?P<blank>\s+|//[^\n]*)
    |(?P<text>
        {_RAW}(?:'''[\s\S]*?'''|\"\"\"[\s\S]*?\"\"\"|'[^'\n]*'|"[^"\n]*")
        |[bB]?(?:'''(?:\\[\s\S]|[^\\])*?'''|\"\"\"(?:\\[\s\S]|[^\\])*?\"\"\"
            |'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*")
    )
    |(?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?[uU]?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>[\s\S])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One word; line and column count from 1."""

    sort: Sort
    text: str
    line: int
    column: int


def tokens(expression: str) -> tuple[Token, ...]:
    """The expression's words, without blanks and comments.

    What is no CEL comes out as single signs; the library's own parser refuses it.

    Examples:
        >>> [token.text for token in tokens("a.b > 'c d' // why")]
        ['a', '.', 'b', '>', "'c d'"]
    """
    return tuple(_tokens(expression))


def _tokens(expression: str) -> Iterator[Token]:
    line, begin = 1, 0
    for found in _TOKEN.finditer(expression):
        if found.lastgroup != "blank":
            yield Token(
                sort=cast("Sort", found.lastgroup),
                text=found[0],
                line=line,
                column=found.start() - begin + 1,
            )
        breaks = found[0].count("\n")
        if breaks:
            line += breaks
            begin = found.start() + found[0].rindex("\n") + 1
