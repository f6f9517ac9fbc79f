"""Aggregates: mergeable summaries of one target x arm x slice x window.

They form a commutative monoid: merging is addition of integers, column by column, so that any
order, any split into files or hours and any number of machines give the same bytes. Money is whole
nano-dollars, latency whole microseconds, quality whole millionths; logarithms are rounded to
millionths row by row before they are summed.

A frame of aggregates is a pandas DataFrame with the columns of ``KEYS`` then ``SUMS`` (all int64)
then ``histogram`` and ``clusters`` (bytes). A histogram adds bucket by bucket and the hash buckets
of units add cell by cell, so both obey the same law; zeros leave no bytes behind, so that equal
aggregates are equal bytes. zlib's level is fixed; two builds of zlib may still write different
bytes for equal clusters, never different numbers. Hash buckets that an earlier release has stored
are read as well, and merging writes them anew.
"""

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.errors import DataError

KEYS = ("target", "arm", "slice", "window_start_s")
"""Key columns. ``window_start_s`` is Unix seconds, UTC; the width is the frame's own."""

SUMS = (
    "n",
    "n_failed",
    "n_timeout",
    "n_fallback",
    "n_units",
    "n_latency",
    "latency_us",
    "log_latency_e6",
    "log_latency_sq_e6",
    "n_cost",
    "cost_nusd",
    "log_cost_e6",
    "log_cost_sq_e6",
    "n_positive_cost",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "n_tokens",
    "n_quality",
    "quality_e6",
    "quality_sq_e9",
)
"""Summed columns, all int64.

n: rows; n_failed: rows whose status is not ok (timeouts included); n_units: distinct units
(sessions) inside the window, summed over windows when merged; n_latency, latency_us, log_latency_*:
answered requests with a known latency (ln of milliseconds, and its square, in millionths); n_cost,
cost_nusd: rows with a known cost, failed ones included; log_cost_*: ln of USD over the
``n_positive_cost`` rows with cost > 0; n_tokens: rows with known token counts; n_quality,
quality_e6, quality_sq_e9: scored rows, sum of scores in millionths, sum of squares in billionths.
"""

HISTOGRAM = "histogram"
"""Bytes: the log-bucket histogram of answered requests' latency in ms (see
:mod:`optimizer.bucket_edges`): little-endian int16 bucket and int64 count records, sorted by
bucket, no zero counts; empty bytes = no latency known."""

CLUSTERS = "clusters"
"""Bytes: for control, canary and experiment slices, hash buckets of shape
``(len(CLUSTER_FIELDS), N_CLUSTERS)``; empty bytes elsewhere.

The first byte is 1 where cells follow as they are, 2 where they are zlib-compressed, which is done
where it saves half. Before the cells stands a letter a field, its integer type as in ``struct``:
the narrowest unsigned one that holds the field's cells, or ``q``. A first byte of 0x78 is zlib's
own: the form of earlier releases, int64 cells without letters. All is little-endian."""

N_CLUSTERS = 128
"""Hash buckets of units (sessions); whole units, so they add over windows (statistics: delta
method with hash buckets)."""

CLUSTER_FIELDS = (
    "n",
    "n_failed",
    "n_fallback",
    "n_latency",
    "latency_us",
    "n_cost",
    "cost_nusd",
    "n_quality",
    "quality_e6",
)
"""Which sums are also kept per hash bucket."""

IntArray = npt.NDArray[np.int64]

ZLIB_LEVEL: Final = 6
_RECORD: Final = np.dtype([("bucket", "<i2"), ("count", "<i8")])
_SHAPE: Final = (len(CLUSTER_FIELDS), N_CLUSTERS)
_PLAIN: Final = b"\x01"
_DEFLATED: Final = b"\x02"
_LETTERS: Final = "BHIQq"
_WIDE: Final = b"q" * len(CLUSTER_FIELDS)
_HEAD: Final = 1 + len(CLUSTER_FIELDS)


def empty() -> pd.DataFrame:
    """A frame without rows: the identity of :func:`merge`.

    Examples:
        >>> empty().shape == (0, len(KEYS) + len(SUMS) + 2)
        True
    """
    names = {name: pd.Series(dtype="str") for name in KEYS[:-1]}
    whole = {name: pd.Series(dtype="int64") for name in (KEYS[-1], *SUMS)}
    codes = {name: pd.Series(dtype="object") for name in (HISTOGRAM, CLUSTERS)}
    return pd.DataFrame({**names, **whole, **codes})


