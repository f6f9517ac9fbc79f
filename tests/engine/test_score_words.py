"""Likes and what users do become scores at the border; words nobody explained are set aside."""

from pathlib import Path
from types import MappingProxyType

import pytest

from intake_scene import bad_rows, batch, call, engine_at, frame, ingest, spooled
from optimizer.engine import Engine
from optimizer.engine.quarantine import mapping_from, mapping_text
from optimizer.observations import LIKES, SIGNALS, Kind, ScoreScale
from optimizer.ports import Mapped
from optimizer.settings import load_text
from optimizer.wiring import mappings


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return engine_at(tmp_path / "spool")


def scores(engine: Engine, words: list[object], mapped: Mapped) -> tuple[list[float], list[str]]:
    """The scores that came in, and why rows were set aside."""
    rows = [
        {"request_id": f"r{index}", "ts": call()["ts"], "score": word}
        for index, word in enumerate(words)
    ]
    found = ingest(engine, batch(frame(rows), kind=Kind.FEEDBACK, mapped=mapped))
    kept = spooled(engine, found, "feedback").sort_values("request_id")
    return kept["score"].tolist(), [row["detail"] for row in bad_rows(engine, found)]


@pytest.mark.parametrize(
    ("word", "score"),
    [("like", 1.0), ("Dislike", 0.0), (" up ", 1.0), (True, 1.0), (False, 0.0), (1, 1.0), (0, 0.0)],
)
def test_a_like_is_one_and_a_dislike_nought(engine: Engine, word: object, score: float) -> None:
    assert scores(engine, [word], Mapped(scale=ScoreScale.LIKES)) == ([score], [])


def test_what_users_do_has_a_documented_score(engine: Engine) -> None:
    given = list(SIGNALS)

    assert scores(engine, [*given], Mapped(scale=ScoreScale.SIGNALS)) == (
        [SIGNALS[word] for word in given],
        [],
    )


def test_the_operators_table_takes_the_place_of_ours(engine: Engine) -> None:
    own = Mapped(scale=ScoreScale.SIGNALS, signals=MappingProxyType({"it's fine": 0.8}))

    kept, refused = scores(engine, ["It's fine", "saved"], own)

    assert kept == [0.8]
    assert "is none of it's fine" in refused[0]


@pytest.mark.parametrize(
    ("scale", "known"), [(ScoreScale.LIKES, "like"), (ScoreScale.SIGNALS, "saved")]
)
def test_an_unknown_word_is_set_aside_and_never_a_score(
    engine: Engine, scale: ScoreScale, known: str
) -> None:
    kept, refused = scores(engine, ["meh", known, "0.7", None], Mapped(scale=scale))

    assert kept == [1.0]
    assert len(refused) == 3


def test_a_row_that_was_set_aside_is_read_again_by_the_same_words() -> None:
    mapped = Mapped(scale=ScoreScale.SIGNALS, signals=MappingProxyType({"kept": 1.0}))

    assert mapping_from(mapping_text(mapped)) == mapped


def test_no_word_means_two_things() -> None:
    assert set(LIKES.values()) == {0.0, 1.0}
    assert all(word == word.strip().lower() for word in (*LIKES, *SIGNALS))


def test_a_source_says_what_its_words_are_worth() -> None:
    text = """
integrations:
  sources:
    - {kind: file, name: clicks, delivers: feedback, paths: [a.jsonl], scale: signals,
       signals: {Copied: 0.9}}
    - {kind: file, name: thumbs, delivers: feedback, paths: [b.jsonl], scale: likes}
"""
    found = mappings(load_text(text, Path("/etc/optimizer.yaml"), {}).settings)

    assert dict(found["clicks"].signals) == {"copied": 0.9}
    assert found["thumbs"].scale is ScoreScale.LIKES
