# ruff: noqa: S608 - SQL is put together from this package's own fragments; values are bound.
"""A log that was read whole, handed on hour by hour as it came in.

Laws: what is handed on of an hour depends on rows of that hour alone, and every call and every
score is handed on once. While a split is in force, a part of the calls plays canary and control:
of each arm so many sessions, chosen by their hash, as the split would have sent to it, or in the
same proportion fewer where the log holds fewer.

A call that names its propensity p plays with probability share / p, which makes the part a random
sample of all requests; without propensities p is the arm's share of the hour's sessions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import pandas as pd

from optimizer.allocation import Allocation, SliceName
from optimizer.engine.duck import connect, exact, literal, single
from optimizer.engine.facade import Engine
from optimizer.engine.intake import in_time
from optimizer.engine.spool import CALLS, FEEDBACK, Spool
from optimizer.ports.intake_store import SpoolFile

SOURCE: Final = "log"
LEAST_PROPENSITY: Final = 0.005
"""Calls of smaller propensity stand for too many others to play a part."""

_ORDER: Final = {
    CALLS: "window_start_s, target, arm, slice, ts, request_id",
    FEEDBACK: "ts, request_id, feedback_id",
}
_POINTS: Final = float(1 << 64)
_PARTS: Final = (SliceName.CANARY, SliceName.CONTROL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Checked calls and scores of a log, each in one file in the order of their time.

    engine: whose limits and temporary space reading them uses.
    """

    engine: Engine
    calls: Path
    scores: Path

    def served(self, *, start_s: int, end_s: int) -> dict[str, dict[str, int]]:
        """How many calls each arm of each target served in ``[start_s, end_s)``."""
        with connect(self.engine.limits, self.engine.temporary) as connection:
            rows = connection.execute(
                "SELECT target, arm, count(*) FROM read_parquet(?) WHERE window_start_s >= ? "
                "AND window_start_s < ? GROUP BY ALL ORDER BY target, arm",
                [exact(self.calls), start_s, end_s],
            ).fetchall()
        found: dict[str, dict[str, int]] = {}
        for target, arm, n in rows:
            found.setdefault(str(target), {})[str(arm)] = int(n)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What came in: files, the windows they change, rows, and the newest row's Unix seconds."""

    files: tuple[SpoolFile, ...] = ()
    windows: frozenset[int] = frozenset()
    n_rows: int = 0
    newest_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A part of an arm's calls; level None = each call's own propensity."""

    target: str
    arm: str
    slice: str
    salt: str
    share: float
    level: float | None


def keep_past(
    engine: Engine,
    calls: Sequence[SpoolFile],
    feedback: Sequence[SpoolFile],
    *,
    targets: Sequence[str],
    start_s: int,
    end_s: int,
    folder: Path,
) -> Past:
    """The targets' calls of ``[start_s, end_s)`` and all scores that count for them, as two files.

    Raises:
        UnavailableError: the disk or the memory did not suffice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    past = Past(engine=engine, calls=folder / "calls.parquet", scores=folder / "scores.parquet")
    with connect(engine.limits, engine.temporary) as connection:
        names = ", ".join(map(literal, targets))
        _copy(
            connection,
            f"SELECT * FROM {_read(engine.spool, calls, CALLS)} "
            f"WHERE window_start_s >= {start_s:d} AND window_start_s < {end_s:d} "
            f"AND target IN ({names})",
            "window_start_s, target, arm, ts, request_id",
            past.calls,
        )
        _copy(
            connection,
            f"SELECT feedback.*, calls.window_start_s "
            f"FROM {_read(engine.spool, feedback, FEEDBACK)} AS feedback "
            f"JOIN read_parquet({literal(exact(past.calls))}) AS calls USING (request_id) "
            f"WHERE {in_time('feedback', 'calls', engine.limits)}",
            "ts, request_id, feedback_id",
            past.scores,
        )
    return past


def deliver(
    past: Past,
    spool: Spool,
    *,
    start_s: int,
    end_s: int,
    splits: Sequence[Allocation] = (),
) -> Delivered:
    """Write what came in during ``[start_s, end_s)`` into the spool, under the splits in force.

    Raises:
        UnavailableError: the disk or the memory did not suffice.
    """
    with connect(past.engine.limits, past.engine.temporary) as connection:
        for name, path in (("calls", past.calls), ("scores", past.scores)):
            connection.execute(
                f"CREATE TABLE {name} AS SELECT * FROM read_parquet({literal(exact(path))}) "
                f"WHERE epoch_us(ts) >= {start_s * 1_000_000:d} "
                f"AND epoch_us(ts) < {end_s * 1_000_000:d}"
            )
        windows = connection.execute(
            "SELECT window_start_s FROM calls UNION SELECT window_start_s FROM scores"
        ).fetchall()
        _play(connection, splits)
        found = [
            _publish(connection, spool, CALLS, "played", "*"),
            _publish(connection, spool, FEEDBACK, "scores", "* EXCLUDE (window_start_s)"),
        ]
    files = tuple(file for file in found if file is not None)
    return Delivered(
        files=files,
        windows=frozenset(int(row[0]) for row in windows),
        n_rows=sum(file.n_rows for file in files),
        newest_s=max((file.max_s for file in files), default=None),
    )


