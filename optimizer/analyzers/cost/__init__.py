"""Cost: what each target and arm costs, against budgets, itself and the other arms."""

from optimizer.analyzers.cost.analyzer import Cost

__all__ = ["Cost"]
