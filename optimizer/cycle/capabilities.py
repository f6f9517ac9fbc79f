"""Rules on what the candidate's model can do at all, and for how long it will be there.

Asked is only what the target declares to need; what is not known of a model is not there.
"""

from collections.abc import Iterator

from optimizer.cycle.case import Case
from optimizer.targets import Needs, Offers

NOTHING_KNOWN = Offers()


def capable(case: Case) -> str | None:
    """The first need of the target that the candidate does not meet, or is not known to meet."""
    offers = case.offers or NOTHING_KNOWN
    name, target = case.proposal.candidate, case.proposal.target
    for part, need, has in _asked(case.needs, offers):
        if need is None or need is False:
            continue
        asked = f"{target} needs {part}" + ("" if need is True else f" of at least {need}")
        if has is None:
            return f"{asked}, and whether {name} offers that is unknown"
        if has < need:
            return f"{asked}, {name} offers {'none' if has is False else has}"
    return None


def _asked(needs: Needs, offers: Offers) -> Iterator[tuple[str, int | None, int | None]]:
    """Each ability with what is needed and what is offered of it."""
    yield "context_window_tokens", needs.context_window_tokens, offers.context_window_tokens
    yield "tools", needs.tools, offers.tools
    yield "json_mode", needs.json_mode, offers.json_mode
    yield "vision", needs.vision, offers.vision
    yield "streaming", needs.streaming, offers.streaming


def retired(case: Case) -> str | None:
    """A candidate whose model is deprecated today."""
    ends = None if case.offers is None else case.offers.deprecated_on
    if ends is None or case.now.date() < ends:
        return None
    return f"{case.proposal.candidate} is deprecated since {ends.isoformat()}"


def retiring(case: Case) -> str | None:
    """What is said of a candidate that will soon be deprecated; it is no reason to refuse it."""
    ends = None if case.offers is None else case.offers.deprecated_on
    notice = case.policy.deprecation_notice
    if ends is None or ends - case.now.date() > notice or retired(case) is not None:
        return None
    return (
        f"{case.proposal.candidate} is deprecated on {ends.isoformat()}, within {notice.days} days"
    )
