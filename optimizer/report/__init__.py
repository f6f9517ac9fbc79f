"""What a run of the optimizer amounted to: figures, plots and one self-contained page.

Everything is computed from the ledger and a traffic log that was read without the optimizer; where
the two disagree, that is said instead of a figure.
"""

from optimizer.report.agreement import Disagreement, disagreements
from optimizer.report.figures import Figures, Mean, TargetFigures, account
from optimizer.report.page import render
from optimizer.report.story import Chapter, Story, read_story

__all__ = [
    "Chapter",
    "Disagreement",
    "Figures",
    "Mean",
    "Story",
    "TargetFigures",
    "account",
    "disagreements",
    "read_story",
    "render",
]
