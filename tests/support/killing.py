"""Adapters in front of real ones that kill the whole process, -9, at one point of the protocol."""

import os
import signal
from collections.abc import Callable
from typing import Any

POINTS = tuple(
    f"{when}:{call}"
    for call in ("begin", "apply", "read", "finish")
    for when in ("before", "after")
)


class Killing:
    """Passes everything on; dies before or after the named call, its ``nth`` time."""

    def __init__(self, inner: Any, point: str, nth: int = 1) -> None:  # noqa: ANN401 - any adapter
        self._inner = inner
        self._when, _, self._call = point.partition(":")
        self._left = nth

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the adapter
        found = getattr(self._inner, name)
        return self._armed(found) if name == self._call else found

    def _armed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def dying(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the adapter
            self._left -= 1
            if self._left == 0 and self._when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*args, **kwargs)
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return dying


class KillingLedger:
    """A ledger whose effects may kill."""

    def __init__(self, inner: Any, point: str, nth: int = 1) -> None:  # noqa: ANN401 - any ledger
        self._inner = inner
        self.effects = Killing(inner.effects, point, nth)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the ledger
        return getattr(self._inner, name)
