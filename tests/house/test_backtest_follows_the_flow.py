"""A backtest takes the steps of the hourly flow in its order; what it leaves out stands here."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, ModuleType

from prefect import Flow, Task

from flows.optimize import optimize
from optimizer.loop.backtest import walking

STEPS = "optimizer.loop."
FLOW = (
    "flows.optimize",
    "flows.observing",
    "flows.reconciling",
    "flows.experimenting",
    "flows.dispatch",
    "flows.rollout",
)
TASKS = ("tasks.observe", "tasks.decide", "tasks.act", "tasks.experiment")
WALK = (walking.__name__,)

LEFT_OUT = {
    "observe.pull": "the log was read before; what came in of it is handed on between the hours",
    "decide.keep_insights": "nothing of a later hour reads them",
    "experiments.are_any": "experiments need traffic that was split for them",
    "experiments.run_all": "the same",
    "experiments.with_experiments": "the same",
    "tuning.ask": "the same",
    "decide.propose": "a walk also counts what strategies leave",
    "alerts.with_told": "nobody is told anything",
    "alerts.raise_alerts": "the same",
}
ADDED = {
    "approval.answer": "a person would have been asked, and says yes",
    "keep.prune": "the daily flow, once a day",
    "keep.compact": "the same",
}


def steps_of(function: Callable[..., object], opened: tuple[str, ...]) -> Iterator[str]:
    """The loop's functions that it calls, in the order of its text, through the opened modules."""
    plain = inspect.unwrap(function)
    names = inspect.getclosurevars(plain).globals
    tree = ast.parse(textwrap.dedent(inspect.getsource(plain)))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda node: (node.func.lineno, node.func.col_offset)):
        called = _resolved(call.func, names)
        if called is None or called is plain:
            continue
        if called.__module__ in opened:
            yield from steps_of(called, opened)
        elif called.__module__.startswith(STEPS):
            yield f"{called.__module__.removeprefix(STEPS)}.{called.__name__}"


def _resolved(node: ast.expr, names: Mapping[str, object]) -> FunctionType | None:
    """The function behind a name or behind a module's attribute, also of a task or a flow."""
    found: object = None
    if isinstance(node, ast.Name):
        found = names.get(node.id)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        owner = names.get(node.value.id)
        found = getattr(owner, node.attr, None) if isinstance(owner, ModuleType) else None
    if isinstance(found, Flow | Task):
        found = found.fn
    return found if isinstance(found, FunctionType) else None


def test_the_walk_takes_the_steps_of_the_flow_in_its_order() -> None:
    flow = list(dict.fromkeys(steps_of(optimize.fn, (*FLOW, *TASKS))))
    walk = list(dict.fromkeys(steps_of(walking._optimize, WALK)))

    assert [step for step in flow if step not in LEFT_OUT] == [
        step for step in walk if step not in ADDED
    ]
    assert set(flow) >= LEFT_OUT.keys()
    assert set(walk) >= ADDED.keys()
    assert "steps.tick" in walk
