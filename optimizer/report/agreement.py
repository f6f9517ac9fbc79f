"""Whether the ledger and an independent reading of the traffic log tell the same."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from optimizer.metrics import GRAIN_S

KEYS = ["target", "arm", "slice"]
SUMS = ("n", "n_failed", "cost_nusd", "n_quality", "quality_e6")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """One sum that differs."""

    target: str
    arm: str
    slice: str
    column: str
    ledger: int
    log: int


def disagreements(
    log: pd.DataFrame, grains: pd.DataFrame, *, start_s: int, end_s: int
) -> tuple[Disagreement, ...]:
    """Sums of ``[start_s, end_s)`` by target, arm and slice that are not the same on both sides.

    Args:
        log: one row a call: ts_s, target, arm, slice, status, cost_usd, score (nan = none).
        grains: the ledger's aggregates of :data:`~optimizer.metrics.GRAIN_S` seconds.
        start_s: beginning, Unix seconds.
        end_s: end, Unix seconds; windows before it are closed.
    """
    window = np.floor(log["ts_s"] / GRAIN_S) * GRAIN_S
    inside = log[(window >= start_s) & (window < end_s)]
    counted = inside.assign(
        n=1,
        n_failed=(inside["status"] != "ok").astype(np.int64),
        cost_nusd=np.rint(inside["cost_usd"] * 1e9).astype(np.int64),
        n_quality=inside["score"].notna().astype(np.int64),
        quality_e6=np.rint(inside["score"].fillna(0.0) * 1e6).astype(np.int64),
    )
    there = grains[(grains["window_start_s"] >= start_s) & (grains["window_start_s"] < end_s)]
    sums = [frame.groupby(KEYS)[list(SUMS)].sum() for frame in (there, counted)]
    both = sums[0].merge(
        sums[1], how="outer", left_index=True, right_index=True, suffixes=("_ledger", "_log")
    )
    both = both.fillna(0)
    return tuple(
        Disagreement(
            target=str(key[0]),
            arm=str(key[1]),
            slice=str(key[2]),
            column=column,
            ledger=int(row[f"{column}_ledger"]),
            log=int(row[f"{column}_log"]),
        )
        for key, row in zip(both.index, both.to_dict("records"), strict=True)
        for column in SUMS
        if int(row[f"{column}_ledger"]) != int(row[f"{column}_log"])
    )
