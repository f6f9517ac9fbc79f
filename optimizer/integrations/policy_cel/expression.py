"""A condition in CEL, parsed and type-checked against the declared facts before it is ever used.

CEL (Common Expression Language) has no side effects, no recursion, and no way to the outside; the
library is the C++ implementation by CEL's own authors. What it may use here is a list of what is
allowed: comparisons, logic, sums, differences and products, questions to text, and loops over
lists. Left out are conversions that evade the types (``dyn``), what builds lists or text, and
division: 0/0 is no number, and would compare as "not violated".

References:
    https://cel.dev; language definition: https://github.com/cel-expr/cel-spec
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml
from cel_expr_python import cel  # type: ignore[import-untyped]

from optimizer.integrations.policy_cel.bounds import Fault, names_in, unbounded
from optimizer.integrations.policy_cel.tokens import Token, tokens
from optimizer.policy import FACTS, Facts, Kind

_TYPES: Final = {
    Kind.TEXT: cel.Type.STRING,
    Kind.NUMBER: cel.Type.DOUBLE,
    Kind.FLAG: cel.Type.BOOL,
    Kind.MOMENT: cel.Type.TIMESTAMP,
    Kind.TEXTS: cel.Type.List(cel.Type.STRING),
    Kind.LABELS: cel.Type.Map(cel.Type.STRING, cel.Type.STRING),
}
LISTS: Final = frozenset(name for name, kind in FACTS.items() if kind is Kind.TEXTS)

_MACROS = ("has", "all", "exists", "exists_one")
_FUNCTIONS: Final[Mapping[str, Sequence[str]]] = {
    **dict.fromkeys(("_&&_", "_||_", "!_", "_?_:_", "_==_", "_!=_", "@in", "_[_]"), ()),
    **dict.fromkeys(("-_", "size", "startsWith", "endsWith", "contains", "matches"), ()),
    **dict.fromkeys(("timestamp", "getHours", "getDayOfWeek", "@not_strictly_false"), ()),
    "_+_": ("add_int64", "add_double"),
    "_-_": ("subtract_int64", "subtract_double"),
    "_*_": ("multiply_int64", "multiply_double"),
    "double": ("int64_to_double",),
}
"""What may be called, and which of its overloads; none named: all."""

_COMPARISONS = {
    "_>_": "greater",
    "_<_": "less",
    "_>=_": "greater_equals",
    "_<=_": "less_equals",
}
_COMPARED = (
    ("double", "double", "double"),
    ("int", "int", "int64"),
    ("double", "int", "double_int64"),
    ("int", "double", "int64_double"),
    ("string", "string", "string"),
    ("timestamp", "timestamp", "timestamp"),
)
"""So that a fact may be compared with a whole number: ``daily_cost_usd > 1000``."""

_COMPLAINT = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_UNDECLARED = re.compile(r"undeclared reference to '([^']+)'")


def _language() -> Any:  # noqa: ANN401 - the library is untyped
    library = {
        "include_macros": list(_MACROS),
        "include_functions": [
            {"name": name} | ({"overloads": [{"id": each} for each in ids]} if ids else {})
            for name, ids in _FUNCTIONS.items()
        ],
    }
    compared = [
        {
            "name": name,
            "overloads": [
                {
                    "id": f"{word}_{id_}",
                    "args": [{"type_name": left}, {"type_name": right}],
                    "return": {"type_name": "bool"},
                }
                for left, right, id_ in _COMPARED
            ],
        }
        for name, word in _COMPARISONS.items()
    ]
    return cel.NewEnvConfigFromYaml(yaml.safe_dump({"stdlib": library, "functions": compared}))


_ENVIRONMENT: Final = cel.NewEnv(
    config=_language(), variables={name: _TYPES[kind] for name, kind in FACTS.items()}
)


class FaultyConditionError(ValueError):
    """A condition that cannot be used; ``fault`` says where and why."""

    def __init__(self, fault: Fault) -> None:
        """Tell the fault."""
        super().__init__(str(fault))
        self.fault = fault


class Condition:
    """A checked condition; true where the policy is violated.

    names: the facts it speaks of, sorted.

    Raises:
        FaultyConditionError: it does not parse, names what is not declared, mixes types, could take
            long, or says something else than true or false.

    Examples:
        >>> Condition("daily_cost_usd > 1000 && target.name != 'batch'").names
        ('daily_cost_usd', 'target.name')
        >>> Condition("daily_cost > 1000")
        Traceback (most recent call last):
        ...
        optimizer.integrations.policy_cel.expression.FaultyConditionError: line 1, column 1:
        undeclared reference to 'daily_cost'; did you mean 'daily_cost_usd'?
    """

    def __init__(self, text: str) -> None:
        words = tokens(text)
        fault = unbounded(text, words, LISTS)
        if fault is not None:
            raise FaultyConditionError(fault)
        self.text = text
        self.names = names_in(words, FACTS)
        self._program = _compiled(text)
        if self._program.return_type() != cel.Type.BOOL:
            kind = self._program.return_type().name().lower()
            raise FaultyConditionError(
                Fault(line=1, column=1, text=f"the condition is a {kind}, not true or false")
            )
        fault = _unusable_pattern(words)
        if fault is not None:
            raise FaultyConditionError(fault)

    def violated(self, facts: Facts) -> bool | str:
        """Whether it is true of the facts; where that is unknown, why.

        As in CEL, what is unknown decides nothing where the rest decides: ``urgent || x > 1`` is
        true of an urgent proposal whatever x is.
        """
        data = {name: _plain(facts[name]) for name in self.names if facts.get(name) is not None}
        try:
            value = self._program.eval(data=data)
        except RuntimeError as error:
            return str(error).partition("\n")[0]
        if value.type() == cel.Type.BOOL:
            return bool(value.value())
        unknown = [name for name in self.names if name not in data]
        if unknown:
            return f"{', '.join(unknown)} unknown"
        return str(value.value()).partition(": ")[2]


def fault_in(text: str) -> Fault | None:
    """What is wrong with a condition; None where it can be used."""
    try:
        Condition(text)
    except FaultyConditionError as error:
        return error.fault
    return None


def _plain(fact: object) -> object:
    """The fact as the library takes it."""
    if isinstance(fact, tuple):
        return list(fact)
    return dict(fact) if isinstance(fact, Mapping) else fact


def _compiled(text: str) -> Any:  # noqa: ANN401 - the library is untyped
    try:
        return _ENVIRONMENT.compile(text)
    except RuntimeError as error:
        raise FaultyConditionError(_fault(str(error))) from None


def _fault(complaint: str) -> Fault:
    """The library's first complaint, in our words."""
    found = _COMPLAINT.search(complaint)
    if found is None:
        text = complaint.partition("\n")[0].partition(": ")[2].partition(" [")[0]
        return Fault(line=1, column=1, text=text or complaint)
    said = found[3].replace(" (in container '')", "").strip()
    return Fault(line=int(found[1]), column=int(found[2]), text=said + _hint(said))


def _hint(said: str) -> str:
    undeclared = _UNDECLARED.search(said)
    if undeclared is not None:
        close = difflib.get_close_matches(undeclared[1], FACTS, n=1)
        return f"; did you mean {close[0]!r}?" if close else ""
    mixed = "(double, int)" in said or "(int, double)" in said
    return "; write the whole number with a point, such as 2.0" if mixed else ""


def _unusable_pattern(words: Sequence[Token]) -> Fault | None:
    """A regular expression that could never match anything, because it is none."""
    for index, word in enumerate(words[:-1]):
        called = [token.text for token in words[max(0, index - 2) : index]]
        if word.sort != "text" or words[index + 1].text != ")" or called != ["matches", "("]:
            continue
        value = _compiled(f"''.matches({word.text})").eval(data={})
        if value.type() != cel.Type.BOOL:
            said = str(value.value()).partition(": ")[2]
            return Fault(line=word.line, column=word.column, text=said)
    return None
