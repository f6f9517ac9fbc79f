"""One sick target: what fired on it, and what that means in words."""

from dataclasses import dataclass

from optimizer.evidence import Severity
from optimizer.strategies.threshold.changed import Fired
from optimizer.strategies.threshold.record import Record
from optimizer.strategies.threshold.settings import BY_NAME, ORDER, Trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """fired: not empty, first what is acted on; record: the target's past."""

    fired: tuple[Fired, ...]
    record: Record

    @property
    def first(self) -> Fired:
        """What is acted on."""
        return self.fired[0]

    @property
    def trigger(self) -> Trigger:
        """The trigger that is acted on."""
        return BY_NAME[self.first.trigger]

    def wrong(self, arm: str) -> str:
        """What is wrong with the arm in force, with numbers."""
        first, *others = self.fired
        also = "; also " + ", ".join(each.sentence for each in others) if others else ""
        return f"{first.severity.value}: {arm} of {first.target}: {first.sentence}{also}"


def ordered(fired: Fired) -> tuple[int, int]:
    """Most severe first, then as the triggers are written."""
    return -list(Severity).index(fired.severity), ORDER[fired.trigger]
