import itertools
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.client import MAX_BYTES, AllocationError, checksum, file_name, parse, seal

Draft = Callable[..., dict[str, Any]]


def text_of(document: Mapping[str, object]) -> str:
    """What a publisher would write that does not check what it publishes."""
    return json.dumps({**document, "checksum": checksum(document)})


def test_what_is_sealed_is_parsed_as_it_was(draft: Draft) -> None:
    document = parse(seal(draft(share=0.25)))

    assert document.target == "support-bot/answer"
    assert document.generation == 7
    assert document.published_at == datetime(2026, 11, 24, 5, tzinfo=UTC)
    assert document.expires_at == datetime(2026, 11, 24, 11, tzinfo=UTC)
    assert [(s.name, s.arm, s.low, s.high) for s in document.slices] == [
        ("canary", "mini", 0.0, 0.25),
        ("baseline", "large", 0.25, 0.75),
        ("control", "large", 0.75, 1.0),
    ]
    assert dict(document.arms["mini"]) == draft()["arms"]["mini"]
    assert document.decision == "d-3f2a"


def test_text_and_bytes_and_layout_make_no_difference(draft: Draft) -> None:
    raw = seal(draft())

    pretty = json.dumps(json.loads(raw), indent=2)

    assert parse(pretty) == parse(raw) == parse(raw.decode())


def test_a_sealed_document_can_be_changed_and_sealed_anew(draft: Draft) -> None:
    read = json.loads(seal(draft()))

    again = parse(seal({**read, "generation": 8}))

    assert again.generation == 8


def test_a_field_of_a_later_version_is_passed_over_under_the_checksum(draft: Draft) -> None:
    raw = seal(draft(note="new"))

    assert parse(raw).generation == 7
    with pytest.raises(AllocationError, match="'checksum'"):
        parse(raw.replace(b'"note":"new"', b'"note":"old"'))


@given(cut=st.integers(min_value=0, max_value=10_000))
def test_a_truncated_document_is_refused(draft: Draft, cut: int) -> None:
    raw = seal(draft())

    with pytest.raises(AllocationError):
        parse(raw[: cut % len(raw)])


@given(at=st.integers(min_value=0, max_value=10_000), bit=st.integers(min_value=0, max_value=7))
def test_no_flipped_bit_goes_unnoticed(draft: Draft, at: int, bit: int) -> None:
    raw = bytearray(seal(draft()))
    raw[at % len(raw)] ^= 1 << bit

    with pytest.raises(AllocationError):
        parse(bytes(raw))


@given(
    cuts=st.lists(st.floats(min_value=0, max_value=1, exclude_min=True, exclude_max=True)),
    position=st.floats(min_value=0, max_value=1, exclude_max=True),
)
def test_every_tiling_is_accepted_and_its_propensities_sum_to_one(
    draft: Draft, cuts: list[float], position: float
) -> None:
    edges = [0.0, *sorted(set(cuts)), 1.0]
    arms = ("large", "mini")
    parts = [
        {"slice": f"s{i % 3}-{i % 2}", "arm": arms[i % 2], "low": low, "high": high}
        for i, (low, high) in enumerate(itertools.pairwise(edges))
    ]

    document = parse(seal(draft(slices=parts)))

    hit = document.slice_at(position)
    assert hit.low <= position < hit.high
    assert math.isclose(sum(map(document.propensity, arms)), 1, abs_tol=1e-12)


def test_the_parts_of_an_experiment_name_many_arms_and_add_up_for_each(draft: Draft) -> None:
    parts = [
        part("experiment", "mini", 0.0, 0.1),
        part("experiment", "large", 0.1, 0.2),
        part("experiment", "mini", 0.2, 0.3),
        part("baseline", "large", 0.3, 1.0),
    ]

    document = parse(seal(draft(slices=parts)))

    assert document.propensity("mini") == pytest.approx(0.2)
    assert document.propensity("large") == pytest.approx(0.8)
    assert (document.slice_at(0.25).name, document.slice_at(0.25).arm) == ("experiment", "mini")


