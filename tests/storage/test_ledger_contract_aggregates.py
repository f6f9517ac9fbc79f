"""The laws of grains and roll-ups, on each supported database."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from ledger_samples import grains
from optimizer.aggregates import CLUSTERS, HISTOGRAM, KEYS, SUMS
from optimizer.errors import ConflictError, DataError
from optimizer.evidence import HISTORY_SUMS
from optimizer.storage import SqlLedger
from optimizer.storage import aggregates as module

END = 2**40
A = ("chat", "large", "baseline", 300)
B = ("chat", "small", "canary", 300)
C = ("Mail", "large", "control", 600)


def load(ledger: SqlLedger, width_s: int = 300) -> pd.DataFrame:
    return ledger.aggregates.load(width_s, start_s=0, end_s=END)


def put(ledger: SqlLedger, windows: list[int], frame: pd.DataFrame, width_s: int = 300) -> None:
    ledger.aggregates.replace_windows(width_s, windows, frame, clean={})


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(list(KEYS)).reset_index(drop=True)


def test_a_frame_returns_as_it_was_stored_sorted_by_key(ledger: SqlLedger) -> None:
    frame = grains(B, C, A, ("Über", "x" * 300, "baseline", 600))

    put(ledger, [300, 600], frame)

    pd.testing.assert_frame_equal(load(ledger), in_order(frame), check_exact=True)


def test_the_widest_numbers_and_any_bytes_are_kept(ledger: SqlLedger) -> None:
    frame = grains(A, B)
    for name in SUMS[1:]:
        frame[name] = np.array([-(2**63), 2**63 - 1])
    frame[HISTOGRAM] = pd.Series([bytes(range(256)) * 50, b""], dtype="object")
    frame[CLUSTERS] = pd.Series([b"\\x00", b"\0"], dtype="object")

    put(ledger, [300], frame)

    pd.testing.assert_frame_equal(load(ledger), in_order(frame), check_exact=True)


def test_an_empty_ledger_gives_an_empty_frame_of_the_same_types(ledger: SqlLedger) -> None:
    empty = load(ledger)
    put(ledger, [300], grains(A))

    assert len(empty) == 0
    assert empty.dtypes.to_dict() == load(ledger).dtypes.to_dict()
    assert list(empty.columns) == [*KEYS, *SUMS, HISTOGRAM, CLUSTERS]


def test_replacing_twice_is_replacing_once(ledger: SqlLedger) -> None:
    frame = grains(A, B)

    put(ledger, [300], frame)
    put(ledger, [300], frame)

    pd.testing.assert_frame_equal(load(ledger), in_order(frame), check_exact=True)


def test_a_frame_is_all_there_is_for_its_windows(ledger: SqlLedger) -> None:
    put(ledger, [300, 600], grains(A, C))
    put(ledger, [300], grains(A), width_s=3_600)

    put(ledger, [300], grains(B, n=2))

    pd.testing.assert_frame_equal(
        load(ledger), in_order(pd.concat([grains(B, n=2), grains(A, C).iloc[1:]]))
    )
    assert len(load(ledger, 3_600)) == 1


def test_no_rows_empty_the_windows(ledger: SqlLedger) -> None:
    put(ledger, [300, 600], grains(A, C))

    put(ledger, [300], grains())

    assert load(ledger)["target"].tolist() == ["Mail"]


def test_load_takes_windows_that_start_inside(ledger: SqlLedger) -> None:
    put(ledger, [300, 600], grains(A, C))

    found = ledger.aggregates.load(300, start_s=300, end_s=600)

    assert found["window_start_s"].tolist() == [300]


@pytest.mark.parametrize("crowd", [0, module.FILTER_IN_SQL])
def test_load_filters_by_target_and_slice(ledger: SqlLedger, crowd: int) -> None:
    put(ledger, [300, 600], grains(A, B, C))
    others = [f"no-{number}" for number in range(crowd)]

    def keys(**filters: list[str]) -> list[str]:
        found = ledger.aggregates.load(300, start_s=0, end_s=END, **filters)
        assert found.index.tolist() == list(range(len(found)))
        return found["arm"].tolist()

    assert keys(targets=["chat", *others]) == ["large", "small"]
    assert keys(targets=["chat", *others], slices=["canary"]) == ["small"]
    assert keys(targets=others) == []
    assert keys(slices=[]) == []


def test_a_key_twice_is_refused_and_changes_nothing(ledger: SqlLedger) -> None:
    put(ledger, [300], grains(A))
    ledger.intake.mark_dirty([300])

    with pytest.raises(ConflictError):
        ledger.aggregates.replace_windows(300, [300], grains(B, B), clean={300: 1})

    assert load(ledger)["arm"].tolist() == ["large"]
    assert ledger.intake.dirty(until_s=END) == {300: 1}


def test_an_unknown_slice_is_refused(ledger: SqlLedger) -> None:
    with pytest.raises(DataError):
        put(ledger, [300], grains(("chat", "large", "elsewhere", 300)))


def test_rows_of_windows_that_are_not_replaced_are_refused(ledger: SqlLedger) -> None:
    with pytest.raises(ValueError, match="600"):
        put(ledger, [300], grains(A, C))

    assert len(load(ledger)) == 0


def test_a_frame_without_a_column_is_refused(ledger: SqlLedger) -> None:
    with pytest.raises(ValueError, match="n_quality"):
        put(ledger, [300], grains(A).drop(columns="n_quality"))


def test_the_newest_window_is_known_per_width(ledger: SqlLedger) -> None:
    put(ledger, [300, 600], grains(A, C))

    assert ledger.aggregates.newest_s(300) == 600
    assert ledger.aggregates.newest_s(3_600) is None


def test_pruning_deletes_older_windows_and_counts_them(ledger: SqlLedger) -> None:
    put(ledger, [300, 600], grains(A, B, C))
    put(ledger, [0], grains(("chat", "large", "baseline", 0)), width_s=3_600)

    assert ledger.aggregates.prune(300, before_s=600) == 2
    assert load(ledger)["window_start_s"].tolist() == [600]
    assert len(load(ledger, 3_600)) == 1


def test_frames_larger_than_one_piece_are_whole(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)
    frame = grains(*((f"t{number}", "a", "baseline", 300) for number in range(50)))

    put(ledger, [300], frame)

    pd.testing.assert_frame_equal(load(ledger), in_order(frame), check_exact=True)


def test_writers_of_one_window_take_turns(ledger: SqlLedger) -> None:
    def write(number: int) -> None:
        put(ledger, [300], grains(A, B, n=number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))

    counts = (load(ledger)["n"] // 2**40).tolist()
    assert len(counts) == 2
    assert len(set(counts)) == 1


def test_the_history_adds_slices_up_and_takes_windows_that_start_inside(ledger: SqlLedger) -> None:
    twin = ("chat", "large", "control", 300)
    frame = grains(A, B, C, twin)
    put(ledger, [300, 600], frame)

    found = ledger.aggregates.history(300, start_s=300, end_s=600)

    keys = found[["target", "arm", "window_start_s"]].to_numpy().tolist()
    assert keys == [["chat", "large", 300], ["chat", "small", 300]]
    large, small = frame[list(HISTORY_SUMS)].iloc[[0, 3]].sum(), frame[list(HISTORY_SUMS)].iloc[1]
    assert found[list(HISTORY_SUMS)].to_numpy().tolist() == [large.tolist(), small.tolist()]
    nothing = ledger.aggregates.history(300, start_s=0, end_s=300)
    assert nothing.dtypes.to_dict() == found.dtypes.to_dict()
