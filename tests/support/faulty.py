"""Doors in front of real adapters that can be shut, or lead elsewhere."""

from collections.abc import Callable, Mapping

from optimizer.allocation import Allocation
from optimizer.errors import UnavailableError
from optimizer.ports import Gateway


class FaultyGateway:
    """A gateway that may stay away, take nothing, or take something else.

    away: names of calls that do not answer; alter: what becomes of an allocation on its way, None =
    it is lost without a word.
    """

    def __init__(self, inner: Gateway) -> None:
        self.inner = inner
        self.away: set[str] = set()
        self.alter: Callable[[Allocation], Allocation | None] = lambda allocation: allocation

    @property
    def name(self) -> str:
        return self.inner.name

    def apply(self, allocation: Allocation, *, arms: Mapping[str, Mapping[str, object]]) -> None:
        self._answer("apply")
        taken = self.alter(allocation)
        if taken is not None:
            self.inner.apply(taken, arms=arms)

    def read(self, target: str) -> Allocation | None:
        self._answer("read")
        return self.inner.read(target)

    def _answer(self, call: str) -> None:
        if call in self.away:
            msg = f"gateway {self.name} does not answer"
            raise UnavailableError(msg)


class Listener:
    """A notifier that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []

    def notify(self, *, title: str, body: str, severity: str, decision_id: str | None) -> None:
        self.told.append((severity, title, body))


class Broken:
    """A notifier that fails in a way its port does not know."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def notify(self, *, title: str, body: str, severity: str, decision_id: str | None) -> None:
        raise self.error