def part(name: str, arm: str, low: object, high: object) -> dict[str, object]:
    return {"slice": name, "arm": arm, "low": low, "high": high}


BAD_SLICES = {
    "none": ([], "'slices'.*at least one"),
    "no list": ({}, "'slices'.*array"),
    "not from 0": ([part("b", "large", 0.1, 1.0)], r"'slices\[b\].low' is 0.1, must be 0"),
    "not to 1": ([part("b", "large", 0.0, 0.9)], r"'slices\[b\].high' is 0.9, must be 1"),
    "beyond 1": ([part("b", "large", 0.0, 1.1)], r"'slices\[b\].high' is 1.1"),
    "below 0": ([part("b", "large", -0.1, 1.0)], r"'slices\[b\].low' is -0.1"),
    "gap": (
        [part("c", "mini", 0.0, 0.2), part("b", "large", 0.3, 1.0)],
        r"'slices\[b\].low' is 0.3, must be 0.2, where 'c' ends",
    ),
    "overlap": (
        [part("c", "mini", 0.0, 0.4), part("b", "large", 0.3, 1.0)],
        r"'slices\[b\].low' is 0.3, must be 0.4, where 'c' ends",
    ),
    "unsorted": (
        [part("b", "large", 0.2, 1.0), part("c", "mini", 0.0, 0.2)],
        r"'slices\[b\].low' is 0.2, must be 0",
    ),
    "empty": (
        [part("c", "mini", 0.0, 0.0), part("b", "large", 0.0, 1.0)],
        r"'slices\[c\].high' is 0.0",
    ),
    "unknown arm": ([part("b", "huge", 0.0, 1.0)], r"'slices\[b\].arm' is 'huge', must be one of"),
    "two arms of one slice": (
        [part("c", "mini", 0.0, 0.2), part("c", "large", 0.2, 1.0)],
        r"'slices\[c\].arm' is 'large', must be 'mini' as before",
    ),
    "text bound": ([part("b", "large", "0", 1.0)], r"'slices\[0\].low' is '0', must be a finite"),
    "truth bound": (
        [{**part("b", "large", 0, 1), "high": True}],
        r"'slices\[0\].high' is True, must be a finite",
    ),
    "huge bound": ([part("b", "large", 0, 10**400)], r"'slices\[0\].high'.*finite"),
    "no arm": ([{"slice": "b", "low": 0, "high": 1}], r"'slices\[0\].arm' is 'missing'"),
    "no object": ([3], r"'slices\[0\]' is 3, must be a JSON object"),
}


@pytest.mark.parametrize(("slices", "words"), BAD_SLICES.values(), ids=BAD_SLICES.keys())
def test_slices_that_do_not_tile_are_refused(draft: Draft, slices: object, words: str) -> None:
    with pytest.raises(AllocationError, match=words):
        parse(text_of(draft(slices=slices)))


BAD_FIELDS = {
    "format": ("llm-auto-optimizer/allocation/2", "'format' is .*must be 'llm-auto"),
    "target": ("", "'target' is '', must be a text"),
    "generation": (-1, "'generation' is -1, must be an integer >= 0"),
    "salt": ("a\x1fb", "'salt'.*without"),
    "published_at": ("2026-11-24T05:00:00", "'published_at'.*a moment in UTC"),
    "expires_at": ("2026-11-24T05:00:00Z", "'expires_at'.*after published_at"),
    "baseline": ("huge", "'baseline' is 'huge', must be one of the arms"),
    "arms": ([], r"'arms' is \[\], must be a JSON object"),
    "decision": ("", "'decision' is '', must be a text"),
}


@pytest.mark.parametrize(("name", "case"), BAD_FIELDS.items(), ids=BAD_FIELDS.keys())
def test_a_field_out_of_bounds_is_named(draft: Draft, name: str, case: tuple[object, str]) -> None:
    value, words = case

    with pytest.raises(AllocationError, match=words) as caught:
        parse(text_of(draft(**{name: value})))

    assert caught.value.name == name


