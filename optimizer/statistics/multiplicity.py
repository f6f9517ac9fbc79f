"""Online control of false discoveries over many targets and many hours.

A procedure sees p-values or e-values in the order in which decisions are due and says at once which
are discoveries; no decision waits for later ones, and none is taken back. The laws kept here: the
expected share of false ones among all discoveries so far stays below alpha, under the dependence
named with each procedure; a decision depends on what came before alone; a procedure restored from
its snapshot goes on exactly as the one that never stopped.

A roll-back is never corrected this way: protection comes first, and its error is kept per rollout.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from online_fdr.e_values import ELond, e_bh
from online_fdr.p_values import BatchBH, BatchPRDS, LordPlusPlus

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# A p-value of exactly 0 is one that ran out of digits; it may not pass a level of exactly 0.
SMALLEST_P: Final = 1e-300
# Larger e-values are cut to this, which only makes them more careful; the exponential stays finite.
LARGEST_LOG_E: Final = 700.0
START_WEALTH: Final = 0.5
"""What LORD++ may spend before its first discovery, as a part of alpha."""
SCHEMA: Final = 1


class Method(Enum):
    """What is controlled, on which evidence, under which dependence.

    BATCH_BH: p-values in batches (every candidate of one hour), independent of each other. Controls
    the false discovery rate after every batch. Zrnic, Jiang, Ramdas and Jordan (2020), The power of
    batching in multiple hypothesis testing, arXiv 1910.04968.

    BATCH_PRDS: the same where p-values of a batch hang together positively (targets that share a
    provider: when one is slow, all are) and batches are independent. Same source; fewer
    discoveries than BATCH_BH.

    LORD_PLUS_PLUS: p-values one by one, independent, each of a fixed horizon. Ramdas, Yang,
    Wainwright and Jordan (2017), Online control of the false discovery rate with decaying memory,
    arXiv 1710.00499.

    E_LOND: e-values one by one, under any dependence, each at a stopping time of its own process.
    Xu and Ramdas (2024), Online multiple testing with e-values, arXiv 2311.06412.
    """

    BATCH_BH = "batch_bh"
    BATCH_PRDS = "batch_prds"
    LORD_PLUS_PLUS = "lord_plus_plus"
    E_LOND = "e_lond"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What a procedure says of the values it was given.

    Attributes:
        rejected: the discoveries, shape (M,), in the order of the values.
        level: the level each value was tested at, shape (M,): a p-value is a discovery alone if it
            is at most this (one level for a whole batch, of which Benjamini and Hochberg's steps
            take their part), an e-value if it is at least its reciprocal.
        after: the procedure as the next values will meet it.
    """

    rejected: BoolArray
    level: FloatArray
    after: "Procedure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """A procedure between two hours: a value, so that a repeated hour repeats its rulings.

    Attributes:
        method: which one.
        alpha: the bound on the false discovery rate, in (0, 1).
        tested: values ruled on so far.
        state: the library's own record, JSON-able. That of the batch procedures grows by a few
            numbers a batch.
    """

    method: Method
    alpha: float
    tested: int
    state: Mapping[str, Any]

    def test_p_values(self, values: Sequence[float] | FloatArray) -> Ruling:
        """Rule on p-values: one batch, or in their order for LORD++.

        Args:
            values: p-values in [0, 1], shape (M,); an empty hour changes nothing. A target whose
                p-value is unknown is left out, not passed as nan and not as 1.

        Raises:
            ValueError: the procedure takes e-values, or a value is not in [0, 1].

        Examples:
            >>> hour = start(Method.BATCH_BH, alpha=0.1).test_p_values([0.001, 0.3, 0.02, 0.8])
            >>> hour.rejected.tolist()
            [True, False, True, False]
            >>> hour.after.tested
            4
        """
        if self.method is Method.E_LOND:
            raise ValueError("procedure e_lond takes e-values, not p-values")
        p = _column("p-values", values)
        if not np.all((p >= 0) & (p <= 1)):
            raise ValueError("p-values lie in [0, 1]; an unknown one is left out")
        return self._rule([max(float(value), SMALLEST_P) for value in p])

    def test_log_e_values(self, values: Sequence[float] | FloatArray) -> Ruling:
        """Rule on e-values, in their order, given as natural logarithms.

        Args:
            values: log e-values, shape (M,), each taken when its process was stopped, not the
                largest it ever had; ``-inf`` is an e-value of 0.

        Raises:
            ValueError: the procedure takes p-values, or a value is nan.

        Examples:
            >>> ruling = start(Method.E_LOND, alpha=0.05).test_log_e_values([7.0, 2.0, 6.5])
            >>> ruling.rejected.tolist()
            [True, False, False]
        """
        if self.method is not Method.E_LOND:
            raise ValueError(f"procedure {self.method.value} takes p-values, not e-values")
        return self._rule(_e_values(values))

    def snapshot(self) -> dict[str, Any]:
        """All that :func:`restore` needs, for a ledger; ``json.dumps`` takes it as it is."""
        return {
            "schema": SCHEMA,
            "method": self.method.value,
            "alpha": self.alpha,
            "tested": self.tested,
            "state": json.loads(json.dumps(self.state, allow_nan=False)),
        }

    def _rule(self, values: list[float]) -> Ruling:
        if not values:
            return Ruling(rejected=np.zeros(0, np.bool_), level=np.zeros(0), after=self)
        rejected, level, state = _RULES[self.method](dict(self.state), values)
        after = Procedure(
            method=self.method,
            alpha=self.alpha,
            tested=self.tested + len(values),
            state=state,
        )
        return Ruling(
            rejected=np.asarray(rejected, dtype=np.bool_), level=np.asarray(level), after=after
        )


def start(method: Method, *, alpha: float, start_wealth: float = START_WEALTH) -> Procedure:
    """The procedure before its first value.

    Args:
        method: which one.
        alpha: bound on the false discovery rate, in (0, 1).
        start_wealth: for LORD++ alone, the part of alpha, in (0, 1), to be spent before the first
            discovery; more finds it sooner and leaves less after it.

    Raises:
        ValueError: alpha or start_wealth is outside (0, 1).

    Examples:
        >>> start(Method.LORD_PLUS_PLUS, alpha=0.05).test_p_values([0.9, 1e-6]).rejected.tolist()
        [False, True]
    """
    _check_alpha(alpha)
    if not 0.0 < start_wealth < 1.0:
        raise ValueError(f"start_wealth lies in (0, 1), got {start_wealth!r}")
    fresh: BatchBH | BatchPRDS | LordPlusPlus | ELond
    if method is Method.LORD_PLUS_PLUS:
        fresh = LordPlusPlus(alpha, start_wealth * alpha)
    else:
        fresh = _LIBRARY[method](alpha)
    return Procedure(method=method, alpha=alpha, tested=0, state=fresh.snapshot())


def restore(snapshot: Mapping[str, Any]) -> Procedure:
    """The procedure that a snapshot was taken of.

    Raises:
        ValueError: the snapshot is of another schema, of an unknown procedure, or contradicts
            itself.

    Examples:
        >>> before = start(Method.E_LOND, alpha=0.05).test_log_e_values([7.0]).after
        >>> restore(json.loads(json.dumps(before.snapshot()))) == before
        True
    """
    if snapshot.get("schema") != SCHEMA:
        raise ValueError(f"snapshot has schema {snapshot.get('schema')!r}, not {SCHEMA}")
    if absent := {"method", "alpha", "tested", "state"} - set(snapshot):
        raise ValueError(f"snapshot lacks {', '.join(sorted(absent))}")
    method = Method(snapshot["method"])
    alpha, tested, state = snapshot["alpha"], snapshot["tested"], snapshot["state"]
    _check_alpha(alpha)
    # The library takes whatever attributes it is given, so what it holds is compared.
    held = _LIBRARY[method].from_snapshot(dict(state))
    if held.target_level != alpha or held.num_hypotheses != tested:
        raise ValueError(
            f"snapshot of {method.value} says alpha {alpha!r} after {tested!r} values, its "
            f"state {held.target_level!r} after {held.num_hypotheses!r}"
        )
    return Procedure(method=method, alpha=alpha, tested=tested, state=state)


def e_benjamini_hochberg(values: Sequence[float] | FloatArray, *, alpha: float) -> BoolArray:
    """The discoveries among the e-values of one hour, under any dependence between them.

    Rejects the k* largest, ``k* = max{k: e_(k) >= m / (alpha k)}``; the false discovery rate of
    this one batch stays below alpha.

    Args:
        values: log e-values, shape (M,), each at a stopping time, not a running maximum.
        alpha: bound on the false discovery rate, in (0, 1).

    Returns:
        Discoveries, shape (M,).

    Raises:
        ValueError: alpha is outside (0, 1) or a value is nan.

    References:
        Wang and Ramdas (2022). False discovery rate control with e-values. JRSS B 84:822, arXiv
        2009.02824.

    Examples:
        Three e-values at level 0.1 need 30 alone, 15 in a pair, 10 all together.

        >>> e_benjamini_hochberg(np.log([16.0, 15.0, 2.0]), alpha=0.1).tolist()
        [True, True, False]
    """
    _check_alpha(alpha)
    return np.asarray(e_bh(_e_values(values), alpha), dtype=np.bool_)


def given_selected(p: float, bar: float) -> float:
    """The p-value of a claim that is tested only because its p-value was at most ``bar``.

    Who looks at what passed a bar alone sees small p-values whatever is true; divided by the bar
    they are p-values again, if those beyond the null's edge are larger than uniform, as those of
    one-sided tests are.

    Args:
        p: the p-value before, in [0, bar].
        bar: what it had to pass, in (0, 1].

    References:
        Zhao, Small and Su (2019). Multiple testing when many p-values are uniformly conservative,
        with application to testing qualitative interaction in educational interventions. JASA 114.

    Examples:
        >>> given_selected(0.025, 0.05)
        0.5
    """
    return min(1.0, p / bar)


def batch_limits(values: Sequence[float] | FloatArray, level: float) -> FloatArray:
    """What each p-value of a batch may be at most to be a discovery, the others as they are.

    Args:
        values: the batch, shape (M,).
        level: what Benjamini and Hochberg's steps share, as :class:`Ruling` tells it.

    Returns:
        Limits, shape (M,): a value is a discovery exactly if it is at most its limit.

    Examples:
        >>> batch_limits([0.001, 0.3, 0.02, 0.8], 0.04).tolist()
        [0.02, 0.03, 0.02, 0.03]
    """
    p = _column("p-values", values)
    order, size = np.argsort(p, kind="stable"), p.size
    steps = level * np.arange(1, size + 2) / max(size, 1)
    rank = np.arange(1, size + 1)
    found = int(np.max(rank, where=p[order] <= steps[:size], initial=0))
    # With this value at 0 every smaller one stands a rank later, every larger one where it stood.
    later = np.maximum.accumulate(np.where(p[order] <= steps[1:], rank, 0))
    count = np.where(rank <= found, found, 1 + np.concatenate(([0], later))[:size])
    limits = np.empty(size)
    limits[order] = np.minimum(1.0, level * count / max(size, 1))
    return limits


_Ruled = tuple[list[bool], list[float], dict[str, Any]]


def _batch(
    kind: type[BatchBH] | type[BatchPRDS],
) -> Callable[[dict[str, Any], list[float]], _Ruled]:
    def rule(state: dict[str, Any], values: list[float]) -> _Ruled:
        held = kind.from_snapshot(state)
        found = held.test_batch_detail(values)
        level = math.nan if found.test_level is None else found.test_level
        return list(found.rejected), [level] * len(values), held.snapshot()

    return rule


def _stream(
    kind: type[LordPlusPlus] | type[ELond],
) -> Callable[[dict[str, Any], list[float]], _Ruled]:
    def rule(state: dict[str, Any], values: list[float]) -> _Ruled:
        held = kind.from_snapshot(state)
        found = [held.test_one_detail(value) for value in values]
        levels = [math.nan if one.test_level is None else one.test_level for one in found]
        return [one.rejected for one in found], levels, held.snapshot()

    return rule


_LIBRARY: Final[Mapping[Method, Any]] = {
    Method.BATCH_BH: BatchBH,
    Method.BATCH_PRDS: BatchPRDS,
    Method.LORD_PLUS_PLUS: LordPlusPlus,
    Method.E_LOND: ELond,
}
_RULES: Final[Mapping[Method, Callable[[dict[str, Any], list[float]], _Ruled]]] = {
    Method.BATCH_BH: _batch(BatchBH),
    Method.BATCH_PRDS: _batch(BatchPRDS),
    Method.LORD_PLUS_PLUS: _stream(LordPlusPlus),
    Method.E_LOND: _stream(ELond),
}


def _column(name: str, values: Sequence[float] | FloatArray) -> FloatArray:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise ValueError(f"{name} come in one dimension, got shape {column.shape}")
    return column


def _e_values(values: Sequence[float] | FloatArray) -> list[float]:
    logs = _column("log e-values", values)
    if np.any(np.isnan(logs)):
        raise ValueError("a log e-value is nan; an unknown one is left out")
    return [float(value) for value in np.exp(np.minimum(logs, LARGEST_LOG_E))]


def _check_alpha(alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha lies in (0, 1), got {alpha!r}")