def _read(spool: Spool, files: Sequence[SpoolFile], dataset: str) -> str:
    """The files' rows; none of the right shape where there are no files."""
    if files:
        return f"read_parquet([{', '.join(map(literal, spool.patterns(files)))}])"
    return f"({_NOTHING[dataset]} WHERE false)"


_NOTHING: Final = {
    CALLS: "SELECT ''::VARCHAR AS request_id, now() AS ts, 0::BIGINT AS window_start_s, "
    "'' AS target, '' AS arm, '' AS slice, '' AS session_id, 0::UTINYINT AS cluster, "
    "false AS failed, false AS timeout, false AS fallback, 0::DOUBLE AS latency_ms, "
    "0::BIGINT AS latency_us, 0::BIGINT AS input_tokens, 0::BIGINT AS output_tokens, "
    "0::BIGINT AS cached_tokens, 0::BIGINT AS cost_nusd, 0::DOUBLE AS quality, "
    "0::DOUBLE AS propensity, '' AS source",
    FEEDBACK: "SELECT ''::VARCHAR AS request_id, now() AS ts, 0::DOUBLE AS score, "
    "'' AS scorer, '' AS source, '' AS feedback_id",
}


def _copy(connection: duckdb.DuckDBPyConnection, rows: str, order: str, path: Path) -> None:
    connection.execute(
        f"COPY ({rows} ORDER BY {order}) TO {literal(str(path))} "
        "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20480)"
    )


def _play(connection: duckdb.DuckDBPyConnection, splits: Sequence[Allocation]) -> None:
    """View ``played``: the calls, each with the slice it plays."""
    parts = [part for split in splits for part in _parts(connection, split)]
    if not parts:
        connection.execute(
            "CREATE VIEW played AS SELECT * REPLACE ('baseline' AS slice) FROM calls"
        )
        return
    frame = pd.DataFrame(
        {
            "target": [part.target for part in parts],
            "arm": [part.arm for part in parts],
            "part": [part.slice for part in parts],
            "salt": [f"{part.salt}:{part.slice}:" for part in parts],
            "share": [part.share for part in parts],
            "level": pd.Series([part.level for part in parts], dtype="float64"),
        }
    )
    connection.register("given_parts", frame)
    connection.execute("CREATE TABLE parts AS SELECT * FROM given_parts")
    connection.unregister("given_parts")
    plays = (
        f"md5_number_lower(salt || session_id) / {_POINTS!r} "
        "< share / coalesce(CASE WHEN NOT isnan(level) THEN level END, propensity) "
        f"AND (NOT isnan(level) OR propensity >= {LEAST_PROPENSITY})"
    )
    connection.execute(
        f"CREATE VIEW played AS SELECT calls.* REPLACE (CASE WHEN {plays} THEN part "
        "ELSE 'baseline' END AS slice) FROM calls LEFT JOIN parts "
        "ON parts.target = calls.target AND parts.arm = calls.arm"
    )


def _parts(connection: duckdb.DuckDBPyConnection, split: Allocation) -> list[_Part]:
    """Canary and control of one split, both thinned alike to what the log holds of the hour."""
    wanted = {part.name: part for part in split.slices if part.name in _PARTS}
    if len(wanted) < len(_PARTS):
        return []
    levels = _levels(connection, split.target)
    both = [levels.get(part.arm) for part in wanted.values()]
    if any(level is None for level in both):
        return []
    known = all(level is not None and level[1] is not None for level in both)
    level_of = {
        name: (levels[part.arm][1] if known else levels[part.arm][0])
        for name, part in wanted.items()
    }
    scale = min(1.0, *((level_of[name] or 0.0) / part.share for name, part in wanted.items()))
    return [
        _Part(
            target=split.target,
            arm=part.arm,
            slice=name.value,
            salt=split.salt,
            share=scale * part.share,
            level=None if known else level_of[name],
        )
        for name, part in wanted.items()
    ]


def _levels(
    connection: duckdb.DuckDBPyConnection, target: str
) -> dict[str, tuple[float, float | None]]:
    """Each arm's share of the hour's sessions, and its least propensity if every call has one."""
    rows = connection.execute(
        "SELECT arm, count(DISTINCT (window_start_s, session_id)), count(*) = count(propensity), "
        "min(propensity) FILTER (propensity >= ?) FROM calls WHERE target = ? GROUP BY arm",
        [LEAST_PROPENSITY, target],
    ).fetchall()
    total = sum(row[1] for row in rows)
    return {str(arm): (n / total, low if whole else None) for arm, n, whole, low in rows}


def _publish(
    connection: duckdb.DuckDBPyConnection, spool: Spool, dataset: str, table: str, columns: str
) -> SpoolFile | None:
    n_rows, low, high = single(
        connection, f"SELECT count(*), min(epoch_us(ts)), max(epoch_us(ts)) FROM {table}"
    )
    if not n_rows:
        return None

    def write(path: Path) -> None:
        connection.execute(
            f"COPY (SELECT {columns} FROM {table} ORDER BY {_ORDER[dataset]}) "
            f"TO {literal(str(path))} (FORMAT parquet)"
        )

    return spool.publish(
        dataset,
        source=SOURCE,
        n_rows=n_rows,
        min_s=low // 1_000_000,
        max_s=high // 1_000_000,
        write=write,
    )