def pack_histogram(buckets: npt.ArrayLike, counts: npt.ArrayLike) -> bytes:
    """The stored form of one histogram; repeated buckets add up, zero counts vanish.

    Examples:
        >>> buckets, counts = unpack_histogram(pack_histogram([7, 3, 7], [1, 5, 2]))
        >>> buckets.tolist(), counts.tolist()
        ([3, 7], [5, 3])
    """
    index = np.asarray(buckets, dtype=np.int64)
    packed: bytes = pack_histograms(np.zeros_like(index), index, counts, n_groups=1)[0]
    return packed


def pack_histograms(
    groups: npt.ArrayLike, buckets: npt.ArrayLike, counts: npt.ArrayLike, *, n_groups: int
) -> npt.NDArray[np.object_]:
    """The stored form of many histograms at once.

    Args:
        groups: which histogram each record belongs to, in 0..n_groups - 1, any order, shape (R,).
        buckets: bucket indices, shape (R,).
        counts: values in each bucket, shape (R,).
        n_groups: how many histograms there are.

    Returns:
        bytes objects, shape (n_groups,).

    Examples:
        >>> [len(code) for code in pack_histograms([2, 0, 2], [5, 5, 6], [1, 1, 1], n_groups=3)]
        [10, 0, 20]
    """
    group = np.asarray(groups, dtype=np.int64)
    bucket = np.asarray(buckets, dtype=np.int64)
    count = np.asarray(counts, dtype=np.int64)
    order = np.lexsort((bucket, group))
    group, bucket, count = group[order], bucket[order], count[order]
    if group.size:
        fresh = np.r_[True, (group[1:] != group[:-1]) | (bucket[1:] != bucket[:-1])]
        count = np.add.reduceat(count, np.flatnonzero(fresh))
        group, bucket = group[fresh], bucket[fresh]
        some = count != 0
        group, bucket, count = group[some], bucket[some], count[some]
    records = np.empty(group.size, dtype=_RECORD)
    records["bucket"], records["count"] = bucket, count
    return _slices(records.tobytes(), np.bincount(group, minlength=n_groups) * _RECORD.itemsize)


def unpack_histogram(code: bytes) -> tuple[npt.NDArray[np.int16], IntArray]:
    """Bucket indices, ascending, and their counts, both of shape (B,)."""
    records = np.frombuffer(code, dtype=_RECORD)
    return records["bucket"].astype(np.int16), records["count"].astype(np.int64)


