"""A directory of published allocations, answered from memory.

The law: for a target with a baseline, or ever seen, a choice is always made. It degrades from the
published file to the last good allocation, and once that has expired to the baseline; never to an
error and never to a guess.
"""

import copy
import math
import os
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from optimizer.client.choice import Choice, Health, Origin
from optimizer.client.document import AllocationError, Document
from optimizer.client.point import point
from optimizer.client.watch import Sight, Watch
from optimizer.client.wire import file_name

_BASELINE = "baseline"


class Allocations:
    """Reader of a directory of published allocations; safe to share between threads.

    Examples:
        >>> allocations = Allocations("nowhere", baselines={"bot": {"model": "large-1"}})
        >>> choice = allocations.choose("bot", "session-42")
        >>> choice.config["model"], choice.origin, choice.propensity
        ('large-1', 'baseline', 1.0)
        >>> choice.reason
        'no allocation seen; missing: there is no file bot.json'
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        baselines: Mapping[str, Mapping[str, object]] | None = None,
        cache_directory: str | os.PathLike[str] | None = None,
        check_every_s: float = 1.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is read before the first choice.

        Args:
            directory: where the publisher puts one file per target.
            baselines: configuration per target to use before any allocation was seen. Its key
                "arm", when there is one, is the name under which the choice is logged ("baseline"
                otherwise) and no part of the configuration.
            cache_directory: where the last good allocations outlive the process; a directory of
                this application's own.
            check_every_s: seconds, >= 0, between two looks at a file.
            clock: seconds since the epoch; decides what has expired.
            monotonic: seconds; paces the looks.

        Raises:
            AllocationError: when `check_every_s` is negative or not finite.
        """
        if not (check_every_s >= 0 and math.isfinite(check_every_s)):
            raise AllocationError("check_every_s", check_every_s, "a finite number >= 0")
        self._directory = Path(directory)
        self._cache_directory = None if cache_directory is None else Path(cache_directory)
        self._baselines = {
            target: copy.deepcopy(dict(config)) for target, config in (baselines or {}).items()
        }
        self._check_every_s = check_every_s
        self._clock = clock
        self._monotonic = monotonic
        self._watches: dict[str, Watch] = {}
        if sys.platform != "win32":
            _renew_after_fork(weakref.ref(self))

    def choose(self, target: str, unit: str) -> Choice:
        """The arm of a unit; the same for as long as the rollout's slices do not pass its point.

        Raises:
            LookupError: when no allocation of the target was ever seen and no baseline is given.
        """
        sight = self._watch(target).look()
        origin, reason = self._standing(target, sight)
        document = sight.document
        if document is None:
            return self._configured(target, unit, reason)
        if origin == _BASELINE:
            return _at_baseline(document, unit, reason)
        part = document.slice_at(point(document.salt, unit))
        return Choice(
            target=target,
            unit=unit,
            arm=part.arm,
            config=copy.deepcopy(dict(document.arms[part.arm])),
            slice=part.name,
            propensity=document.propensity(part.arm),
            generation=document.generation,
            decision=document.decision,
            origin=origin,
            reason=reason,
        )

    def health(self, target: str) -> Health:
        """Where choices for a target come from now, and why.

        Raises:
            LookupError: when a choice would.

        Examples:
            >>> Allocations("nowhere", baselines={"bot": {"model": "m"}}).health("bot").origin
            'baseline'
        """
        sight = self._watch(target).look()
        origin, reason = self._standing(target, sight)
        document = sight.document
        return Health(
            target=target,
            origin=origin,
            generation=None if document is None else document.generation,
            age_s=None if document is None else self._clock() - document.published_at.timestamp(),
            reason=reason,
            cache_reason=sight.cache_fault,
        )

    def _watch(self, target: str) -> Watch:
        watch = self._watches.get(target)
        if watch is not None:
            return watch
        name = file_name(target)
        cache = self._cache_directory
        fresh = Watch(
            target,
            self._directory / name,
            cache_path=None if cache is None else cache / name,
            check_every_s=self._check_every_s,
            clock=self._clock,
            monotonic=self._monotonic,
        )
        # One step, so that two threads which meet here go on with the same watch.
        return self._watches.setdefault(target, fresh)

    def _standing(self, target: str, sight: Sight) -> tuple[Origin, str]:
        """Origin of the choices made from a sight, and why they are not current."""
        document = sight.document
        if document is None:
            if target in self._baselines:
                return "baseline", f"no allocation seen; {sight.fault}"
            message = (
                f"target {target!r} has no allocation in {self._directory} ({sight.fault}) "
                f"and none of the baselines given, which are for {sorted(self._baselines)}"
            )
            raise LookupError(message)
        if self._clock() >= document.expires_at.timestamp():
            stale = f"stale since {_in_words(document.expires_at)}"
            return "baseline", f"{stale}; {sight.fault}" if sight.fault else stale
        return ("last_good", sight.fault) if sight.fault else ("current", "")

    def _configured(self, target: str, unit: str, reason: str) -> Choice:
        config = copy.deepcopy(self._baselines[target])
        return Choice(
            target=target,
            unit=unit,
            arm=str(config.pop("arm", _BASELINE)),
            config=config,
            slice=_BASELINE,
            propensity=1.0,
            generation=None,
            decision=None,
            origin="baseline",
            reason=reason,
        )

    def _after_fork(self) -> None:
        for watch in self._watches.values():
            watch.after_fork()


def _at_baseline(document: Document, unit: str, reason: str) -> Choice:
    """Every unit on the baseline: no decision splits the traffic any more."""
    return Choice(
        target=document.target,
        unit=unit,
        arm=document.baseline,
        config=copy.deepcopy(dict(document.arms[document.baseline])),
        slice=_BASELINE,
        propensity=1.0,
        generation=document.generation,
        decision=None,
        origin="baseline",
        reason=reason,
    )


def _in_words(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _renew_after_fork(reference: weakref.ref[Allocations]) -> None:
    """Lets a forked child look for itself; the hook outlives the reader but does not hold it."""

    def renew() -> None:
        allocations = reference()
        if allocations is not None:
            allocations._after_fork()  # noqa: SLF001  (the class's own hook)

    os.register_at_fork(after_in_child=renew)
