"""The judge: canary and control aggregates in, one verdict a decision out; pure, and vectorised."""

from optimizer.judge.case import Case
from optimizer.judge.impact import charges, realised
from optimizer.judge.verdicts import judge

__all__ = ["Case", "charges", "judge", "realised"]