def unpack_histograms(
    codes: Sequence[bytes] | pd.Series,
) -> tuple[IntArray, npt.NDArray[np.int16], IntArray]:
    """All records of many histograms: which one (its position), bucket and count, each shape (R,).

    Examples:
        >>> codes = [b"", pack_histogram([3, 7], [5, 2])]
        >>> [array.tolist() for array in unpack_histograms(codes)]
        [[1, 1], [3, 7], [5, 2]]
    """
    sizes = np.fromiter(map(len, codes), dtype=np.int64, count=len(codes))
    buckets, counts = unpack_histogram(b"".join(codes))
    return np.repeat(np.arange(len(sizes)), sizes // _RECORD.itemsize), buckets, counts


def pack_clusters(cells: npt.ArrayLike) -> bytes:
    """The stored form of hash buckets of shape (len(CLUSTER_FIELDS), N_CLUSTERS); b"" if all zero.

    Raises:
        ValueError: the shape is another one.
    """
    table = np.asarray(cells).astype(np.int64)
    if table.shape != _SHAPE:
        msg = f"clusters have shape {table.shape}, not {_SHAPE}"
        raise ValueError(msg)
    if not table.any():
        return b""
    letters = "".join(map(_letter, table.min(axis=1).tolist(), table.max(axis=1).tolist()))
    columns = (row.astype(f"<{letter}") for letter, row in zip(letters, table, strict=True))
    content = letters.encode() + b"".join(column.tobytes() for column in columns)
    deflated = zlib.compress(content, ZLIB_LEVEL)
    small = 2 * len(deflated) <= len(content)
    return _DEFLATED + deflated if small else _PLAIN + content


def unpack_clusters(code: bytes) -> IntArray:
    """Hash buckets of shape (len(CLUSTER_FIELDS), N_CLUSTERS); zeros for b"".

    Raises:
        DataError: the bytes are not what :func:`pack_clusters` writes, now or in earlier releases.

    Examples:
        >>> cells = np.arange(len(CLUSTER_FIELDS) * N_CLUSTERS).reshape(-1, N_CLUSTERS)
        >>> bool((unpack_clusters(pack_clusters(cells)) == cells).all())
        True
    """
    cells: IntArray = unpack_cluster_frame([code])[0]
    return cells


def unpack_cluster_frame(codes: Sequence[bytes] | pd.Series) -> IntArray:
    """Hash buckets of many rows, shape (rows, len(CLUSTER_FIELDS), N_CLUSTERS).

    Raises:
        DataError: a row's bytes are not what :func:`pack_clusters` writes, now or earlier.
    """
    cells = np.zeros((len(codes), *_SHAPE), dtype=np.int64)
    alike: dict[bytes, tuple[list[int], list[bytes]]] = {}
    for position, code in enumerate(codes):
        if code:
            plain = _plain(code)
            places, contents = alike.setdefault(plain[:_HEAD], ([], []))
            places.append(position)
            contents.append(plain)
    # Rows whose fields are equally wide are read at once.
    for head, (places, contents) in alike.items():
        record = _record(head)
        if set(map(len, contents)) != {record.itemsize}:
            raise DataError(f"hash buckets of {head!r} do not take {record.itemsize} bytes")
        records = np.frombuffer(b"".join(contents), dtype=record)
        for field, name in enumerate(CLUSTER_FIELDS):
            cells[places, field] = records[name]
    return cells


def _letter(lowest: int, highest: int) -> str:
    """The narrowest type that holds both."""
    if lowest < 0:
        return "q"
    return _LETTERS[sum(highest >> bits > 0 for bits in (8, 16, 32))]


@lru_cache(maxsize=256)
def _record(head: bytes) -> np.dtype[np.void]:
    """One row's bytes, not compressed: the form and the letters, then a column a field."""
    letters = head[1:].decode("latin-1")
    if len(head) != _HEAD or letters.strip(_LETTERS):
        raise DataError(f"hash buckets begin with {head!r}, which names no types")
    cells = [(name, f"<{kind}") for name, kind in zip(CLUSTER_FIELDS, letters, strict=True)]
    return np.dtype([("head", f"S{_HEAD}"), *((*cell, N_CLUSTERS) for cell in cells)])


def _plain(code: bytes) -> bytes:
    """The same hash buckets, not compressed."""
    if code[:1] == _PLAIN:
        return code
    try:
        if code[:1] == _DEFLATED:
            return _PLAIN + zlib.decompress(code[1:])
        return _PLAIN + _WIDE + zlib.decompress(code)
    except zlib.error as reason:
        raise DataError(f"hash buckets of {len(code)} bytes cannot be read: {reason}") from reason


def merge(frame: pd.DataFrame, by: Sequence[str] = KEYS) -> pd.DataFrame:
    """One row per group: sums, histograms and hash buckets added; sorted by key.

    Args:
        frame: aggregates, keys may repeat (the concatenation of any frames).
        by: the key columns to keep, a subset of ``KEYS``, at least one.

    Returns:
        A frame with the columns ``by``, ``SUMS``, histogram and clusters.

    Examples:
        >>> merge(empty()).equals(empty())
        True
    """
    keys = list(by)
    if frame.empty:
        return empty()[[*keys, *SUMS, HISTOGRAM, CLUSTERS]]
    grouped = frame.groupby(keys, sort=True, observed=True)
    merged = grouped[list(SUMS)].sum().reset_index()
    group = grouped.ngroup().to_numpy()
    row, buckets, counts = unpack_histograms(frame[HISTOGRAM])
    merged[HISTOGRAM] = pd.Series(
        pack_histograms(group[row], buckets, counts, n_groups=len(merged)), dtype="object"
    )
    merged[CLUSTERS] = pd.Series(
        _merge_clusters(frame[CLUSTERS], group, len(merged)), dtype="object"
    )
    return merged


def rollup(frame: pd.DataFrame, width_s: int) -> pd.DataFrame:
    """The same aggregates in windows of ``width_s`` seconds, aligned to the epoch (UTC).

    ``width_s`` is a multiple of the frame's own width.
    """
    start_s = frame["window_start_s"] // width_s * width_s
    return merge(frame.assign(window_start_s=start_s))


def sliding(frame: pd.DataFrame, *, end_s: int, width_s: int) -> pd.DataFrame:
    """One row per target, arm and slice: what starts in ``[end_s - width_s, end_s)``, added up.

    ``end_s`` is a multiple of the frame's own width, Unix seconds.
    """
    start_s = end_s - width_s
    inside = (frame["window_start_s"] >= start_s) & (frame["window_start_s"] < end_s)
    return merge(frame[inside].assign(window_start_s=start_s))


def validate(frame: pd.DataFrame) -> None:
    """Refuse a frame that no engine could have made.

    Raises:
        DataError: naming the first column, key or law that is broken.
    """
    expected = [*KEYS, *SUMS, HISTOGRAM, CLUSTERS]
    if list(frame.columns) != expected:
        raise DataError(f"columns are {list(frame.columns)}, not {expected}")
    for name in (KEYS[-1], *SUMS):
        if frame[name].dtype != np.int64:
            raise DataError(f"column {name} is {frame[name].dtype}, not int64")
    _refuse(frame, frame.duplicated(list(KEYS)), "the key occurs twice")
    for name in SUMS:
        # A logarithm is the only summand that may be negative.
        if name not in {"log_latency_e6", "log_cost_e6"}:
            _refuse(frame, frame[name] < 0, f"{name} is below 0")
    for part, whole in _PARTS:
        _refuse(frame, frame[part] > frame[whole], f"{part} exceeds {whole}")
    row, _, counts = unpack_histograms(frame[HISTOGRAM])
    held = np.bincount(row, weights=counts, minlength=len(frame))
    _refuse(frame, held != frame["n_latency"], "the histogram does not hold n_latency values")
    carries = frame[CLUSTERS].map(len) > 0
    totals = unpack_cluster_frame(frame.loc[carries, CLUSTERS]).sum(axis=2)
    differs = pd.Series(data=False, index=frame.index)
    differs[carries] = (totals != frame.loc[carries, list(CLUSTER_FIELDS)].to_numpy()).any(axis=1)
    _refuse(frame, differs, "hash buckets do not add up to the sums")


_PARTS: Final = (
    ("n_failed", "n"),
    ("n_timeout", "n_failed"),
    ("n_fallback", "n"),
    ("n_latency", "n"),
    ("n_cost", "n"),
    ("n_positive_cost", "n_cost"),
    ("n_tokens", "n"),
    ("n_quality", "n"),
)


def _refuse(frame: pd.DataFrame, broken: npt.ArrayLike, law: str) -> None:
    wrong = np.flatnonzero(np.asarray(broken))
    if wrong.size:
        key = {name: frame[name].iloc[wrong[0]] for name in KEYS}
        raise DataError(f"{law} in {wrong.size} of {len(frame)} aggregates, first {key}")


def _slices(content: bytes, sizes: IntArray) -> npt.NDArray[np.object_]:
    ends = np.cumsum(sizes).tolist()
    pieces = np.empty(len(ends), dtype=object)
    start = 0
    for position, end in enumerate(ends):
        pieces[position] = content[start:end]
        start = end
    return pieces


def _merge_clusters(
    codes: pd.Series, group: npt.NDArray[np.integer], n_groups: int
) -> npt.NDArray[np.object_]:
    merged = np.full(n_groups, b"", dtype=object)
    carries = np.flatnonzero(codes.map(len).to_numpy() > 0)
    if not carries.size:
        return merged
    order = carries[np.argsort(group[carries], kind="stable")]
    owners, starts = np.unique(group[order], return_index=True)
    values = codes.to_numpy()
    for owner, members in zip(owners, np.split(order, starts[1:]), strict=True):
        # A code that is alone in its group is already canonical, unless it has the earlier form.
        merged[owner] = (
            values[members[0]]
            if len(members) == 1 and values[members[0]][:1] in {_PLAIN, _DEFLATED}
            else pack_clusters(sum(unpack_clusters(values[member]) for member in members))
        )
    return merged
