"""The laws of cursors, the spool's manifest and dirty windows, on each supported database."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from ledger_samples import NOW, grains, intake, spool_file
from optimizer.errors import ConflictError, DataError
from optimizer.ports import CursorState
from optimizer.storage import SqlLedger

OLD, NEW = 10**9, 2 * 10**9


def names(
    ledger: SqlLedger, start_s: int = 0, end_s: int = NEW, dataset: str = "calls"
) -> list[str]:
    return [file.name for file in ledger.intake.files(dataset, start_s=start_s, end_s=end_s)]


def test_a_source_begins_with_an_empty_cursor(ledger: SqlLedger) -> None:
    assert ledger.intake.cursor("logs") == CursorState(
        cursor={}, version=0, newest_s=None, pulled_at=None
    )


def test_a_commit_moves_cursor_manifest_and_marks_together(ledger: SqlLedger) -> None:
    file = spool_file("f1", 0, 900)

    ledger.intake.commit(intake(files=(file,), dirty_windows=frozenset({300, 600})))

    assert ledger.intake.cursor("logs") == CursorState(
        cursor={"offset": 10}, version=1, newest_s=1_000, pulled_at=NOW
    )
    assert ledger.intake.files("calls", start_s=0, end_s=900) == (file,)
    assert ledger.intake.dirty(until_s=NEW) == {300: 1, 600: 1}


@pytest.mark.parametrize("version", [0, 2])
def test_a_commit_behind_another_changes_nothing(ledger: SqlLedger, version: int) -> None:
    ledger.intake.commit(intake())
    late = intake(
        version, cursor={}, files=(spool_file("f", 0, 1),), dirty_windows=frozenset({300})
    )

    with pytest.raises(ConflictError, match="logs"):
        ledger.intake.commit(late)

    assert ledger.intake.cursor("logs").cursor == {"offset": 10}
    assert names(ledger) == []
    assert ledger.intake.dirty(until_s=NEW) == {}


def test_of_eight_commits_of_one_version_one_wins(ledger: SqlLedger) -> None:
    ledger.intake.commit(intake())

    def commit(number: int) -> bool:
        marks = frozenset(range(0, 3_000, 300))
        try:
            ledger.intake.commit(intake(1, cursor={"offset": number}, dirty_windows=marks))
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(commit, range(8)))

    assert sum(results) == 1
    found = ledger.intake.cursor("logs")
    assert (found.version, found.cursor) == (2, {"offset": results.index(True)})
    assert set(ledger.intake.dirty(until_s=NEW).values()) == {1}


def test_sources_stand_apart(ledger: SqlLedger) -> None:
    ledger.intake.commit(intake())

    ledger.intake.commit(intake(source="other", newest_s=None))

    assert ledger.intake.cursor("other").newest_s is None
    assert ledger.intake.cursor("logs").newest_s == 1_000


def test_files_are_those_that_overlap_oldest_first(ledger: SqlLedger) -> None:
    files = (
        spool_file("late", 600, 899),
        spool_file("edge", 900, 1_200),
        spool_file("early", 0, 300),
        spool_file("other", 300, 600, dataset="feedback"),
        spool_file("before", 0, 299),
    )

    ledger.intake.commit(intake(files=files))

    assert names(ledger, 300, 900) == ["early", "late"]
    assert names(ledger, dataset="feedback") == ["other"]


def test_a_file_is_listed_once(ledger: SqlLedger) -> None:
    ledger.intake.commit(intake(files=(spool_file("f", 0, 1),)))

    ledger.intake.commit(intake(1, files=(spool_file("f", 0, 1),)))

    assert names(ledger) == ["f"]


def test_a_file_that_ends_before_it_begins_is_refused(ledger: SqlLedger) -> None:
    with pytest.raises(DataError):
        ledger.intake.commit(intake(files=(spool_file("f", 2, 1),)))

    assert ledger.intake.cursor("logs").version == 0


def test_forgotten_files_are_gone_in_any_number(ledger: SqlLedger) -> None:
    files = tuple(spool_file(f"f{number:04d}", 0, 1) for number in range(2_500))
    ledger.intake.commit(intake(files=files))

    ledger.intake.forget([*(file.name for file in files[1:]), "unknown"])

    assert names(ledger) == ["f0000"]


def test_replacing_swaps_files_at_once(ledger: SqlLedger) -> None:
    ledger.intake.commit(intake(files=(spool_file("a", 0, 1), spool_file("b", 1, 2))))

    ledger.intake.replace(["a", "b"], [spool_file("ab", 0, 2)])

    assert names(ledger) == ["ab"]


@pytest.mark.parametrize(
    ("old", "new"), [(["a", "gone"], ["x"]), (["a"], ["b"])], ids=["old is gone", "new is there"]
)
def test_a_refused_replacement_changes_nothing(
    ledger: SqlLedger, old: list[str], new: list[str]
) -> None:
    ledger.intake.commit(intake(files=(spool_file("a", 0, 1), spool_file("b", 1, 2))))

    with pytest.raises(ConflictError):
        ledger.intake.replace(old, [spool_file(name, 0, 1) for name in new])

    assert names(ledger) == ["a", "b"]


def test_a_window_waits_until_it_has_ended(ledger: SqlLedger) -> None:
    ledger.intake.mark_dirty([600, 300])

    assert ledger.intake.dirty(until_s=899) == {300: 1}
    assert list(ledger.intake.dirty(until_s=900)) == [300, 600]


def test_an_aggregated_window_is_clean(ledger: SqlLedger) -> None:
    ledger.intake.mark_dirty([300, 600])
    marks = ledger.intake.dirty(until_s=NEW)

    ledger.aggregates.replace_windows(300, [300], grains(), clean={300: marks[300]})

    assert ledger.intake.dirty(until_s=NEW) == {600: 1}


def test_a_row_that_came_in_meanwhile_is_not_lost(ledger: SqlLedger) -> None:
    ledger.intake.mark_dirty([300])
    marks = ledger.intake.dirty(until_s=NEW)
    ledger.intake.mark_dirty([300])

    ledger.aggregates.replace_windows(300, [300], grains(), clean=marks)

    assert ledger.intake.dirty(until_s=NEW) == {300: 2}


def test_a_mark_never_takes_an_earlier_version_again(ledger: SqlLedger) -> None:
    ledger.intake.mark_dirty([300])
    marks = ledger.intake.dirty(until_s=NEW)
    ledger.aggregates.replace_windows(300, [300], grains(), clean=marks)
    ledger.intake.mark_dirty([300])

    ledger.aggregates.replace_windows(300, [300], grains(), clean=marks)

    assert ledger.intake.dirty(until_s=NEW) == {300: 2}


def test_grains_overwritten_by_an_older_pass_wait_again(ledger: SqlLedger) -> None:
    ledger.intake.mark_dirty([300])
    older = ledger.intake.dirty(until_s=NEW)
    ledger.intake.mark_dirty([300])
    newer = ledger.intake.dirty(until_s=NEW)
    ledger.aggregates.replace_windows(300, [300], grains(), clean=newer)
    assert ledger.intake.dirty(until_s=NEW) == {}

    ledger.aggregates.replace_windows(300, [300], grains(), clean=older)

    assert ledger.intake.dirty(until_s=NEW) == {300: 2}


def test_a_cursor_returns_as_it_was_stored(ledger: SqlLedger) -> None:
    position = {"files": [["a", 1, None], ["b", 2.5, True]], "é\n": {"nested": {}}}

    ledger.intake.commit(replace(intake(), cursor=position))

    assert ledger.intake.cursor("logs").cursor == position