@pytest.mark.parametrize("name", [*BAD_FIELDS, "slices"])
def test_a_missing_field_is_named(draft: Draft, name: str) -> None:
    document = draft()
    del document[name]

    with pytest.raises(AllocationError, match=f"'{name}'"):
        parse(text_of(document))


@pytest.mark.parametrize("value", [7.0, True, "7", None])
def test_a_generation_is_an_integer(draft: Draft, value: object) -> None:
    with pytest.raises(AllocationError, match=r"'generation'.*an integer"):
        parse(text_of(draft(generation=value)))


@pytest.mark.parametrize("value", ["2026-11-24T13:00:00+02:00", "soon", 1_800_000_000])
def test_a_moment_is_iso_8601_in_utc(draft: Draft, value: object) -> None:
    with pytest.raises(AllocationError, match="'expires_at'"):
        parse(text_of(draft(expires_at=value)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", ""),
        ("model", None),
        ("temperature", -0.1),
        ("temperature", "hot"),
        ("top_p", 1.1),
        ("max_tokens", 0),
        ("max_tokens", 10.5),
        ("prompt_version", 3),
        ("params", []),
    ],
)
def test_a_bad_configuration_names_its_arm(draft: Draft, key: str, value: object) -> None:
    document = draft()
    document["arms"]["mini"][key] = value

    with pytest.raises(AllocationError, match=rf"'arms\[mini\].{key}'"):
        parse(text_of(document))


@pytest.mark.parametrize("key", ["temperature", "top_p", "max_tokens", "prompt_version", "params"])
def test_what_an_arm_leaves_to_its_provider_may_be_absent(draft: Draft, key: str) -> None:
    document = draft()
    del document["arms"]["mini"][key]

    assert key not in parse(seal(document)).arms["mini"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"[1",
        b"[" * 100_000,
        b'{"generation": NaN}',
        b'{"format": "llm-auto-optimizer/allocation/1", "checksum": "-", "low": 1e999}',
        b"1" * 5_000,
        "\ud800",
        b"null",
    ],
    ids=[
        "empty",
        "no utf-8",
        "open",
        "deep",
        "nan",
        "infinite",
        "long number",
        "surrogate",
        "null",
    ],
)
def test_what_is_no_json_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(AllocationError, match="'document'"):
        parse(text)


def test_nesting_is_bounded(draft: Draft) -> None:
    deep: dict[str, object] = {}
    for _ in range(40):
        deep = {"in": deep}
    document = draft()
    document["arms"]["mini"]["params"] = deep

    with pytest.raises(AllocationError, match="nested at most 32 deep"):
        parse(text_of(document))


def test_size_is_bounded(draft: Draft) -> None:
    with pytest.raises(AllocationError, match=f"at most {MAX_BYTES} bytes"):
        parse(text_of(draft(note="x" * MAX_BYTES)))


@pytest.mark.parametrize("value", [math.nan, math.inf, {1}, {1: 1, "1": 2}])
def test_what_has_no_json_form_cannot_be_sealed(draft: Draft, value: object) -> None:
    with pytest.raises(AllocationError, match="'document'"):
        seal(draft(note=value))


def test_nothing_is_sealed_that_a_reader_would_refuse(draft: Draft) -> None:
    with pytest.raises(AllocationError, match="'baseline'"):
        seal(draft(baseline="huge"))


@given(targets=st.lists(st.text(min_size=1), min_size=2, max_size=2, unique=True))
def test_no_two_targets_share_a_file_and_none_leaves_the_directory(targets: list[str]) -> None:
    one, other = map(file_name, targets)

    assert one != other
    assert "/" not in one
    assert one not in {".", ".."}


def test_sealed_bytes_are_compact_ascii(draft: Draft) -> None:
    raw = seal(draft(salt="ü €"))

    assert raw.isascii()
    assert b'"salt":"\\u00fc \\u20ac"' in raw
