"""What the reader must know before believing a figure of a backtest."""

from collections.abc import Sequence

from optimizer.report.backtest.figures import RANDOMISED, TargetFigures, TotalFigures
from optimizer.report.backtest.records import UNKNOWABLE, Made


def notes_on(
    targets: Sequence[TargetFigures],
    total: TotalFigures,
    made: Sequence[Made],
    dark: Sequence[str],
) -> tuple[str, ...]:
    """The notes, one a paragraph.

    Args:
        targets: figures by target.
        total: figures of all.
        made: the decisions, oldest first.
        dark: arms of which the log holds no request of known cost, in words.
    """
    notes = []
    mixed = [each.target for each in targets if each.basis != RANDOMISED]
    if mixed:
        notes.append(
            f"{', '.join(mixed)}: arms were not assigned by known chances, so that a difference "
            "between them may be one between their requests. Log propensities to remove that doubt."
        )
    unknown = [each for each in made if each.outcome == UNKNOWABLE]
    if unknown:
        what = ", ".join(f"{each.candidate} on {each.target}" for each in unknown)
        first = {each.target: each.at for each in reversed(unknown)}
        since = ", ".join(f"{name} from {at:%Y-%m-%d %H:%M}" for name, at in sorted(first.items()))
        notes.append(
            f"{what}: would have needed a canary of an arm that the log holds no requests of. "
            "Whether it had been promoted is unknown, and so is what would have followed "
            f"({since}); the figures go on as if it had been taken back."
        )
    if dark:
        notes.append(
            f"{', '.join(dark)}: the log holds no requests of known cost, so that no yardstick "
            "knows these arms."
        )
    if total.spent.unpriced:
        notes.append(
            f"{total.spent.unpriced:,} of {total.spent.requests:,} requests have no known cost: "
            "they are in no figure of money."
        )
    notes.append(
        "Yardsticks are picked with the whole period in hand and look better than they would have "
        "been. Canaries are played by requests the log holds of both arms, at most as many as a "
        "canary would have had; the five-minute guard and experiments are not run, policy points "
        "outside are not asked, and a person who would have been asked says yes at once. An "
        "interval does not know of other weeks."
    )
    return tuple(notes)
