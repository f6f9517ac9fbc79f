"""What arms have in common: the model, the provider, or the application before all of them.

The law kept here: an anomaly is told once, by itself or as one of many, and never a few arms speak
for all that share something.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from optimizer.targets import Target

LEVELS: Final = ("provider", "model", "application")
ALL: Final = "all targets"
SEVERAL: Final = 2
LEAST_SHARE: Final = 1 / 3
"""Share of the arms with something in common that must show the same at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Anomalies of one measure, on one side, of arms that share something.

    level: what they share; name: its name; rows: the anomalies; judged: how many that share it had
    enough hours.
    """

    level: str
    name: str
    rows: pd.DataFrame
    judged: int


def with_scopes(keys: pd.DataFrame, targets: Mapping[str, Target]) -> pd.DataFrame:
    """The keys with what they share: model, provider, application; "" = unknown, or shared by none.

    A key without an arm is a target's traffic, which only shares its application with others.
    """
    known = {
        (target.name, arm.name): (arm.config.model, arm.config.provider or "")
        for target in targets.values()
        for arm in target.arms
    }
    pairs = zip(keys["target"].tolist(), keys["arm"].tolist(), strict=True)
    found = [known.get(pair, ("", "")) for pair in pairs]
    models = [f"{provider}/{model}" if provider else model for model, provider in found]
    return keys.assign(
        model=pd.Series(models, index=keys.index, dtype="str"),
        provider=pd.Series([provider for _, provider in found], index=keys.index, dtype="str"),
        application=pd.Series(np.where(keys["arm"] == "", ALL, ""), index=keys.index, dtype="str"),
    )


def scoped(
    found: pd.DataFrame, judged: Mapping[str, pd.DataFrame]
) -> tuple[Sequence[Scope], pd.DataFrame]:
    """The anomalies that many share, widest scope first, and those that are left.

    Args:
        found: anomalies with target, measure, z and the columns ``LEVELS``, with distinct labels.
        judged: by measure, the keys of the series that had enough hours.
    """
    scopes: list[Scope] = []
    left = found.assign(side=np.sign(found["z"]))
    for level in LEVELS:
        named = left[left[level] != ""]
        for (measure, _, name), part in named.groupby(["measure", "side", level], sort=True):
            total = int((judged[str(measure)][level] == name).sum())
            if _several(part, level) and len(part) >= LEAST_SHARE * total:
                scopes.append(Scope(level=level, name=str(name), rows=part, judged=total))
                left = left.drop(index=part.index)
    return scopes, left


def _several(part: pd.DataFrame, level: str) -> bool:
    """Whether they are enough of different kinds: models of a provider, else targets."""
    models = level != "provider" or part["model"].nunique() >= SEVERAL
    return bool(models and part["target"].nunique() >= SEVERAL)
